"""What differs between the models: how they are fed, which labels they take, how they are lost and measured.

One literal table at the end; the loop in train.py knows nothing else of a model. `TASKS` are for generated creatives;
`for_dataset` is the same model on the labels of a data set that is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from admodels.losses import clicked_within
from admodels.masking import masked_mean
from admodels.papers import adfusion, baselines, dbafn, deepm2ad, fgmfn, mvla
from training import judging, measures
from training.batches import Batch
from training.creatives.vocabulary import TONES, label_sets
from training.datasets.catalogue import DataSet

Arrays = Mapping[str, NDArray[Any]]
CLASS_HEADS = (
    "theme", "sentiment", "emotion", "audience", "call_to_action", "monetary_mention", "object", "dominant_colour",
    "trust",
)  # fmt: skip
VALUE_HEADS = ("ctr", "share_likelihood", "attention")


@dataclass(frozen=True)
class Task:
    """`run(model, batch)` → its output; `loss(output, labels, contrast, weights)` → terms with `total`;
    `measure(served, labels, extras)` → metrics.

    `served` are the model's outputs by their ONNX names, raw; `monitor` is the metric that early stopping watches
    (`lower` or higher is better).
    """

    labels: Mapping[str, tuple[str, ...]]
    loss: Callable[[Any, Mapping[str, Tensor], tuple[Tensor, Tensor] | None, Mapping[str, Any]], dict[str, Tensor]]
    measure: Callable[[Arrays, Arrays, Sequence[Mapping[str, Any]]], dict[str, float]]
    monitor: str
    lower: bool
    run: Callable[[Any, Batch], Any] = lambda model, batch: model(batch.maps, batch.tokens, batch.mask)
    values: tuple[str, ...] = ()
    """Heads of one value that the model gets, for models that take their names."""


def _dbafn_loss(
    output: dbafn.Output,
    labels: Mapping[str, Tensor],
    contrast: tuple[Tensor, Tensor] | None,
    weights: Mapping[str, Any],
) -> dict[str, Tensor]:  # fmt: skip
    entities = labels.get("entities")
    saliency = labels.get("saliency")
    targets = dbafn.Targets(
        score=labels.get("score"),
        saliency=None if saliency is None else saliency.float(),
        entities=None if entities is None else entities[:, : output.entity_logits.shape[1]],
    )
    return dbafn.loss(output, targets, contrast=contrast, weights=dbafn.Weights()._replace(**weights))


def _dbafn_measure(served: Arrays, labels: Arrays, _: object) -> dict[str, float]:
    measured = {}
    if "score" in labels:
        known = np.isfinite(labels["score"])
        truth, score = labels["score"][known].astype(np.float64), served["score"][known].astype(np.float64)
        measured = {"mae": measures.mae(truth, score), "rmse": measures.rmse(truth, score)}
        measured |= {"pearson": measures.pearson(truth, score), "spearman": measures.spearman(truth, score)}
    q, p = served["heatmap"].astype(np.float64), labels["saliency"].astype(np.float64)
    p = p / np.maximum(p.sum((1, 2), keepdims=True), 1e-12)
    measured["kl"] = float((p * np.log((p + 1e-12) / (q + 1e-12))).sum((1, 2)).mean())
    measured["cc"] = float(np.mean([measures.pearson(a.ravel(), b.ravel()) for a, b in zip(p, q, strict=True)]))
    # One number for early stopping: both are about a tenth apart between a good and a poor model.
    measured["objective"] = measured.get("mae", 0.0) + 0.2 * measured["kl"]
    return measured


def _fgmfn_loss(
    output: fgmfn.Output, labels: Mapping[str, Tensor], _: object, weights: Mapping[str, Any]
) -> dict[str, Tensor]:  # fmt: skip
    return fgmfn.loss(output, fgmfn.Targets(labels["sentiment"]), weights=fgmfn.Weights()._replace(**weights))


def _fgmfn_measure(served: Arrays, labels: Arrays, _: object) -> dict[str, float]:
    logits, truth = served["sentiment_logits"].astype(np.float64), labels["sentiment"]
    best = logits.argmax(1)
    measured = {"accuracy": measures.accuracy(truth, best), "macro_f1": measures.macro_f1(truth, best)}
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    chosen = probabilities[np.arange(len(truth)), truth]
    measured |= {"log_loss": float(-np.log(np.maximum(chosen, 1e-12)).mean())}
    return measured | {"ece": measures.confidence_error(truth, probabilities)}


def _adfusion_loss(
    output: adfusion.Output, labels: Mapping[str, Tensor], _: object, weights: Mapping[str, Any]
) -> dict[str, Tensor]:  # fmt: skip
    targets = adfusion.Targets(
        classes={name: labels[name] for name in output.classes if name in labels},
        keywords=labels.get("keywords"),
        values={name: labels[name].float() for name in output.values if name in labels},
    )
    own = {name: weight for name, weight in weights.items() if name in adfusion.Weights._fields}
    terms = adfusion.loss(output, targets, weights=adfusion.Weights()._replace(**own))
    # A click is rare: between the mean rate and the truth lie thousandths of log-loss, where a class head gains whole
    # units. Without a weight of their own these heads learn their mean and nothing more.
    for name in targets.values:
        terms["total"] = terms["total"] + (weights.get(name, 1.0) - 1.0) * terms[name]
    if within := weights.get("within", 0.0):
        if "test" not in labels:
            raise ValueError("weights.within is for rows of A/B tests; these name none")
        terms["within"] = clicked_within(output.values["ctr"], labels["impressions"], labels["clicks"], labels["test"])
        terms["total"] = terms["total"] + within * terms["within"]
    return terms


def _adfusion_measure(served: Arrays, labels: Arrays, _: object) -> dict[str, float]:
    measured: dict[str, float] = {}
    clicks, impressions = labels["clicks"].astype(np.float64), labels["impressions"].astype(np.float64)
    ctr = served["ctr"].astype(np.float64)
    measured |= {f"ctr/{name}": v for name, v in measures.click_metrics(clicks, impressions, ctr).items()}
    measured["ctr/spearman"] = measures.spearman(labels["ctr"].astype(np.float64), ctr)
    for name in VALUE_HEADS[1:]:
        truth, value = labels[name].astype(np.float64), served[name].astype(np.float64)
        measured |= {f"{name}/pearson": measures.pearson(truth, value), f"{name}/mae": measures.mae(truth, value)}
    for name in CLASS_HEADS:
        best = served[f"{name}_logits"].argmax(1)
        measured[f"{name}/accuracy"] = measures.accuracy(labels[name], best)
        measured[f"{name}/macro_f1"] = measures.macro_f1(labels[name], best)
    wanted, logits = labels["keywords"] > 0.5, served["keywords_logits"].astype(np.float64)
    precisions = [measures.average_precision(wanted[:, k], logits[:, k]) for k in range(wanted.shape[1])]
    measured["keywords/map"] = float(np.nanmean(precisions))
    classes = np.mean([measured[f"{name}/macro_f1"] for name in CLASS_HEADS])
    # By rank, since calibration mends the level of CTR after training.
    measured["objective"] = measured["ctr/auc"] + 0.25 * float(classes)
    return measured


def _mvla_run(model: Any, batch: Batch) -> mvla.Output:
    """S+N reads the copy behind the image's prefix; the pass S, without it, is for the loss alone. Nothing here makes
    visual context in words (captions, faces), so both read the same tokens."""
    text = mvla.Text(batch.tokens, batch.mask, copy_mask(batch.input_ids, batch.mask))
    output: mvla.Output = model(batch.maps, text, text if model.training else None)
    return output


def copy_mask(input_ids: Tensor, mask: Tensor) -> Tensor:
    """int64 B×L: every token but the special ones at its fields' ends; the first one where there is no copy."""
    marked = mask * (input_ids != input_ids[:, :1])  # B×L, [CLS] stands first
    last = mask.sum(1, keepdim=True) - 1  # B×1: a separator, or the first token where there is nothing else
    copy = marked - marked * (input_ids == input_ids.gather(1, last))
    empty = (copy.sum(1, keepdim=True) == 0).long()
    return torch.cat([copy[:, :1] + empty, copy[:, 1:]], dim=1)


