from __future__ import annotations

import torch

from admodels.masking import additive_mask, gather_marked, masked_mean


def test_masked_mean_is_over_real_tokens() -> None:
    tokens = torch.tensor([[[1.0], [3.0], [100.0]], [[5.0], [6.0], [7.0]]])
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    torch.testing.assert_close(masked_mean(tokens, mask), torch.tensor([[2.0], [0.0]]))


def test_additive_mask_makes_padding_exactly_zero_and_is_finite_in_fp16() -> None:
    bias = additive_mask(torch.tensor([[1, 1, 0]]))
    assert bias.shape == (1, 1, 1, 3)
    assert bias.half().isfinite().all()
    weights = torch.softmax(torch.tensor([0.0, 1.0, 50.0]) + bias, dim=-1).flatten()
    assert weights[2] == 0.0
    torch.testing.assert_close(weights[:2], torch.softmax(torch.tensor([0.0, 1.0]), 0))


def test_marked_tokens_move_to_the_left_in_order() -> None:
    x = torch.arange(8.0).view(2, 4, 1)
    picked, mask = gather_marked(x, torch.tensor([[0, 1, 0, 1], [0, 0, 1, 0]]))
    assert picked.squeeze(2).tolist()[0] == [1.0, 3.0]
    assert picked[1, 0] == 6.0
    assert mask.tolist() == [[True, True], [True, False]]
