"""Engines of every model at its paper's size, from its own export, by real TensorRT-RTX and without a GPU.

Random weights: what is checked is that TensorRT reads the graph and builds it, with which layers, names, types and
shapes. What engines compute is checked where there is a GPU (tests/gpu).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest
from onnx import TensorProto

from admodels.contract.manifest import TensorSpec
from admodels.contract.spec import TASKS
from admodels.runtime import tensorrt_module
from admodels.runtime.engine_from_onnx import BuildOptions, Engine, Range, build_engine
from admodels.runtime.tensorrt_graph import for_tensorrt
from admodels.runtime.tensorrt_module import TensorRtUnavailableError
from export.heads import Ready, prepare, trace
from export.onnx_from_torch import tensor_specs
from export.precision import OPSETS, Precision, to_precision
from export.served import inputs_of
from export.untrained import untrained

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
MODELS = Path(__file__).parents[2] / "models"
SIZES = {"length": Range(1, 64, 128), "words": Range(1, 32, 64), "rows": Range(1, 32, 96)}
PROFILES = ({"batch": Range(1, 1, 4), **SIZES}, {"batch": Range(1, 32, 32), **SIZES})
"""As the worker has them: one tuned for a creative alone, one for full batches."""
DTYPES = {"float32": "FLOAT", "int64": "INT64", "uint8": "UINT8"}
OUTPUTS = {
    "dbafn": {"score", "heatmap"},
    "fgmfn": {"sentiment_logits"},
    "mvla": {"aspect_emissions", "sentiment_logits", "anp_logits"},
    "deepm2ad": {"topics_logits", "emotions_logits"},
    "adfusion": {"ctr", "share_likelihood", "attention", "theme_logits", "keywords_logits"},
}
EIGHT_BITS: dict[str, tuple[tuple[Precision, str, int], ...]] = {
    "adfusion": (("int8", "8.6", TensorProto.INT8), ("fp8", "8.9", TensorProto.FLOAT8E4M3FN)),
}
"""The model with the smallest network carries both; FP8 needs compute capability 8.9."""


class Paper(NamedTuple):
    """A model at its paper's size, traced once."""

    name: str
    ready: Ready
    inputs: tuple[str, ...]
    graph: onnx.ModelProto


@pytest.fixture(scope="module")
def trt() -> Any:
    try:
        return tensorrt_module.load("tensorrt_rtx")
    except TensorRtUnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=list(TASKS))
def paper(request: pytest.FixtureRequest) -> Paper:
    """One at a time: with its graph a model weighs up to 2 GB."""
    checkpoint = untrained(f"paper:{request.param}", MODELS)
    assert checkpoint is not None
    ready = prepare(checkpoint, MODELS)
    return Paper(request.param, ready, inputs_of(checkpoint.spec), trace(ready, OPSETS["fp16"]))


def build(trt: Any, paper: Paper, precision: Precision, sm: str) -> tuple[onnx.ModelProto, Engine]:
    """The graph of a precision, and its engine."""
    graph = onnx.ModelProto()
    graph.CopyFrom(paper.graph)
    to_precision(graph, precision, [{name: values[:2] for name, values in paper.ready.feeds.items()}])
    inputs: tuple[TensorSpec, ...] = tensor_specs(graph.graph.input)
    return graph, build_engine(trt, graph.SerializeToString(), inputs, PROFILES, BuildOptions(sm=sm))


def products(trt: Any, graph: onnx.ModelProto) -> list[Any]:
    """What TensorRT's own parser gives for matrix products and convolutions: the types of their results."""
    log = tensorrt_module.logger(trt)
    network = trt.Builder(log).create_network(0)
    parser = trt.OnnxParser(network, log)
    assert parser.parse(for_tensorrt(graph.SerializeToString()))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = (trt.LayerType.MATRIX_MULTIPLY, trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION)
    return [layer.get_output(0).dtype for layer in layers if layer.type in kinds]


def test_it_builds_in_fp16_and_in_eight_bits_with_its_names_types_and_shapes(trt: Any, paper: Paper) -> None:
    graph, engine = build(trt, paper, "fp16", "8.6")
    assert len(engine.plan) > 20_000_000, "the weights are in it"
    assert engine.layers > 100
    assert engine.inputs == paper.inputs
    assert set(engine.outputs) == set(paper.ready.module.outputs) >= OUTPUTS[paper.name]
    specs = {spec.name: spec for spec in (*tensor_specs(graph.graph.input), *tensor_specs(graph.graph.output))}
    assert engine.types == {name: DTYPES[spec.dtype] for name, spec in specs.items()}
    for given, taken in zip(PROFILES, engine.profiles, strict=True):
        for name in engine.inputs:
            shape = specs[name].shape
            for pick, sizes in zip(("least", "usual", "most"), taken[name], strict=True):
                assert sizes == tuple(s if isinstance(s, int) else getattr(given[s], pick) for s in shape)
    narrow = products(trt, graph)
    assert narrow.count(trt.DataType.HALF) >= 0.9 * len(narrow) > 20

    for precision, sm, kind in EIGHT_BITS.get(paper.name, ()):
        eight, smaller = build(trt, paper, precision, sm)
        weights = [tensor for tensor in eight.graph.initializer if tensor.data_type == kind and len(tensor.dims) > 1]
        assert len(weights) > 40
        assert (smaller.inputs, set(smaller.outputs)) == (engine.inputs, set(engine.outputs))
        assert smaller.types == engine.types
        assert len(smaller.plan) < 0.8 * len(engine.plan)
