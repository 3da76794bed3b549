"""The scoring half when something fails: it costs one creative alone, or ends the worker, and never in silence."""

import threading
import time
from typing import Any

import pytest

from admodels.runtime.runner import EngineLostError
from tests.fakes import eventually
from tests.worker.pipeline.flow import HEADS, Rig, rig
from worker.errors import Code, CreativeError, FatalError, OcrError
from worker.types import Creative

__all__ = ["rig"]


def test_a_failed_ocr_is_partial_and_is_not_cached(rig: Rig) -> None:
    rig.ocr.error = OcrError("ocr_timeout", "took too long")
    (outcome,) = rig.score("one")
    assert outcome.ocr is None
    assert [(error.head, error.code) for error in outcome.errors] == [("ocr", "ocr_timeout")]
    assert outcome.heads["ctr"] is not None
    rig.ocr.error = None
    (again,) = rig.score("one")
    assert again.cache["ctr"] == "miss"
    assert not again.errors


def test_one_failed_head_is_partial_and_only_the_other_is_cached(rig: Rig) -> None:
    rig.engines.fails = {"ctr": {ord("e")}}
    (outcome,) = rig.score("one")
    assert outcome.heads["ctr"] is None
    assert outcome.heads["attractiveness"] is not None
    assert [(error.head, error.code) for error in outcome.errors] == [("ctr", "engine_failed")]
    rig.engines.fails = {}
    (again,) = rig.score("one")
    assert again.cache == {"attractiveness": "hit", "ctr": "miss"}


def test_when_every_head_fails_it_is_a_dead_letter_after_three_attempts(rig: Rig) -> None:
    rig.engines.fails = {head: {ord("e")} for head in HEADS}
    bad, good = rig.score("one", "two")
    assert isinstance(bad, CreativeError)
    assert (bad.code, bad.attempts) == (Code.ENGINE_FAILED, 3)
    assert good.heads["ctr"] is not None


def test_each_failure_costs_its_creative_alone(rig: Rig) -> None:
    outcomes = rig.score("refused", "broken", "bug", "good")
    assert [getattr(outcome, "code", None) for outcome in outcomes] == [
        Code.FETCH_REFUSED,
        Code.BAD_IMAGE,
        Code.ENGINE_FAILED,
        None,
    ]
    assert "secret" not in outcomes[2].message


def test_followers_of_a_bad_image_get_its_fate(rig: Rig) -> None:
    rig.decode.gate.clear()
    outcomes = rig.submit("broken", "broken")
    eventually(lambda: sum(len(job.followers) for job in rig.flow._inflight.values()) == 1)
    rig.decode.gate.set()
    eventually(lambda: all(outcomes))
    assert {outcome.code for outcome in outcomes} == {Code.BAD_IMAGE}


def test_a_broken_engine_does_not_hang_the_creatives(rig: Rig) -> None:
    rig.engines.raises = KeyError("labels")
    (outcome,) = rig.score("one")
    assert (outcome.code, outcome.attempts) == (Code.ENGINE_FAILED, 3)


def test_a_lost_engine_is_fatal_and_nothing_of_its_batch_comes_out(rig: Rig) -> None:
    rig.engines.raises = EngineLostError("sticky")
    outcomes = rig.submit("one")
    eventually(lambda: rig.fatal)
    assert outcomes == [None]


