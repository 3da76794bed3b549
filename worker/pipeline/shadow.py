"""Candidate models on a copy of the traffic: what was published live is scored again here, never in its way.

One thread and one bounded queue. Live work never waits for either: what finds the queue full is dropped and counted,
and so is what the candidate fails at. A batch starts when the live engine is idle, or after a second without that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from admodels.runtime.runner import EngineLostError
from worker.delivery.cache import ScoreCache
from worker.delivery.outbox import Outbox, Outgoing
from worker.errors import CreativeError
from worker.metrics import Metrics
from worker.pipeline.messages import shadow_message
from worker.pipeline.scoring import Decodes
from worker.scoring.engines import Engines, Scored
from worker.scoring.feeds import Prepared
from worker.types import HeadError, Origin, Part, Pixels, ScoredCreative

_log = structlog.get_logger(__name__)

IDLE_SECONDS = 1.0
LOOK_SECONDS = 0.002
GATHER_SECONDS = 0.02


@dataclass(frozen=True)
class ShadowLimits:
    """How much may be held: creatives and bytes waiting or unacknowledged, and creatives in one batch."""

    events: int = 256
    bytes: int = 64 * 1024 * 1024
    batch_size: int = 8


@dataclass(eq=False)
class _Waiting:
    """One published creative; its material is let go once it is scored."""

    origin: Origin
    live: ScoredCreative
    parts: dict[str, Part] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    wanted: frozenset[str] = frozenset()
    results: Mapping[str, str] = field(default_factory=dict)
    pixels: Pixels = field(default_factory=dict)
    size: int = 0
    settled: bool = False


class Shadow:
    """Scores what it is offered by the candidate's engines, publishes it, and caches it under the candidate's digests.

    Args:
        engines: the candidate's; a thread of their own uses them, so no runner is shared that isn't thread-safe.
        decoder: for creatives whose live scores came from the cache; None where the candidate reads no image.
        outbox: the shadow topic's own, outside any transaction.
        is_live_busy: whether the live engine is at a batch now.
    """

    def __init__(
        self,
        *,
        engines: Engines,
        decoder: Decodes | None,
        cache: ScoreCache,
        outbox: Outbox,
        topic: str,
        source: str,
        limits: ShadowLimits,
        metrics: Metrics,
        is_live_busy: Callable[[], bool],
    ) -> None:
        self._engines, self._decoder, self._cache, self._outbox = engines, decoder, cache, outbox
        self._topic, self._source, self._limits, self._metrics = topic, source, limits, metrics
        self._is_live_busy = is_live_busy
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._held = 0
        self._bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    # From other threads.

    def offer(self, origin: Origin, live: ScoredCreative) -> None:
        """Score what has just been published. Never blocks, never raises; drops it when there is no room."""
        material = live.material
        size = 0 if material is None else material.size
        with self._changed:
            full = self._held >= self._limits.events or self._bytes + size > self._limits.bytes
            if self._closed or material is None or full:
                self._metrics.shadow.labels("dropped").inc()
                return
            self._held += 1
            self._bytes += size
            self._queue.append(_Waiting(origin, live, pixels=material.pixels, size=size))
            self._metrics.queue_depth.labels("shadow").set(len(self._queue))
            self._changed.notify_all()

    def drain(self, seconds: float) -> None:
        """Wait until everything offered is settled, at most so long."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._held and not self._closed and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._held:
                _log.warning("shadow_given_up", events=self._held)

    def close(self, timeout_seconds: float) -> None:
        """End; what is not settled is dropped. A candidate that hangs is left to itself."""
        with self._changed:
            self._closed = True
            self._metrics.shadow.labels("dropped").inc(len(self._queue))
            self._queue.clear()
            self._changed.notify_all()
        self._outbox.close(timeout_seconds)
        self._thread.join(timeout_seconds)

    # On the thread.

    def _run(self) -> None:
        while batch := self._take():
            try:
                self._score(batch)
            except EngineLostError as error:
                # If the device is gone, the live engine says so itself.
                _log.error("shadow_ended", error=str(error))
                self._settled("failed", batch)
                break
            except Exception as error:  # noqa: BLE001  a candidate's defect is no reason to end the worker
                _log.error("shadow_failed", error=type(error).__name__)
                self._settled("failed", batch)
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self) -> list[_Waiting]:
        """The next batch; empty at the end."""
        with self._changed:
            while not self._queue and not self._closed:
                self._changed.wait()
            if len(self._queue) < self._limits.batch_size and not self._closed:
                self._changed.wait(GATHER_SECONDS)
            count = 0 if self._closed else min(len(self._queue), self._limits.batch_size)
            batch = [self._queue.popleft() for _ in range(count)]
            self._metrics.queue_depth.labels("shadow").set(len(self._queue))
            return batch

    def _score(self, batch: Sequence[_Waiting]) -> None:
        for item in batch:
            self._look_up(item)
        wanting = [item for item in batch if item.wanted and not item.errors]
        if wanting:
            self._let_live_go_first()
            for item, result in zip(wanting, self._infer(wanting), strict=True):
                item.parts.update(result.parts)
                item.errors.update(result.errors)
        for item in batch:
            self._publish(item)

    def _look_up(self, item: _Waiting) -> None:
        found = self._cache.get(item.live.content_sha256, self._engines.digests)
        item.parts = dict(found.parts)
        item.results = {name: "miss" if result == "error" else result for name, result in found.results.items()}
        item.wanted = frozenset(self._engines.digests) - item.parts.keys()
        if item.wanted and self._decoder is not None and not set(self._engines.sizes) <= item.pixels.keys():
            try:
                assert item.live.material is not None
                item.pixels = self._decoder.decode(item.live.material.image, ocr=False).pixels
            except CreativeError as error:
                item.errors = dict.fromkeys(item.wanted, error.message)

    def _let_live_go_first(self) -> None:
        deadline = time.monotonic() + IDLE_SECONDS
        while self._is_live_busy() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)

    def _infer(self, items: Sequence[_Waiting]) -> list[Scored]:
        prepared = []
        for item in items:
            assert item.live.material is not None
            seen = item.live.ocr.text if item.live.ocr else ""
            tokens = self._engines.tokens({**item.live.material.texts, "ocr": seen})
            prepared.append(Prepared(item.pixels, tokens, item.wanted))
        return self._engines.score(prepared)

    def _publish(self, item: _Waiting) -> None:
        if not item.parts:
            self._settled("failed", [item])
            return
        ocr_errors = tuple(error for error in item.live.errors if error.head == "ocr")
        errors = tuple(HeadError(head, "engine_failed", why) for head, why in sorted(item.errors.items()))
        scored = replace(
            item.live,
            heads={head: item.parts.get(head) for head in self._engines.digests},
            cache=item.results,
            models=self._engines.models,
            errors=(*errors, *ocr_errors),
            latency_ms={},
            material=None,
        )
        fresh = {head: item.parts[head] for head in item.wanted & item.parts.keys()}
        if fresh and not ocr_errors:
            self._cache.put(scored.content_sha256, self._engines.digests, fresh)
        message = shadow_message(scored, item.origin, self._topic, self._source)

        def settled(error: Exception | None) -> None:
            self._settled("published" if error is None else "failed", [item])

        self._outbox.put(Outgoing(item.origin, message, settled))

    def _settled(self, outcome: str, items: Sequence[_Waiting]) -> None:
        """Also on the producer's thread."""
        with self._changed:
            items = [item for item in items if not item.settled]
            for item in items:
                item.settled = True
            self._metrics.shadow.labels(outcome).inc(len(items))
            self._held -= len(items)
            self._bytes -= sum(item.size for item in items)
            self._changed.notify_all()
