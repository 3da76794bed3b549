"""Engines straight from graphs: what `adscore-export engine` writes, and what the parity gate runs on a GPU.

The worker's own, in its cache beside the bundle, come from `adscore models build`, by the same code.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from admodels.contract.bundle import MODEL, load_bundle
from admodels.runtime import cuda, tensorrt_module
from admodels.runtime.engine_from_onnx import CURRENT, BuildOptions, Engine, Progress, Range, build_engine
from admodels.runtime.runner import EngineError
from admodels.runtime.tensorrt_module import Choice, TensorRtUnavailableError
from export.onnx_from_torch import tensor_specs

USUAL_BATCH, MOST_BATCH = 8, 64
TEXT = {"length": Range(1, 64, 128), "words": Range(1, 32, 64), "rows": Range(1, 32, 96)}
"""Sizes of the other symbols that an exported graph may have."""


def engine_of(
    model: bytes,
    *,
    sm: str | None = None,
    most: int = MOST_BATCH,
    module: Choice = "auto",
    progress: Progress | None = None,
) -> Engine:
    """Build the graph's engine with one profile.

    sm: compute capability such as `8.6`; None: this machine's GPU. most: the largest batch.
    Raises EngineError with TensorRT's own words; TensorRtUnavailableError without TensorRT, without a GPU to build for,
    or for one that it doesn't know.
    """
    if sm is None and cuda.compute_capability() is None:
        raise TensorRtUnavailableError("there is no GPU here; name what to build for: --sm 8.6")
    try:
        graph = onnx.load_from_string(model).graph
    except DecodeError as error:
        raise EngineError("the graph can't be read: it is no ONNX") from error
    inputs = tensor_specs(graph.input)
    profile = {"batch": Range(1, min(USUAL_BATCH, most), most), **TEXT}
    trt = tensorrt_module.load(module)
    return build_engine(trt, model, inputs, [profile], BuildOptions(sm=sm or CURRENT), progress=progress)


def graph_at(path: Path) -> bytes:
    """The bytes of an .onnx file, or those of a bundle's folder, checked. Raises BundleError, OSError."""
    return load_bundle(path.absolute()).files[MODEL] if path.is_dir() else path.read_bytes()
