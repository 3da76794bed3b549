"""`adscore-train fit`: from a configuration to RUN/best."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from admodels import checkpoint
from admodels.build import build
from admodels.contract.spec import ModelSpec, Served
from training import calibrate, curves, train
from training.assembly import built_spec, require_same, saved, spec_of, stores_of, task_of
from training.batches import Rows
from training.config import GENERATED, Config, ConfigError
from training.datasets.catalogue import DATASETS
from training.datasets.sample import BadRows
from training.encoders import MODELS, SharedEncoders
from training.place import Place
from training.stores import Stores
from training.tablestores import TableStores
from training.tasks import copy_mask

VALIDATION = "validation.npz"
"""In RUN: the calibrated outputs on the validation rows, in their order."""
LICENCE = "OSIE photographs and fixations: MIT; generated creatives: the project's own, Apache-2.0"


def fit(
    config: Config, root: Path, out: Path, *, seed: int, command: str, report: Callable[[str], None],
    place: Place = train.CPU, bad: BadRows | None = None, features: Path | None = None,
) -> dict[str, float]:  # fmt: skip
    """Train as `config` says on `root` (the data set's folder); leaves `out`/best. Returns its metrics.

    features: where encoded rows are kept; by default beside `out`, where runs on the same rows find them.

    A run that lies in `out` is continued; one of another configuration or seed raises ConfigError.
    """
    task = task_of(config)
    if place.first:
        _claim(out, config, seed)
    encoders = SharedEncoders(MODELS, config.encoders.image, config.encoders.text)
    spec = spec_of(config, encoders, task)
    stores = stores_of(
        config, spec, encoders, root, features or out.parent / "features", seed, bad or BadRows(), report
    )
    with place.first_alone():
        rows, tune, contrast, recorded = stores.training(), stores.tuning(), stores.contrast(), stores.recorded()
    torch.manual_seed(seed)
    model = _build(built_spec(config, spec))
    pictures = len(recorded.images)
    ids, mask = (torch.from_numpy(np.array(rows[:pictures])) for rows in (recorded.input_ids, recorded.mask))
    read = {"input_ids": ids, "attention_mask": mask, "copy_mask": copy_mask(ids, mask)}
    kept: dict[str, Any] = {
        "recorded": {"image": recorded.images, **{name: values.numpy() for name, values in read.items()}},
        "training": _about(config, seed, command, rows, model),
        "words": recorded.words,
    }

    def keep(model: nn.Module, metrics: Mapping[str, float]) -> None:
        checkpoint.save(out / "best", model, spec, metrics=metrics, **kept)

    if config.fit.balanced:
        rows = rows.balanced("sentiment")
    train.run(train.Job(model, task, config.fit, config.weights, rows, tune, contrast, seed, out, keep, report, place))
    if not place.first:
        return {}
    curves.draw(out / "log.csv", out / "curves.png", task.monitor)
    return _finish(config, out, stores, place)


def recalibrate(out: Path, root: Path, report: Callable[[str], None], bad: BadRows | None = None) -> dict[str, float]:
    """Calibrate and measure the run in `out` again. Returns its metrics; `uncalibrated/…` are those from before."""
    config, seed = saved(out)
    encoders = SharedEncoders(MODELS, config.encoders.image, config.encoders.text)
    spec = checkpoint.load(out).spec
    folder = out.parent / "features"
    return _finish(
        config, out, stores_of(config, spec, encoders, root, folder, seed, bad or BadRows(), report), train.CPU
    )


def _finish(config: Config, out: Path, stores: Stores | TableStores, place: Place) -> dict[str, float]:
    """Calibrate RUN/best on the tuning rows, measure it on the validation rows, write both into it."""
    best = checkpoint.load(out)
    task, size = task_of(config), config.fit.batch_size
    model = _build(built_spec(config, best.spec))
    model.load_state_dict(best.state)
    rows, tune, validation = stores.training(), stores.tuning(), stores.validation()
    raw = train.predict(model, task, tune, size, place)
    calibration = calibrate.fit(raw, tune.labels)
    served = Served(calibration=calibration)
    if "ctr" in calibration:
        base_rate = float(np.nansum(rows.labels["clicks"]) / np.nansum(rows.labels["impressions"]))
        relative = calibrate.calibrated(raw, calibration)["ctr"] / base_rate
        served = Served(
            calibration=calibration, base_rate=base_rate, bucket_edges={"ctr": calibrate.ctr_edges(relative)}
        )
    unseen = train.predict(model, task, validation, size, place)
    before = task.measure(unseen, validation.labels, validation.extras)
    calibrated = calibrate.calibrated(unseen, calibration)
    after = task.measure(calibrated, validation.labels, validation.extras)
    metrics = {name: value for name, value in after.items() if name != "objective"}
    np.savez(out / VALIDATION, allow_pickle=False, **calibrated)
    metrics |= {f"uncalibrated/{n}": v for n, v in before.items() if n in metrics and abs(v - metrics[n]) > 1e-9}
    kept: dict[str, Any] = {"training": best.training, "recorded": best.recorded, "words": best.words}
    checkpoint.save(out / "best", model, best.spec, served=served, metrics=metrics, **kept)
    return metrics


def _claim(out: Path, config: Config, seed: int) -> None:
    """Make RUN, or check that the run in it is this one."""
    out.mkdir(parents=True, exist_ok=True)
    resolved = config.model_dump_json(indent=2)[:-2] + f',\n  "run_seed": {seed}\n}}\n'
    file = out / "config.json"
    if file.exists():
        require_same(out, config, seed)
    partial = out / f"config.{os.getpid()}.partial"
    partial.write_text(resolved, encoding="utf-8")
    partial.replace(file)


def _build(spec: ModelSpec) -> nn.Module:
    try:
        return build(spec)
    except ValueError as error:
        raise ConfigError(f"options: {error}") from error


def _about(config: Config, seed: int, command: str, rows: Rows, model: nn.Module) -> dict[str, object]:
    about: dict[str, object] = {
        "dataset": config.dataset,
        "form": config.form,
        "seed": seed,
        "command": command,
        "rows": len(rows),
        "parameters": int(np.sum([p.numel() for p in model.parameters()])),
    }
    if config.dataset != GENERATED:
        return about | {"data": config.dataset, "licence": DATASETS[config.dataset].licence}
    photographs = ", and these photographs with their fixations" if config.data.photographs else ""
    return about | {
        "data": "generated creatives on the OSIE photographs that data/osie/validation.txt doesn't list" + photographs,
        "licence": LICENCE,
        "validation": f"{config.data.validation_rows} generated creatives on the photographs of validation.txt",
    }