def test_after_the_engine_ran_out_of_memory_batches_stay_smaller(rig: Rig) -> None:
    rig.engines.fits = 2
    rig.decode.gate.clear()
    outcomes = rig.submit(*(f"image-{number}" for number in range(12)), ocr_text="")
    eventually(lambda: len(rig.flow._inflight) == 12)
    rig.decode.gate.set()
    eventually(lambda: all(outcomes))
    first = next(size for size in rig.engines.batches if size > 2)
    after = rig.engines.batches[rig.engines.batches.index(first) + 1 :]
    assert after
    assert max(after) <= max(1, first // 2)
    assert rig.metrics.batch_limit._value.get() == max(1, first // 2)


def test_an_engine_that_hangs_is_lost_and_what_it_says_later_counts_for_nothing() -> None:
    rig = Rig(engine_timeout_seconds=0.2)
    rig.engines.hang.clear()
    outcomes = rig.submit("one")
    (error,) = eventually(lambda: rig.fatal)
    assert isinstance(error, EngineLostError)
    assert "ADSCORE_PIPELINE__ENGINE_TIMEOUT_SECONDS" in str(error)
    assert rig.flow.lost is error
    rig.flow.close()
    rig.engines.hang.set()
    eventually(lambda: not rig.flow._loop._thread.is_alive())
    assert outcomes == [None]
    assert rig.fatal == [error], "told once"


def test_slow_batches_one_after_the_other_are_no_hang() -> None:
    rig = Rig(batch_size=1, engine_timeout_seconds=0.3)
    rig.engines.seconds = 0.05
    outcomes = rig.submit(*(f"image-{number}" for number in range(12)), ocr_text="")
    eventually(lambda: all(outcomes))
    rig.flow.close()
    assert len(rig.engines.batches) == 12, "over half a second of work"
    assert not rig.fatal


def test_a_cancelled_job_is_dropped_unless_somebody_follows_it(rig: Rig) -> None:
    rig.decode.gate.clear()
    for url in ("busy-1", "busy-2"):
        rig.submit(url)
    outcomes: list[Any] = []
    eventually(lambda: len(rig.flow._inflight) == 2)
    alone = rig.flow.submit(Creative("a", 1, "alone"), outcomes.append)
    led = rig.flow.submit(Creative("b", 1, "led"), outcomes.append)
    eventually(lambda: len(rig.flow._inflight) == 4)
    rig.flow.submit(Creative("c", 1, "led"), outcomes.append)
    eventually(lambda: led.followers)
    alone.cancel()
    led.cancel()
    rig.decode.gate.set()
    eventually(lambda: len(outcomes) == 2)
    time.sleep(0.05)
    assert [outcome.creative.creative_id for outcome in outcomes] == ["b", "c"]


def test_a_job_cancelled_while_it_waits_for_the_engine_leaves_its_content_to_the_next() -> None:
    rig = Rig(batch_size=1)
    rig.decode.gate.set()
    rig.engines.hang.clear()
    first = rig.submit("busy")
    eventually(lambda: rig.engines.batches)
    outcomes: list[Any] = []
    waiting = rig.flow.submit(Creative("a", 1, "again"), outcomes.append)
    eventually(lambda: len(rig.flow._loop._batcher) == 1)
    waiting.cancel()
    rig.engines.hang.set()
    eventually(lambda: all(first))
    eventually(lambda: not rig.flow._inflight)
    assert outcomes == []
    assert all(rig.score("again"))
    rig.flow.close()


def test_children_that_do_not_start_end_the_worker_and_condemn_nobody(rig: Rig) -> None:
    rig.decode.gate.set()
    rig.ocr.error = FatalError("child processes don't start", exit_code=3)
    outcomes = rig.submit("one", "two")
    eventually(lambda: rig.fatal)
    assert isinstance(rig.fatal[0], FatalError)
    assert rig.flow.lost is rig.fatal[0]
    assert outcomes == [None, None]


def test_an_ocr_that_breaks_is_an_ocr_that_failed(rig: Rig) -> None:
    rig.decode.gate.set()
    rig.ocr.error = MemoryError()
    (outcome,) = rig.score("one")
    assert [(error.head, error.code) for error in outcome.errors] == [("ocr", "ocr_failed")]


def test_an_engine_thread_that_fails_is_fatal_and_not_silent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.decode.gate.set()
    monkeypatch.setattr(rig.flow._loop, "_after", lambda _job: 1 / 0)
    rig.submit("one", ocr_text="")
    eventually(lambda: rig.fatal)
    assert "ZeroDivisionError" in str(rig.fatal[0])


def test_closing_ends_all_threads_and_calls_nobody() -> None:
    rig = Rig()
    before = threading.active_count()
    rig.decode.gate.clear()
    outcomes = rig.submit("one", "two", "three")
    threading.Timer(0.05, rig.decode.gate.set).start()
    rig.flow.close()
    assert outcomes == [None, None, None]
    eventually(lambda: threading.active_count() < before)
