"""What the verbs do, on plain values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from admodels.checkpoint import load
from admodels.contract.bundle import MANIFEST, MODEL, BundleError, load_bundle, parse_manifest
from admodels.contract.manifest import Manifest, Tolerance
from admodels.contract.signature import SIGNATURE, sign
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from export.bundle import versions, write_bundle, write_file
from export.encoders import ENCODERS, EncoderSource, as_function, encoder_graph, mobilenetv2, verify_encoder
from export.heads import export_head, manifest
from export.onnx_from_torch import tensor_specs
from export.verify import ParityReport


def bundle_encoder(
    name: str, *, weights: Path | None, models: Path, version: str, replace: bool
) -> tuple[str, ParityReport]:
    """Export the encoder, prove it, write `models/<name>/<version>/`. Returns the bundle's digest and the proof."""
    source = mobilenetv2(weights) if name == "mobilenetv2" and weights is not None else ENCODERS[name]()
    model = encoder_graph(source)
    report = verify_encoder(source, model)
    files = {MODEL: model, **source.files}
    return write_bundle(models, _encoder_manifest(source, model, version), files, replace=replace), report


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
    encoder = ENCODERS[source]()
    return verify_encoder(encoder, graph or encoder_graph(encoder))


def sign_bundle(folder: Path, key: Path) -> str:
    """Check the bundle, then write its `manifest.sig`. Returns its `name/version`.

    Raises BundleError for one that wouldn't be loaded, KeyUnusableError.
    """
    # A folder may be given as `.`, and its own name and its parent's say what it is.
    folder = folder.absolute() if folder.name else folder.resolve()
    raw = (folder / MANIFEST).read_bytes()
    signature = sign(raw, key)
    bundle = load_bundle(folder)
    if parse_manifest(raw, bundle.label) != bundle.manifest:
        raise BundleError(f"bundle {bundle.label}: {MANIFEST} changed while it was signed; sign it again")
    # The scratch folder lies beside the bundle, in which nothing may stand that the manifest doesn't list.
    write_file(folder / SIGNATURE, signature, scratch=folder.parent)
    return bundle.label


def _encoder_manifest(source: EncoderSource, model: bytes, version: str) -> Manifest:
    graph = onnx.load_from_string(model).graph
    return Manifest(
        manifest_version=1,
        name=source.name,
        version=version,
        task="encoder",
        architecture=source.architecture,
        precision="fp32",
        inputs=tensor_specs(graph.input),
        outputs=tensor_specs(graph.output),
        image=source.image,
        text=source.text,
        tolerances={name: Tolerance(max_abs=value) for name, value in source.tolerances.items()},
        metrics=_fidelity(source, model),
        versions=versions("torch", "timm", "transformers", "onnx", "onnxscript", "onnxruntime"),
        files={},
    )


def _fidelity(source: EncoderSource, model: bytes) -> dict[str, float]:
    """Mean cosine between the served features and those of the unrounded weights, per output, on the first case."""
    case = source.cases[0]
    served = OnnxRuntimeRunner(model).infer(case.feeds)
    exact = as_function(source.reference, source.outputs)(case.feeds)
    cosines = {}
    for name in served:
        a, b = served[name].reshape(len(served[name]), -1), exact[name].reshape(len(served[name]), -1)
        norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines[f"{name}/cosine_to_fp32"] = round(float(((a * b).sum(axis=1) / norm).mean()), 6)
    return cosines
