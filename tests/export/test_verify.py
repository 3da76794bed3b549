"""The gate must fail for each way in which a graph can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from admodels.runtime.runner import EngineError
from export.runners import RunnerUnavailableError
from export.verify import Arrays, Case, ParityError, check_parity, table


class FakeRunner:
    """A runner that is a function."""

    backend = "fake"

    def __init__(self, function: Callable[[Arrays], Arrays]) -> None:
        self.infer: Any = function


def reference(feeds: Arrays) -> Arrays:
    x = feeds["x"]
    return {"score": x.mean(1), "kind_logits": np.stack([x.sum(1), -x.sum(1)], axis=1)}


CASES = (
    Case("plain", {"x": np.arange(12, dtype=np.float32).reshape(4, 3) / 10}),
    Case("negative", {"x": -np.ones((2, 3), np.float32)}),
)
TOLERANCES = {"score": 1e-4, "kind_logits": 1e-3}


def check(function: Callable[[Arrays], Arrays]) -> Any:
    return check_parity(b"", reference, CASES, TOLERANCES, make_runner=lambda *_: FakeRunner(function))


def test_equal_functions_pass() -> None:
    verdict = check(reference)
    assert verdict.ok
    (report,) = verdict.reports
    assert report.backend == "fake"
    score, logits = report.outputs
    assert (score.max_abs, score.mean_abs, score.top1) == (0.0, 0.0, None)
    assert score.correlation == pytest.approx(1.0)
    assert score.rank_correlation == pytest.approx(1.0)
    assert (logits.top1, logits.rank_correlation) == (1.0, None)
    assert json.loads(json.dumps(verdict.as_json()))["ok"] is True
    assert "score" in table(verdict)


def test_scores_in_another_order_lower_the_rank_correlation() -> None:
    def swapped(feeds: Arrays) -> Arrays:
        out = dict(reference(feeds))
        if len(out["score"]) == 4:
            out["score"] = out["score"][[1, 0, 2, 3]]
        return out

    with pytest.raises(ParityError) as raised:
        check(swapped)
    score = raised.value.verdict.reports[0].outputs[0]
    # Six creatives, ranks of two neighbours swapped, two tied: 1 − 6·2 / (6·35) but for the tie.
    assert score.rank_correlation == pytest.approx(np.corrcoef([1.5, 1.5, 3, 4, 5, 6], [1.5, 1.5, 4, 3, 5, 6])[0, 1])


def test_a_heatmap_is_correlated_creative_by_creative() -> None:
    flat = {"x": np.ones((2, 3), np.float32)}
    wanted = np.array([[[0.1, 0.9]], [[0.8, 0.2]]])

    def moved(_: Arrays) -> Arrays:
        return {"heatmap": np.stack([wanted[0], wanted[1][:, ::-1]])}

    with pytest.raises(ParityError) as raised:
        check_parity(
            b"", lambda _: {"heatmap": wanted}, [Case("c", flat)], {"heatmap": 1e-5},
            make_runner=lambda *_: FakeRunner(moved),
        )  # fmt: skip
    assert raised.value.verdict.reports[0].outputs[0].heatmap_correlation == pytest.approx(-1.0)


def test_every_runner_counts_and_one_that_is_not_here_is_told() -> None:
    def make(backend: str, _: bytes) -> Any:
        if backend == "absent":
            raise RunnerUnavailableError("there is no GPU here")
        return FakeRunner(
            reference if backend == "good" else lambda feeds: {n: v + 1 for n, v in reference(feeds).items()}
        )

    def prove(*backends: str) -> Any:
        return check_parity(b"", reference, CASES, TOLERANCES, backends=backends, make_runner=make)

    assert prove("good", "absent").unavailable == {"absent": "there is no GPU here"}
    assert "absent: not compared: there is no GPU here" in table(prove("good", "absent"))
    with pytest.raises(ParityError, match="score: 1 over"):
        prove("good", "bad")
    with pytest.raises(ParityError, match="absent: there is no GPU here"):
        prove("absent")


def test_a_difference_over_the_tolerance_fails_and_names_output_and_case() -> None:
    def wrong(feeds: Arrays) -> Arrays:
        out = dict(reference(feeds))
        if feeds["x"][0, 0] < 0:
            out["score"] = out["score"] + 0.01
        return out

    with pytest.raises(ParityError, match=r"score: 0\.01 over 0\.0001 \(negative\)") as raised:
        check(wrong)
    assert not raised.value.verdict.ok
    assert "FAILED" in table(raised.value.verdict)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_fails(bad: float) -> None:
    with pytest.raises(ParityError, match="score: inf"):
        check(lambda feeds: {**reference(feeds), "score": np.full(len(feeds["x"]), bad, np.float32)})


def test_a_wrong_shape_fails() -> None:
    with pytest.raises(ParityError, match="score: inf"):
        check_parity(
            b"",
            reference,
            [Case("one", {"x": np.ones((1, 3), np.float32)})],
            TOLERANCES,
            make_runner=lambda *_: FakeRunner(lambda f: {**reference(f), "score": np.zeros((1, 1), np.float32)}),
        )


def test_a_score_that_moves_with_its_batch_fails() -> None:
    def batched(feeds: Arrays) -> Arrays:
        out = dict(reference(feeds))
        # Right on the whole batch, elsewhere when a creative comes alone.
        out["score"] = out["score"] + (0.1 if len(feeds["x"]) == 1 else 0.0)
        return out

    with pytest.raises(ParityError, match=r"outputs move by 0\.1 with the batch"):
        check(batched)


def test_padding_that_leaks_into_a_score_fails() -> None:
    mask = np.array([[1, 1, 0], [1, 1, 1]])
    case = Case("padded", {"tokens": np.ones((2, 3, 4), np.float32), "attention_mask": mask})

    def leaky(feeds: Arrays) -> Arrays:
        return {"score": feeds["tokens"].sum((1, 2)) / 100}

    with pytest.raises(ParityError, match="outputs move by"):
        check_parity(b"", leaky, [case], {"score": 1e-3}, make_runner=lambda *_: FakeRunner(leaky))


def test_an_output_without_tolerance_is_not_let_through() -> None:
    with pytest.raises(KeyError, match="kind_logits"):
        check_parity(b"", reference, CASES, {"score": 1.0}, make_runner=lambda *_: FakeRunner(reference))


def test_narrow_arithmetic_has_to_stay_finite_beyond_its_range_and_fp32_exact() -> None:
    far = Case("far", {"x": np.full((2, 3), 1e3, np.float32)}, beyond=True)

    def clipped(feeds: Arrays) -> Arrays:
        return reference({"x": np.clip(feeds["x"], -1, 1)})

    def overflowing(feeds: Arrays) -> Arrays:
        return {n: np.where(np.abs(feeds["x"]).max() > 1, np.nan, v) for n, v in reference(feeds).items()}

    def prove(function: Callable[[Arrays], Arrays], *, narrow: bool) -> Any:
        near = Case("near", {"x": np.array([[0.5, -0.2, 0.1], [0.3, 0.9, -1.0]], np.float32)})
        return check_parity(
            b"", reference, [near, far], TOLERANCES, narrow=narrow, make_runner=lambda *_: FakeRunner(function)
        )

    assert prove(clipped, narrow=True).ok
    with pytest.raises(ParityError, match=r"over 0\.001 \(far\)"):
        prove(clipped, narrow=False)
    with pytest.raises(ParityError, match=r"inf over 0\.001 \(far\)"):
        prove(overflowing, narrow=True)


def test_a_graph_that_onnx_runtime_cant_read_is_an_error_not_a_runner_that_is_missing() -> None:
    with pytest.raises(EngineError, match="can't load the model"):
        check_parity(b"\x08\x0a", reference, CASES, TOLERANCES, backends=("onnxruntime", "openvino"))


@pytest.mark.parametrize("works", [True, False])
def test_a_runner_that_holds_a_gpus_memory_is_closed_whatever_it_gave(works: bool) -> None:
    closed = []

    class Holding(FakeRunner):
        def close(self) -> None:
            closed.append(True)

    def broken(_: Arrays) -> Arrays:
        raise EngineError("planted")

    made = Holding(reference if works else broken)
    try:
        check_parity(b"", reference, CASES, TOLERANCES, make_runner=lambda *_: made)
    except EngineError:
        assert not works
    assert closed == [True]
