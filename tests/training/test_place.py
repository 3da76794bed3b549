"""Data-parallel training as torchrun starts it: two processes on the CPU, over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.place import Place, here

ROOT = Path(__file__).resolve().parents[2]

# Eight rows, no dropout, batches of four: two processes take two rows each of the very batches that one takes whole.
PROGRAM = """
import sys
from pathlib import Path
import numpy as np, torch
from training import train
from training.batches import Rows
from training.config import FitConfig
from training.features import Features
from training.place import here
from training.tasks import TASKS
from admodels.papers.baselines import Baseline

torch.set_num_threads(1)
rng = np.random.default_rng(0)
store = Features(
    ids=list(map(str, range(8))), maps={"c5": rng.normal(size=(8, 4, 2, 2)).astype(np.float16)},
    tokens=rng.normal(size=(8, 5, 6)).astype(np.float16), input_ids=np.zeros((8, 5), np.int64),
    mask=np.ones((8, 5), np.int64), labels={"sentiment": rng.integers(0, 3, 8)},
    images=np.zeros((1, 2, 2, 3), np.uint8),
)
rows = Rows([store])
torch.manual_seed(1)
model = Baseline(form="mlp", map_channels=[4], map_sizes=[2], text_dim=6, classes={"sentiment": 3}, dim=8, dropout=0.0)
task = TASKS["fgmfn"].__class__(
    {}, TASKS["baseline"].loss, TASKS["mvla"].measure, "log_loss", True, run=TASKS["baseline"].run)
fit = FitConfig(epochs=3, batch_size=4, learning_rate=1e-2, weight_decay=0.0, patience=9)
out = Path(sys.argv[1])
kept = []
with here() as place:
    keep = lambda model, metrics: kept.append(metrics)
    best = train.run(train.Job(model, task, fit, {}, rows, rows, None, 3, out, keep, lambda line: None, place))
    assert best["log_loss"] > 0
    torch.save({"weights": model.state_dict(), "kept": len(kept)}, out / f"rank{place.rank}.pt")
"""


def run(folder: Path, *launcher: str) -> None:
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launcher, str(folder / "program.py"), str(folder)],
        env=env, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_train_the_model_that_one_trains(tmp_path):
    run(tmp_path / "one")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    run(tmp_path / "two", *launcher)
    one = torch.load(tmp_path / "one" / "rank0.pt", weights_only=True)
    first, second = (torch.load(tmp_path / "two" / f"rank{n}.pt", weights_only=True) for n in range(2))
    for name, weight in one["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        assert torch.allclose(first["weights"][name], weight, atol=1e-5), name
    assert first["kept"] == one["kept"] > 0
    assert second["kept"] == 0
    assert (tmp_path / "two" / "log.csv").exists()


def test_one_process_needs_no_torchrun(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with here() as place:
        assert (place.rank, place.world, place.first) == (0, 1, True)
        model = torch.nn.Linear(2, 2)
        assert place.wrap(model) is model
        assert place.agreed({"a": 1}) == {"a": 1}


def test_a_cpu_stays_in_fp32():
    place = Place(torch.device("cpu"))
    with place.autocast(mixed=True):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32
    assert not place.scaler(mixed=True).is_enabled()


@pytest.mark.gpu
def test_a_gpu_computes_in_half_and_keeps_full_weights():
    place = Place(torch.device("cuda"))
    layer = torch.nn.Linear(4, 4).to(place.device)
    with place.autocast(mixed=True):
        assert layer(torch.ones(1, 4, device=place.device)).dtype in (torch.bfloat16, torch.float16)
    assert layer.weight.dtype == torch.float32
