import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.settings import load


@pytest.fixture
def models(tiny_models: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_models, tmp_path / "models"))


def env(models: Path) -> dict[str, str]:
    return {"ADSCORE_MODELS__DIR": str(models)}


def test_list_marks_what_serves(adscore: Callable[..., Any], models: Path) -> None:
    shutil.copytree(models / "dbafn" / "1", models / "other" / "1")
    manifest = json.loads((models / "other" / "1" / "manifest.json").read_text())
    (models / "other" / "1" / "manifest.json").write_text(
        json.dumps(manifest | {"name": "other", "metrics": {"auc": 0.5}})
    )
    ran = adscore("models", "list", "--json", env=env(models))
    assert ran.status == 0
    told = {bundle["name"]: bundle for bundle in map(json.loads, ran.out.splitlines())}
    assert {name: bundle["serving"] for name, bundle in told.items()} == {
        "adfusion": True,
        "dbafn": True,
        "fgmfn": True,
        "other": False,
    }
    assert told["other"]["metrics"] == {"auc": 0.5}
    assert told["other"]["task"] == "attractiveness"
    assert "* dbafn/1" in adscore("models", "list", env=env(models)).out


def test_verify_passes_whole_bundles(adscore: Callable[..., Any], models: Path) -> None:
    ran = adscore("models", "verify", env=env(models))
    assert (ran.status, ran.out.split()) == (0, ["ok", "adfusion/1", "ok", "dbafn/1", "ok", "fgmfn/1"])


def test_verify_names_bundle_and_file(adscore: Callable[..., Any], models: Path) -> None:
    (models / "fgmfn" / "1" / "model.onnx").write_bytes(b"other")
    ran = adscore("models", "verify", env=env(models))
    assert ran.status == 1
    assert "fgmfn/1: model.onnx" in ran.err
    assert "ok  dbafn/1" in ran.out


def test_verify_loads_each_model(adscore: Callable[..., Any], models: Path) -> None:
    import hashlib

    folder = models / "fgmfn" / "1"
    (folder / "model.onnx").write_bytes(b"no graph")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = hashlib.sha256(b"no graph").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    ran = adscore("models", "verify", env=env(models))
    assert ran.status == 1
    assert "bundle fgmfn/1: model.onnx" in ran.err


def test_a_configured_bundle_that_is_not_there(adscore: Callable[..., Any], models: Path) -> None:
    shutil.rmtree(models / "adfusion")
    ran = adscore("models", "verify", env=env(models))
    assert ran.status == 1
    assert "adfusion" in ran.err
    assert adscore("buckets", env=env(models)).status == 3


def test_no_bundles_at_all(adscore: Callable[..., Any], tmp_path: Path) -> None:
    ran = adscore("models", "list", env=env(tmp_path / "nowhere"))
    assert ran.status == 3
    assert "ADSCORE_MODELS__DIR" in ran.err


def test_the_default_folder_is_the_installations_own() -> None:
    assert load(None, {}).settings.models.dir == Path(__file__).resolve().parents[3] / "models"
