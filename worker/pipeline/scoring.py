"""The scoring half: creative in, scored creative (or the reason why not) out. No Kafka in it.

    submit → fetch → content hash → (duplicate in flight? cache?) → decode → OCR → tokens → batch → engines → on_done

Each stage has threads of its own, so that a slow download never holds a decoder and a slow OCR never holds the engine.
Equal content is scored once, also when it arrives together: the first job leads, the others follow.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog

from worker.delivery.cache import ScoreCache
from worker.errors import Code, CreativeError, FatalError, OcrError, Stage
from worker.intake.held import HeldBytes
from worker.metrics import Metrics
from worker.pipeline.engine_loop import EngineLoop
from worker.pipeline.job import (
    CONTENT,
    Job,
    Outcome,
    Part,
    canonical_copy,
    content_hash,
    content_part,
    material,
    read_content_part,
    scored,
)
from worker.scoring.engines import Engines
from worker.tracing import NO_TRACE, NoTracing, Trace, Tracing
from worker.types import Creative, DecodedImage, HeadError, ImageBytes, OcrResult, ScoredCreative

_log = structlog.get_logger(__name__)


class Fetches(Protocol):
    """Gets a creative's image bytes; blocking, thread-safe, raises CreativeError."""

    def fetch(self, creative: Creative) -> ImageBytes: ...


class Decodes(Protocol):
    """Turns image bytes into pixels; blocking, thread-safe, raises CreativeError."""

    def decode(self, data: bytes, *, ocr: bool, pixels: bool = True) -> DecodedImage: ...


class Reads(Protocol):
    """Reads the text in an image; blocking, thread-safe, raises OcrError."""

    identity: str

    def read(self, image: Any) -> OcrResult: ...


@dataclass(frozen=True)
class FlowLimits:
    """Threads per stage, and how engine batches are made."""

    fetch_threads: int
    decode_threads: int
    ocr_threads: int
    batch_size: int
    batch_delay_seconds: float
    engine_timeout_seconds: float = 60.0


