"""The parity gate: a graph on the very runner that serves it, against the torch module it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.runtime.runner import Runner

Arrays = Mapping[str, NDArray[Any]]

INVARIANCE_TOLERANCE = 1e-3
"""How far a creative's outputs may move with its batch and its padding: the contract's number."""


@dataclass(frozen=True)
class Case:
    """Inputs of one batch under a name that a report can show (`recorded`, `random`, `zeros` …)."""

    name: str
    feeds: Arrays


@dataclass(frozen=True)
class OutputParity:
    """How far one output is from the reference over all cases, and in which case it is furthest."""

    output: str
    max_abs: float
    mean_abs: float
    tolerance: float
    worst_case: str
    correlation: float | None
    """Pearson's, over all values of the output; None where the reference doesn't vary."""
    top1: float | None
    """For class logits, the share of rows whose most probable class agrees."""

    @property
    def ok(self) -> bool:
        """Whether the output may be served; a difference that isn't a number may not."""
        return bool(self.max_abs <= self.tolerance)


@dataclass(frozen=True)
class ParityReport:
    """The gate's verdict. `invariance` is the largest move of any output between a batch and its members alone."""

    backend: str
    outputs: tuple[OutputParity, ...]
    invariance: float

    @property
    def ok(self) -> bool:
        return all(output.ok for output in self.outputs) and self.invariance <= INVARIANCE_TOLERANCE

    def as_json(self) -> dict[str, object]:
        return {"ok": self.ok, **asdict(self)}


class ParityError(Exception):
    """The graph doesn't compute what the module computes. Carries the report; nothing may be written."""

    def __init__(self, report: ParityReport) -> None:
        bad = [
            f"{o.output}: {o.max_abs:.3g} over {o.tolerance:.3g} ({o.worst_case})" for o in report.outputs if not o.ok
        ]
        if not report.invariance <= INVARIANCE_TOLERANCE:
            bad.append(f"outputs move by {report.invariance:.3g} with the batch, over {INVARIANCE_TOLERANCE:.3g}")
        super().__init__("parity failed, nothing is written: " + "; ".join(bad))
        self.report = report


def check_parity(
    model: bytes,
    reference: Callable[[Arrays], Arrays],
    cases: Sequence[Case],
    tolerances: Mapping[str, float],
    *,
    runner: Runner | None = None,
) -> ParityReport:
    """Compare on every case, then every recorded sample alone against its batch. Raises ParityError over a tolerance.

    reference: the torch module as a function of named arrays. tolerances: largest absolute difference per output;
    an output without one is a KeyError, so that none goes unchecked.
    """
    runner = runner or OnnxRuntimeRunner(model, threads=0)
    results = [(case, reference(case.feeds), runner.infer(case.feeds)) for case in cases]
    names = results[0][1].keys()
    report = ParityReport(
        backend=runner.backend,
        outputs=tuple(_output_parity(name, results, tolerances[name]) for name in names),
        invariance=max(_invariance(runner, case) for case in cases),
    )
    if not report.ok:
        raise ParityError(report)
    return report


def table(report: ParityReport) -> str:
    """The report for people, one line per output."""
    lines = [f"{'output':<28}{'max':>11}{'mean':>11}{'allowed':>10}{'corr.':>10}{'top-1':>8}  furthest in"]
    for o in report.outputs:
        correlation = "–" if o.correlation is None else f"{o.correlation:.6f}"
        top1 = "–" if o.top1 is None else f"{o.top1:.3f}"
        lines.append(
            f"{o.output:<28}{o.max_abs:>11.2e}{o.mean_abs:>11.2e}{o.tolerance:>10.1e}{correlation:>10}{top1:>8}"
            f"  {o.worst_case}{'' if o.ok else '  FAILED'}"
        )
    lines.append(f"alone against in its batch: {report.invariance:.2e} (allowed {INVARIANCE_TOLERANCE:.0e})")
    return "\n".join(lines)


def _output_parity(name: str, results: Iterable[tuple[Case, Arrays, Arrays]], tolerance: float) -> OutputParity:
    worst, worst_case = -1.0, ""
    expected: list[NDArray[Any]] = []
    actual: list[NDArray[Any]] = []
    agree: list[NDArray[Any]] = []
    for case, wanted, got in results:
        difference = _max_difference(wanted[name], got[name])
        if not difference <= worst:
            worst, worst_case = difference, case.name
        expected.append(wanted[name].ravel())
        actual.append(got[name].ravel())
        if name.endswith("_logits"):
            agree.append(wanted[name].argmax(-1).ravel() == got[name].argmax(-1).ravel())
    a, b = np.concatenate(expected).astype(np.float64), np.concatenate(actual).astype(np.float64)
    return OutputParity(
        output=name,
        max_abs=worst,
        mean_abs=_mean_difference(a, b),
        tolerance=tolerance,
        worst_case=worst_case,
        correlation=_correlation(a, b),
        top1=float(np.concatenate(agree).mean()) if agree else None,
    )


def _mean_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.abs(a - b).mean()) if _comparable(a, b) else float("inf")


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    if not _comparable(a, b) or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _comparable(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and bool(np.isfinite(a).all() and np.isfinite(b).all())


def _invariance(runner: Runner, case: Case) -> float:
    """Largest difference between the batch's outputs and those of each member alone, its padding cut off."""
    together = runner.infer(case.feeds)
    mask = case.feeds.get("attention_mask")
    largest = 0.0
    for row in range(min(len(next(iter(case.feeds.values()))), 4)):
        length = None if mask is None else max(int(mask[row].sum()), 1)
        alone = runner.infer({k: _one(k, v, row, length) for k, v in case.feeds.items()})
        for name, value in alone.items():
            whole = together[name][row : row + 1]
            if name == "tokens" and length is not None:
                whole = whole[:, :length]
            largest = max(largest, _max_difference(whole, value))
    return largest


def _one(name: str, values: NDArray[Any], row: int, length: int | None) -> NDArray[Any]:
    one = values[row : row + 1]
    return one[:, :length] if length is not None and name in ("tokens", "input_ids", "attention_mask") else one


def _max_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """NaN-proof: anything not finite on either side is an infinite difference."""
    if not _comparable(a, b):
        return float("inf")
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))
