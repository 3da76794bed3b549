"""What a model is worth on a data set: one JSON object, the calibration applied, rows in the set's own order."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training import measures
from training.baselines import Baseline
from training.calibrate import calibrated
from training.datasets import generated, osie, tables
from training.datasets.sample import DataError, Sample
from training.features import columns
from training.predictor import Predictor
from training.saliency import density, resize
from training.tasks import TASKS, Arrays

# Heatmaps are judged at this size, whatever the model's own.
JUDGED_HEIGHT, JUDGED_WIDTH = 96, 128
_BATCH = 16


@dataclass(frozen=True)
class DataSet:
    """`samples(root, side)` in order; `fields` are the ones it has; `needs` is the output that is judged."""

    samples: Callable[[Path, int], Iterator[Sample]]
    fields: tuple[str, ...]
    needs: str


GENERATED_ROWS, GENERATED_SEED = 800, 1
DATASETS: dict[str, DataSet] = {
    "generated": DataSet(
        lambda root, side: generated.samples(root, "validation", GENERATED_ROWS, GENERATED_SEED, side),
        ("headline", "body", "cta", "brand", "ocr"),
        "",
    ),
    "saliency_osie": DataSet(lambda root, side: osie.samples(root, "validation", side), (), "heatmap"),
    "mm_tweet_sentiment": DataSet(tables.tweets, ("body",), "sentiment_logits"),
    "website_aesthetics": DataSet(tables.aesthetics, (), "score"),
    "upworthy_ctr": DataSet(tables.upworthy, ("headline",), "ctr"),
}


def evaluate(predictor: Predictor | Baseline, dataset: str, root: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report and a prediction per row. Raises DataError for a set that can't be read or doesn't fit the model."""
    chosen = DATASETS[dataset]
    if dataset == "generated" and predictor.architecture not in TASKS:
        raise DataError(f"{predictor.name} has heatmaps alone; evaluate it on saliency_osie")
    if chosen.needs and chosen.needs not in predictor.outputs:
        raise DataError(f"{predictor.name} has no output {chosen.needs!r}, which {dataset} judges; choose another set")
    rows: list[Sample] = []
    parts: list[Arrays] = []
    for batch in _batches(chosen.samples(root, predictor.side)):
        parts.append(predictor.predict(batch))
        # The pixels have done their work; a set's worth of them doesn't fit in memory.
        rows += [Sample(s.id, s.image[:0], {}, s.labels, s.spans, s.extra) for s in batch]
    if not rows:
        raise DataError(f"{root} has no rows for {dataset}; --root names the set's own folder")
    served = calibrated({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, predictor.served)
    report = {
        "model": predictor.name,
        "dataset": dataset,
        "rows": len(rows),
        "skipped": 0,
        "text": list(chosen.fields),
        "metrics": _measure(predictor, dataset, rows, served),
    }
    return report, [_prediction(index, row, served) for index, row in enumerate(rows)]


def _measure(predictor: Predictor | Baseline, dataset: str, rows: Sequence[Sample], served: Arrays) -> dict[str, float]:
    labels = columns([dict(row.labels) for row in rows])
    match dataset:
        case "generated":
            measured = TASKS[predictor.architecture].measure(served, labels)
            return {name: value for name, value in measured.items() if name != "objective"}
        case "saliency_osie":
            return saliency_metrics(rows, served["heatmap"])
        case "mm_tweet_sentiment":
            best = served["sentiment_logits"].argmax(1)
            truth = labels["sentiment"]
            return {"accuracy": measures.accuracy(truth, best), "macro_f1": measures.macro_f1(truth, best)}
        case "website_aesthetics":
            truth, score = labels["score"], served["score"].astype(np.float64)
            found = {"pearson": measures.pearson(truth, score), "spearman": measures.spearman(truth, score)}
            return found | {"mae": measures.mae(truth, score)}
        case _:
            clicks = measures.click_metrics(labels["clicks"], labels["impressions"], served["ctr"])
            return {"pair_accuracy": pair_accuracy(rows, served["ctr"])} | {f"ctr/{k}": v for k, v in clicks.items()}


def saliency_metrics(rows: Sequence[Sample], heatmaps: NDArray[np.float32]) -> dict[str, float]:
    """Means over the pictures of cc, nss, kl, sim, auc_judd at JUDGED_HEIGHT × JUDGED_WIDTH."""
    sums: dict[str, float] = defaultdict(float)
    for row, heatmap in zip(rows, heatmaps, strict=True):
        points = row.extra["fixations"]
        truth = density(points, JUDGED_HEIGHT, JUDGED_WIDTH, JUDGED_WIDTH / JUDGED_HEIGHT).astype(np.float64)
        predicted = resize(heatmap, JUDGED_HEIGHT, JUDGED_WIDTH).astype(np.float64)
        for name, value in measures.saliency(truth, points, predicted).items():
            sums[name] += value / len(rows)
    return dict(sums)


def pair_accuracy(rows: Sequence[Sample], predicted: NDArray[np.float32]) -> float:
    """How often the better of two packages of one test is predicted higher; ties count half.

    Pairs: different headlines, at least 100 impressions each, smoothed CTRs more than 35 % apart.
    """
    tests: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if float(row.labels["impressions"]) >= 100:
            tests[row.extra["test"]].append(index)
    right = total = 0.0
    for one, other in (pair for members in tests.values() for pair in combinations(members, 2)):
        if rows[one].extra["headline"] == rows[other].extra["headline"]:
            continue
        low, high = sorted((one, other), key=lambda index: _smoothed(rows[index]))
        if _smoothed(rows[high]) / _smoothed(rows[low]) - 1 > 0.35:
            total += 1
            right += 0.5 * (1 + np.sign(float(predicted[high]) - float(predicted[low])))
    return float(right / total) if total else float("nan")


def _smoothed(row: Sample) -> float:
    return (float(row.labels["clicks"]) + 0.5) / (float(row.labels["impressions"]) + 1)


def _prediction(index: int, row: Sample, served: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"row": index}
    if "fixations" in row.extra:
        found = {"id": row.extra["name"]}
    if "sentiment_logits" in served and "heatmap" not in served and "ctr" not in served:
        logits = served["sentiment_logits"][index].astype(np.float64)
        p = np.exp(logits - logits.max())
        found["scores"] = dict(zip(("negative", "neutral", "positive"), (p / p.sum()).tolist(), strict=True))
    for name in ("score", "ctr"):
        if name in served:
            found["score"] = float(served[name][index])
    if "heatmap" in served:
        found["heatmap"] = _packed(served["heatmap"][index])
    return found


def _packed(heatmap: NDArray[np.float32]) -> dict[str, Any]:
    """A heatmap as the enriched event carries it: 255 the hottest cell."""
    scaled = np.round(heatmap / max(float(heatmap.max()), 1e-12) * 255).astype(np.uint8)
    return {"grid": list(scaled.shape), "encoding": "u8-base64", "values": base64.b64encode(scaled.tobytes()).decode()}


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    stream = iter(samples)
    while batch := list(islice(stream, _BATCH)):
        yield batch
