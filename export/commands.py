"""What the verbs do, on plain values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from admodels.checkpoint import Checkpoint, CheckpointError, load
from admodels.contract.bundle import MANIFEST, MODEL, BundleError, load_bundle, parse_manifest
from admodels.contract.manifest import Manifest, Tolerance
from admodels.contract.signature import SIGNATURE, sign
from admodels.contract.spec import ModelSpec
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from export.bundle import versions, write_bundle, write_file
from export.emulate import emulated
from export.encoders import (
    ENCODERS,
    EncoderSource,
    as_function,
    encoder_graph,
    encoder_tolerances,
    mobilenetv2,
    verify_encoder,
)
from export.heads import export_head, manifest
from export.onnx_from_torch import tensor_specs
from export.precision import Precision
from export.runners import BACKENDS
from export.untrained import untrained
from export.verify import Verdict


def bundle_encoder(
    name: str,
    *,
    weights: Path | None,
    models: Path,
    version: str,
    replace: bool,
    precision: Precision = "fp32",
    backends: Sequence[str] = BACKENDS,
) -> tuple[str, Verdict]:
    """Export the encoder, prove it, write `models/<name>/<version>/`. Returns the bundle's digest and the proof."""
    source = mobilenetv2(weights) if name == "mobilenetv2" and weights is not None else ENCODERS[name]()
    model = encoder_graph(source, precision)
    verdict = verify_encoder(source, model, precision=precision, backends=backends)
    files = {MODEL: model, **source.files}
    manifest = _encoder_manifest(source, model, version, precision)
    return write_bundle(models, manifest, files, replace=replace), verdict


def checkpoint_of(source: str, models: Path) -> Checkpoint:
    """The run's checkpoint, or the untrained model that `paper:NAME` and `small:NAME` stand for."""
    return untrained(source, models) or load(Path(source))


def bundle_run(
    source: str,
    name: str | None,
    *,
    models: Path,
    version: str,
    replace: bool,
    precision: Precision = "fp32",
    backends: Sequence[str] = BACKENDS,
    tokenizer: Path | None = None,
) -> tuple[Path, str, Verdict]:
    """Export a run's model, prove it, write its bundle. Returns the folder, the bundle's digest and the proof."""
    checkpoint = checkpoint_of(source, models)
    files = _tokenizer(checkpoint.spec, tokenizer)
    export = export_head(checkpoint, models, precision=precision, backends=backends)
    described = manifest(checkpoint, export, name=name or checkpoint.spec.architecture, version=version)
    digest = write_bundle(models, described, {MODEL: export.model, **files}, replace=replace)
    return models / described.name / described.version, digest, export.verdict


def verify_source(
    source: str,
    folder: Path | None,
    models: Path,
    precision: Precision | None = None,
    backends: Sequence[str] = BACKENDS,
) -> Verdict:
    """Prove a run's model or an encoder, its fresh export or the graph of the bundle in `folder`.

    precision: of the fresh export; a bundle says its own.
    """
    bundle = None if folder is None else load_bundle(folder)
    graph = None if bundle is None else bundle.files[MODEL]
    chosen: Precision = bundle.manifest.precision if bundle is not None else precision or "fp32"
    if source not in ENCODERS:
        checkpoint = checkpoint_of(source, models)
        return export_head(checkpoint, models, precision=chosen, backends=backends, against=graph).verdict
    encoder = ENCODERS[source]()
    return verify_encoder(encoder, graph or encoder_graph(encoder, chosen), precision=chosen, backends=backends)


def _tokenizer(spec: ModelSpec, given: Path | None) -> dict[str, bytes]:
    """The tokenizer's file for a model that reads text itself. Raises CheckpointError where there is none."""
    if spec.text_encoder is None or spec.text is None:
        return {}
    folder = spec.text_encoder.folder
    path = given or (None if folder is None else Path(folder) / "tokenizer.json")
    if path is None or not path.is_file():
        raise CheckpointError("a model with a text encoder of its own needs its tokenizer: --tokenizer tokenizer.json")
    return {spec.text.tokenizer: path.read_bytes()}


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


def _encoder_manifest(source: EncoderSource, model: bytes, version: str, precision: Precision) -> Manifest:
    graph = onnx.load_from_string(model).graph
    return Manifest(
        manifest_version=1,
        name=source.name,
        version=version,
        task="encoder",
        architecture=source.architecture,
        precision=precision,
        inputs=tensor_specs(graph.input),
        outputs=tensor_specs(graph.output),
        image=source.image,
        text=source.text,
        tolerances={name: Tolerance(max_abs=value) for name, value in encoder_tolerances(source, precision).items()},
        metrics=_fidelity(source, emulated(model)),
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
