"""The training loop: one for every head.

RUN/ holds config.json (the resolved configuration), log.csv, curves.png, state.pt (to resume from), best/ (the
checkpoint that evaluate, calibrate and adscore-export take). An epoch's randomness follows from seed and epoch alone,
so that a resumed run is the run that was never stopped.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.batches import Batch, Contrast, Rows
from training.config import FitConfig
from training.tasks import Arrays, Task, served_arrays


@dataclass(frozen=True)
class Job:
    """One run, ready to start. `keep(model, metrics)` is called for every best epoch so far."""

    model: nn.Module
    task: Task
    fit: FitConfig
    weights: Mapping[str, float]
    train: Rows
    tune: Rows
    contrast: Contrast | None
    seed: int
    out: Path
    keep: Callable[[nn.Module, dict[str, float]], None]
    report: Callable[[str], None]


def run(job: Job) -> dict[str, float]:
    """Train until the last epoch or until `patience` epochs brought nothing better; returns the best metrics."""
    optimiser = torch.optim.AdamW(job.model.parameters(), lr=job.fit.learning_rate, weight_decay=job.fit.weight_decay)
    state = _State.restore(job, optimiser)
    while state.epoch < job.fit.epochs and state.stale < job.fit.patience:
        torch.manual_seed(job.seed * 100_003 + state.epoch)
        losses = _epoch(job, optimiser, state)
        measured = measure(job.model, job.task, job.tune, job.fit.batch_size)
        state.epoch += 1
        value = measured[job.task.monitor] if job.task.lower else -measured[job.task.monitor]
        if value < state.best:
            state.best, state.stale, state.best_metrics = value, 0, measured
            job.keep(job.model, measured)
        else:
            state.stale += 1
        row = {"epoch": float(state.epoch)} | {f"loss/{k}": v for k, v in losses.items()}
        state.history.append(row | {f"tune/{k}": v for k, v in measured.items()})
        state.save(job, optimiser)
        _write_log(job.out, state.history)
        job.report(f"epoch {state.epoch}: loss {losses['total']:.4f}, {job.task.monitor} {abs(value):.4f}")
    return state.best_metrics


def measure(model: nn.Module, task: Task, rows: Rows, batch_size: int) -> dict[str, float]:
    """The task's metrics of a model over all rows, in evaluation mode."""
    return task.measure(predict(model, rows, batch_size), rows.labels)


def predict(model: nn.Module, rows: Rows, batch_size: int) -> Arrays:
    """Raw outputs by ONNX name for all rows, in order. The model is left in evaluation mode."""
    model.eval()
    with torch.no_grad():
        parts = [served_arrays(model(b.maps, b.tokens, b.mask)) for b in rows.in_order(batch_size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _epoch(job: Job, optimiser: torch.optim.Optimizer, state: _State) -> dict[str, float]:
    """One pass over the training rows; returns the mean of every loss term."""
    job.model.train()
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    variants = _variants(job, state.epoch)
    for step, chosen in enumerate(job.train.epoch(job.fit.batch_size, job.seed * 100_003 + state.epoch)):
        _set_rate(optimiser, job.fit, state.epoch, state.step)
        paired = job.contrast is not None and step % job.fit.contrast_every == 0
        terms = _contrast_step(job, next(variants)) if paired else _step(job, job.train.batch(chosen))
        optimiser.zero_grad(set_to_none=True)
        terms["total"].backward()
        nn.utils.clip_grad_norm_(job.model.parameters(), job.fit.clip)
        optimiser.step()
        state.step += 1
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
            counts[name] = counts.get(name, 0) + 1
    if not np.isfinite(sums["total"]):
        raise FloatingPointError(f"the loss is {sums['total']} in epoch {state.epoch + 1}: lower fit.learning_rate")
    return {name: total / counts[name] for name, total in sums.items()}


def _variants(job: Job, epoch: int) -> Any:
    """Endless batches of row numbers that have variants."""
    if job.contrast is None:
        return
    deal = 0
    while True:
        yield from job.contrast.enhanced.epoch(job.fit.batch_size, job.seed * 100_003 + epoch * 1_009 + deal + 1)
        deal += 1


def _step(job: Job, batch: Batch) -> dict[str, Tensor]:
    return job.task.loss(job.model(batch.maps, batch.tokens, batch.mask), batch.labels, None, job.weights)


def _contrast_step(job: Job, chosen: Any) -> dict[str, Tensor]:
    """A batch whose rows also come enhanced and degraded, the copy unchanged."""
    assert job.contrast is not None
    batch = job.train.batch(chosen)
    others = []
    for rows in (job.contrast.enhanced, job.contrast.degraded):
        others.append(job.model(rows.batch(chosen).maps, batch.tokens, batch.mask).fused)
    output = job.model(batch.maps, batch.tokens, batch.mask)
    return job.task.loss(output, batch.labels, (others[0], others[1]), job.weights)


def _set_rate(optimiser: torch.optim.Optimizer, fit: FitConfig, epoch: int, step: int) -> None:
    warm = min(1.0, (step + 1) / fit.warmup_steps) if fit.warmup_steps else 1.0
    fallen = sum(epoch >= milestone for milestone in fit.milestones)
    for group in optimiser.param_groups:
        group["lr"] = fit.learning_rate * warm * 0.1**fallen


@dataclass
class _State:
    """Where a run stands after whole epochs."""

    epoch: int
    step: int
    stale: int
    best: float
    best_metrics: dict[str, float]
    history: list[dict[str, float]]

    @classmethod
    def restore(cls, job: Job, optimiser: torch.optim.Optimizer) -> _State:
        """The state saved in RUN, or the beginning."""
        file = job.out / "state.pt"
        if not file.exists():
            return cls(0, 0, 0, float("inf"), {}, [])
        saved = torch.load(file, weights_only=True)
        job.model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        return cls(**json.loads(saved["progress"]))

    def save(self, job: Job, optimiser: torch.optim.Optimizer) -> None:
        """Write RUN/state.pt; a crash leaves the old one or the new one."""
        partial = job.out / "state.partial"
        progress = json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})
        saved = {"model": job.model.state_dict(), "optimiser": optimiser.state_dict(), "progress": progress}
        torch.save(saved, partial)
        partial.replace(job.out / "state.pt")


def _write_log(out: Path, history: list[dict[str, float]]) -> None:
    names = list(dict.fromkeys(name for row in history for name in row))
    with (out / "log.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(history)