class ScoringFlow:
    """Scores creatives concurrently. The caller bounds what is in flight; `on_done` runs on one of the flow's threads.

    Args:
        on_fatal: called when the engine is lost for good, or children can't be started; no further `on_done` follows.
        tracing: told of each engine batch; None: nobody is.
        candidates: engines that score a copy of the traffic elsewhere; outcomes keep what they need for it.
        held: image bytes kept after scoring; None: none are.
    """

    def __init__(
        self,
        *,
        fetcher: Fetches,
        decoder: Decodes,
        ocr: Reads,
        engines: Engines,
        cache: ScoreCache,
        limits: FlowLimits,
        metrics: Metrics,
        on_fatal: Callable[[Exception], None],
        tracing: Tracing | None = None,
        candidates: Engines | None = None,
        held: HeldBytes | None = None,
    ) -> None:
        self.candidates = candidates
        self._fetcher, self._decoder, self._ocr = fetcher, decoder, ocr
        self._held = held or HeldBytes(0)
        self._engines, self._cache, self._metrics = engines, cache, metrics
        self._digests = {**engines.digests, CONTENT: hashlib.sha256(ocr.identity.encode()).hexdigest()}
        self._inflight: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._pools = {
            "fetch": ThreadPoolExecutor(limits.fetch_threads, "fetch"),
            "decode": ThreadPoolExecutor(limits.decode_threads, "decode"),
            "ocr": ThreadPoolExecutor(limits.ocr_threads, "ocr"),
        }
        self._caching = ThreadPoolExecutor(1, "cache")
        self._on_fatal = on_fatal
        self.lost: Exception | None = None
        """Why the engine is lost, once it is."""
        self._loop = EngineLoop(
            engines,
            limits.batch_size,
            limits.batch_delay_seconds,
            limits.engine_timeout_seconds,
            metrics,
            self._abandoned,
            self._after_engines,
            self._lose,
            tracing or NoTracing(),
        )

    @property
    def models(self) -> Mapping[str, list[dict[str, Any]]]:
        """Per head the bundles behind it, as in `provenance.models`."""
        return self._engines.models

    def submit(
        self,
        creative: Creative,
        on_done: Callable[[Outcome], None],
        before_decoding: Callable[[], None] = lambda: None,
        trace: Trace = NO_TRACE,
    ) -> Job:
        """Start scoring; returns at once. The job can be cancelled; then `on_done` may never be called.

        before_decoding: called (on a decoding thread) before a decoder or the engine touches the creative.
        """
        job = Job(creative, on_done, before_decoding, trace)
        self._queue("fetch", self._fetch, job)
        return job

    def _lose(self, error: Exception) -> None:
        self.lost = error
        self._on_fatal(error)

    def engine_busy_seconds(self) -> float:
        """How long the engine has been at its present batch; 0 when it waits."""
        return self._loop.busy_seconds()

    def close(self, *, wait: bool = True) -> None:
        """Drop what has not begun, end the threads, and let cache writes that have begun finish. Twice does no harm.

        After it no `on_done` is called: what was under way has no outcome. wait=False leaves a fetch or a batch that
        is under way to end by itself: it may take longer than the caller has.
        """
        if self._closed:
            return
        self._closed = True
        for pool in self._pools.values():
            pool.shutdown(wait=wait, cancel_futures=True)
        self._loop.close(wait=wait)
        self._caching.shutdown(wait=True)

    # Stages. Each runs on its own pool and hands the job on; `_stage` turns what goes wrong into the job's outcome.

    def _queue(self, name: str, stage: Callable[[Job], None], job: Job) -> None:
        if self._closed:
            return
        self._metrics.queue_depth.labels(name).inc()
        self._pools[name].submit(self._stage, name, stage, job)

    def _stage(self, name: str, stage: Callable[[Job], None], job: Job) -> None:
        self._metrics.queue_depth.labels(name).dec()
        if self._closed or (job.cancelled and self._abandoned(job)):
            return
        started = time.monotonic()
        try:
            with job.trace.stage(name):
                stage(job)
        except CreativeError as error:
            self._finish(job, error)
        except FatalError as error:
            # No creative's fault: dead-lettering them all would empty the topic.
            self._lose(error)
        except Exception as error:  # noqa: BLE001  one creative must not take its neighbours along
            # The class alone: an exception's text may quote what a sender wrote.
            _log.error("stage_failed", stage=name, error=type(error).__name__)
            message = f"internal error in {name}: {type(error).__name__}"
            self._finish(job, CreativeError(Code.ENGINE_FAILED, Stage.ENGINE, message, retryable=True))
        finally:
            self._metrics.stage.labels(name).observe(time.monotonic() - started)

    def _fetch(self, job: Job) -> None:
        started = time.monotonic()
        job.image = self._image(job)
        job.texts = canonical_copy(job.creative.copy)
        job.content = content_hash(job.image.sha256, job.texts, job.creative.ocr_text)
        job.spend("fetch", time.monotonic() - started)
        with self._lock:
            leader = self._inflight.setdefault(job.content, job)
            if leader is not job and leader.outcome is None:
                leader.followers.append(job)
                return
        if leader is not job:
            self._follow(leader, job)
            return
        self._look_up(job)
        if job.wanted or job.phash is None or job.needs_ocr:
            self._queue("decode", self._decode, job)
        else:
            self._complete(job)

    def _image(self, job: Job) -> ImageBytes:
        """The bytes that are held, else downloaded ones, which are held once they are scored."""
        if not self._held.concerns(job.creative):
            return self._fetcher.fetch(job.creative)
        obtained = self._held.obtain(job.creative, self._fetcher.fetch)
        self._metrics.held_images.labels(obtained.how).inc()
        job.asked_ms = obtained.asked_ms
        return obtained.image

    def _look_up(self, job: Job) -> None:
        found = self._cache.get(job.content, self._digests)
        job.parts = {head: part for head, part in found.parts.items() if head != CONTENT}
        known = read_content_part(found.parts[CONTENT]) if CONTENT in found.parts else None
        if known is not None:
            job.phash = known[0]
            if job.creative.ocr_text is None:
                job.ocr = known[1]
        for head in self._engines.digests:
            self._metrics.cache_requests.labels(head, found.results[head]).inc()
            job.results[head] = "miss" if found.results[head] == "error" else found.results[head]
        job.wanted = frozenset(self._engines.digests) - job.parts.keys()

    def _decode(self, job: Job) -> None:
        assert job.image is not None
        job.before_decoding()
        started = time.monotonic()
        job.decoded = self._decoder.decode(job.image.data, ocr=job.needs_ocr, pixels=bool(job.wanted))
        job.phash = job.decoded.phash
        job.spend("decode", time.monotonic() - started)
        if job.needs_ocr:
            self._queue("ocr", self._read, job)
        else:
            self._prepare(job)

    def _read(self, job: Job) -> None:
        assert job.decoded is not None
        started = time.monotonic()
        try:
            job.ocr = self._ocr.read(job.decoded.ocr)
        except FatalError:
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the creative has its other heads
            internal = OcrError("ocr_failed", f"internal error: {type(error).__name__}")
            why = error if isinstance(error, OcrError) else internal
            job.ocr_failed = HeadError("ocr", why.code, why.message)
            self._metrics.head_errors.labels("ocr").inc()
        job.spend("ocr", time.monotonic() - started)
        self._prepare(job)

    def _prepare(self, job: Job) -> None:
        if not job.wanted:
            self._complete(job)
            return
        given = job.creative.ocr_text
        seen = given if given is not None else job.ocr.text if job.ocr else ""
        job.tokens = self._engines.tokens({**job.texts, "ocr": seen})
        self._loop.put(job)

    def _after_engines(self, job: Job) -> None:
        """Called by the engine's thread with the parts and errors of all attempts."""
        if job.errors and not job.parts:
            why = "; ".join(f"{head}: {message}" for head, message in sorted(job.errors.items()))
            self._finish(
                job, CreativeError(Code.ENGINE_FAILED, Stage.ENGINE, why, retryable=True, attempts=job.attempts)
            )
        else:
            self._complete(job)

    # Ends. A job's outcome is set once; whoever waits for the same content gets it too.

    def _complete(self, job: Job) -> None:
        fresh: dict[str, Part] = {head: job.parts[head] for head in job.wanted & job.parts.keys()}
        changed = job.decoded is not None
        if job.asked_ms is not None and job.image is not None:
            self._held.keep(job.creative, job.image, job.asked_ms)
        outcome = scored(job, job, job.results, self.models)
        self._deliver(job, replace(outcome, material=material(job)) if self.candidates else outcome)
        if job.ocr_failed is None and changed and not self._closed:
            known = job.ocr or OcrResult(job.creative.ocr_text or "")
            self._caching.submit(self._keep, job, {**fresh, CONTENT: content_part(job.phash or "", known)})
        else:
            # What was scored without its OCR is never cached.
            self._release(job)

    def _keep(self, job: Job, fresh: Mapping[str, Part]) -> None:
        try:
            self._cache.put(job.content, self._digests, fresh)
        finally:
            self._release(job)

    def _finish(self, job: Job, error: CreativeError) -> None:
        self._deliver(job, error)
        self._release(job)

    def _deliver(self, job: Job, outcome: Outcome) -> None:
        if self._closed:
            return
        # Pixels and bytes go now: the outcome may wait long for its turn to be published.
        job.decoded = None
        job.tokens = {}
        if job.image is not None:
            job.image = replace(job.image, data=b"")
        with self._lock:
            job.outcome = outcome
            followers, job.followers = job.followers, []
        job.on_done(outcome)
        for follower in followers:
            self._follow(job, follower)

    def _follow(self, leader: Job, follower: Job) -> None:
        """Give `follower` the outcome of the job with the same content."""
        follower.trace.follows(leader.trace)
        if not isinstance(leader.outcome, ScoredCreative):
            assert leader.outcome is not None
            follower.on_done(leader.outcome)
            return
        results = {head: "hit" if head in leader.parts else "miss" for head in self._engines.digests}
        for head, result in results.items():
            self._metrics.cache_requests.labels(head, result).inc()
        outcome = scored(leader, follower, results, self.models)
        follower.on_done(replace(outcome, material=leader.outcome.material))

    def _release(self, job: Job) -> None:
        with self._lock:
            if self._inflight.get(job.content) is job:
                del self._inflight[job.content]

    def _abandoned(self, job: Job) -> bool:
        """Let go of a cancelled job, unless somebody follows it."""
        with self._lock:
            if job.followers:
                return False
            if self._inflight.get(job.content) is job:
                del self._inflight[job.content]
            return True
