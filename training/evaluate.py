"""What a model is worth on a data set: one JSON object, the calibration applied, rows in the set's own order."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from training.baselines import Baseline
from training.calibrate import calibrated
from training.datasets import generated
from training.datasets.catalogue import DATASETS, DataSet
from training.datasets.own import COPY
from training.datasets.sample import BadRows, DataError, Sample
from training.datasets.splits import HELD_OUT
from training.features import columns
from training.predictor import Predictor
from training.tasks import TASKS, Arrays, joined

_BATCH = 16
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
GENERATED, OBJECTS = "generated", "objects"
GENERATED_ROWS, GENERATED_SEED = 800, 1
NAMES = (GENERATED, *DATASETS)


def evaluate(
    predictor: Predictor | Baseline, dataset: str, root: Path, bad: BadRows | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:  # fmt: skip
    """The report and a prediction per row. Raises DataError for a set that can't be read or doesn't fit the model."""
    bad = bad or BadRows()
    rows: list[Sample] = []
    numbers: list[int] = []
    parts: list[Arrays] = []
    for batch in _batches(_samples(predictor, dataset, root, bad)):
        parts.append(predictor.predict([sample for _, sample in batch]))
        _check(predictor, dataset, parts[0])
        # The pixels have done their work; a set's worth of them doesn't fit in memory.
        rows += [Sample(s.id, _NO_PIXELS, {}, s.labels, s.spans, s.extra) for _, s in batch]
        numbers += [number for number, _ in batch]
    if not rows:
        raise DataError(f"{root} has no rows for {dataset}; --root names the set's own folder")
    served = calibrated(joined(parts), predictor.served)
    report = {
        "model": predictor.name,
        "dataset": dataset,
        "rows": len(rows),
        "skipped": bad.count,
        "text": _text(predictor, dataset),
        "metrics": _measure(predictor, dataset, rows, served),
    }
    lines = zip(numbers, rows, strict=True)
    judged = _judged(dataset, served)
    return report, [_prediction(n, at, row, judged, predictor.labels) for at, (n, row) in enumerate(lines)]


def _samples(
    predictor: Predictor | Baseline, dataset: str, root: Path, bad: BadRows
) -> Iterator[tuple[int, Sample]]:  # fmt: skip
    """(row of the table, sample). A set that names its validation rows is judged on them alone."""
    if dataset == GENERATED:
        if predictor.architecture not in TASKS:
            raise DataError(f"{predictor.name} has heatmaps alone; evaluate it on saliency_osie")
        made = generated.samples(root, "validation", GENERATED_ROWS, GENERATED_SEED, predictor.side)
        yield from enumerate(made)
        return
    records = list(DATASETS[dataset].records(root, bad))
    held_out = [record for record in records if record.extra.get(HELD_OUT)]
    for record in held_out or records:
        with bad.row():
            yield record.row, predictor.sample(record)


def _check(predictor: Predictor | Baseline, dataset: str, served: Arrays) -> None:
    """Whether the model says what the set is judged by."""
    if dataset == GENERATED:
        return
    chosen = DATASETS[dataset]
    if not any(name in served for name in chosen.needs):
        wanted = " or ".join(repr(name) for name in chosen.needs)
        raise DataError(f"{predictor.name} has no output {wanted}, which {dataset} judges; choose another set")
    if dataset == "creatives":
        return
    for head, names in chosen.classes.items():
        if tuple(predictor.labels.get(head, names)) != tuple(names):
            raise DataError(f"{predictor.name} knows other {head} than {dataset} has; fit it on that set")


def _text(predictor: Predictor | Baseline, dataset: str) -> list[str]:
    """The columns that were read as words; objects' names stand for the picture."""
    columns = COPY if dataset == GENERATED else DATASETS[dataset].text
    if isinstance(predictor, Baseline):
        return []
    side = {
        "both": columns,
        "text": [c for c in columns if c != OBJECTS],
        "image": [c for c in columns if c == OBJECTS],
    }
    return list(side[predictor.form])


def _measure(predictor: Predictor | Baseline, dataset: str, rows: Sequence[Sample], served: Arrays) -> dict[str, float]:
    labels = columns([dict(row.labels) for row in rows])
    extras = [row.extra for row in rows]
    if dataset == GENERATED:
        measured = TASKS[predictor.architecture].measure(served, labels, extras)
        return {name: value for name, value in measured.items() if name != "objective"}
    chosen: DataSet = DATASETS[dataset]
    return chosen.judge(served, labels, extras)


def _judged(dataset: str, served: Arrays) -> Arrays:
    """The outputs that the set asks for; of creatives every one that the model has."""
    asked = DATASETS["creatives" if dataset == GENERATED else dataset].needs
    return {name: served[name] for name in asked if name in served}


def _prediction(
    number: int, index: int, row: Sample, judged: Arrays, labels: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:  # fmt: skip
    """The contract's line for one row: `row` or `id`, and what the model says of each output that is judged."""
    found: dict[str, Any] = {"id": row.extra["name"]} if "fixations" in row.extra else {"row": number}
    for name, head in (("topics", "topics"), ("sentiments", "emotions"), ("scores", "keywords")):
        if f"{head}_logits" in judged:
            found[name] = _by_class(labels[head], expit(judged[f"{head}_logits"][index].astype(np.float64)))
    if "sentiment_logits" in judged:
        found["scores"] = _by_class(labels["sentiment"], softmax(judged["sentiment_logits"][index].astype(np.float64)))
    for name in ("score", "ctr"):
        if name in judged:
            found["score"] = float(judged[name][index])
    if "heatmap" in judged:
        found["heatmap"] = _packed(judged["heatmap"][index])
    return found


def _by_class(names: Sequence[str], probabilities: NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(names, probabilities.tolist(), strict=True))


def _packed(heatmap: NDArray[np.float32]) -> dict[str, Any]:
    """A heatmap as the enriched event carries it: 255 the hottest cell."""
    scaled = np.round(heatmap / max(float(heatmap.max()), 1e-12) * 255).astype(np.uint8)
    return {"grid": list(scaled.shape), "encoding": "u8-base64", "values": base64.b64encode(scaled.tobytes()).decode()}


def _batches(samples: Iterable[tuple[int, Sample]]) -> Iterator[list[tuple[int, Sample]]]:
    stream = iter(samples)
    while batch := list(islice(stream, _BATCH)):
        yield batch
