"""The parity gate: a graph on the very runners that serve it, against the torch module it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels.runtime.runner import Runner
from export.runners import RunnerUnavailableError, runner

Arrays = Mapping[str, NDArray[Any]]

INVARIANCE_TOLERANCE = 1e-3
"""How far a creative's outputs may move with its batch and its padding: the contract's number."""


@dataclass(frozen=True)
class Case:
    """Inputs of one batch under a name that a report can show (`recorded`, `random`, `zeros` …).

    beyond: further out than a network's features get. Narrow arithmetic, whose ranges end there, has to give finite
    numbers for it and the same ones alone and in a batch; fp32 is held to its tolerance there too.
    """

    name: str
    feeds: Arrays
    beyond: bool = False


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
    rank_correlation: float | None = None
    """Spearman's, over the creatives of all cases; None for what isn't one number per creative."""
    heatmap_correlation: float | None = None
    """The lowest of Pearson's over one creative's heatmap; None for what is no heatmap."""

    @property
    def ok(self) -> bool:
        """Whether the output may be served; a difference that isn't a number may not."""
        return bool(self.max_abs <= self.tolerance)


@dataclass(frozen=True)
class ParityReport:
    """One runner's verdict. `invariance` is the largest move of any output between a batch and its members alone."""

    backend: str
    outputs: tuple[OutputParity, ...]
    invariance: float

    @property
    def ok(self) -> bool:
        return all(output.ok for output in self.outputs) and self.invariance <= INVARIANCE_TOLERANCE

    def as_json(self) -> dict[str, object]:
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True)
class Verdict:
    """The verdicts of all runners, and why a runner that was asked for gave none."""

    reports: tuple[ParityReport, ...]
    unavailable: Mapping[str, str]

    @property
    def ok(self) -> bool:
        return bool(self.reports) and all(report.ok for report in self.reports)

    def as_json(self) -> dict[str, object]:
        backends = [report.as_json() for report in self.reports]
        return {"ok": self.ok, "backends": backends, "unavailable": dict(self.unavailable)}


class ParityError(Exception):
    """The graph doesn't compute what the module computes. Carries the verdict; nothing may be written."""

    def __init__(self, verdict: Verdict) -> None:
        bad = []
        for report in verdict.reports:
            bad += [
                f"{report.backend}: {o.output}: {o.max_abs:.3g} over {o.tolerance:.3g} ({o.worst_case})"
                for o in report.outputs
                if not o.ok
            ]
            if not report.invariance <= INVARIANCE_TOLERANCE:
                moved = f"outputs move by {report.invariance:.3g} with the batch, over {INVARIANCE_TOLERANCE:.3g}"
                bad.append(f"{report.backend}: {moved}")
        bad += [] if verdict.reports else [f"{name}: {why}" for name, why in verdict.unavailable.items()]
        super().__init__("parity failed, nothing is written: " + "; ".join(bad))
        self.verdict = verdict


def check_parity(
    model: bytes,
    reference: Callable[[Arrays], Arrays],
    cases: Sequence[Case],
    tolerances: Mapping[str, float],
    *,
    backends: Sequence[str] = ("onnxruntime",),
    narrow: bool = False,
    make_runner: Callable[[str, bytes], Runner] = runner,
) -> Verdict:
    """Compare on every case and runner, then every recorded sample alone against its batch.

    reference: the torch module as a function of named arrays. tolerances: largest absolute difference per output;
    an output without one is a KeyError, so that none goes unchecked. backends: of `runners.BACKENDS`; one that can't
    run the graph here is told in the verdict.
    narrow: arithmetic of less than fp32. Raises ParityError over a tolerance, and when no runner could be had.
    """
    wanted = [(case, reference(case.feeds)) for case in cases]
    reports, unavailable = [], {}
    for backend in backends:
        try:
            made = make_runner(backend, model)
        except RunnerUnavailableError as error:
            unavailable[backend] = str(error)
            continue
        try:
            results = [(case, expected, made.infer(case.feeds)) for case, expected in wanted]
            invariance = max(_invariance(made, case) for case in cases)
        finally:
            getattr(made, "close", _nothing)()  # TensorRT's holds the GPU's memory, which the next graph may need
        outputs = tuple(_output_parity(name, results, tolerances[name], narrow) for name in wanted[0][1])
        reports.append(ParityReport(made.backend, outputs, invariance))
    verdict = Verdict(tuple(reports), unavailable)
    if not verdict.ok:
        raise ParityError(verdict)
    return verdict


