from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from admodels.papers.dbafn import Dbafn
from admodels.papers.fgmfn import Fgmfn
from training import train
from training.batches import Batch, Contrast, Rows
from training.config import FitConfig
from training.features import Features
from training.place import Place
from training.tasks import TASKS

SIZES = (16, 8, 4, 2, 2)
FIT = FitConfig(epochs=4, batch_size=4, learning_rate=3e-3, weight_decay=0.0, patience=9, milestones=(3,))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Two threads on models this small wait for each other more than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def features(count: int, *, maps: tuple[str, ...], seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    sizes = SIZES[-len(maps) :]
    lengths = rng.integers(3, 7, count)
    heat = rng.random((count, 8, 8)).astype(np.float32)
    return Features(
        ids=[str(number) for number in range(count)],
        maps={name: rng.normal(size=(count, 4, s, s)).astype(np.float16) for name, s in zip(maps, sizes, strict=True)},
        tokens=rng.normal(size=(count, 8, 12)).astype(np.float16),
        input_ids=np.zeros((count, 8), np.int64),
        mask=(np.arange(8) < lengths[:, None]).astype(np.int64),
        labels={
            "sentiment": rng.integers(0, 3, count),
            "score": rng.uniform(0.1, 0.9, count),
            "saliency": heat,
            "entities": rng.integers(-1, 5, (count, 8)),
        },
        images=np.zeros((1, 4, 4, 3), np.uint8),
    )


def fgmfn() -> Fgmfn:
    torch.manual_seed(0)
    return Fgmfn(
        map_channels=[4] * 5, map_sizes=SIZES, text_dim=12, dim=16, layers=1, heads=2, hidden=32, dropout=0.1
    )  # fmt: skip


def dbafn() -> Dbafn:
    torch.manual_seed(0)
    return Dbafn(
        map_channels=[4] * 3, map_sizes=SIZES[2:], text_dim=12, text_hidden=32, channels=32, heads=2, score_hidden=16,
        decoder_channels=16, heatmap_size=8, dropout=0.0,
    )  # fmt: skip


def job(out: Path, model: torch.nn.Module, fit: FitConfig, *, rows: Rows, name: str = "fgmfn", **more) -> train.Job:
    settings = {"contrast": None, "seed": 5, "keep": lambda model, metrics: None, "report": lambda line: None} | more
    return train.Job(model, TASKS[name], fit, {}, rows, rows, out=out, **settings)


@pytest.fixture
def rows() -> Rows:
    return Rows([features(8, maps=("c1", "c2", "c3", "c4", "c5"))])


def test_eight_rows_are_learnt_by_heart(tmp_path, rows):
    fit = FIT.model_copy(update={"epochs": 30, "patience": 30, "milestones": ()})
    best = train.run(job(tmp_path, fgmfn(), fit, rows=rows))
    assert best["accuracy"] == 1.0
    assert best["log_loss"] < 0.05


def test_dbafn_learns_score_and_heatmap_with_variants(tmp_path):
    store = features(8, maps=("c3", "c4", "c5"))
    rows = Rows([store])
    others = [Rows([features(8, maps=("c3", "c4", "c5"), seed=seed)]) for seed in (1, 2)]
    fit = FIT.model_copy(update={"epochs": 40, "patience": 40, "milestones": (), "contrast_every": 2})
    model = dbafn()
    before = train.measure(model, TASKS["dbafn"], rows, 4)
    best = train.run(job(tmp_path, model, fit, rows=rows, name="dbafn", contrast=Contrast(*others)))
    assert best["mae"] < 0.03 < before["mae"]
    assert best["kl"] < 0.5 * before["kl"]
    assert "loss/contrast" in (tmp_path / "log.csv").read_text()


def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path, rows):
    whole, stopped = fgmfn(), fgmfn()
    train.run(job(_made(tmp_path / "whole"), whole, FIT, rows=rows))
    half = FIT.model_copy(update={"epochs": 2})
    train.run(job(_made(tmp_path / "parts"), stopped, half, rows=rows))
    again = fgmfn()
    best = train.run(job(tmp_path / "parts", again, FIT, rows=rows))
    assert best
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert (tmp_path / "whole" / "log.csv").read_text() == (tmp_path / "parts" / "log.csv").read_text()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path, rows):
    models = []
    for number, seed in enumerate((5, 5, 6)):
        models.append(fgmfn())
        train.run(job(_made(tmp_path / str(number)), models[-1], FIT, rows=rows, seed=seed))
    first, second, third = (model.state_dict()["itc_text.weight"] for model in models)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_it_stops_when_nothing_gets_better(tmp_path, rows):
    fit = FIT.model_copy(update={"epochs": 50, "patience": 2, "learning_rate": 1e-12})
    train.run(job(tmp_path, fgmfn(), fit, rows=rows))
    assert len((tmp_path / "log.csv").read_text().splitlines()) - 1 < 20


