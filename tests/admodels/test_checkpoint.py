"""What is saved is what is loaded; what can't be loaded says which file and why."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from admodels import checkpoint
from admodels.build import build, encoder_uses, small_spec
from admodels.checkpoint import CheckpointError
from admodels.contract.manifest import Calibration
from admodels.contract.spec import ModelSpec, Served


@pytest.fixture
def spec() -> ModelSpec:
    uses = encoder_uses("adfusion", ("mobilenetv2", "1", "aa"), ("minilm", "1", "bb"))
    return small_spec("adfusion", encoders=uses, options={"dim": 8, "hidden": 8, "layers": 1, "heads": 2})


@pytest.fixture
def run(tmp_path: Path, spec: ModelSpec) -> Path:
    checkpoint.save(
        tmp_path / "run" / "best",
        build(spec),
        spec,
        served=Served(calibration={"ctr": Calibration(kind="platt", a=1.1)}, base_rate=0.02),
        metrics={"ctr/auc": 0.7},
        training={"seed": 3},
        recorded={"image": np.zeros((2, 4, 4, 3), np.uint8)},
    )
    return tmp_path / "run"


def test_what_is_saved_is_loaded(run: Path, spec: ModelSpec) -> None:
    loaded = checkpoint.load(run)
    assert loaded.spec == spec
    assert loaded.served.calibration["ctr"].a == 1.1
    assert loaded.metrics == {"ctr/auc": 0.7}
    assert loaded.training == {"seed": 3}
    assert loaded.recorded["image"].shape == (2, 4, 4, 3)
    model = loaded.model()
    assert not model.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, loaded.state[name])


def test_saving_again_replaces_and_leaves_nothing_behind(run: Path, spec: ModelSpec) -> None:
    checkpoint.save(run / "best", build(spec), spec)
    assert checkpoint.load(run).metrics == {}
    assert [p.name for p in run.iterdir()] == ["best"]


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_kill_between_moves_leaves_a_whole_checkpoint(
    moves: int, run: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, replace = [0], os.replace

    def killed(one: Path, other: Path) -> None:
        if made[0] == moves:
            raise KeyboardInterrupt
        made[0] += 1
        replace(one, other)

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(shutil, "move", killed)
    with contextlib.suppress(KeyboardInterrupt):
        checkpoint.save(run / "best", build(spec), spec, metrics={"new": 1.0})
    monkeypatch.undo()
    expected = {"new": 1.0} if moves == 2 else {"ctr/auc": 0.7}
    assert checkpoint.load(run).metrics == checkpoint.load(run / "best").metrics == expected
    checkpoint.save(run / "best", build(spec), spec)
    assert [p.name for p in run.iterdir()] == ["best"]


def test_calibration_is_replaced_alone(run: Path) -> None:
    before = checkpoint.load(run)
    checkpoint.save_served(run, Served(base_rate=0.5))
    after = checkpoint.load(run / "best")
    assert after.served == Served(base_rate=0.5)
    assert after.metrics == before.metrics


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "spec.json", "metrics.json"])
def test_broken_and_missing_files_are_refused(run: Path, name: str) -> None:
    (run / "best" / name).write_bytes(b"{")
    with pytest.raises(CheckpointError, match="can't be read"):
        checkpoint.load(run)
    if name != "spec.json":
        (run / "best" / name).unlink()
        with pytest.raises(CheckpointError, match=f"{name} can't be read"):
            checkpoint.load(run)


def test_weights_of_another_size_are_refused(run: Path) -> None:
    path = run / "best" / "spec.json"
    content = json.loads(path.read_text())
    content["options"]["hidden"] = 16
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"model\.safetensors doesn't fit spec\.json"):
        checkpoint.load(run).model()
