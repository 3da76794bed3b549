"""From an engine's raw outputs to the parts of `scores` in the enriched event: calibrate, label, bucket, round.

Each function takes the outputs of one bundle for a batch and returns one JSON-ready part per row, or None for a row
whose numbers aren't finite or aren't in their range (a made-up number is never published).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels.contract import calibrate
from admodels.contract.manifest import Calibration, Manifest
from worker.scoring import sentiment
from worker.scoring.heatmap import encode as encode_heatmap
from worker.scoring.sentiment import SENTIMENT_BUCKETS, Part, Pieces, Row, rounded

__all__ = ["SENTIMENT_BUCKETS", "Part", "attractiveness_bucket", "ctr_bucket", "parts"]

Outputs = Mapping[str, NDArray[Any]]

_IDENTITY = Calibration(kind="identity")
_UNCALIBRATED = {"sentiment_logits": Calibration(kind="temperature")}
CTR_BUCKETS = ("low", "medium", "high")
MAX_KEYWORDS = 10
UNIT_OUTPUTS = ("score", "ctr", "share_likelihood", "attention")
"""Outputs that are probabilities or shares, hence in [0, 1]."""
ROUNDING = 1e-3
"""How far outside half precision may put them; beyond, the engine is wrong."""
KEYWORD_LOGIT = 0.0
"""A keyword holds at probability one half and above."""


def parts(manifest: Manifest, outputs: Outputs, rows: int, pieces: Sequence[Pieces] = ()) -> list[Part | None]:
    """The parts that this bundle gives, one per row of the batch.

    pieces: per row where the tokens that it read come from, for the outputs that are told by token.
    """
    sound = _finite_rows(outputs, rows)
    raw = dict(outputs)
    # Before they are calibrated: a 7.3 of a broken engine would come out of Platt's σ as a plausible score.
    for name in UNIT_OUTPUTS:
        if name in raw:
            values = raw[name].reshape(rows)
            sound &= (values >= -ROUNDING) & (values <= 1 + ROUNDING)
            raw[name] = np.clip(values, 0.0, 1.0)
    calibrated = {
        name: calibrate.apply(manifest.calibration.get(name, _UNCALIBRATED.get(name, _IDENTITY)), values)
        for name, values in raw.items()
    }
    sound &= _finite_rows(calibrated, rows)
    build = _BUILDERS[manifest.task]
    read = pieces or [()] * rows
    made = [
        build(manifest, {name: values[row] for name, values in calibrated.items()}, read[row]) if sound[row] else None
        for row in range(rows)
    ]
    return [part if part and _is_finite(part) else None for part in made]


def attractiveness_bucket(value: float) -> str:
    """`a0` … `a9`: tenths of the score; 1.0 belongs to `a9`."""
    return f"a{min(9, int(value * 10))}"


def ctr_bucket(relative: float, edges: tuple[float, ...]) -> str:
    """`low`, `medium`, `high` by the bundle's edges on the relative CTR; an edge belongs to the upper bucket."""
    return CTR_BUCKETS[sum(relative >= edge for edge in edges)]


def _attractiveness(_: Manifest, outputs: Row, __: Pieces) -> Part:
    value = rounded(outputs["score"])
    part: Part = {"value": value, "bucket": attractiveness_bucket(value)}
    if "heatmap" in outputs:
        part["heatmap"] = encode_heatmap(outputs["heatmap"])
    return part


def _ctr(manifest: Manifest, outputs: Row, _: Pieces) -> Part:
    value = rounded(outputs["ctr"])
    part: Part = {"value": value}
    if manifest.base_rate:
        relative = rounded(float(outputs["ctr"]) / manifest.base_rate)
        part["bucket"] = ctr_bucket(relative, manifest.bucket_edges["ctr"])
        part["relative"] = relative
    if "share_likelihood" in outputs:
        part["share_likelihood"] = rounded(outputs["share_likelihood"])
    attributes = _attributes(manifest, outputs)
    if attributes:
        part["attributes"] = attributes
    return part


def _attributes(manifest: Manifest, outputs: Row) -> Part:
    attributes: Part = {}
    for name, labels in manifest.labels.items():
        logits = outputs.get(f"{name}_logits")
        if logits is None:
            continue
        if name == "keywords":
            best = np.argsort(-logits, kind="stable")[:MAX_KEYWORDS]
            attributes["keywords"] = [labels[index] for index in best if logits[index] >= KEYWORD_LOGIT]
        else:
            attributes[name] = labels[int(np.argmax(logits))]
    if "attention" in outputs:
        attributes["attention"] = rounded(outputs["attention"])
    return attributes


_BUILDERS = {"attractiveness": _attractiveness, "sentiment": sentiment.part, "ctr": _ctr}


def _finite_rows(outputs: Outputs, rows: int) -> NDArray[np.bool_]:
    finite = np.ones(rows, dtype=bool)
    for values in outputs.values():
        finite &= np.isfinite(values.reshape(rows, -1)).all(axis=1)
    return finite


def _is_finite(part: Part) -> bool:
    """A division by the bundle's own numbers may still have left the range of a double."""
    return all(math.isfinite(value) for value in part.values() if isinstance(value, float))