def _mvla_loss(
    output: mvla.Output, labels: Mapping[str, Tensor], _: object, weights: Mapping[str, Any]
) -> dict[str, Tensor]:  # fmt: skip
    targets = mvla.Targets(mvla.one_span(labels["sentiment"], output.copy))
    return mvla.loss(output, targets, weights=mvla.Weights(per_token=True)._replace(**weights))


def _deepm2ad_run(model: Any, batch: Batch) -> deepm2ad.Output:
    """Objects by the vectors of their names, words by their token vectors; there are no pixels."""
    output: deepm2ad.Output = model(None, batch.more["objects"], batch.more["object_mask"], batch.tokens, batch.mask)
    return output


def _deepm2ad_loss(
    output: deepm2ad.Output, labels: Mapping[str, Tensor], _: object, weights: Mapping[str, Any]
) -> dict[str, Tensor]:  # fmt: skip
    targets = deepm2ad.Targets(topic=labels.get("topics"), sentiment=labels.get("sentiments"))
    return deepm2ad.loss(output, targets, weights=deepm2ad.Weights()._replace(**weights))


def _baseline_run(model: Any, batch: Batch) -> baselines.Output:
    """Where there are no pixels, the objects' mean vector stands for a map of one cell."""
    maps: tuple[Tensor, ...] = batch.maps
    if "objects" in batch.more:
        maps = (masked_mean(batch.more["objects"], batch.more["object_mask"])[:, :, None, None],)
    output: baselines.Output = model(maps, batch.tokens, batch.mask)
    return output


