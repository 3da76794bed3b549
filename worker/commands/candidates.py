"""Candidate models beside the live ones: their engines, and the lane in which they score a copy of the traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import structlog

from admodels.contract.bundle import Bundle
from admodels.runtime.runner import Runner
from worker.commands import clients
from worker.commands.bundles import load_encoders, load_heads, trusted, version_of
from worker.delivery.cache import ScoreCache
from worker.intake.decode import DecoderPool
from worker.metrics import Metrics
from worker.pipeline.scoring import ScoringFlow
from worker.pipeline.shadow import Shadow, ShadowLimits
from worker.scoring.engines import Engines
from worker.settings_schema import Settings
from worker.types import HEADS

LIMITS = ShadowLimits()
CLOSE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


def configured(settings: Settings) -> bool:
    """Whether any head has a candidate."""
    return any(getattr(settings.shadow, head) for head in HEADS)


def load_candidates(
    settings: Settings, live: Engines, ocr_identity: str, make_runner: Callable[[Bundle], Runner]
) -> Engines | None:
    """The candidates' engines, warm; None without candidates. Raises BundleError, EngineError.

    An encoder that the live models use too is loaded once, where its runner may be used by two threads at once.
    """
    if not configured(settings):
        return None
    signed = trusted(settings.models.public_key)
    heads = load_heads(settings.models.dir, {head: getattr(settings.shadow, head) for head in HEADS}, signed)
    safe = {digest: one for digest, one in live.encoders.items() if getattr(one.runner, "thread_safe", False)}
    encoders = load_encoders(settings.models.dir, heads, signed)
    engines = Engines(heads, encoders, make_runner, ocr_identity, safe)
    engines.warm(LIMITS.batch_size)
    labels = [bundle.label for bundles in heads.values() for bundle in bundles]
    _log.info("candidates", bundles=labels, models=version_of(heads), shared_encoders=len(safe.keys() & encoders))
    return engines


@contextmanager
def shadow(settings: Settings, flow: ScoringFlow, cache: ScoreCache, metrics: Metrics) -> Iterator[Shadow | None]:
    """The lane for the flow's candidates; None where it has none. What is not settled at the end is dropped."""
    if flow.candidates is None:
        yield None
        return
    with ExitStack() as stack:
        decoder = None
        if flow.candidates.sizes:
            # A child of its own: a live image never waits for one that only the candidate wants.
            decoder = DecoderPool(1, flow.candidates.sizes)
            stack.callback(decoder.close)
        lane = Shadow(
            engines=flow.candidates,
            decoder=decoder,
            cache=cache,
            outbox=clients.shadow_outbox(settings),
            topic=settings.kafka.shadow_topic,
            source=settings.event.source,
            limits=LIMITS,
            metrics=metrics,
            is_live_busy=lambda: flow.engine_busy_seconds() > 0,
        )
        stack.callback(lane.close, CLOSE_SECONDS)
        yield lane
