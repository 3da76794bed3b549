"""What one bundle's outputs say of a creative's sentiment, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from admodels.contract.manifest import ChainSpec, Manifest, TensorSpec
from admodels.contract.text import Piece
from admodels.contract.viterbi import Chain, bio_labels
from worker.scoring import aspects, sentiment
from worker.types import Copy

LABELS = bio_labels(("negative", "neutral", "positive"))
K = len(LABELS)
CHAIN = ChainSpec(labels=LABELS, start=(0.0,) * K, transitions=((0.0,) * K,) * K, end=(0.0,) * K)
COPY = Copy("Great battery", "Poor screen")
PIECES = (
    None, Piece("headline", 0, 5), Piece("headline", 6, 13), None, Piece("body", 0, 4), Piece("body", 5, 11), None,
    Piece("ocr", 0, 5),
)  # fmt: skip


def manifest(**fields: Any) -> Manifest:
    return Manifest(
        manifest_version=1, name="m", version="1", task="sentiment", architecture="mvla", precision="fp32",
        inputs=(TensorSpec(name="tokens", dtype="float32", shape=("batch",)),), outputs=(), files={}, **fields,
    )  # fmt: skip


def emissions(*labels: str, sure: float = 4.0) -> np.ndarray[Any, Any]:
    """L×K that say these labels, one per token."""
    made = np.zeros((len(labels), K), np.float32)
    for row, label in enumerate(labels):
        made[row, LABELS.index(label)] = sure
    return made


def told(*labels: str) -> list[dict[str, Any]]:
    """The aspects as the event has them."""
    part = sentiment.part(manifest(chain=CHAIN), {"aspect_emissions": emissions(*labels)}, PIECES)
    return aspects.quoted(part["aspects"], COPY)


def test_spans_are_told_as_they_were_written_and_only_those_of_the_copy() -> None:
    made = told("B-neutral", "O", "B-positive", "O", "B-negative", "I-negative", "O", "B-positive")
    # Without transitions each token stands alone: e^4 against six labels of e^0.
    each = np.exp(4) / (np.exp(4) + K - 1)
    once, twice = (pytest.approx(each**n, abs=1e-6) for n in (1, 2))
    assert made == [
        {"text": "battery", "field": "headline", "start": 6, "end": 13, "polarity": "positive", "p": once},
        {"text": "Poor screen", "field": "body", "start": 0, "end": 11, "polarity": "negative", "p": twice},
    ]  # fmt: skip


def test_a_span_over_the_end_of_a_field_is_one_aspect_in_each() -> None:
    made = told("O", "O", "B-positive", "O", "I-positive", "O", "O", "O")
    assert [(aspect["field"], aspect["text"]) for aspect in made] == [("headline", "battery"), ("body", "Poor")]
    assert made[0]["p"] == made[1]["p"]


def test_a_chain_reads_spans_with_the_probability_that_it_computes_alone() -> None:
    random = np.random.default_rng(0)
    chain = Chain(random.normal(size=K), random.normal(size=(K, K)), random.normal(size=K))
    for length in (1, 2, 9):
        given = random.normal(size=(length, K)) * 2
        best = chain.best(given)
        for span, p in chain.read(given, LABELS):
            assert p == pytest.approx(chain.probability(given, best[span.first : span.last + 1], span.first))


def test_at_most_twenty_aspects_the_surest_in_their_order() -> None:
    pieces = [Piece("body", n, n + 1) for n in range(30)]
    given = emissions(*["B-positive"] * 30)
    given[::3] *= 0.5
    made = sentiment.part(manifest(chain=CHAIN), {"aspect_emissions": given}, pieces)["aspects"]
    assert [aspect["start"] for aspect in made] == [n for n in range(30) if n % 3]


def test_topics_emotions_and_pairs_are_the_ten_best() -> None:
    names = tuple(f"n{n}" for n in range(12))
    logits = np.linspace(-3, 3, 12).astype(np.float32)
    made = sentiment.part(
        manifest(labels={"topics": names, "emotions": names, "anps": names}),
        {"topics_logits": logits, "emotions_logits": -logits, "anp_logits": logits},
        (),
    )
    assert [item["name"] for item in made["topics"]] == [f"n{n}" for n in range(11, 1, -1)]
    assert made["topics"][0]["p"] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)
    assert made["emotions"][0] == {"name": "n0", "p": made["topics"][0]["p"]}
    assert made["anps"][0]["p"] == pytest.approx(np.exp(3) / np.exp(logits.astype(float)).sum(), abs=1e-5)
    assert made.keys() == {"topics", "emotions", "anps"}


@pytest.mark.parametrize(
    "garbage",
    [None, 3, [None], [{}], [{"field": "headline", "start": 90, "end": 95, "polarity": "positive", "p": 1}],
     [{"field": "headline", "start": -4, "end": -1, "polarity": "positive", "p": 1}],
     [{"field": "__class__", "start": 0, "end": 1, "polarity": "positive", "p": 1}],
     [{"field": "cta", "start": 0, "end": 1, "polarity": "positive", "p": 1}],
     [{"field": "headline", "start": "0", "end": 1, "polarity": "positive", "p": 1}]],
)  # fmt: skip
def test_what_a_cache_holds_in_their_place_is_left_out(garbage: Any) -> None:
    assert aspects.quoted(garbage, COPY) == []
