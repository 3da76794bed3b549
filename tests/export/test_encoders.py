"""The committed encoder bundles against the torch modules with their unrounded weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from admodels.contract.bundle import load_bundle
from export.encoders import ENCODERS, verify_encoder

MODELS = Path(__file__).parents[2] / "models"


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_the_committed_graph_is_the_encoder(name: str) -> None:
    source = ENCODERS[name]()
    bundle = load_bundle(MODELS / name / "1")
    for report in verify_encoder(source, bundle.files["model.onnx"], backends=("onnxruntime", "openvino")).reports:
        assert all(output.correlation > 0.999 for output in report.outputs if output.correlation is not None)
    assert bundle.manifest.image == source.image
    assert bundle.manifest.text == source.text
    assert {n: t.max_abs for n, t in bundle.manifest.tolerances.items()} == source.tolerances
    assert bundle.files["NOTICE.txt"] == source.files["NOTICE.txt"]
