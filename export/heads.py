"""A trained head as a graph: what it reads, what it is compared on, and the manifest that it is served by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from admodels.checkpoint import Checkpoint, CheckpointError
from admodels.contract.bundle import Bundle, BundleError, load_bundle
from admodels.contract.manifest import Manifest, Tolerance
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from export.bundle import versions
from export.encoders import as_function
from export.onnx_from_torch import export_graph, tensor_specs
from export.verify import Arrays, Case, ParityReport, check_parity

LOGITS_TOLERANCE = 1e-3
PROBABILITY_TOLERANCE = 1e-4
HEATMAP_TOLERANCE = 1e-5
"""A heatmap's mean value is 2.4e-4 at 64×64."""


class ServedHead(nn.Module):
    """A head with the inputs of its graph: tensors by name in, a tuple of the served outputs out."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(
        self,
        tokens: Tensor,
        attention_mask: Tensor,
        c1: Tensor | None = None,
        c2: Tensor | None = None,
        c3: Tensor | None = None,
        c4: Tensor | None = None,
        c5: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        maps = [m for m in (c1, c2, c3, c4, c5) if m is not None]
        return tuple(self.head(maps, tokens, attention_mask).served().values())


@dataclass(frozen=True)
class HeadExport:
    """The graph's bytes, its proof, and the encoders that feed it."""

    model: bytes
    report: ParityReport
    encoders: tuple[Bundle, ...]
    tolerances: dict[str, float]


def export_head(checkpoint: Checkpoint, models: Path, *, against: bytes | None = None) -> HeadExport:
    """Export the checkpoint's head and prove it; `against` proves an existing graph instead of a fresh one.

    models: the folder with the encoder bundles that the head was trained on. Raises CheckpointError, BundleError when
    an encoder there is another one, ParityError over a tolerance.
    """
    encoders = load_encoders(checkpoint, models)
    feeds = record_features(checkpoint, encoders)
    module = ServedHead(checkpoint.model())
    with torch.no_grad():
        example = {name: torch.from_numpy(array[:2].copy()) for name, array in feeds.items()}
        maps = [example[name] for name in sorted(example) if name.startswith("c")]
        outputs = tuple(module.head(maps, example["tokens"], example["attention_mask"]).served())
    model = against or _graph(module, example, outputs)
    tolerances = {name: _tolerance(name) for name in outputs}
    report = check_parity(model, as_function(module, outputs), _cases(feeds), tolerances)
    return HeadExport(model, report, encoders, tolerances)


def load_encoders(checkpoint: Checkpoint, models: Path) -> tuple[Bundle, ...]:
    """The encoder bundles that the checkpoint names. Raises BundleError when one has another digest."""
    bundles = []
    for use in checkpoint.spec.encoders:
        bundle = load_bundle(models / use.name / use.version)
        if bundle.digest != use.digest:
            raise BundleError(
                f"the head was trained on {bundle.label} with digest {use.digest[:12]}, {models.name}/ holds "
                f"{bundle.digest[:12]}; restore that encoder or train the head again"
            )
        bundles.append(bundle)
    if not bundles:
        raise CheckpointError("the checkpoint names no shared encoders; only heads on shared encoders are bundled")
    return tuple(bundles)


def record_features(checkpoint: Checkpoint, encoders: tuple[Bundle, ...]) -> dict[str, np.ndarray]:
    """The head's inputs for the recorded creatives, made by the encoders' own graphs."""
    needed = {spec.name for bundle in encoders for spec in bundle.manifest.inputs}
    missing = needed - set(checkpoint.recorded)
    if missing:
        raise CheckpointError(
            f"the checkpoint recorded no {', '.join(sorted(missing))} to prove the graph on; fit again"
        )
    feeds = {"attention_mask": checkpoint.recorded["attention_mask"]}
    for use, bundle in zip(checkpoint.spec.encoders, encoders, strict=True):
        made = OnnxRuntimeRunner(bundle.files["model.onnx"]).infer(checkpoint.recorded)
        feeds |= {use.outputs[name]: array for name, array in made.items() if name in use.outputs}
    if len(feeds["attention_mask"]) < 2:
        raise CheckpointError("the checkpoint recorded fewer than two creatives to prove the graph on; fit again")
    return feeds


def manifest(checkpoint: Checkpoint, export: HeadExport, *, name: str, version: str) -> Manifest:
    """The head's manifest, complete but for the digests of its files."""
    spec, served = checkpoint.spec, checkpoint.served
    graph = onnx.load_from_string(export.model).graph
    return Manifest(
        manifest_version=1,
        name=name,
        version=version,
        task=spec.task,
        architecture=spec.architecture,
        precision="fp32",
        inputs=tensor_specs(graph.input),
        outputs=tensor_specs(graph.output),
        labels=spec.labels,
        encoders=spec.encoders,
        calibration=served.calibration,
        base_rate=served.base_rate,
        bucket_edges=served.bucket_edges,
        tolerances={output: Tolerance(max_abs=value) for output, value in export.tolerances.items()},
        training=checkpoint.training,
        metrics=checkpoint.metrics,
        versions=versions("torch", "onnx", "onnxscript", "onnxruntime"),
        files={},
    )


def _graph(module: ServedHead, example: Mapping[str, Tensor], outputs: tuple[str, ...]) -> bytes:
    dynamic = {name: {0: "batch"} for name in example}
    dynamic |= {name: {0: "batch", 1: "length"} for name in ("tokens", "attention_mask")}
    graph = export_graph(module, example, outputs=outputs, dynamic=dynamic)
    return graph.SerializeToString(deterministic=True)


def _tolerance(output: str) -> float:
    if output == "heatmap":
        return HEATMAP_TOLERANCE
    return LOGITS_TOLERANCE if output.endswith("_logits") else PROBABILITY_TOLERANCE


def _cases(recorded: Arrays) -> tuple[Case, ...]:
    """The recorded creatives; random features of their scale; nothing at all; ten times too much, on short texts."""
    generator = np.random.default_rng(0)
    random = {
        name: generator.normal(scale=values.std(), size=(4, *values.shape[1:])).astype(np.float32)
        for name, values in recorded.items()
        if name != "attention_mask"
    }
    length = recorded["attention_mask"].shape[1]
    ragged = (np.arange(length)[None] < np.array([[length], [1], [length // 2], [2]])).astype(np.int64)
    zeros = {name: np.zeros_like(values) for name, values in random.items()}
    large = {name: values * np.float32(10) for name, values in random.items()}
    return (
        Case("recorded", recorded),
        Case("random", {**random, "attention_mask": np.ones_like(ragged)}),
        Case("zeros", {**zeros, "attention_mask": ragged}),
        Case("large", {**large, "attention_mask": ragged}),
    )
