"""From settings to working parts: the one place where both are known."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

import structlog

from admodels.contract.bundle import Bundle, BundleError
from admodels.runtime.runner import EngineError, EngineLostError, Runner
from worker.commands.backends import Runners
from worker.commands.bundles import load_encoders, load_heads, trusted
from worker.commands.candidates import load_candidates
from worker.delivery.cache import MemoryCache, RedisCache, ScoreCache
from worker.delivery.redis_link import RedisLink
from worker.errors import FatalError
from worker.intake.decode import DecoderPool
from worker.intake.fetch import Fetcher, FetchLimits
from worker.intake.held import HeldBytes
from worker.intake.object_source import ENVIRONMENT, ObjectAccess
from worker.intake.ocr import OcrPool
from worker.metrics import Metrics
from worker.pipeline.job import Outcome
from worker.pipeline.scoring import FlowLimits, ScoringFlow
from worker.scoring import language
from worker.scoring.engines import Engines
from worker.scoring.metered import MeteredRunner
from worker.settings_schema import Settings
from worker.tracing import Tracing
from worker.types import HEADS, Creative

Item = TypeVar("Item")
LOST_SECONDS = 0.5
"""How often a wait for outcomes looks whether there will be any."""
_log = structlog.get_logger(__name__)


def _unexpected(error: Exception) -> None:
    _log.error("engine_lost", error=type(error).__name__)


@contextmanager
def scoring_flow(
    settings: Settings,
    *,
    cache: ScoreCache,
    metrics: Metrics,
    on_fatal: Callable[[Exception], None] = _unexpected,
    tracing: Tracing | None = None,
    with_candidates: bool = False,
) -> Iterator[ScoringFlow]:
    """Bundles loaded and checked, engines warm, children started; all of it ends with the block.

    with_candidates: whether the flow's outcomes keep what the configured candidates need, and their engines are loaded.

    Raises FatalError (exit status 3) with the reason where a bundle, the OCR or an engine can't be used.
    """
    with ExitStack() as stack:
        cores = len(os.sched_getaffinity(0))
        ocr_workers = settings.ocr.workers or cores
        try:
            ocr = OcrPool(
                ocr_workers,
                engine=settings.ocr.engine,
                languages=settings.ocr.languages,
                timeout_seconds=settings.ocr.timeout_seconds,
            )
            stack.callback(ocr.close)
            runners = Runners(settings)
            engines = load_engines(settings, runners, ocr.identity, metrics)
            _refuse_slow(engines.warm(settings.batch.max_size), settings)
            candidates = None
            if with_candidates:
                # One CPU thread for the candidates' own models: live work keeps the others.
                candidates = load_candidates(settings, engines, ocr.identity, _metered(runners, 1, metrics))
            language.warm()
        except (BundleError, EngineError, EngineLostError) as error:
            raise FatalError(str(error), exit_code=3) from error
        # Warming up is nobody's creative.
        metrics.model_seconds.clear()
        metrics.model_creatives.clear()
        for head, models in engines.models.items():
            for model in models:
                labels = (model["name"], model["version"], model["digest"], model["backend"], model["precision"])
                metrics.model_info.labels(head, *labels).set(1)
        decode_workers = settings.decode.workers or cores
        decoder = DecoderPool(decode_workers, sorted({*engines.sizes, *(candidates.sizes if candidates else ())}))
        stack.callback(decoder.close)
        flow = ScoringFlow(
            fetcher=fetcher_of(settings),
            decoder=decoder,
            ocr=ocr,
            engines=engines,
            cache=cache,
            limits=FlowLimits(
                fetch_threads=settings.fetch.workers,
                decode_threads=decode_workers,
                ocr_threads=ocr_workers,
                batch_size=settings.batch.max_size,
                batch_delay_seconds=settings.batch.max_delay_ms / 1000,
                engine_timeout_seconds=settings.pipeline.engine_timeout_seconds,
            ),
            metrics=metrics,
            on_fatal=on_fatal,
            tracing=tracing,
            candidates=candidates,
            held=held_of(settings),
        )
        stack.callback(flow.close)
        yield flow


def fetcher_of(settings: Settings) -> Fetcher:
    """What gets images as the settings allow. Raises FatalError (exit status 2) for a list of hosts that isn't one."""
    fetch = settings.fetch
    limits = FetchLimits(
        allowed_hosts=fetch.allowed_hosts,
        max_bytes=fetch.max_bytes,
        timeout_seconds=fetch.timeout_seconds,
        file_roots=tuple(str(root) for root in fetch.file_roots),
        objects=ObjectAccess(
            s3_endpoint=fetch.s3_endpoint,
            s3_region=fetch.s3_region,
            s3_anonymous=fetch.s3_credentials == "anonymous",
            gs_endpoint=fetch.gs_endpoint,
            gs_anonymous=fetch.gs_credentials == "anonymous",
            environment=tuple(filter(None, map(os.environ.get, ENVIRONMENT))),
        ),
    )
    try:
        return Fetcher(limits)
    except ValueError as error:
        raise FatalError(f"ADSCORE_FETCH__ALLOWED_HOSTS: {error}", exit_code=2) from error


