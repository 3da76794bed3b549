"""The scoring half on stand-ins: duplicates, cache, partial results, and failures that cost one creative alone."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from admodels.runtime.runner import EngineLostError
from tests.fakes import eventually
from worker.delivery.cache import MemoryCache, key
from worker.errors import Code, CreativeError, FatalError, OcrError, Stage
from worker.metrics import Metrics
from worker.pipeline.job import content_part, read_content_part
from worker.pipeline.scoring import FlowLimits, ScoringFlow
from worker.scoring.engines import Scored
from worker.types import Copy, Creative, DecodedImage, ImageBytes, OcrBox, OcrResult

HEADS = ("attractiveness", "ctr")


class Fetch:
    def fetch(self, creative: Creative) -> ImageBytes:
        data = creative.image_url.encode()
        if b"refused" in data:
            raise CreativeError(Code.FETCH_REFUSED, Stage.FETCH, "not allowed")
        return ImageBytes(data, hashlib.sha256(data).hexdigest())


class Decode:
    def __init__(self) -> None:
        self.calls: list[tuple[bool, bool]] = []
        self.gate = threading.Event()
        self.gate.set()

    def decode(self, data: bytes, *, ocr: bool, pixels: bool = True) -> DecodedImage:
        self.gate.wait(5)
        self.calls.append((ocr, pixels))
        if b"broken" in data:
            raise CreativeError(Code.BAD_IMAGE, Stage.DECODE, "cut off")
        if b"bug" in data:
            raise ZeroDivisionError("secret copy")
        pixel = np.full((2, 2, 3), data[-1], dtype=np.uint8)
        return DecodedImage(2, 2, "PNG", "f" * 16, {(2, 2): pixel}, np.zeros((2, 2), np.uint8) if ocr else None)


class Ocr:
    identity = "o" * 64

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.slow = 0
        """So many readings more wait for the gate."""
        self.gate = threading.Event()

    def read(self, image: Any) -> OcrResult:
        self.calls += 1
        if self.slow:
            self.slow -= 1
            self.gate.wait(30)
        if self.error:
            raise self.error
        return OcrResult("SALE", 0.9, (OcrBox("SALE", 0.1, 0.2, 0.3, 0.4),))


class FakeEngines:
    """Scores by the first pixel; `fails` maps head → first pixels it can't score."""

    def __init__(self) -> None:
        self.digests = {head: head[0] * 64 for head in HEADS}
        self.models: Mapping[str, list[dict[str, Any]]] = {head: [{"name": head}] for head in HEADS}
        self.batches: list[int] = []
        self.fails: dict[str, set[int]] = {}
        self.raises: Exception | None = None
        self.fits = 100
        self.seconds = 0.0
        self.hang = threading.Event()
        self.hang.set()

    def tokens(self, fields: Mapping[str, str]) -> dict[str, list[int]]:
        self.fields = dict(fields)
        return {}

    def score(self, batch: Sequence[Any], out_of_memory: Callable[[int], None]) -> list[Scored]:
        self.batches.append(len(batch))
        self.hang.wait(30)
        time.sleep(self.seconds)
        if self.raises:
            raise self.raises
        if len(batch) > self.fits:
            out_of_memory(len(batch))
        results = []
        for item in batch:
            pixel = int(item.pixels[2, 2][0, 0, 0])
            result = Scored()
            for head in item.wanted:
                if pixel in self.fails.get(head, set()):
                    result.errors[head] = "it hurts"
                else:
                    result.parts[head] = {"value": pixel / 255, "bucket": "b"}
            results.append(result)
        return results


class Rig:
    def __init__(self, batch_size: int = 4, engine_timeout_seconds: float = 60.0) -> None:
        self.decode, self.ocr, self.engines, self.metrics = Decode(), Ocr(), FakeEngines(), Metrics()
        self.cache = MemoryCache(100)
        self.fatal: list[Exception] = []
        self.flow = ScoringFlow(
            fetcher=Fetch(),
            decoder=self.decode,
            ocr=self.ocr,
            engines=self.engines,  # type: ignore[arg-type]
            cache=self.cache,
            limits=FlowLimits(4, 2, 2, batch_size, 0.01, engine_timeout_seconds),
            metrics=self.metrics,
            on_fatal=self.fatal.append,
        )

    def submit(self, *urls: str, **fields: Any) -> list[Any]:
        """Submit creatives; the list fills up with their outcomes, in the order given."""
        outcomes: list[Any] = [None] * len(urls)
        for index, url in enumerate(urls):
            creative = Creative(f"cr-{index}", 1, url, **fields)
            self.flow.submit(creative, lambda outcome, index=index: outcomes.__setitem__(index, outcome))
        return outcomes

    def score(self, *urls: str, **fields: Any) -> list[Any]:
        outcomes = self.submit(*urls, **fields)
        eventually(lambda: all(outcome is not None for outcome in outcomes))
        eventually(lambda: not self.flow._inflight)
        return outcomes


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.decode.gate.set()
    made.flow.close()


