"""The runners that a graph is proved on: those that serve it, as far as this machine has them."""

from __future__ import annotations

import importlib.util

from admodels.runtime import tensorrt_module
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.runtime.runner import EngineError, Runner
from admodels.runtime.tensorrt_module import TensorRtUnavailableError
from export.emulate import emulated
from export.engines import engine_of

BACKENDS = ("onnxruntime", "openvino", "tensorrt")


class RunnerUnavailableError(Exception):
    """This backend can't run the graph here. The message says why."""


def runner(backend: str, model: bytes) -> Runner:
    """The graph on one of `BACKENDS`.

    Raises RunnerUnavailableError, or EngineError for a graph that ONNX Runtime or a TensorRT that is here can't read.
    """
    if backend == "onnxruntime":
        return OnnxRuntimeRunner(emulated(model))
    if backend == "openvino":
        return _openvino(model)
    if backend == "tensorrt":
        return _tensorrt(model)
    raise ValueError(f"no backend {backend!r}; there are {', '.join(BACKENDS)}")


def _openvino(model: bytes) -> Runner:
    if importlib.util.find_spec("openvino") is None:
        raise RunnerUnavailableError("it isn't installed: pip install 'adscore[openvino]'")
    from admodels.runtime.openvino import OpenVinoRunner

    try:
        return OpenVinoRunner(model)
    except EngineError as error:
        # Its passes fail on some 8-bit graphs; then it can't serve them either.
        raise RunnerUnavailableError(str(error)) from error


def _tensorrt(model: bytes) -> Runner:
    try:
        # Not at the top: cuda's bindings come with the TensorRT extras alone.
        from admodels.runtime.tensorrt import TensorRtRunner

        engine = engine_of(model)
        made: Runner = TensorRtRunner(tensorrt_module.load(), engine.plan)
        return made
    except (TensorRtUnavailableError, ImportError) as error:
        raise RunnerUnavailableError(str(error)) from error