def held_of(settings: Settings) -> HeldBytes:
    """Where downloaded images are kept. Raises FatalError (exit status 3) for a folder that can't be used."""
    folder = settings.fetch.held_dir
    try:
        return HeldBytes(settings.fetch.held_bytes, Path(folder) if folder else None)
    except OSError as error:
        raise FatalError(f"ADSCORE_FETCH__HELD_DIR={folder}: {error.strerror}", exit_code=3) from error


def _refuse_slow(seconds: float, settings: Settings) -> None:
    """A full batch must not look like an engine that hangs. Raises FatalError (exit status 2)."""
    limit = settings.pipeline.engine_timeout_seconds
    if seconds > limit / 2:
        raise FatalError(
            f"a batch of {settings.batch.max_size} takes {seconds:.1f} s here, over half of "
            f"ADSCORE_PIPELINE__ENGINE_TIMEOUT_SECONDS={limit:g}: raise it, or lower ADSCORE_BATCH__MAX_SIZE",
            exit_code=2,
        )


def load_engines(settings: Settings, runners: Runners, ocr_identity: str, metrics: Metrics | None = None) -> Engines:
    """The engines of the configured heads. Raises BundleError, EngineError, or FatalError for a missing backend."""
    signed = trusted(settings.models.public_key)
    heads = load_heads(settings.models.dir, {head: getattr(settings.models, head) for head in HEADS}, signed)
    make = _metered(runners, settings.pipeline.engine_threads, metrics)
    return Engines(heads, load_encoders(settings.models.dir, heads, signed), make, ocr_identity)


def _metered(runners: Runners, threads: int, metrics: Metrics | None) -> Callable[[Bundle], Runner]:
    def make(bundle: Bundle) -> Runner:
        runner, manifest = runners.make(bundle, threads=threads), bundle.manifest
        return MeteredRunner(runner, manifest.name, manifest.version, metrics) if metrics else runner

    return make


@contextmanager
def redis_link(settings: Settings, metrics: Metrics) -> Iterator[RedisLink | None]:
    """The connection to Redis, or None where the settings name none."""
    url = settings.redis.url.get_secret_value()
    if not url:
        yield None
        return
    link = RedisLink(
        url,
        timeout_seconds=settings.redis.timeout_ms / 1000,
        breaker_seconds=settings.redis.breaker_seconds,
        on_breaker=lambda opened: metrics.breaker_open.set(int(opened)),
    )
    try:
        yield link
    finally:
        link.close()


def score_cache(settings: Settings, link: RedisLink | None) -> ScoreCache:
    """Redis where there is one, else a cache inside the process."""
    if link is None:
        return MemoryCache(settings.pipeline.cache_memory_items)
    return RedisCache(link, ttl_seconds=settings.redis.ttl_seconds, ttl_jitter=settings.redis.ttl_jitter)


def score_all(
    flow: ScoringFlow, items: Iterable[Item], creative_of: Callable[[Item], Creative], *, capacity: int
) -> Iterator[tuple[Item, Outcome]]:
    """Score items concurrently, at most `capacity` at a time, and yield each with its outcome in the order given.

    Raises FatalError when the engine is lost (exit status 1) or child processes don't start (3).
    """
    done: SimpleQueue[tuple[int, Outcome]] = SimpleQueue()
    waiting: dict[int, Item] = {}
    outcomes: dict[int, Outcome] = {}
    source = enumerate(items)
    following = 0
    while True:
        while len(waiting) < capacity and (entry := next(source, None)) is not None:
            number, item = entry
            waiting[number] = item
            flow.submit(creative_of(item), lambda outcome, number=number: done.put((number, outcome)))  # type: ignore[misc]
        if not waiting:
            return
        try:
            number, outcome = done.get(timeout=LOST_SECONDS)
        except Empty:
            if isinstance(flow.lost, FatalError):
                raise flow.lost from None
            if flow.lost is not None:
                raise FatalError(f"the engine is lost: {flow.lost}", exit_code=1) from flow.lost
            continue
        outcomes[number] = outcome
        while following in outcomes:
            yield waiting.pop(following), outcomes.pop(following)
            following += 1