def test_a_creative_gets_all_heads_its_text_and_its_times(rig: Rig) -> None:
    (outcome,) = rig.score("one", copy=Copy(headline="Buy \u200bnow"))
    assert outcome.heads["ctr"]["value"] == ord("e") / 255
    assert outcome.ocr.text == "SALE"
    assert outcome.cache == {"attractiveness": "miss", "ctr": "miss"}
    assert rig.engines.fields == {"headline": "Buy now", "ocr": "SALE"}
    assert set(outcome.latency_ms) == {"fetch", "decode", "ocr", "infer", "total"}


def test_given_text_saves_the_ocr(rig: Rig) -> None:
    (outcome,) = rig.score("one", ocr_text="given")
    assert rig.ocr.calls == 0
    assert outcome.ocr == OcrResult("given")


def test_equal_content_is_scored_once_also_when_it_arrives_together(rig: Rig) -> None:
    rig.decode.gate.clear()
    outcomes = rig.submit("same", "same", "same", "other")
    eventually(lambda: sum(len(job.followers) for job in rig.flow._inflight.values()) == 2)
    rig.decode.gate.set()
    eventually(lambda: all(outcomes))
    assert sum(rig.engines.batches) == 2
    assert sorted(outcome.cache["ctr"] for outcome in outcomes[:3]) == ["hit", "hit", "miss"]
    assert [outcome.creative.creative_id for outcome in outcomes] == ["cr-0", "cr-1", "cr-2", "cr-3"]
    assert len({str(outcome.heads) for outcome in outcomes[:3]}) == 1


def test_a_later_duplicate_comes_from_the_cache_without_decoding(rig: Rig) -> None:
    rig.score("one")
    decoded = len(rig.decode.calls)
    (again,) = rig.score("one")
    assert again.cache == {"attractiveness": "hit", "ctr": "hit"}
    assert again.ocr == OcrResult("SALE", 0.9, (OcrBox("SALE", 0.1, 0.2, 0.3, 0.4),))
    assert again.phash == "f" * 16
    assert len(rig.decode.calls) == decoded


def test_a_new_model_scores_its_own_head_again_and_reads_no_text(rig: Rig) -> None:
    rig.score("one")
    rig.flow._digests["ctr"] = rig.engines.digests["ctr"] = "n" * 64
    (again,) = rig.score("one")
    assert again.cache == {"attractiveness": "hit", "ctr": "miss"}
    assert rig.ocr.calls == 1


def test_the_engine_never_waits_for_a_slow_ocr(rig: Rig) -> None:
    rig.ocr.slow = 1
    slow = rig.submit("slow")
    eventually(lambda: rig.ocr.calls == 1)
    # One of the two readers is busy: the others' text is read, and they are scored in full batches meanwhile.
    read = rig.submit(*(f"image-{number}" for number in range(6)))
    eventually(lambda: all(read))
    # Both are: whoever brings the text, or is known, passes by.
    rig.ocr.slow = 1
    waiting = rig.submit("slow-2")
    eventually(lambda: rig.ocr.calls == 8)
    given = rig.submit(*(f"given-{number}" for number in range(6)), ocr_text="")
    known = rig.submit("image-3")
    eventually(lambda: all(given) and all(known))
    assert (slow, waiting) == ([None], [None])
    assert sum(rig.engines.batches) == 12
    rig.ocr.gate.set()
    eventually(lambda: all(slow) and all(waiting))
    assert slow[0].ocr.text == "SALE"


def test_texts_of_two_ocrs_have_two_entries_however_alike_their_names_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for version in ("5.3", "5.4"):
        monkeypatch.setattr(Ocr, "identity", f"pytesseract tesseract-{version} eng")
        rig = Rig()
        digests.append(rig.flow._digests["content"])
        rig.flow.close()
    assert len({key("c" * 64, "content", digest) for digest in digests}) == 2


def test_equal_content_in_another_form_of_unicode_is_one_content(rig: Rig) -> None:
    first, second = (rig.score("one", copy=Copy(headline=text))[0] for text in ("caf\u00e9", "cafe\u0301"))
    assert first.content_sha256 == second.content_sha256
    assert second.cache["ctr"] == "hit"


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


def test_batches_gather_what_arrives_together(rig: Rig) -> None:
    rig.decode.gate.clear()
    outcomes = rig.submit(*(f"image-{number}" for number in range(8)), ocr_text="")
    eventually(lambda: len(rig.flow._inflight) == 8)
    rig.decode.gate.set()
    eventually(lambda: all(outcomes))
    assert sum(rig.engines.batches) == 8
    assert len(rig.engines.batches) < 8


def test_closing_ends_all_threads_and_calls_nobody() -> None:
    rig = Rig()
    before = threading.active_count()
    rig.decode.gate.clear()
    outcomes = rig.submit("one", "two", "three")
    threading.Timer(0.05, rig.decode.gate.set).start()
    rig.flow.close()
    assert outcomes == [None, None, None]
    eventually(lambda: threading.active_count() < before)


@pytest.mark.parametrize("garbage", [{}, {"phash": "0"}, {"phash": "0", "text": {"boxes": [[1]]}}])
def test_a_content_entry_that_is_none_is_ignored(garbage: dict[str, Any]) -> None:
    assert read_content_part(garbage) is None


def test_a_content_entry_comes_back_as_it_was() -> None:
    ocr = OcrResult("a b", 0.5, (OcrBox("a", 0.1, 0.2, 0.3, 0.4),))
    assert read_content_part(content_part("f" * 16, ocr)) == ("f" * 16, ocr)
