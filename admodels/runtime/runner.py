"""What every engine looks like from outside: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray


class EngineError(Exception):
    """An engine failed for these inputs. Other inputs may still work: callers split the batch or give up the head."""


class EngineMemoryError(EngineError):
    """The engine ran out of memory at this batch size; a smaller batch may fit."""


class EngineLostError(Exception):
    """The device or its context is gone for good (a sticky CUDA error, say): the process has to end."""


class Runner(Protocol):
    """One loaded model.

    `infer` takes every input by name (the manifest's dtypes and shapes, batch first) and returns every output. The
    returned arrays belong to the caller: a later call never writes into them. Not thread-safe unless it says so.
    """

    backend: str

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Raises EngineError, EngineMemoryError or EngineLostError."""
        ...
