"""From the exporter's fp32 graph to the graph of a precision, and what may differ from torch in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import onnx

from export.narrow import narrow
from export.quantise import Feeds, quantise_products
from export.rewrites import cast_images_first, fold_norms

Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "fp8")

Kind = Literal["logits", "probability", "heatmap", "features"]
TOLERANCES: dict[Precision, dict[Kind, float]] = {
    "fp32": {"logits": 1e-3, "probability": 1e-4, "heatmap": 1e-5, "features": 1e-3},
    "fp16": {"logits": 5e-2, "probability": 5e-3, "heatmap": 2e-5, "features": 5e-2},
    "bf16": {"logits": 3e-1, "probability": 3e-2, "heatmap": 1e-4, "features": 3e-1},
    "int8": {"logits": 5e-1, "probability": 5e-2, "heatmap": 2e-4, "features": 5e-1},
    "fp8": {"logits": 5e-1, "probability": 5e-2, "heatmap": 2e-4, "features": 5e-1},
}
"""Largest absolute difference from torch's fp32. A heatmap's mean value is 2.4e-4 at 64×64."""

OPSETS: dict[Precision, int] = {"fp32": 20, "fp16": 20, "bf16": 22, "int8": 20, "fp8": 20}
"""By need: convolutions in bf16 came with 22."""


def to_precision(
    model: onnx.ModelProto, precision: Precision, recorded: Sequence[Feeds] = (), *, percentile: float = 100.0
) -> None:
    """Change the fp32 graph in place; inputs and outputs keep their types.

    8-bit graphs are calibrated on `recorded` and compute in fp16 what isn't a quantised product: an engine is strongly
    typed, and would do the rest in fp32. Raises ValueError where there is nothing to calibrate on.
    """
    cast_images_first(model)
    if precision == "fp32":
        return
    fold_norms(model)
    if precision in ("int8", "fp8"):
        quantise_products(model, "int8" if precision == "int8" else "fp8", recorded, percentile=percentile)
    narrow(model, "bf16" if precision == "bf16" else "fp16")
    onnx.checker.check_model(model)


def tolerance(output: str, precision: Precision) -> float:
    """What the gate lets an output of that name differ by."""
    kind: Kind = "probability"
    if output == "heatmap":
        kind = "heatmap"
    elif output.endswith(("_logits", "_emissions")):
        kind = "logits"
    return TOLERANCES[precision][kind]
