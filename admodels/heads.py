"""Output heads over one vector per creative. B batch, D width, K classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Predictions(NamedTuple):
    """What the heads say: logits B×K per class head, logits B×K of independent keywords, values B in [0, 1]."""

    classes: dict[str, Tensor]
    keywords: Tensor | None
    values: dict[str, Tensor]


class Targets(NamedTuple):
    """Labels of a batch; a sample trains the heads that it has labels for.

    classes: int64 B, −1 missing. keywords: float B×K, NaN missing. values: float B in [0, 1], NaN missing. A head
    without any label in the batch may be left out.
    """

    classes: Mapping[str, Tensor] = {}
    keywords: Tensor | None = None
    values: Mapping[str, Tensor] = {}


class MultiTaskHeads(nn.Module):
    """One linear layer per task over B×D."""

    def __init__(self, dim: int, *, classes: Mapping[str, int], keywords: int, values: Sequence[str]) -> None:
        super().__init__()
        self.classes = nn.ModuleDict({name: nn.Linear(dim, count) for name, count in classes.items()})
        self.keywords = nn.Linear(dim, keywords) if keywords else None
        self.values = nn.ModuleDict({name: nn.Linear(dim, 1) for name in values})

    def forward(self, z: Tensor) -> Predictions:
        return Predictions(
            classes={name: head(z) for name, head in self.classes.items()},
            keywords=None if self.keywords is None else self.keywords(z),
            values={name: torch.sigmoid(head(z).squeeze(-1)) for name, head in self.values.items()},
        )
