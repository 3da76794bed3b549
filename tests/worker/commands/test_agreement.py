"""The figures of `shadow report` against values that were worked out another way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from worker.commands.agreement import decile_stability, flip_rate, rank_correlation, stability


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def test_rank_correlation_by_the_textbook_s_formula() -> None:
    # Without ties 1 - 6 sum(d^2) / (n (n^2 - 1)): ranks 1..5 against 2 1 4 3 5 give 1 - 24 / 120.
    assert rank_correlation(array(1, 2, 3, 4, 5), array(0.2, 0.1, 0.4, 0.3, 0.9)) == pytest.approx(0.8)
    assert rank_correlation(array(1, 2, 3), array(1, 8, 27)) == pytest.approx(1.0)
    assert rank_correlation(array(1, 2, 3), array(-1, -2, -3)) == pytest.approx(-1.0)


def test_ties_share_their_mean_rank() -> None:
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5 over the root of 4.5 times 5.
    assert rank_correlation(array(1, 2, 2, 3), array(1, 2, 3, 4)) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_rank_correlation_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(5)
    live = random.integers(0, 12, 400).astype(np.float64)
    candidate = live + random.normal(0, 4, 400).round()
    assert rank_correlation(live, candidate) == pytest.approx(stats.spearmanr(live, candidate).statistic)


def test_where_rank_correlation_says_nothing() -> None:
    assert rank_correlation(array(1), array(2)) is None
    assert rank_correlation(array(1, 1), array(2, 2)) is None
    assert rank_correlation(array(1, 2), array(2, 2)) == 0.0, "a candidate that gives all the same value is no good"


def test_stability_of_a_move_that_was_worked_out_by_hand() -> None:
    assert stability(["a", "b"] * 50, ["b", "a"] * 50) == 0.0
    # 80:20 against 60:40, with half a creative added to each class.
    first, second = (80.5 / 101, 20.5 / 101), (60.5 / 101, 40.5 / 101)
    expected = sum((q - p) * math.log(q / p) for p, q in zip(first, second, strict=True))
    assert stability(["a"] * 80 + ["b"] * 20, ["a"] * 60 + ["b"] * 40) == pytest.approx(expected)
    assert 0.15 < expected < 0.25
    assert stability(["a"] * 100, ["b"] * 100) > 5


def test_deciles_see_what_moves_within_a_bucket() -> None:
    live = np.linspace(0, 1, 1_000)
    assert decile_stability(live, live) == 0.0
    assert decile_stability(live, live**2) > 0.2
    assert decile_stability(array(0.5, 0.5), array(0.5, 0.5)) == 0.0


def test_flips() -> None:
    assert flip_rate(["low", "low", "high", "medium"], ["low", "high", "high", "low"]) == 0.5
    assert flip_rate([], []) == 0.0
