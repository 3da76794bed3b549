from __future__ import annotations

import torch

from admodels.layers.film import Film


def test_film_scales_and_shifts_every_position_alike() -> None:
    film = Film(4, 3)
    features, text = torch.randn(2, 3, 5, 5), torch.randn(2, 4)
    gamma = text @ film.gamma.weight.T + film.gamma.bias
    beta = text @ film.beta.weight.T + film.beta.bias
    expected = torch.einsum("bc,bchw->bchw", gamma, features) + beta[:, :, None, None]
    torch.testing.assert_close(film(features, text), expected)


def test_gamma_starts_at_its_bias_without_text() -> None:
    features = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(Film(4, 3)(features, torch.zeros(2, 4)), features)
    assert (Film(4, 3, gamma_bias=0.0)(features, torch.zeros(2, 4)) == 0).all()
