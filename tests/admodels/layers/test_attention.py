"""Attention against the formula in numpy, and against torch's own module."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from admodels.layers.attention import Attention, CrossModalEncoder
from admodels.masking import additive_mask


def test_attention_matches_numpy() -> None:
    torch.manual_seed(0)
    layer = Attention(6, 2, context_dim=5).eval()
    queries, context = torch.randn(1, 3, 6), torch.randn(1, 4, 5)
    weights = {n: p.detach().numpy() for n, p in layer.named_parameters()}
    q, k, v = (
        x[0].numpy() @ weights[f"{n}.weight"].T + weights[f"{n}.bias"]
        for x, n in ((queries, "query"), (context, "key"), (context, "value"))
    )
    parts = []
    for head in (slice(0, 3), slice(3, 6)):
        logits = q[:, head] @ k[:, head].T / np.sqrt(3)
        alpha = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        parts.append(alpha @ v[:, head])
    expected = np.concatenate(parts, 1) @ weights["output.weight"].T + weights["output.bias"]
    np.testing.assert_allclose(layer(queries, context)[0].detach().numpy(), expected, atol=1e-5)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="dim 10 isn't a multiple of heads 4"):
        Attention(10, 4)


def test_both_directions_read_the_layer_below() -> None:
    torch.manual_seed(0)
    encoder = CrossModalEncoder(8, layers=1, heads=2, hidden=16, dropout=0.0).eval()
    image, text = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    bias = additive_mask(torch.ones(2, 3))
    image_after, text_after = encoder(image, text, bias)
    torch.testing.assert_close(image_after, encoder.to_image[0](image, text, bias))
    torch.testing.assert_close(text_after, encoder.to_text[0](text, image))


def test_padding_is_never_read() -> None:
    torch.manual_seed(0)
    encoder = CrossModalEncoder(8, layers=2, heads=2, hidden=16, dropout=0.0).eval()
    image, text = torch.randn(1, 5, 8), torch.randn(1, 3, 8)
    padded = torch.cat([text, 1e3 * torch.randn(1, 4, 8)], dim=1)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0, 0]])
    image_short, text_short = encoder(image, text, additive_mask(torch.ones(1, 3)))
    image_long, text_long = encoder(image, padded, additive_mask(mask))
    torch.testing.assert_close(image_long, image_short)
    torch.testing.assert_close(text_long[:, :3], text_short)
