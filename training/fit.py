"""`adscore-train fit`: from a configuration to RUN/best."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from admodels import checkpoint
from admodels.build import build, encoder_uses, small_spec
from admodels.contract.spec import ModelSpec, Served
from training import calibrate, curves, train
from training.batches import Rows
from training.config import Config, ConfigError
from training.encoders import MODELS, SharedEncoders
from training.stores import Stores
from training.tasks import TASKS, Task

LICENCE = "OSIE photographs and fixations: MIT; generated creatives: the project's own, Apache-2.0"


def fit(
    config: Config, root: Path, out: Path, *, seed: int, command: str, report: Callable[[str], None]
) -> dict[str, float]:
    """Train as `config` says on `root` (the layout of data/osie); leaves `out`/best. Returns its metrics.

    A run that lies in `out` is continued; one of another configuration or seed raises ConfigError.
    """
    _claim(out, config, seed)
    encoders = SharedEncoders(MODELS, config.encoders.image, config.encoders.text)
    task = TASKS[config.model]
    spec = _spec(config, encoders, task)
    stores = Stores(root, out.parent / "features", encoders, _maps(spec), report)
    rows, tune = stores.training(config), stores.tuning(config)
    torch.manual_seed(seed)
    model = _build(spec)
    recorded = stores.recorded(config)
    pictures = len(recorded.images)
    kept: dict[str, Any] = {
        "recorded": {
            "image": recorded.images,
            "input_ids": recorded.input_ids[:pictures],
            "attention_mask": recorded.mask[:pictures],
        },
        "training": _about(config, seed, command, rows, model),
    }

    def keep(model: nn.Module, metrics: Mapping[str, float]) -> None:
        checkpoint.save(out / "best", model, spec, metrics=metrics, **kept)

    train.run(
        train.Job(model, task, config.fit, config.weights, rows, tune, stores.contrast(config), seed, out, keep, report)
    )
    curves.draw(out / "log.csv", out / "curves.png", task.monitor)
    return _finish(config, out, stores)


def recalibrate(out: Path, root: Path, report: Callable[[str], None]) -> dict[str, float]:
    """Calibrate and measure the run in `out` again. Returns its metrics; `uncalibrated/…` are those from before."""
    file = out / "config.json"
    if not file.exists():
        raise ConfigError(f"{out} is no run: config.json is missing; `adscore-train fit` makes one")
    saved = json.loads(file.read_text(encoding="utf-8"))
    saved.pop("run_seed", None)
    config = Config.model_validate(saved)
    encoders = SharedEncoders(MODELS, config.encoders.image, config.encoders.text)
    maps = _maps(checkpoint.load(out).spec)
    return _finish(config, out, Stores(root, out.parent / "features", encoders, maps, report))


def _finish(config: Config, out: Path, stores: Stores) -> dict[str, float]:
    """Calibrate RUN/best on the tuning rows, measure it on the validation rows, write both into it."""
    best = checkpoint.load(out)
    task, size, model = TASKS[config.model], config.fit.batch_size, best.model()
    rows, tune = stores.training(config), stores.tuning(config)
    raw = train.predict(model, tune, size)
    calibration = calibrate.fit(raw, tune.labels)
    served = Served(calibration=calibration)
    if "ctr" in raw:
        base_rate = float(rows.labels["clicks"].sum() / rows.labels["impressions"].sum())
        relative = calibrate.calibrated(raw, calibration)["ctr"] / base_rate
        served = Served(
            calibration=calibration, base_rate=base_rate, bucket_edges={"ctr": calibrate.ctr_edges(relative)}
        )
    validation = stores.validation(config)
    unseen = train.predict(model, validation, size)
    before = task.measure(unseen, validation.labels)
    after = task.measure(calibrate.calibrated(unseen, calibration), validation.labels)
    metrics = {name: value for name, value in after.items() if name != "objective"}
    metrics |= {f"uncalibrated/{n}": v for n, v in before.items() if n in metrics and abs(v - metrics[n]) > 1e-9}
    kept = {"training": best.training, "recorded": best.recorded}
    checkpoint.save(out / "best", model, best.spec, served=served, metrics=metrics, **kept)
    return metrics


def _claim(out: Path, config: Config, seed: int) -> None:
    """Make RUN, or check that the run in it is this one."""
    out.mkdir(parents=True, exist_ok=True)
    resolved = config.model_dump_json(indent=2)[:-2] + f',\n  "run_seed": {seed}\n}}\n'
    file = out / "config.json"
    if file.exists() and file.read_text(encoding="utf-8") != resolved:
        raise ConfigError(f"{out} holds a run of another configuration or seed: choose another --out, or remove it")
    partial = out / f"config.{os.getpid()}.partial"
    partial.write_text(resolved, encoding="utf-8")
    partial.replace(file)


def _spec(config: Config, encoders: SharedEncoders, task: Task) -> ModelSpec:
    image, text = encoders.uses()
    uses = encoder_uses(config.model, image, text)
    spec = small_spec(config.model, encoders=uses, labels=task.labels, options=config.options)
    return spec.model_copy(update={"text": encoders.text_spec})


def _build(spec: ModelSpec) -> nn.Module:
    try:
        return build(spec)
    except ValueError as error:
        raise ConfigError(f"options: {error}") from error


def _maps(spec: ModelSpec) -> tuple[str, ...]:
    """The encoder's names of the feature maps that the head takes, in the head's order."""
    return next(tuple(use.outputs) for use in spec.encoders if "tokens" not in use.outputs)


def _about(
    config: Config, seed: int, command: str, rows: Rows, model: nn.Module
) -> dict[str, object]:  # fmt: skip
    return {
        "data": "generated creatives on the OSIE photographs that data/osie/validation.txt doesn't list"
        + (", and these photographs with their fixations" if config.data.photographs else ""),
        "licence": LICENCE,
        "seed": seed,
        "command": command,
        "rows": len(rows),
        "validation": f"{config.data.validation_rows} generated creatives on the photographs of validation.txt",
        "parameters": int(np.sum([p.numel() for p in model.parameters()])),
    }
