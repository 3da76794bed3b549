"""Objects that a detector named, as vectors of their names: what stands for the picture where there are no pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.encoders import SharedEncoders

MOST = 12
"""Objects of one ad; further ones are left out."""
_BATCH = 32


class ObjectVectors:
    """The vectors of object names, each computed once."""

    def __init__(self, encoders: SharedEncoders) -> None:
        self._encoders = encoders
        self._known: dict[str, NDArray[np.float32]] = {}

    def arrays(self, extras: Sequence[Mapping[str, Any]], *, shown: bool) -> dict[str, NDArray[Any]]:
        """`objects` float32 N×MOST×D and `object_mask` int64 N×MOST of rows whose extra has `objects`, names.

        Without `shown` (the text-only form) no row has any. Names are sorted: their order says nothing.
        """
        named = [sorted(extra.get("objects", ()))[:MOST] if shown else [] for extra in extras]
        self._learn({name for names in named for name in names})
        vectors = np.zeros((len(named), MOST, self._encoders.text_width), np.float32)
        mask = np.zeros((len(named), MOST), np.int64)
        for index, names in enumerate(named):
            for place, name in enumerate(names):
                vectors[index, place] = self._known[name]
            mask[index, : len(names)] = 1
        return {"objects": vectors, "object_mask": mask}

    def _learn(self, names: set[str]) -> None:
        new = sorted(names - set(self._known))
        for start in range(0, len(new), _BATCH):
            some = new[start : start + _BATCH]
            self._known |= dict(zip(some, self._encoders.phrases(some), strict=True))
