"""What the verbs do, on plain values."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx

from admodels.checkpoint import load
from admodels.contract.bundle import MODEL, load_bundle
from admodels.contract.manifest import Manifest, Tolerance
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from export.bundle import versions, write_bundle
from export.encoders import ENCODERS, EncoderExport, as_function, mobilenetv2, output_names
from export.heads import export_head, manifest
from export.onnx_from_torch import tensor_specs
from export.verify import ParityReport, check_parity


def bundle_encoder(
    name: str, *, weights: Path | None, models: Path, version: str, replace: bool
) -> tuple[str, ParityReport]:
    """Export the encoder, prove it, write `models/<name>/<version>/`. Returns the bundle's digest and the proof."""
    export = mobilenetv2(weights) if name == "mobilenetv2" and weights is not None else ENCODERS[name]()
    report = verify_encoder(export)
    files = {MODEL: export.model, **export.files}
    return write_bundle(models, _manifest(export, version), files, replace=replace), report


def bundle_run(
    run: Path, name: str | None, *, models: Path, version: str, replace: bool
) -> tuple[Path, str, ParityReport]:
    """Export a run's head, prove it, write its bundle. Returns the folder, the bundle's digest and the proof."""
    checkpoint = load(run)
    export = export_head(checkpoint, models)
    described = manifest(checkpoint, export, name=name or checkpoint.spec.architecture, version=version)
    digest = write_bundle(models, described, {MODEL: export.model}, replace=replace)
    return models / described.name / described.version, digest, export.report


def verify_source(source: str, folder: Path | None, models: Path) -> ParityReport:
    """Prove a run's head or an encoder, its fresh export or the graph of the bundle in `folder`."""
    graph = None if folder is None else load_bundle(folder).files[MODEL]
    if source not in ENCODERS:
        return export_head(load(Path(source)), models, against=graph).report
    export = ENCODERS[source]()
    return verify_encoder(export if graph is None else dataclasses.replace(export, model=graph))


def verify_encoder(export: EncoderExport) -> ParityReport:
    """The served graph against the fp32 torch module. Raises ParityError over a tolerance."""
    reference = as_function(export.reference, output_names(export.model))
    return check_parity(export.model, reference, export.cases, export.tolerances)


def _manifest(export: EncoderExport, version: str) -> Manifest:
    graph = onnx.load_from_string(export.model).graph
    return Manifest(
        manifest_version=1,
        name=export.name,
        version=version,
        task="encoder",
        architecture=export.architecture,
        precision="fp32",
        inputs=tensor_specs(graph.input),
        outputs=tensor_specs(graph.output),
        image=export.image,
        text=export.text,
        tolerances={name: Tolerance(max_abs=value) for name, value in export.tolerances.items()},
        metrics=_fidelity(export),
        versions=versions("torch", "timm", "transformers", "onnx", "onnxscript", "onnxruntime"),
        files={},
    )


def _fidelity(export: EncoderExport) -> dict[str, float]:
    """Mean cosine between the served features and those of the unrounded weights, per output, on the first case."""
    case = export.cases[0]
    served = OnnxRuntimeRunner(export.model).infer(case.feeds)
    exact = as_function(export.reference, output_names(export.model))(case.feeds)
    cosines = {}
    for name in served:
        a, b = served[name].reshape(len(served[name]), -1), exact[name].reshape(len(served[name]), -1)
        norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines[f"{name}/cosine_to_fp32"] = round(float(((a * b).sum(axis=1) / norm).mean()), 6)
    return cosines
