"""Candidate models on stand-ins: nothing they do reaches live work, and everything offered is counted once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from admodels.runtime.runner import EngineLostError
from tests.fakes import FakeOutbox, eventually, record, scored
from worker.delivery.cache import MemoryCache
from worker.errors import Code, CreativeError, Stage
from worker.metrics import Metrics
from worker.pipeline.shadow import Shadow, ShadowLimits
from worker.scoring.engines import Scored
from worker.types import Creative, DecodedImage, HeadError, Material, OcrResult, Origin, ScoredCreative

SIZE = (2, 2)
PIXELS = {SIZE: np.full((*SIZE, 3), 51, np.uint8)}


class Engines:
    """The candidate of two heads; scores the first pixel ÷ 255."""

    def __init__(self) -> None:
        self.digests = {"ctr": "c" * 64, "sentiment": "s" * 64}
        self.models: Mapping[str, list[dict[str, Any]]] = {
            head: [{"name": "next", "version": "2", "digest": digest[:12], "backend": "fake", "precision": "fp32"}]
            for head, digest in self.digests.items()
        }
        self.sizes = [SIZE]
        self.batches: list[int] = []
        self.fields: list[Mapping[str, str]] = []
        self.fails: set[str] = set()
        self.raises: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def tokens(self, fields: Mapping[str, str]) -> dict[str, list[int]]:
        self.fields.append(dict(fields))
        return {}

    def score(self, batch: Sequence[Any]) -> list[Scored]:
        self.batches.append(len(batch))
        self.gate.wait(10)
        if self.raises:
            raise self.raises
        return [self._one(item) for item in batch]

    def _one(self, item: Any) -> Scored:
        value = float(item.pixels[SIZE][0, 0, 0]) / 255
        parts = {head: {"value": value, "bucket": "low"} for head in item.wanted - self.fails}
        return Scored(parts, dict.fromkeys(item.wanted & self.fails, "it hurts"))


class Decoder:
    def __init__(self) -> None:
        self.calls = 0

    def decode(self, data: bytes, *, ocr: bool, pixels: bool = True) -> DecodedImage:
        assert (ocr, pixels) == (False, True)
        self.calls += 1
        if data == b"broken":
            raise CreativeError(Code.BAD_IMAGE, Stage.DECODE, "cut off")
        return DecodedImage(2, 2, "PNG", "f" * 16, PIXELS)


class Rig:
    def __init__(self, **limits: int) -> None:
        self.engines, self.decoder, self.outbox, self.metrics = Engines(), Decoder(), FakeOutbox(), Metrics()
        self.cache = MemoryCache(100)
        self.busy = False
        self.lane = Shadow(
            engines=self.engines,  # type: ignore[arg-type]
            decoder=self.decoder,
            cache=self.cache,
            outbox=self.outbox,
            topic="creatives.shadow",
            source="adscore",
            limits=ShadowLimits(**limits),
            metrics=self.metrics,
            is_live_busy=lambda: self.busy,
        )

    def offer(self, number: int, *, content: str = "", image: bytes = b"", **fields: Any) -> Origin:
        """Offer one with its pixels, or, where `image` is given, without."""
        material = Material(image, {} if image else PIXELS, {"headline": "Fresh bread"})
        creative = Creative(f"cr-{number}", 1, "data:,")
        content = content or f"{number:064d}"
        origin = record(number).origin
        self.lane.offer(origin, replace(scored(creative), material=material, content_sha256=content, **fields))
        return origin

    def count(self, outcome: str) -> float:
        return self.metrics.shadow.labels(outcome)._value.get()

    def published(self, count: int) -> list[dict[str, Any]]:
        # The first event loads the language identifier, which takes seconds on loaded cores.
        eventually(lambda: self.count("published") == count, 30)
        return [orjson.loads(message.value or b"") for message in self.outbox.sent]


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def build(**limits: int) -> Rig:
        rigs.append(Rig(**limits))
        return rigs[-1]

    yield build
    for rig in rigs:
        rig.engines.gate.set()
        rig.lane.close(1)


def test_a_candidate_s_event_is_the_live_one_with_its_own_heads(make: Any) -> None:
    rig = make()
    origin = rig.offer(3, ocr=OcrResult("SALE", 0.9))
    (event,) = rig.published(1)
    (message,) = rig.outbox.sent
    headers = dict(message.headers)
    assert (message.topic, message.key) == ("creatives.shadow", b"cr-3")
    assert (headers["ce_type"], headers["ce_id"]) == (b"creative.shadow.v1", str(origin).encode())
    assert event["scores"] == {head: {"value": 0.2, "bucket": "low"} for head in ("ctr", "sentiment")}
    assert event["provenance"]["models"] == rig.engines.models
    assert event["provenance"]["cache"] == {"ctr": "miss", "sentiment": "miss"}
    assert event["text"]["ocr"] == "SALE"
    assert event["status"] == "scored"
    assert rig.engines.fields == [{"headline": "Fresh bread", "ocr": "SALE"}]
    assert rig.decoder.calls == 0, "the live decoder's pixels were there"


def test_what_the_live_cache_knew_is_decoded_here_and_what_the_candidate_knows_is_not_scored_again(make: Any) -> None:
    rig = make()
    rig.offer(1, content="a" * 64, image=b"png")
    rig.published(1)
    rig.offer(2, content="a" * 64, image=b"png")
    events = rig.published(2)
    assert events[1]["provenance"]["cache"] == {"ctr": "hit", "sentiment": "hit"}
    assert events[0]["scores"] == events[1]["scores"]
    assert (rig.decoder.calls, rig.engines.batches) == (1, [1])


def test_a_head_that_fails_is_partial_and_cached_is_what_did_not(make: Any) -> None:
    rig = make()
    rig.engines.fails = {"ctr"}
    rig.offer(1, content="a" * 64)
    (event,) = rig.published(1)
    assert event["status"] == "partial"
    assert event["scores"]["ctr"] is None
    assert [(error["head"], error["message"]) for error in event["errors"]] == [("ctr", "it hurts")]
    rig.engines.fails = set()
    rig.offer(2, content="a" * 64)
    assert rig.published(2)[1]["provenance"]["cache"] == {"ctr": "miss", "sentiment": "hit"}


def test_what_was_scored_without_its_ocr_is_not_cached(make: Any) -> None:
    rig = make()
    rig.offer(1, content="a" * 64, ocr=None, errors=(HeadError("ocr", "ocr_timeout", "too slow"),))
    (event,) = rig.published(1)
    assert [error["head"] for error in event["errors"]] == ["ocr"]
    rig.offer(2, content="a" * 64)
    assert rig.published(2)[1]["provenance"]["cache"] == {"ctr": "miss", "sentiment": "miss"}


@pytest.mark.parametrize("defect", ["every head", "an exception", "the broker", "the image"])
def test_a_failure_is_counted_and_the_next_one_is_scored(make: Any, defect: str) -> None:
    rig = make()
    image = b""
    if defect == "every head":
        rig.engines.fails = {"ctr", "sentiment"}
    elif defect == "an exception":
        rig.engines.raises = ZeroDivisionError()
    elif defect == "the broker":
        rig.outbox.error = TimeoutError()
    else:
        image = b"broken"
    rig.offer(1, image=image)
    eventually(lambda: rig.count("failed") == 1)
    rig.engines.fails, rig.engines.raises, rig.outbox.error = set(), None, None
    rig.offer(2)
    rig.published(1)
    assert (rig.count("failed"), rig.count("dropped")) == (1, 0)


def test_a_lost_engine_ends_the_candidate_alone(make: Any) -> None:
    rig = make()
    rig.engines.raises = EngineLostError("an illegal memory access was encountered")
    rig.offer(1)
    eventually(lambda: rig.count("failed") == 1)
    eventually(lambda: not rig.lane._thread.is_alive())
    rig.offer(2)
    assert rig.count("dropped") == 1
    rig.lane.drain(5)


@pytest.mark.parametrize(("limits", "image"), [({"events": 3}, b""), ({"bytes": 300}, b"x" * 100)])
def test_what_finds_no_room_is_dropped_at_once(make: Any, limits: dict[str, int], image: bytes) -> None:
    rig = make(batch_size=1, **limits)
    rig.engines.gate.clear()
    started = time.monotonic()
    for number in range(10):
        rig.offer(number, image=image)
    assert time.monotonic() - started < 0.5, "live work waited for a candidate that hangs"
    assert rig.count("dropped") == 7
    rig.engines.gate.set()
    rig.published(3)
    rig.offer(11, image=image)
    rig.published(4)


def test_unacknowledged_events_take_room_too(make: Any) -> None:
    rig = make(events=2)
    rig.outbox.hold = True
    rig.offer(1)
    rig.offer(2)
    eventually(lambda: len(rig.outbox.waiting) == 2)
    rig.offer(3)
    assert rig.count("dropped") == 1
    rig.outbox.acknowledge()
    rig.offer(4)
    eventually(lambda: len(rig.outbox.waiting) == 1)


def test_a_batch_waits_for_the_live_engine_but_not_for_ever(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.pipeline.shadow.IDLE_SECONDS", 0.3)
    rig = make()
    rig.busy = True
    started = time.monotonic()
    rig.offer(1)
    rig.published(1)
    assert time.monotonic() - started >= 0.3
    rig.offer(2)
    time.sleep(0.1)
    assert rig.engines.batches == [1]
    rig.busy = False
    rig.published(2)


def test_a_drain_waits_for_what_was_offered_and_gives_up_in_time(make: Any) -> None:
    rig = make()
    rig.engines.gate.clear()
    for number in range(3):
        rig.offer(number)
    started = time.monotonic()
    rig.lane.drain(0.2)
    assert 0.2 <= time.monotonic() - started < 2
    threading.Timer(0.1, rig.engines.gate.set).start()
    rig.lane.drain(5)
    assert rig.count("published") == 3
    rig.lane.close(1)
    rig.offer(9)
    assert rig.count("dropped") == 1


def test_what_was_never_kept_is_dropped(make: Any) -> None:
    rig = make()
    live: ScoredCreative = scored(Creative("cr", 1, "data:,"))
    rig.lane.offer(record(0).origin, live)
    assert rig.count("dropped") == 1