def table(verdict: Verdict) -> str:
    """The verdict for people: per runner one line per output."""
    lines = []
    for report in verdict.reports:
        lines.append(
            f"{report.backend:<28}{'max':>11}{'mean':>11}{'allowed':>10}{'corr.':>10}{'rank':>8}{'top-1':>8}"
            f"{'heatmap':>9}  furthest in"
        )
        for o in report.outputs:
            lines.append(
                f"{o.output:<28}{o.max_abs:>11.2e}{o.mean_abs:>11.2e}{o.tolerance:>10.1e}{_told(o.correlation, 6):>10}"
                f"{_told(o.rank_correlation, 4):>8}{_told(o.top1, 3):>8}{_told(o.heatmap_correlation, 5):>9}"
                f"  {o.worst_case}{'' if o.ok else '  FAILED'}"
            )
        lines.append(f"alone against in its batch: {report.invariance:.2e} (allowed {INVARIANCE_TOLERANCE:.0e})")
    lines += [f"{name}: not compared: {why}" for name, why in verdict.unavailable.items()]
    return "\n".join(lines)


def _nothing() -> None:
    """What runners without memory of their own have to close."""


def _told(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _output_parity(
    name: str, results: Iterable[tuple[Case, Arrays, Arrays]], tolerance: float, narrow: bool
) -> OutputParity:
    results = list(results)
    lost = next((case.name for case, wanted, got in results if not _comparable(wanted[name], got[name])), None)
    if narrow and lost is None:
        results = [result for result in results if not result[0].beyond]
    worst, worst_case = -1.0, ""
    expected: list[NDArray[Any]] = []
    actual: list[NDArray[Any]] = []
    agree: list[NDArray[Any]] = []
    wanted_shapes = [wanted[name].shape for _, wanted, _ in results]
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
        rank_correlation=_rank_correlation(a, b) if _one_each(wanted_shapes) else None,
        heatmap_correlation=_heatmap_correlation(results, name) if name == "heatmap" else None,
    )


def _one_each(shapes: Sequence[tuple[int, ...]]) -> bool:
    return all(len(shape) == 1 for shape in shapes)


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Spearman's; ties share their mean rank, so that equal creatives don't count as disagreement."""
    return _correlation(_ranks(a), _ranks(b)) if _comparable(a, b) else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]


def _heatmap_correlation(results: Sequence[tuple[Case, Arrays, Arrays]], name: str) -> float | None:
    rows = [
        _correlation(x.ravel().astype(np.float64), y.ravel().astype(np.float64))
        for _, wanted, got in results
        for x, y in zip(wanted[name], got[name], strict=False)
    ]
    told = [value for value in rows if value is not None]
    return min(told) if told else None


def _mean_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.abs(a - b).mean()) if _comparable(a, b) else float("inf")


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    if not _comparable(a, b) or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _comparable(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and bool(np.isfinite(a).all() and np.isfinite(b).all())


def _invariance(runner: Runner, case: Case) -> float:
    """Largest difference between the batch's scores and those of each member alone, its padding cut off.

    Neighbours are longer and shorter: a member alone is as wide as its own text.
    """
    together = runner.infer(case.feeds)
    mask = case.feeds.get("attention_mask", case.feeds.get("word_mask"))
    largest = 0.0
    for row in range(min(len(next(iter(case.feeds.values()))), 4)):
        length = None if mask is None else max(int(mask[row].sum()), 1)
        alone = runner.infer({k: _one(k, v, row, length) for k, v in case.feeds.items()})
        for name, value in alone.items():
            whole = together[name][row : row + 1]
            if name in _PER_TOKEN and length is not None:
                whole = whole[:, :length]
            largest = max(largest, _max_difference(_scores(name, whole), _scores(name, value)))
    return largest


_PER_TOKEN = ("tokens", "aspect_emissions", "input_ids", "attention_mask", "copy_mask")
_INDEPENDENT = ("keywords_logits", "topics_logits", "emotions_logits")


def _scores(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """What is served of logits: their probabilities; everything else is served as it is."""
    if not name.endswith("_logits") or not np.isfinite(values).all():
        return values
    if name in _INDEPENDENT:
        return 1.0 / (1.0 + np.exp(-values.astype(np.float64)))
    powers = np.exp(values.astype(np.float64) - values.max(-1, keepdims=True))
    shares: NDArray[Any] = powers / powers.sum(-1, keepdims=True)
    return shares


def _one(name: str, values: NDArray[Any], row: int, length: int | None) -> NDArray[Any]:
    one = values[row : row + 1]
    return one[:, :length] if length is not None and name in (*_PER_TOKEN, "words", "word_mask") else one


def _max_difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    """NaN-proof: anything not finite on either side is an infinite difference."""
    if not _comparable(a, b):
        return float("inf")
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))
