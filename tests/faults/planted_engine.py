"""A worker whose engine fails as the tests say: `python -m tests.faults.planted_engine worker …`.

The fault is chosen by the creative's colour, so that it meets the same record again wherever that is scored next. The
product has no hook for it: this program puts its own runner in the place of ONNX Runtime's and then runs the worker.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from admodels.runtime import onnxruntime
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.runtime.runner import EngineError, EngineLostError, EngineMemoryError
from tests.faults.creatives import data_url

FITS = "PLANTED_FITS"
"""Environment: rows that the engine has memory for."""
FAILS, FAILS_ONE_HEAD = (255, 1, 1), (255, 1, 2)
NOT_A_NUMBER, INFINITE = (255, 1, 3), (255, 1, 4)
POISONS, HANGS = (255, 1, 5), (255, 1, 6)


def url(colour: tuple[int, int, int]) -> str:
    """A creative's image of that colour."""
    out = io.BytesIO()
    Image.new("RGB", (40, 32), colour).save(out, "PNG")
    return data_url(out.getvalue())


class PlantedRunner(OnnxRuntimeRunner):
    """ONNX Runtime, but for what is planted."""

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The real scores, or the planted fault."""
        seen = [tuple(int(value) for value in image[0, 0]) for image in feeds["image"]]
        serves_ctr = "ctr" in self.outputs
        if POISONS in seen:
            raise EngineLostError("CUDA error 700: an illegal memory access was encountered")
        if HANGS in seen:
            threading.Event().wait()
        if FAILS in seen or (FAILS_ONE_HEAD in seen and serves_ctr):
            raise EngineError("planted")
        if len(seen) > int(os.environ.get(FITS, "1000")):
            raise EngineMemoryError("planted: out of memory")
        outputs = super().infer(feeds)
        for row, colour in enumerate(seen):
            if serves_ctr and colour in (NOT_A_NUMBER, INFINITE):
                outputs["ctr"][row] = np.nan if colour == NOT_A_NUMBER else np.inf
        return outputs


def main() -> None:
    """Run the worker with the planted runner, which whoever imports ONNX Runtime's from now on gets."""
    onnxruntime.OnnxRuntimeRunner = PlantedRunner  # type: ignore[misc,assignment]
    from worker.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
