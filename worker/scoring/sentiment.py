"""What a creative feels, from one bundle's outputs for one creative: polarity, topics, emotions, noun pairs, aspects.

Three models can serve this head, each gives its own of these; their parts are merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels.contract.manifest import ChainSpec, Manifest
from admodels.contract.text import COPY_FIELDS, Piece
from admodels.contract.viterbi import Chain

Row = Mapping[str, NDArray[Any]]
"""Calibrated outputs of one creative, by name."""
Pieces = Sequence[Piece | None]
"""Where the tokens that were read come from."""
Part = dict[str, Any]

SENTIMENT_BUCKETS = {"negative": "neg", "neutral": "neu", "positive": "pos"}
MAX_NAMED = 10
"""Topics, emotions and adjective-noun pairs that an event holds: the best ones."""
MAX_ASPECTS = 20


def part(manifest: Manifest, outputs: Row, pieces: Pieces) -> Part:
    """The parts of `scores.sentiment` that these outputs give. An aspect's places are those in the canonical copy, and
    it has no text yet: `aspects.quoted` gives both as they were received."""
    made: Part = {}
    if "sentiment_logits" in outputs:
        labels = manifest.labels["sentiment"]
        probabilities = dict(zip(labels, map(rounded, outputs["sentiment_logits"]), strict=True))
        label = max(probabilities, key=lambda name: probabilities[name])
        value = rounded(probabilities["positive"] - probabilities["negative"])
        made = {"value": value, "label": label, "bucket": SENTIMENT_BUCKETS[label], "probabilities": probabilities}
    for name in ("topics", "emotions"):
        if f"{name}_logits" in outputs:
            made[name] = _best(manifest.labels[name], _sigmoid(outputs[f"{name}_logits"]))
    if manifest.chain is not None:
        made["aspects"] = _aspects(manifest.chain, outputs["aspect_emissions"], pieces)
    if "anp_logits" in outputs:
        made["anps"] = _best(manifest.labels["anps"], _softmax(outputs["anp_logits"]))
    return made


def _best(names: Sequence[str], shares: NDArray[np.float64]) -> list[Part]:
    order = np.argsort(-shares, kind="stable")[:MAX_NAMED]
    return [{"name": names[index], "p": rounded(shares[index])} for index in order]


def _aspects(spec: ChainSpec, emissions: NDArray[Any], pieces: Pieces) -> list[Part]:
    """The spans of the copy that feel something, in their order; the surest where there are too many.

    emissions: L×K of all tokens. A span that reaches over a field's end is one aspect in each.
    """
    copy = [(place, piece) for place, piece in enumerate(pieces) if piece is not None and piece.field in COPY_FIELDS]
    if not copy:
        return []
    told: list[Part] = []
    for span, p in _chain(spec).read(emissions[[place for place, _ in copy]], spec.labels):
        for field, start, end in _by_field([piece for _, piece in copy[span.first : span.last + 1]]):
            told.append({"field": field, "start": start, "end": end, "polarity": span.kind, "p": rounded(p)})
    surest = sorted(range(len(told)), key=lambda index: -float(told[index]["p"]))[:MAX_ASPECTS]
    return [told[index] for index in sorted(surest)]


def _by_field(pieces: Sequence[Piece]) -> Iterator[tuple[str, int, int]]:
    first = last = pieces[0]
    for piece in pieces[1:]:
        if piece.field != first.field:
            yield first.field, first.start, last.end
            first = piece
        last = piece
    yield first.field, first.start, last.end


@lru_cache(maxsize=8)
def _chain(spec: ChainSpec) -> Chain:
    return Chain(spec.start, spec.transitions, spec.end)


def _sigmoid(logits: NDArray[Any]) -> NDArray[np.float64]:
    z = logits.astype(np.float64)
    e = np.exp(-np.abs(z))  # of numbers below 0 alone: no overflow
    return np.where(z >= 0, 1.0, e) / (1.0 + e)


def _softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    e = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(e / e.sum())


def rounded(value: Any) -> float:
    """Six decimals: below every tolerance, and the same text on every backend that agrees that far."""
    return round(float(value), 6)
