"""The training loop: one for every model.

RUN/ holds config.json (the resolved configuration), log.csv, curves.png, state.pt (to resume from), best/ (the
checkpoint that evaluate, calibrate and adscore-export take). An epoch's randomness follows from seed and epoch alone,
so that a resumed run is the run that was never stopped.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.batches import Batch, Contrast, Rows
from training.config import FitConfig
from training.place import Place
from training.tasks import Arrays, Task, joined, served_arrays

CPU = Place(torch.device("cpu"))


@dataclass(frozen=True)
class Job:
    """One run, ready to start. `keep(model, metrics)` is called for every best epoch so far."""

    model: nn.Module
    task: Task
    fit: FitConfig
    weights: Mapping[str, Any]
    train: Rows
    tune: Rows
    contrast: Contrast | None
    seed: int
    out: Path
    keep: Callable[[nn.Module, dict[str, float]], None]
    report: Callable[[str], None]
    place: Place = CPU


def run(job: Job) -> dict[str, float]:
    """Train until the last epoch or until `patience` epochs brought nothing better; returns the best metrics."""
    _require_batches(job)
    job.model.to(job.place.device)
    optimiser = _optimiser(job)
    state = _State.restore(job, optimiser)
    parallel = job.place.wrap(job.model)
    while state.epoch < job.fit.epochs and state.stale < job.fit.patience:
        torch.manual_seed(job.seed * 100_003 + state.epoch + 7_919 * job.place.rank)
        losses = _epoch(job, parallel, optimiser, state)
        measured = job.place.agreed(
            measure(job.model, job.task, job.tune, job.fit.batch_size, job.place) if job.place.first else {}
        )
        state.epoch += 1
        value = _watched(job.task, measured)
        if value < state.best:
            state.best, state.stale, state.best_metrics = value, 0, measured
            if job.place.first:
                job.keep(job.model, measured)
        else:
            state.stale += 1
        row = {"epoch": float(state.epoch)} | {f"loss/{k}": v for k, v in losses.items()}
        state.history.append(row | {f"tune/{k}": v for k, v in measured.items()})
        if job.place.first:
            state.save(job, optimiser)
            _write_log(job.out, state.history)
            job.report(f"epoch {state.epoch}: loss {losses['total']:.4f}, {job.task.monitor} {abs(value):.4f}")
    return state.best_metrics


def _require_batches(job: Job) -> None:
    """Two rows for every process make a batch; rows that make none would be waited for without end."""
    read = {"data": job.train}
    if job.contrast is not None:
        read["data.contrast_rows"] = job.contrast.enhanced
    for mend, rows in read.items():
        if min(len(rows), job.fit.batch_size) < 2 * job.place.world:
            raise ValueError(
                f"{len(rows)} rows in batches of {job.fit.batch_size} leave no two for each of {job.place.world} "
                f"processes: raise {mend} or fit.batch_size"
            )


def _watched(task: Task, measured: Mapping[str, float]) -> float:
    """What early stopping minimises. Raises ValueError where the tuning rows allow no such metric."""
    if task.monitor not in measured:
        there = ", ".join(sorted(measured))
        raise ValueError(f"the tuning rows allow no {task.monitor!r}: choose another fit.monitor of {there}")
    return measured[task.monitor] if task.lower else -measured[task.monitor]


def measure(model: nn.Module, task: Task, rows: Rows, batch_size: int, place: Place = CPU) -> dict[str, float]:
    """The task's metrics of a model over all rows, in evaluation mode."""
    return task.measure(predict(model, task, rows, batch_size, place), rows.labels, rows.extras)


def predict(model: nn.Module, task: Task, rows: Rows, batch_size: int, place: Place = CPU) -> Arrays:
    """Raw outputs by ONNX name for all rows, in order. The model is left in evaluation mode, on the place's device."""
    model.to(place.device).eval()
    with torch.no_grad():
        parts = [served_arrays(task.run(model, batch.to(place.of))) for batch in rows.in_order(batch_size)]
    return joined(parts)


