"""OpenVINO on the CPU."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from admodels.runtime.runner import EngineError, EngineMemoryError


class OpenVinoRunner:
    """A compiled model over the bytes of `model.onnx`. Thread-safe; outputs are copies that the caller owns.

    Args:
        model: the serialised ONNX graph, weights embedded (checked bytes, never a path).
        threads: threads of one run; 0 takes one per core.
    """

    backend = "openvino"
    thread_safe = True

    def __init__(self, model: bytes, *, threads: int = 0) -> None:
        core = ov.Core()
        # Left alone it computes in bf16 where the CPU can, and in int8 where weights or a Q/DQ graph are: all are
        # further from the reference than a bundle's tolerances, the last ten times further than the graph says.
        config = {
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
            "LP_TRANSFORMS_MODE": "NO",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
        }
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            compiled = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", config)
        except Exception as error:
            raise EngineError(f"OpenVINO can't load the model: {type(error).__name__}") from error
        self.inputs = tuple(item.any_name for item in compiled.inputs)
        self.outputs = tuple(item.any_name for item in compiled.outputs)
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph once.

        Raises EngineMemoryError, or EngineError with the error's class, never its text (it may quote inputs).
        """
        try:
            given = {name: np.ascontiguousarray(feeds[name]) for name in self.inputs}
        except KeyError as error:
            raise EngineError(f"the engine needs an input named {error.args[0]!r}") from error
        with self._lock:
            try:
                results = self._request.infer(given, share_inputs=True, share_outputs=True)
                # The request's own memory is written by the next run.
                return {name: np.array(results[index]) for index, name in enumerate(self.outputs)}
            except Exception as error:
                if isinstance(error, MemoryError) or "alloc" in str(error).lower():
                    raise EngineMemoryError("OpenVINO had no memory for this batch") from error
                raise EngineError(f"OpenVINO failed: {type(error).__name__}") from error
