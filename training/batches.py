"""Rows of one or more feature stores as torch batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.features import Features

_POOL = 32
"""Batches that are sorted by length together: enough of them to differ, few enough to stay mixed."""


@dataclass(frozen=True)
class Batch:
    """maps float32 B×C×h×w each, tokens float32 B×L×D, input_ids and mask int64 B×L (L: the longest row), labels by
    name. more: what only some models read (DeepM2AD's words and objects), by name."""

    maps: tuple[Tensor, ...]
    tokens: Tensor
    input_ids: Tensor
    mask: Tensor
    labels: dict[str, Tensor]
    more: dict[str, Tensor] = field(default_factory=dict)

    def to(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """On another device."""
        named = [{name: move(value) for name, value in group.items()} for group in (self.labels, self.more)]
        maps = tuple(move(m) for m in self.maps)
        return Batch(maps, move(self.tokens), move(self.input_ids), move(self.mask), *named)


class Rows:
    """Stores one after the other. A label that a store lacks is −1 (whole numbers) or NaN for its rows.

    chosen: which rows of all of them, by number; every one by default. share: how often an epoch draws each of them;
    every one once by default.
    """

    def __init__(
        self, stores: Sequence[Features], chosen: NDArray[np.int64] | None = None,
        share: NDArray[np.float64] | None = None,
    ) -> None:  # fmt: skip
        self._stores = tuple(stores)
        self._starts = np.cumsum([0] + [len(store) for store in stores])
        self._chosen = np.arange(self._starts[-1]) if chosen is None else chosen
        self._share = share
        self.labels = {name: column[self._chosen] for name, column in _joined(stores).items()}
        extras: list[Mapping[str, Any]] = [extra for store in stores for extra in store.extras or [{}] * len(store)]
        self.extras = [extras[index] for index in self._chosen]

    def __len__(self) -> int:
        return len(self._chosen)

    def balanced(self, label: str) -> Rows:
        """The same rows, whose epochs draw every class of a label alike; rows without it are not drawn."""
        truth = self.labels[label]
        counts = np.bincount(truth[truth >= 0])
        share = np.where(truth >= 0, 1.0 / counts[truth], 0.0)
        return Rows(self._stores, self._chosen, share / share.sum())

    def batch(self, rows: Sequence[int] | NDArray[Any]) -> Batch:
        """The rows by index, in that order."""
        own = np.asarray(rows)
        indices = self._chosen[own]
        place = np.searchsorted(self._starts, indices, side="right") - 1
        found = [(self._stores[p], int(i - self._starts[p])) for p, i in zip(place, indices, strict=True)]
        mask = np.stack([store.mask[i] for store, i in found])
        length = max(1, int(mask.sum(1).max()))
        first = self._stores[0]
        return Batch(
            maps=tuple(_float([store.maps[name][i] for store, i in found]) for name in first.maps),
            tokens=_float([store.tokens[i][:length] for store, i in found]),
            input_ids=torch.from_numpy(np.stack([store.input_ids[i][:length] for store, i in found])),
            mask=torch.from_numpy(mask[:, :length].astype(np.int64)),
            labels={name: torch.from_numpy(column[own]) for name, column in self.labels.items()},
            more={name: torch.from_numpy(np.stack([store.more[name][i] for store, i in found])) for name in first.more},
        )

    def epoch(
        self, batch_size: int, seed: int, processes: int = 1, *, together: str | None = None, like_lengths: bool = False
    ) -> Iterator[NDArray[np.int64]]:  # fmt: skip
        """The rows of one epoch in shuffled batches; a last batch with fewer than two rows for a process is left out
        (contrastive losses and batch statistics need two).

        together: rows of an equal label come in one batch, which is then about as large as asked. like_lengths: texts
        of about one length come in one batch, so that little of it is padding.
        """
        rng = np.random.default_rng(seed)
        if together is not None:
            yield from self._whole(batch_size, rng, processes, together)
            return
        order = rng.permutation(len(self)) if self._share is None else rng.choice(len(self), len(self), p=self._share)
        if like_lengths:
            order = self._by_length(order, batch_size, rng)
        for start in range(0, len(self), batch_size):
            chosen = order[start : start + batch_size]
            if len(chosen) >= 2 * processes:
                yield chosen

    def _by_length(
        self, order: NDArray[np.int64], batch_size: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:  # fmt: skip
        """Sorted within pools of some batches each, whose batches are shuffled; what is left over stays last."""
        lengths = np.concatenate([np.asarray(store.mask).sum(1) for store in self._stores])[self._chosen]
        size = _POOL * batch_size
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        ordered = np.concatenate([pool[np.argsort(lengths[pool], kind="stable")] for pool in pools])
        whole = len(ordered) // batch_size * batch_size
        batches = ordered[:whole].reshape(-1, batch_size)
        return np.concatenate([batches[rng.permutation(len(batches))].ravel(), ordered[whole:]])

    def _whole(
        self, batch_size: int, rng: np.random.Generator, processes: int, together: str
    ) -> Iterator[NDArray[np.int64]]:  # fmt: skip
        if together not in self.labels:
            raise ValueError(f"the rows have no {together!r} that fit.together could keep in one batch")
        owners, sizes = np.unique(self.labels[together], return_inverse=True, return_counts=True)[1:]
        order = rng.permutation(len(sizes))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        rows = np.argsort(place[owners], kind="stable")
        ends = np.cumsum(sizes[order])
        batch = (ends - sizes[order]) // batch_size  # of every group, by where it starts
        cuts = ends[:-1][np.diff(batch) > 0]
        yield from (chosen for chosen in np.split(rows, cuts) if len(chosen) >= 2 * processes)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Every row once, in order."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))


@dataclass(frozen=True)
class Contrast:
    """The first training rows once more, their pictures enhanced and degraded."""

    enhanced: Rows
    degraded: Rows


def _float(rows: list[NDArray[np.float16]]) -> Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def _joined(stores: Sequence[Features]) -> dict[str, NDArray[Any]]:
    examples = {name: column for store in stores for name, column in store.labels.items()}
    return {
        name: np.concatenate([store.labels.get(name, _missing(example, len(store))) for store in stores])
        for name, example in examples.items()
    }


def _missing(example: NDArray[Any], rows: int) -> NDArray[Any]:
    empty = -1 if example.dtype.kind == "i" else np.nan
    return np.full((rows, *example.shape[1:]), empty, example.dtype)
