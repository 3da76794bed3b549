"""A trained model as a graph: what it reads, what it is compared on, and the manifest that it is served by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from admodels.checkpoint import Checkpoint, CheckpointError
from admodels.contract.bundle import MODEL, Bundle, BundleError, load_bundle
from admodels.contract.manifest import ChainSpec, ImageSpec, Manifest, Tolerance
from admodels.crf import LinearChainCrf
from admodels.papers.mvla import LABELS, Mvla, MvlaWithEncoders
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from export.bundle import versions
from export.cases import cases
from export.encoders import as_function
from export.onnx_from_torch import export_graph, tensor_specs
from export.precision import OPSETS, Precision, to_precision, tolerance
from export.served import DYNAMIC, ServedModel, inputs_of, served
from export.verify import Verdict, check_parity


@dataclass(frozen=True)
class HeadExport:
    """The graph's bytes, its proof, and the encoders that feed it."""

    model: bytes
    verdict: Verdict
    encoders: tuple[Bundle, ...]
    tolerances: dict[str, float]
    precision: Precision


def export_head(
    checkpoint: Checkpoint,
    models: Path,
    *,
    precision: Precision = "fp32",
    backends: Sequence[str] = ("onnxruntime",),
    against: bytes | None = None,
) -> HeadExport:
    """Export the checkpoint's model and prove it; `against` proves an existing graph instead of a fresh one.

    A head on shared encoders is exported without them; a model with encoders of its own is one graph. models: the
    folder with the encoder bundles that the head was trained on. Raises CheckpointError, BundleError when an encoder
    there is another one, ParityError over a tolerance.
    """
    ready = prepare(checkpoint, models)
    model = against or _graph(ready, precision)
    outputs = ready.module.outputs
    tolerances = {name: tolerance(name, precision) for name in outputs}
    verdict = check_parity(
        model, as_function(ready.module, outputs), cases(ready.feeds), tolerances, backends=backends,
        narrow=precision != "fp32",
    )  # fmt: skip
    return HeadExport(model, verdict, ready.encoders, tolerances, precision)


@dataclass(frozen=True)
class Ready:
    """A model ready to be traced: the module, its inputs for the recorded creatives, and the encoders behind them."""

    module: ServedModel
    feeds: dict[str, np.ndarray]
    encoders: tuple[Bundle, ...]

    @property
    def example(self) -> dict[str, Tensor]:
        """Two creatives: torch takes a batch of one for a constant."""
        return {name: torch.from_numpy(array[:2].copy()) for name, array in self.feeds.items()}


def prepare(checkpoint: Checkpoint, models: Path) -> Ready:
    """Raises CheckpointError, BundleError as `export_head` does."""
    form, served_forms = checkpoint.training.get("form", "both"), ["both"]
    if checkpoint.spec.architecture == "deepm2ad":
        served_forms.append("text")  # its other side are objects, which serving hasn't got
    if form not in served_forms:
        raise CheckpointError(
            f"the run was trained on {form} alone, and serving gives every head pictures and words; fit it without form"
        )
    encoders = load_encoders(checkpoint, models)
    feeds = record_features(checkpoint, encoders)
    ready = Ready(served(checkpoint.spec, checkpoint.model()), feeds, encoders)
    with torch.no_grad():
        ready.module(**ready.example)  # it knows its outputs' names from now on
    return ready


def trace(ready: Ready, opset: int) -> onnx.ModelProto:
    """The fp32 graph, from which those of every precision with that opset are made."""
    dynamic = {
        # Word vectors have as many numbers each as the model has; the rows of one word vary.
        name: {
            axis: symbol for axis, symbol in DYNAMIC[name].items() if symbol != "rows" or not value.is_floating_point()
        }
        for name, value in ready.example.items()
    }
    graph = export_graph(ready.module, ready.example, outputs=ready.module.outputs, dynamic=dynamic, opset=opset)
    if ready.module.architecture == "deepm2ad":
        # The exporter notes the example's number of words as every LSTM's, and ONNX Runtime plans its memory by that.
        for value in graph.graph.value_info:
            value.type.tensor_type.ClearField("shape")
    return graph


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
    if not bundles and checkpoint.spec.image_encoder is None:
        raise CheckpointError(
            "the checkpoint names no encoders, neither shared ones nor its own: word vectors of its own aren't served; "
            "fit it over images, or over a text encoder's tokens (subwords.dim = 0)"
        )
    return tuple(bundles)


def record_features(checkpoint: Checkpoint, encoders: tuple[Bundle, ...]) -> dict[str, np.ndarray]:
    """The model's inputs for the recorded creatives; what comes from shared encoders is made by their own graphs."""
    wanted = inputs_of(checkpoint.spec)
    made: dict[str, np.ndarray] = {}
    for use, bundle in zip(checkpoint.spec.encoders, encoders, strict=True):
        _require(checkpoint, {spec.name for spec in bundle.manifest.inputs})
        outputs = OnnxRuntimeRunner(bundle.files[MODEL]).infer(checkpoint.recorded)
        made |= {use.outputs[name]: array for name, array in outputs.items() if name in use.outputs}
    _require(checkpoint, set(wanted) - set(made))
    feeds = {name: made[name] if name in made else checkpoint.recorded[name] for name in wanted}
    if min(len(values) for values in feeds.values()) < 2:
        raise CheckpointError("the checkpoint recorded fewer than two creatives to prove the graph on; fit again")
    return feeds


def _require(checkpoint: Checkpoint, names: set[str]) -> None:
    missing = names - set(checkpoint.recorded)
    if missing:
        raise CheckpointError(
            f"the checkpoint recorded no {', '.join(sorted(missing))} to prove the graph on; fit again"
        )


def manifest(checkpoint: Checkpoint, export: HeadExport, *, name: str, version: str) -> Manifest:
    """The head's manifest, complete but for the digests of its files."""
    spec, decided, image = checkpoint.spec, checkpoint.served, checkpoint.spec.image_encoder
    graph = onnx.load_from_string(export.model).graph
    return Manifest(
        manifest_version=1,
        name=name,
        version=version,
        task=spec.task,
        architecture=spec.architecture,
        precision=export.precision,
        inputs=tensor_specs(graph.input),
        outputs=tensor_specs(graph.output),
        labels=spec.labels,
        image=None if image is None else ImageSpec(height=image.size, width=image.size, mean=image.mean, std=image.std),
        text=spec.text if spec.text_encoder is not None else None,
        encoders=spec.encoders,
        chain=_chain(checkpoint.model()),
        calibration=decided.calibration,
        base_rate=decided.base_rate,
        bucket_edges=decided.bucket_edges,
        tolerances={output: Tolerance(max_abs=value) for output, value in export.tolerances.items()},
        training=checkpoint.training,
        metrics=checkpoint.metrics,
        versions=versions("torch", "onnx", "onnxscript", "onnxruntime"),
        files={},
    )


def _chain(model: torch.nn.Module) -> ChainSpec | None:
    """The scores of MVLA's chain, which the graph leaves to the worker; None for the others."""
    crf = next((part for part in model.modules() if isinstance(part, LinearChainCrf)), None)
    if crf is None or not isinstance(model, Mvla | MvlaWithEncoders):
        return None
    scores = {name: parameter.detach().tolist() for name, parameter in crf.named_parameters()}
    return ChainSpec.model_validate({"labels": LABELS, **scores})


def _graph(ready: Ready, precision: Precision) -> bytes:
    graph = trace(ready, OPSETS[precision])
    to_precision(graph, precision, [ready.feeds])
    return graph.SerializeToString(deterministic=True)