def _baseline_loss(
    output: baselines.Output, labels: Mapping[str, Tensor], _: object, weights: Mapping[str, Any]
) -> dict[str, Tensor]:  # fmt: skip
    saliency = labels.get("saliency")
    targets = baselines.Targets(
        classes={name: labels[name] for name in output.classes if name in labels},
        labels={name: labels[_LABEL_OF.get(name, name)] for name in output.labels},
        values={name: labels[name].float() for name in output.values if name in labels},
        saliency=None if saliency is None else saliency.float(),
    )
    values = "huber" if "score" in output.values else "cross_entropy"
    return baselines.loss(output, targets, weights=baselines.Weights(values=values)._replace(**weights))  # type: ignore[arg-type]


_LABEL_OF = {"emotions": "sentiments"}
"""Outputs whose labels have another name: a set's sentiments are many, a polarity is one."""

LOWER_IS_BETTER = ("kl", "mae", "rmse", "log_loss", "ctr/log_loss")

TASKS: dict[str, Task] = {
    "dbafn": Task({}, _dbafn_loss, _dbafn_measure, "objective", lower=True),
    "fgmfn": Task({"sentiment": label_sets()["sentiment"]}, _fgmfn_loss, _fgmfn_measure, "log_loss", lower=True),
    "mvla": Task({"sentiment": TONES}, _mvla_loss, judging.polarity, "log_loss", lower=True, run=_mvla_run),
    "deepm2ad": Task({}, _deepm2ad_loss, judging.ads, "topic/map", lower=False, run=_deepm2ad_run),
    "adfusion": Task(label_sets(), _adfusion_loss, _adfusion_measure, "objective", lower=False, values=VALUE_HEADS),
    "baseline": Task({}, _baseline_loss, judging.whatever, "", lower=False, run=_baseline_run),
}
"""Generated creatives are for dbafn, fgmfn, mvla and adfusion."""


def for_dataset(model: str, dataset: DataSet, monitor: str) -> Task:
    """The model's task on a data set's labels, judged as `evaluate` judges it; `monitor` is one of its metrics."""
    return replace(
        TASKS[model],
        labels=dataset.classes,
        measure=dataset.judge,
        monitor=monitor,
        lower=monitor in LOWER_IS_BETTER,
        values=dataset.values,
    )


PER_TOKEN = ("aspect_emissions",)
"""Outputs as long as a batch's longest text: no metric reads them, and batches of them don't join."""


def joined(parts: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
    """Batches of outputs as one, without those of single tokens."""
    names = [name for name in parts[0] if name not in PER_TOKEN]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def served_arrays(output: Any) -> dict[str, NDArray[np.float32]]:
    """A model's output by its ONNX names, as numpy."""
    with torch.no_grad():
        return {name: value.detach().float().cpu().numpy() for name, value in output.served().items()}
