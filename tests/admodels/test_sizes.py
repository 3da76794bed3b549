"""The table of sizes: current, and counted as by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from admodels import sizes

PAGE = Path(__file__).parents[2] / "docs" / "models" / "sizes.md"


def test_the_page_is_current():
    made = sizes.page()
    assert PAGE.read_text(encoding="utf-8") == made, "run python -m admodels.sizes docs/models/sizes.md"
    assert all(len(line) <= 120 for line in made.splitlines())


class Reader(nn.Module):
    """A linear layer over L words of 6 and an LSTM over what it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 5)
        self.lstm = nn.LSTM(5, 4, batch_first=True)
        self.text = nn.Linear(3, 2)

    def forward(self, _: Tensor, words: Tensor) -> Tensor:
        made: Tensor = self.lstm(self.linear(words))[0]
        return made


def test_a_linear_layer_and_an_lstm_count_as_by_hand():
    with torch.device("meta"):
        found = sizes._size(Reader(), torch.zeros(1, 1), torch.zeros(1, 7, 6))
    linear, lstm, encoder = 6 * 5 + 5, 4 * 4 * (5 + 4 + 2), 3 * 2 + 2
    assert (found.parameters, found.head) == (linear + lstm + encoder, linear + lstm)
    # Per step four gates of 4 × (5 + 4) multiply-adds, of two operations each.
    assert found.gflops == pytest.approx((2 * 7 * 6 * 5 + 7 * 4 * (4 * 9) * 2) / 1e9)