def test_a_loss_that_explodes_says_what_to_lower(tmp_path, rows):
    broken = fgmfn()
    with torch.no_grad():
        broken.itc_text.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"fit\.learning_rate"):
        train.run(job(tmp_path, broken, FIT, rows=rows))


def test_rows_that_make_no_batch_are_an_error_and_not_waited_for(tmp_path):
    maps = ("c3", "c4", "c5")
    few, enough = Rows([features(1, maps=maps)]), Rows([features(8, maps=maps)])
    with pytest.raises(ValueError, match=r"1 rows in batches of 4 .* raise data\.contrast_rows"):
        train.run(job(tmp_path, dbafn(), FIT, rows=enough, name="dbafn", contrast=Contrast(few, few)))
    with pytest.raises(ValueError, match="1 rows in batches of 4 leave no two for each of 1 processes: raise data or"):
        train.run(job(tmp_path, dbafn(), FIT, rows=few, name="dbafn"))
    place = Place(torch.device("cpu"), world=3)
    with pytest.raises(ValueError, match="8 rows in batches of 4 leave no two for each of 3"):
        train.run(job(tmp_path, dbafn(), FIT, rows=enough, name="dbafn", place=place))


def test_a_model_follows_its_batches_to_the_device(rows):
    """A fresh model stands on the CPU; `meta` is a device that every machine has."""
    found: set[str] = set()

    def run(model: torch.nn.Module, batch: Batch) -> SimpleNamespace:
        found.update({batch.tokens.device.type, *(p.device.type for p in model.parameters())})
        return SimpleNamespace(served=lambda: {"score": torch.zeros(len(batch.tokens))})

    model = torch.nn.Linear(12, 2)
    train.predict(model, replace(TASKS["fgmfn"], run=run), rows, 4, Place(torch.device("meta")))
    assert found == {"meta"}


def test_rows_of_two_stores_are_one_after_the_other():
    one, two = features(3, maps=("c4", "c5")), features(4, maps=("c4", "c5"), seed=9)
    del two.labels["score"]
    rows = Rows([one, two])
    assert len(rows) == 7
    batch = rows.batch([6, 0])
    assert np.array_equal(batch.maps[0][0].numpy(), two.maps["c4"][3].astype(np.float32))
    assert np.array_equal(batch.maps[1][1].numpy(), one.maps["c5"][0].astype(np.float32))
    assert torch.isnan(batch.labels["score"][0])
    assert batch.labels["score"][1] == one.labels["score"][0]
    assert batch.tokens.shape[1] == batch.mask.shape[1] == int(batch.mask.sum(1).max())


def test_an_epoch_holds_every_row_once_in_an_order_of_its_own(rows):
    first = np.concatenate(list(rows.epoch(3, seed=1)))
    assert sorted(first) == list(range(8))
    assert list(first) != list(np.concatenate(list(rows.epoch(3, seed=2))))
    assert list(first) == list(np.concatenate(list(rows.epoch(3, seed=1))))


def test_batches_of_like_lengths_hold_every_row_once() -> None:
    store = features(230, maps=("c5",))
    rows = Rows([store])
    lengths = store.mask.sum(1)

    def spread(batches: list[np.ndarray]) -> float:
        return float(np.mean([np.ptp(lengths[batch]) for batch in batches]))

    batches = list(rows.epoch(6, seed=1, like_lengths=True))
    assert sorted(np.concatenate(batches)) == list(range(230))
    assert {len(batch) for batch in batches[:-1]} == {6}
    assert spread(batches) < 0.5 * spread(list(rows.epoch(6, seed=1)))
    # Not the short ones first.
    assert (np.diff([lengths[batch].max() for batch in batches]) < 0).any()
    assert [list(b) for b in rows.epoch(6, seed=1, like_lengths=True)] == [list(b) for b in batches]


def test_what_belongs_together_comes_in_one_batch() -> None:
    store = features(40, maps=("c5",))
    store.labels["test"] = np.random.default_rng(0).integers(0, 15, 40)
    rows = Rows([store])
    batches = list(rows.epoch(6, seed=1, together="test"))
    assert sorted(np.concatenate(batches)) == list(range(40))
    assert len(batches) > 3
    tests = [set(store.labels["test"][batch]) for batch in batches]
    assert sum(map(len, tests)) == len(set.union(*tests))
    assert [list(b) for b in rows.epoch(6, seed=1, together="test")] == [list(b) for b in batches]
    assert list(next(rows.epoch(6, seed=2, together="test"))) != list(batches[0])
    with pytest.raises(ValueError, match="no 'advert'"):
        next(rows.epoch(6, seed=1, together="advert"))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
