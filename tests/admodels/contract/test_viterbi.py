"""The numpy chain against brute force over every label sequence, and against the torch chain that is trained."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from admodels.contract.viterbi import Chain, Span, bio_labels, spans
from admodels.crf import LinearChainCrf

K = 3
CHAIN = Chain(*(np.random.default_rng(0).normal(size=shape) for shape in ((K,), (K, K), (K,))))


def brute_force(emissions: NDArray[np.float64]) -> dict[tuple[int, ...], float]:
    scores = {}
    for path in product(range(K), repeat=len(emissions)):
        score = CHAIN.start[path[0]] + CHAIN.end[path[-1]] + sum(emissions[n, k] for n, k in enumerate(path))
        scores[path] = score + sum(CHAIN.transitions[a, b] for a, b in pairwise(path))
    weights = np.exp(np.array(list(scores.values())))
    return dict(zip(scores, weights / weights.sum(), strict=True))


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("seed", range(4))
def test_the_chain_is_brute_force(steps: int, seed: int) -> None:
    emissions = np.random.default_rng(seed + 1).normal(scale=2.0, size=(steps, K))
    paths = brute_force(emissions)
    assert tuple(CHAIN.best(emissions)) == max(paths, key=lambda path: paths[path])
    marginals = CHAIN.marginals(emissions)
    for n, k in product(range(steps), range(K)):
        assert marginals[n, k] == pytest.approx(sum(p for path, p in paths.items() if path[n] == k), rel=1e-9)
    for first in range(steps):
        wanted = sum(p for path, p in paths.items() if path[first : first + 2] == (1, 2)[: steps - first])
        assert CHAIN.probability(emissions, (1, 2)[: steps - first], first) == pytest.approx(wanted, rel=1e-9)


def test_it_is_the_chain_that_was_trained() -> None:
    torch.manual_seed(0)
    crf = LinearChainCrf(7)
    emissions = 3 * torch.randn(4, 12, 7)
    lengths = [12, 1, 5, 8]
    mask = torch.arange(12)[None] < torch.tensor(lengths)[:, None]
    chain = Chain(*(p.detach().numpy() for p in (crf.start, crf.transitions, crf.end)))
    decoded, marginals = crf.decode(emissions, mask), crf.log_marginals(emissions, mask).exp().detach().numpy()
    for row, length in enumerate(lengths):
        own = emissions[row, :length].numpy()
        assert chain.best(own) == decoded[row]
        np.testing.assert_allclose(chain.marginals(own), marginals[row, :length], atol=1e-5)


def test_large_scores_neither_overflow_nor_vanish() -> None:
    emissions = np.array([[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4]])
    assert CHAIN.best(emissions) == [0, 2]
    np.testing.assert_allclose(CHAIN.marginals(emissions), [[1, 0, 0], [0, 0, 1]])


def test_spans_follow_bio() -> None:
    names = bio_labels(("negative", "positive"))
    assert names == ("O", "B-negative", "I-negative", "B-positive", "I-positive")
    assert spans([1, 2, 0, 3, 3, 4], names) == [Span("negative", 0, 1), Span("positive", 3, 3), Span("positive", 4, 5)]
    # An inside label without a beginning begins; one of another kind begins anew.
    assert spans([0, 2, 4, 4], names) == [Span("negative", 1, 1), Span("positive", 2, 3)]
    assert spans([2, 0, 2], names) == [Span("negative", 0, 0), Span("negative", 2, 2)]
    assert spans([0, 0], names) == []


def test_what_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match=r"K×K transition.*got \(3,\), \(2, 2\)"):
        Chain(np.zeros(3), np.zeros((2, 2)), np.zeros(3))
    with pytest.raises(ValueError, match=r"N×3 with N ≥ 1, not \(0, 3\)"):
        CHAIN.best(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="2 labels from step 1 don't lie within 2 steps"):
        CHAIN.probability(np.zeros((2, 3)), (0, 1), 1)