def _optimiser(job: Job) -> torch.optim.Optimizer:
    """The paper's; a frozen parameter has no part in it."""
    kinds = {"adamw": torch.optim.AdamW, "adamax": torch.optim.Adamax}
    parameters = [parameter for parameter in job.model.parameters() if parameter.requires_grad]
    return kinds[job.fit.optimiser](parameters, lr=job.fit.learning_rate, weight_decay=job.fit.weight_decay)


def _epoch(job: Job, model: nn.Module, optimiser: torch.optim.Optimizer, state: _State) -> dict[str, float]:
    """One pass over the training rows; returns the mean of every loss term (of the first process's rows)."""
    model.train()
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    scaler = job.place.scaler(mixed=job.fit.mixed_precision)
    variants = _variants(job, state.epoch)
    fit, seed = job.fit, job.seed * 100_003 + state.epoch
    dealt = job.train.epoch(fit.batch_size, seed, job.place.world, together=fit.together, like_lengths=fit.like_lengths)
    batches = list(dealt)
    for step, chosen in enumerate(_shown(batches, job, state.epoch)):
        _set_rate(optimiser, job.fit, state.epoch, state.step)
        paired = job.contrast is not None and step % job.fit.contrast_every == 0
        with job.place.autocast(mixed=job.fit.mixed_precision):
            terms = _contrast_step(job, model, next(variants)) if paired else _step(job, model, chosen)
        optimiser.zero_grad(set_to_none=True)
        scaler.scale(terms["total"]).backward()
        scaler.unscale_(optimiser)
        nn.utils.clip_grad_norm_(job.model.parameters(), job.fit.clip)
        scaler.step(optimiser)
        scaler.update()
        state.step += 1
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
            counts[name] = counts.get(name, 0) + 1
    if not np.isfinite(sums["total"]):
        raise FloatingPointError(f"the loss is {sums['total']} in epoch {state.epoch + 1}: lower fit.learning_rate")
    return {name: total / counts[name] for name, total in sums.items()}


def _shown(batches: list[NDArray[np.int64]], job: Job, epoch: int) -> Iterable[NDArray[np.int64]]:
    """With a progress bar, where somebody watches."""
    if not job.place.first or not sys.stderr.isatty():
        return batches
    from rich.console import Console
    from rich.progress import track

    return track(batches, f"epoch {epoch + 1}/{job.fit.epochs}", console=Console(stderr=True), transient=True)


def _variants(job: Job, epoch: int) -> Iterator[NDArray[np.int64]]:
    """Endless batches of row numbers that have variants."""
    if job.contrast is None:
        return
    deal = 0
    while True:
        seed = job.seed * 100_003 + epoch * 1_009 + deal + 1
        yield from job.contrast.enhanced.epoch(job.fit.batch_size, seed, job.place.world)
        deal += 1


def _own(job: Job, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """This process's share of a batch."""
    return chosen[job.place.rank :: job.place.world]


def _step(job: Job, model: nn.Module, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
    batch = job.train.batch(_own(job, chosen)).to(job.place.of)
    return job.task.loss(job.task.run(model, batch), batch.labels, None, job.weights)


def _contrast_step(job: Job, model: nn.Module, chosen: NDArray[np.int64]) -> dict[str, Tensor]:
    """A batch whose rows also come enhanced and degraded, the copy unchanged: one pass over all three."""
    assert job.contrast is not None
    own = _own(job, chosen)
    batches = [rows.batch(own).to(job.place.of) for rows in (job.train, job.contrast.enhanced, job.contrast.degraded)]
    plain, n = batches[0], len(own)
    maps = tuple(torch.cat(same) for same in zip(*(batch.maps for batch in batches), strict=True))
    tokens, ids, mask = (torch.cat([x] * 3) for x in (plain.tokens, plain.input_ids, plain.mask))
    output = job.task.run(model, Batch(maps, tokens, ids, mask, plain.labels))
    fused = output.fused
    anchor = type(output)(*(field[:n] for field in output))
    return job.task.loss(anchor, plain.labels, (fused[n : 2 * n], fused[2 * n :]), job.weights)


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
        saved = torch.load(file, weights_only=True, map_location=job.place.device)
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
