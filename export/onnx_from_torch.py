"""PyTorch module → ONNX graph: named inputs and outputs, dynamic batch and text length, nothing of this machine."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence

import onnx
import torch
from torch import Tensor, nn

from admodels.contract.manifest import TensorSpec

OPSET = 20
IR_VERSION = 10
"""What opsets 21 and 22 came with; torch writes a newer one than TensorRT's and OpenVINO's parsers may know."""

_DTYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT64: "int64",
}


def export_graph(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    optimise: bool = True,
    opset: int = OPSET,
) -> onnx.ModelProto:
    """The module's inference graph.

    inputs: examples by the name of the module's forward parameters; batch at least 2, since torch takes a size of 1
    for a constant. outputs: names for what forward returns (one tensor or a tuple), in order. dynamic: per input
    which axis carries which symbol, e.g. {"tokens": {0: "batch", 1: "length"}}. Raises ValueError where the module's
    code fixes one of them.
    """
    symbols = {name: torch.export.Dim(name) for axes in dynamic.values() for name in axes.values()}
    shapes = {name: {axis: symbols[s] for axis, s in dynamic.get(name, {}).items()} for name in inputs}
    with _quiet():
        program = torch.onnx.export(
            module.eval(),
            args=(),
            kwargs=dict(inputs),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=opset,
            verbose=False,
            optimize=optimise,
        )
    assert program is not None  # torch's signature allows None for a form that isn't used here
    model = program.model_proto
    _strip(model)
    _require_symbols(model, dynamic)
    onnx.checker.check_model(model)
    return model


def _require_symbols(model: onnx.ModelProto, dynamic: Mapping[str, Mapping[int, str]]) -> None:
    """The exporter makes a constant of a size that the module reads by `len`, and tells nobody."""
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        for axis, symbol in dynamic.get(value.name, {}).items():
            if sizes[axis].dim_param != symbol:
                raise ValueError(
                    f"input {value.name}: axis {axis} became {sizes[axis].dim_value or sizes[axis].dim_param!r} in the "
                    f"graph, not the symbol {symbol!r}: the module fixes that size (`len(x)` does; take `x.shape[0]`)"
                )


def tensor_specs(values: Sequence[onnx.ValueInfoProto]) -> tuple[TensorSpec, ...]:
    """Graph inputs or outputs as the manifest lists them."""
    return tuple(
        TensorSpec.model_validate(
            {
                "name": value.name,
                "dtype": _DTYPES[value.type.tensor_type.elem_type],
                "shape": [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim],
            }
        )
        for value in values
    )


def _strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, paths and names of the exporting machine: equal weights give equal bytes everywhere."""
    model.ir_version = IR_VERSION
    del model.metadata_props[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    model.graph.name = "adscore"
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    graph = model.graph
    for value in [*graph.input, *graph.output, *graph.initializer, *graph.value_info]:
        value.doc_string = ""
        del value.metadata_props[:]


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """The exporter's deprecation warnings and progress are its own affair; its exceptions still come through."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
