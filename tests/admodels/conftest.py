"""Features of a tiny encoder, for every test of a paper's head."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

CHANNELS = (3, 4, 5, 6, 7)
SIZES = (32, 16, 8, 4, 2)
TEXT_DIM = 12


@dataclass(frozen=True)
class Features:
    """Five maps, finest first, tokens B×L×12 and their mask; the rows differ in length."""

    maps: list[Tensor]
    tokens: Tensor
    mask: Tensor

    def row(self, index: int) -> Features:
        """One creative alone, its padding cut off."""
        length = int(self.mask[index].sum())
        one = slice(index, index + 1)
        return Features([m[one] for m in self.maps], self.tokens[one, :length], self.mask[one, :length])


@pytest.fixture
def features() -> Features:
    torch.manual_seed(0)
    maps = [torch.randn(4, c, s, s) for c, s in zip(CHANNELS, SIZES, strict=True)]
    mask = (torch.arange(9)[None] < torch.tensor([[9], [1], [4], [6]])).long()
    # What stands at padding must not matter, so it is made to hurt.
    tokens = torch.where(mask[:, :, None].bool(), torch.randn(4, 9, TEXT_DIM), 1e3)
    return Features(maps, tokens, mask)
