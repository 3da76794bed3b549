"""A run folder of a tiny head on the repository's own encoders, exported once for all tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from admodels import checkpoint
from admodels.build import build, encoder_uses, small_spec
from admodels.contract.bundle import load_bundle
from admodels.contract.manifest import Calibration
from admodels.contract.spec import Served
from admodels.contract.text import TextEncoder, pad

MODELS = Path(__file__).parents[2] / "models"
COPY = ({"headline": "Big sale", "cta": "Shop now"}, {"body": "Fresh pizza in thirty minutes " * 4}, {})


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles with the two encoders in it."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("mobilenetv2", "minilm"):
        shutil.copytree(MODELS / name / "1", folder / name / "1")
    return folder


@pytest.fixture(scope="session")
def run(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `adscore-train fit` leaves behind, for a tiny AdFusion with random weights."""
    torch.manual_seed(0)
    image, text = (load_bundle(models / name / "1") for name in ("mobilenetv2", "minilm"))
    assert text.manifest.text is not None
    encoder = TextEncoder(text.files["tokenizer.json"], text.manifest.text)
    ids, mask = pad([encoder.encode(copy) for copy in COPY], 16, 64)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8).repeat(32, 1).repeat(32, 2)
    spec = small_spec(
        "adfusion",
        encoders=encoder_uses("adfusion", ("mobilenetv2", "1", image.digest), ("minilm", "1", text.digest)),
        labels={"theme": ("food", "travel", "other"), "keywords": ("sale", "new")},
        options={"dim": 16, "hidden": 16, "layers": 1, "heads": 2},
    )
    folder = tmp_path_factory.mktemp("run")
    checkpoint.save(
        folder / "best",
        build(spec),
        spec,
        served=Served(
            calibration={"ctr": Calibration(kind="platt", a=0.9, b=-0.1)},
            base_rate=0.02,
            bucket_edges={"ctr": (0.8, 1.2)},
        ),
        metrics={"ctr/auc": 0.5},
        training={"seed": 0, "data": "none"},
        recorded={"image": pixels, "input_ids": ids, "attention_mask": mask},
    )
    return folder
