"""ONNX Runtime: the runner that needs no GPU, and that can use one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from admodels.runtime.runner import EngineError, EngineLostError, EngineMemoryError

_GPU, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
# ONNX Runtime has no kind of its own for it: what its arena, and the C++ allocator under it, say.
_NO_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation", "out of memory", "STATUS_ALLOC_FAILED")
_LOST = ("CUDA failure", "CUDA error")
"""As for `cuda.checked`: every other error of CUDA's is taken for one that sticks."""


class OnnxRuntimeRunner:
    """A session over the bytes of `model.onnx`. Thread-safe; outputs are fresh arrays that the caller owns.

    Args:
        model: the serialised ONNX graph, weights embedded (checked bytes, never a path).
        threads: threads of one operator; 0 takes one per core.
        spin: whether idle threads spin. Off by default: spinning takes the cores that decoding and OCR need.
        gpu: run by CUDA; EngineError where that can't be had, for a session that falls back to the CPU says nothing.
    """

    thread_safe = True

    def __init__(self, model: bytes, *, threads: int = 0, spin: bool = False, gpu: bool = False) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        try:
            self._session = ort.InferenceSession(model, options, providers=[_GPU, _CPU] if gpu else [_CPU])
        except Exception as error:
            raise EngineError(f"ONNX Runtime can't load the model: {type(error).__name__}") from error
        if gpu and _GPU not in self._session.get_providers():
            raise EngineError("ONNX Runtime can't use the GPU: its CUDA libraries don't load")
        self.backend = "onnxruntime-cuda" if gpu else "onnxruntime"
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.outputs = tuple(item.name for item in self._session.get_outputs())
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    @staticmethod
    def can_use_gpu() -> bool:
        """Whether the installed ONNX Runtime is the one for CUDA."""
        return _GPU in ort.get_available_providers()

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph once.

        Raises EngineMemoryError, EngineLostError when CUDA has failed (then the process has to end), or EngineError
        with the error's class, never its text (it may quote inputs).
        """
        try:
            values = self._session.run(self.outputs, {name: feeds[name] for name in self.inputs})
        except KeyError as error:
            raise EngineError(f"the engine needs an input named {error.args[0]!r}") from error
        except Exception as error:
            if any(sign in str(error) for sign in _NO_MEMORY):
                raise EngineMemoryError("ONNX Runtime had no memory for this batch") from error
            if self.backend != "onnxruntime" and any(sign in str(error) for sign in _LOST):
                raise EngineLostError("ONNX Runtime says that CUDA has failed") from error
            raise EngineError(f"ONNX Runtime failed: {type(error).__name__}") from error
        return dict(zip(self.outputs, values, strict=True))
