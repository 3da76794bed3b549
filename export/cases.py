"""What a graph is compared on: the recorded creatives, random inputs like them, and extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.verify import Arrays, Case

_MASKS = ("attention_mask", "copy_mask", "word_mask")


def cases(recorded: Arrays) -> tuple[Case, ...]:
    """The recorded creatives; random ones of their scale; nothing at all and far too much, on short texts and long."""
    lengths = {name: recorded[name].shape[1] for name in _MASKS if name in recorded}
    full = {name: np.ones((4, length), np.int64) for name, length in lengths.items()}
    ragged = {name: _ragged(length) for name, length in lengths.items()}
    generator = np.random.default_rng(0)
    random = {name: _random(values, generator) for name, values in recorded.items() if name not in lengths}
    zeros = {name: np.zeros_like(values) for name, values in random.items()}
    large = {name: _large(values) for name, values in random.items()}
    return (
        Case("recorded", recorded),
        Case("random", _in_order(recorded, {**random, **full})),
        Case("zeros", _in_order(recorded, {**zeros, **ragged})),
        Case("large", _in_order(recorded, {**large, **ragged}), beyond=_has_features(recorded)),
    )


def _has_features(recorded: Arrays) -> bool:
    """Whether a network's features, or vectors, are among the inputs; pixels and ids can't leave their range."""
    return any(values.dtype == np.float32 for values in recorded.values())


def _ragged(length: int) -> NDArray[np.int64]:
    """Masks of four texts: one that fills the width, one of a single token, two between. 4×length."""
    ends = np.array([[length], [1], [max(length // 2, 1)], [min(2, length)]])
    return (np.arange(length)[None] < ends).astype(np.int64)


def _random(values: NDArray[Any], generator: np.random.Generator) -> NDArray[Any]:
    shape = (4, *values.shape[1:])
    if values.dtype == np.uint8:
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if values.dtype == np.int64:  # ids that the table has
        return generator.integers(0, int(values.max(initial=0)) + 1, shape)
    return generator.normal(scale=values.std(), size=shape).astype(np.float32)


def _large(values: NDArray[Any]) -> NDArray[Any]:
    """Ten times a feature; a white image for pixels; ids as they are."""
    if values.dtype == np.uint8:
        return np.full_like(values, 255)
    return values if values.dtype == np.int64 else values * np.float32(10)


def _in_order(recorded: Arrays, made: dict[str, NDArray[Any]]) -> Arrays:
    return {name: made[name] for name in recorded}
