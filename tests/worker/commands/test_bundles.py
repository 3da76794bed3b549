"""Settings name bundles; the newest version is meant where they name none, and encoders come along by digest."""

import json
from pathlib import Path

import pytest

from admodels.contract.bundle import BundleError
from tests.faults.light_models import write_light_models
from worker.commands.bundles import find, load_encoders, load_heads

HEADS = {"attractiveness": ["dbafn"], "sentiment": ["fgmfn/1"], "ctr": ["adfusion"]}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_light_models(folder)
    return folder


def test_the_newest_version_is_meant_by_number_not_by_letter(tmp_path: Path) -> None:
    for version in ("1", "9", "10", "2.1"):
        (tmp_path / "toy" / version).mkdir(parents=True)
    assert find(tmp_path, "toy").name == "10"
    assert find(tmp_path, "toy/9").name == "9"


def test_a_name_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="ADSCORE_MODELS__DIR"):
        find(tmp_path, "toy")


def test_heads_are_loaded_and_one_without_a_bundle_is_left_out(models: Path) -> None:
    heads = load_heads(models, HEADS | {"ctr": []}, None)
    assert {head: [bundle.label for bundle in bundles] for head, bundles in heads.items()} == {
        "attractiveness": ["dbafn/1"],
        "sentiment": ["fgmfn/1"],
    }


def test_a_bundle_of_another_task_is_refused(models: Path) -> None:
    with pytest.raises(BundleError, match="serves attractiveness, it can't serve ctr"):
        load_heads(models, {"ctr": ["dbafn"]}, None)


def test_an_encoder_that_is_another_than_the_heads_is_refused(tmp_path: Path) -> None:
    models = Path(__file__).resolve().parents[3] / "models"
    for name in ("dbafn", "mobilenetv2", "minilm"):
        (tmp_path / name).mkdir()
        target = tmp_path / name / "1"
        target.mkdir()
        for file in (models / name / "1").iterdir():
            (target / file.name).write_bytes(file.read_bytes())
    heads = load_heads(tmp_path, {"attractiveness": ["dbafn"]}, None)
    assert {bundle.label for bundle in load_encoders(tmp_path, heads, None).values()} == {"mobilenetv2/1", "minilm/1"}
    manifest = tmp_path / "minilm" / "1" / "manifest.json"
    changed = json.loads(manifest.read_text())
    changed["text"]["max_tokens"] = 32
    manifest.write_text(json.dumps(changed))
    with pytest.raises(BundleError, match="minilm/1 isn't the one it was made with"):
        load_encoders(tmp_path, heads, None)
