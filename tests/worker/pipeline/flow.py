"""The scoring half on stand-ins for everything around it."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tests.fakes import eventually
from worker.delivery.cache import MemoryCache
from worker.errors import Code, CreativeError, Stage
from worker.metrics import Metrics
from worker.pipeline.scoring import FlowLimits, ScoringFlow
from worker.scoring.engines import Scored
from worker.types import Creative, DecodedImage, ImageBytes, OcrBox, OcrResult

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
