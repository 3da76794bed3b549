"""Loss functions, all to one scalar. B batch, K classes, D width.

A missing label costs nothing: a batch without any gives an exact 0 that still back-propagates.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

MISSING = -1
"""A class label that isn't there."""

MAX_LOG_SCALE = math.log(100.0)


def huber(prediction: Tensor, target: Tensor, *, delta: float) -> Tensor:
    """DBAFN (13–14): x²/2 up to δ, δ(|x| − δ/2) past it; mean over the targets B that aren't NaN."""
    known = ~target.isnan()
    x = (prediction - target.nan_to_num(0.0)).abs()
    loss = torch.where(x <= delta, 0.5 * x * x, delta * (x - 0.5 * delta))
    return _mean_of(loss, known)


def cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy of logits ...×K over the labels (int64, −1 missing) that are there.

    weight: float K, the weight of each class; the mean is over the weights, as torch has it.
    """
    known = labels != MISSING
    log_p = torch.log_softmax(logits.float(), dim=-1)
    target = labels.clamp(min=0)
    picked = -log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
    loss = (1.0 - smoothing) * picked - smoothing * log_p.mean(-1)
    return _mean_of(loss, known.to(loss.dtype) if weight is None else known * weight[target])


def binary_cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """−t log p − (1 − t) log(1 − p) for probabilities and targets in [0, 1]; NaN targets are missing."""
    known = ~target.isnan()
    p = probability.float().clamp(1e-7, 1.0 - 1e-7)
    t = target.nan_to_num(0.0)
    return _mean_of(-t * p.log() - (1.0 - t) * (1.0 - p).log(), known)


def clicked_within(probability: Tensor, impressions: Tensor, clicks: Tensor, groups: Tensor) -> Tensor:
    """Which package of its A/B test each click went to: −log p per click, of B rows.

    A click falls on a row with the odds of its CTR times its impressions, among the rows of the batch with the same
    number in `groups` (int64 B, −1 for none). What sets whole tests apart costs nothing; rows without impressions, and
    tests of which the batch holds one row, neither.
    """
    known = (groups >= 0) & (impressions > 0)  # False for NaN
    p = probability.float().clamp(1e-7, 1.0 - 1e-7)
    seen = torch.where(known, impressions, 1.0)
    score = p.log() - torch.log1p(-p) + seen.log()
    same = (groups[:, None] == groups) & known[:, None] & known | torch.eye(len(p), dtype=torch.bool, device=p.device)
    log_p = score - torch.logsumexp(torch.where(same, score, -torch.inf), dim=1)
    return _mean_of(-log_p, torch.where(known & (same.sum(1) > 1), clicks, 0.0))


def binary_cross_entropy_logits(logits: Tensor, target: Tensor) -> Tensor:
    """The same for logits, numerically safe at any magnitude."""
    known = ~target.isnan()
    loss = functional.binary_cross_entropy_with_logits(logits.float(), target.nan_to_num(0.0), reduction="none")
    return _mean_of(loss, known)


def saliency_kl(target: Tensor, predicted: Tensor, *, epsilon: float = 1e-8) -> Tensor:
    """DBAFN (15): Σ gt log((gt + ε)/(pred + ε)) over the pixels of B×H×W, mean over the samples with a map.

    target: any non-negative scale, normalised here to sum to 1; a map that is all zero or holds NaN is missing.
    predicted: sums to 1 per sample. In fp32 whatever the model's precision: the mean value is subnormal in fp16.
    """
    gt = target.float().flatten(1)
    total = gt.sum(1, keepdim=True)
    known = (total > 0).squeeze(1)  # False for NaN too
    gt = torch.where(known[:, None], gt, 0.0) / torch.where(known[:, None], total, 1.0)
    ratio = torch.log((gt + epsilon) / (predicted.float().flatten(1) + epsilon))
    return _mean_of((gt * ratio).sum(1), known)


def sparse(activations: Tensor, *, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """DBAFN (11): L1 of the activations B×C×H×W. `sum` is the paper's, per sample; `mean` is over all elements."""
    magnitude = activations.float().abs()
    return magnitude.mean() if reduction == "mean" else magnitude.flatten(1).sum(1).mean()


def contrast(anchor: Tensor, positive: Tensor, negative: Tensor, *, tau: float) -> Tensor:
    """DBAFN (16), with the minus sign that the paper lacks: InfoNCE of one positive and one negative, cosine, B×D."""
    to_positive = functional.cosine_similarity(anchor, positive, dim=-1)
    to_negative = functional.cosine_similarity(anchor, negative, dim=-1)
    return functional.softplus((to_negative - to_positive) / tau).mean()


def info_nce(text: Tensor, image: Tensor, log_scale: Tensor) -> Tensor:
    """FGMFN (9): symmetric InfoNCE over the batch on normalised vectors B×D.

    log_scale: logarithm of what the cosines are multiplied by (1 / temperature), clamped at 100.
    """
    t, v = functional.normalize(text.float(), dim=-1), functional.normalize(image.float(), dim=-1)
    logits = t @ v.T * log_scale.clamp(max=MAX_LOG_SCALE).exp()  # B×B
    matching = torch.arange(len(t), device=t.device)
    return 0.5 * (functional.cross_entropy(logits, matching) + functional.cross_entropy(logits.T, matching))


def categorical_kl(p_logits: Tensor, q_logits: Tensor) -> Tensor:
    """KL(p ‖ q) of the distributions softmax(...×K), mean over the rest. Detach what must not be driven."""
    log_p, log_q = torch.log_softmax(p_logits.float(), -1), torch.log_softmax(q_logits.float(), -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def bernoulli_kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p ‖ q) of independent Bernoulli probabilities, mean over all of them."""
    p, q = (x.float().clamp(1e-7, 1.0 - 1e-7) for x in (p, q))
    return (p * (p.log() - q.log()) + (1 - p) * ((1 - p).log() - (1 - q).log())).mean()


def marginal_kl(log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
    """MVLA (13): Σ KL(p ‖ q) of token marginals, log-probabilities B×N×K, over the real steps → B."""
    each = (log_p.exp() * (log_p - log_q)).sum(-1)  # B×N
    return torch.where(mask.bool(), each, 0.0).sum(1)


def top_cross_entropy(logits: Tensor, teacher: Tensor, *, top: int) -> Tensor:
    """MVLA (8): cross-entropy against a teacher's `top` most probable classes, renormalised; mean over its rows.

    teacher: B×A probabilities of any scale; a row that is all zero or holds NaN is missing.
    """
    best, classes = teacher.float().topk(min(top, teacher.shape[1]), dim=1)  # B×V
    total = best.sum(1, keepdim=True)
    known = (total > 0).squeeze(1)  # False for NaN too, which topk puts first
    share = torch.where(known[:, None], best, 0.0) / torch.where(known[:, None], total, 1.0)
    log_p = torch.log_softmax(logits.float(), dim=-1).gather(1, classes)
    return _mean_of(-(share * log_p).sum(1), known)


def _mean_of(loss: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean; 0 (still attached to the graph) where all weights are 0."""
    weights = weights.to(loss.dtype)
    total = weights.sum()
    return (loss * weights).sum() / torch.where(total > 0, total, 1.0)
