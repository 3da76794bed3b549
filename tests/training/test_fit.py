from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from admodels import checkpoint
from training.__main__ import cli, main

CONFIG = """
model = "adfusion"
dataset = "generated"
[data]
rows = 12
tune_rows = 8
validation_rows = 8
[fit]
epochs = 1
batch_size = 4
learning_rate = 1e-3
weight_decay = 0.01
patience = 1
[options]
grid = 8
dim = 16
hidden = 16
layers = 1
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def run(photo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.toml").write_text(CONFIG)
    found = call("fit", folder / "small.toml", "--root", photo_root, "--out", folder / "run")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["run"] == str(folder / "run")
    return folder / "run"


def test_a_run_leaves_what_export_and_people_need(run):
    best = checkpoint.load(run)
    assert best.spec.architecture == "adfusion"
    assert best.served.calibration["ctr"].kind == "platt"
    assert 0.003 < best.served.base_rate < 0.05
    low, high = best.served.bucket_edges["ctr"]
    assert low <= high
    assert best.recorded["image"].shape == (8, 256, 256, 3)
    assert best.training["rows"] == 12
    assert "MIT" in best.training["licence"]
    assert best.training["command"].startswith("adscore-train fit small.toml")
    assert best.metrics["ctr/ece"] >= 0
    for name in ("config.json", "log.csv", "curves.png", "state.pt"):
        assert (run / name).stat().st_size > 0


def test_a_finished_run_is_not_trained_again_and_not_mixed_up(run, photo_root):
    before = (run / "log.csv").read_text()
    config = run.parent / "small.toml"
    assert call("fit", config, "--root", photo_root, "--out", run).exit_code == 0
    assert (run / "log.csv").read_text() == before
    with pytest.raises(ValueError, match="another configuration or seed"):
        call("fit", config, "--root", photo_root, "--out", run, "--seed", 4)


def test_a_run_from_before_a_key_was_there_is_still_that_run(run, photo_root):
    file = run / "config.json"
    kept = file.read_text()
    older = json.loads(kept)
    del older["fit"]["contrast_every"], older["subwords"]
    file.write_text(json.dumps(older))
    before = (run / "log.csv").read_text()
    assert call("fit", run.parent / "small.toml", "--root", photo_root, "--out", run).exit_code == 0
    assert (run / "log.csv").read_text() == before
    assert json.loads(file.read_text()) == json.loads(kept)
    file.write_text(json.dumps(older | {"unheard": 1}))
    with pytest.raises(ValueError, match="no configuration of this version"):
        call("fit", run.parent / "small.toml", "--root", photo_root, "--out", run)
    file.write_text(kept)


@pytest.mark.parametrize(
    ("weights", "said"),
    [("smothing = 0.1", r"weights\.smothing: unknown key; .*'smoothing'"), ('itc = "sum"', "is 'sum', not a number")],
)
def test_weights_of_no_term_are_named_before_anything_runs(weights, said, photo_root, tmp_path):
    (tmp_path / "odd.toml").write_text(f"{CONFIG}[weights]\n{weights}\n")
    with pytest.raises(ValueError, match=said):
        call("fit", tmp_path / "odd.toml", "--root", photo_root, "--out", tmp_path / "run")


def test_calibrating_again_changes_nothing(run, photo_root):
    before = checkpoint.load(run).served
    found = call("calibrate", run, "--root", photo_root)
    assert json.loads(found.stdout) == checkpoint.load(run).metrics
    assert checkpoint.load(run).served == before


def test_a_run_is_measured_like_a_bundle(run, tmp_path):
    lines = ["clickability_test_id,headline,impressions,clicks"]
    lines += [f"t,Save {n}% today,1000,{10 * n}" for n in range(1, 4)]
    (tmp_path / "packages.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    rows = tmp_path / "rows.jsonl"
    found = call("evaluate", run, "--dataset", "upworthy_ctr", "--root", tmp_path, "--json", "--predictions", rows)
    report = json.loads(found.stdout)
    assert (report["model"], report["rows"], report["text"]) == ("adfusion", 3, ["headline", "excerpt"])
    assert set(report["metrics"]) == {
        "pair_accuracy", "ctr/log_loss", "ctr/auc", "ctr/brier", "ctr/ece", "ctr/pcoc",
    }  # fmt: skip
    scores = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [score["row"] for score in scores] == [0, 1, 2]
    assert all(0 < score["score"] < 1 for score in scores)


def test_options_that_the_model_does_not_have_are_named(photo_root, tmp_path):
    (tmp_path / "odd.toml").write_text(CONFIG.replace("dim = 16", "dimension = 16"))
    with pytest.raises(ValueError, match="dimension"):
        call("fit", tmp_path / "odd.toml", "--root", photo_root, "--out", tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["fit", "none.toml", "--root", ".", "--out", "x"], 2, "training/configs"),
        (["evaluate", "nowhere", "--dataset", "saliency_osie", "--root", "."], 3, "no checkpoint"),
    ],
)
def test_mistakes_are_a_line_and_a_status(arguments, status, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["adscore-train", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == status
    assert said in capsys.readouterr().err


def test_synth_writes_pictures_and_events(photo_root, tmp_path):
    found = call("synth", tmp_path / "made", "--photos", photo_root / "images", "--count", 3, "--seed", 2)
    assert found.exit_code == 0
    events = [json.loads(line) for line in (tmp_path / "made" / "creatives.jsonl").read_text().splitlines()]
    assert len(events) == 3
    for event in events:
        assert (tmp_path / "made" / event["ad"]["display"]["banner"]["img"]).stat().st_size > 500
        assert event["copy"]["headline"]
