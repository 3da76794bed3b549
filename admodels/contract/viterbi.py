"""A linear chain over a text's tokens, read in numpy: the best labels, and how sure each span of them is.

The same chain as `admodels.crf`, for serving, which has no torch. N steps, K labels.
score(y) = start[y₁] + Σ emissions[n, yₙ] + Σ transitions[yₙ, yₙ₊₁] + end[y_N]; p(y) = softmax over all sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTSIDE = "O"
_BEGIN, _INSIDE = "B-", "I-"

Scores = NDArray[np.float64]


def bio_labels(kinds: Sequence[str]) -> tuple[str, ...]:
    """`O`, then `B-` and `I-` of each kind: the labels of a chain that marks spans."""
    return (OUTSIDE, *(prefix + kind for kind in kinds for prefix in (_BEGIN, _INSIDE)))


@dataclass(frozen=True)
class Span:
    """Steps `first` to `last`, both inside it, that are one mention of `kind`."""

    kind: str
    first: int
    last: int


class Chain:
    """Transition scores: start K, transitions K×K (from, to), end K. Raises ValueError when they don't fit together.

    Emissions come as any real array N×K with N ≥ 1; sums are in float64.
    """

    def __init__(self, start: Any, transitions: Any, end: Any) -> None:
        self.start, self.transitions, self.end = (np.asarray(x, dtype=np.float64) for x in (start, transitions, end))
        k = self.start.size
        if self.start.shape != (k,) or self.end.shape != (k,) or self.transitions.shape != (k, k) or not k:
            raise ValueError(
                f"a chain needs K start, K×K transition and K end scores; got {self.start.shape}, "
                f"{self.transitions.shape} and {self.end.shape}: export the model again"
            )

    def best(self, emissions: NDArray[Any]) -> list[int]:
        """Viterbi: the most probable label sequence."""
        emissions = self._checked(emissions)
        score = self.start + emissions[0]
        back: list[NDArray[np.intp]] = []
        for row in emissions[1:]:
            through = score[:, None] + self.transitions  # from × to
            back.append(through.argmax(axis=0))
            score = through.max(axis=0) + row
        path = [int((score + self.end).argmax())]
        for previous in reversed(back):
            path.append(int(previous[path[-1]]))
        return path[::-1]

    def marginals(self, emissions: NDArray[Any]) -> Scores:
        """p(yₙ = k): N×K, rows sum to 1."""
        emissions = self._checked(emissions)
        alpha, beta, log_z = self._both(emissions)
        return np.exp(alpha + beta - log_z)

    def probability(self, emissions: NDArray[Any], labels: Sequence[int], first: int = 0) -> float:
        """p(the steps from `first` on carry exactly `labels`), whatever stands before and behind them."""
        emissions = self._checked(emissions)
        if not labels or first < 0 or first + len(labels) > len(emissions):
            raise ValueError(f"{len(labels)} labels from step {first} don't lie within {len(emissions)} steps")
        alpha, beta, log_z = self._both(emissions)
        score = alpha[first, labels[0]]
        for n, (a, b) in enumerate(pairwise(labels), start=first + 1):
            score = score + self.transitions[a, b] + emissions[n, b]
        return float(np.exp(score + beta[first + len(labels) - 1, labels[-1]] - log_z))

    def read(self, emissions: NDArray[Any], names: Sequence[str]) -> list[tuple[Span, float]]:
        """The spans of the most probable labels, each with the probability that its steps carry just those labels."""
        emissions = self._checked(emissions)
        best = self.best(emissions)
        found = spans(best, names)
        if not found:
            return []
        alpha, beta, log_z = self._both(emissions)
        told = []
        for span in found:
            score = alpha[span.first, best[span.first]]
            for n in range(span.first + 1, span.last + 1):
                score = score + self.transitions[best[n - 1], best[n]] + emissions[n, best[n]]
            told.append((span, float(np.exp(score + beta[span.last, best[span.last]] - log_z))))
        return told

    def _both(self, emissions: Scores) -> tuple[Scores, Scores, float]:
        """log α (its own emission included) and log β, N×K each, and log Z."""
        alpha, beta = np.empty_like(emissions), np.empty_like(emissions)
        alpha[0] = self.start + emissions[0]
        for n in range(1, len(emissions)):
            alpha[n] = _log_sum(alpha[n - 1][:, None] + self.transitions, 0) + emissions[n]
        beta[-1] = self.end
        for n in range(len(emissions) - 1, 0, -1):
            beta[n - 1] = _log_sum(self.transitions + (emissions[n] + beta[n])[None, :], 1)
        return alpha, beta, float(_log_sum(alpha[-1] + self.end, 0))

    def _checked(self, emissions: NDArray[Any]) -> Scores:
        if emissions.ndim != 2 or not len(emissions) or emissions.shape[1] != self.start.size:
            raise ValueError(f"emissions are N×{self.start.size} with N ≥ 1, not {emissions.shape}")
        return emissions.astype(np.float64)


def spans(labels: Sequence[int], names: Sequence[str]) -> list[Span]:
    """The spans that a label sequence marks. An `I-` that continues nothing of its kind begins a span."""
    found: list[Span] = []
    for n, label in enumerate(labels):
        name = names[label]
        if name == OUTSIDE:
            continue
        kind = name[len(_BEGIN) :]
        open_span = found[-1] if found and found[-1].last == n - 1 else None
        if name.startswith(_INSIDE) and open_span is not None and open_span.kind == kind:
            found[-1] = Span(kind, open_span.first, n)
        else:
            found.append(Span(kind, n, n))
    return found


def _log_sum(x: Scores, axis: int) -> Any:
    top = x.max(axis=axis)
    return top + np.log(np.exp(x - np.expand_dims(top, axis)).sum(axis=axis))
