"""Every metric, declared once: name, type, unit and meaning. Docs and dashboards are generated from `DECLARATIONS`.

Labels hold names from closed sets only (heads, stages, codes, queues): never an id, never anything a sender chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_AGE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128)
_TENTHS = tuple(round(step / 10, 1) for step in range(-10, 11))


@dataclass(frozen=True)
class Declaration:
    """One metric as operators see it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    unit: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


DECLARATIONS = (
    Declaration("adscore_events_consumed_total", "counter", "Records received from the input topic.", "records"),
    Declaration(
        "adscore_events_processed_total",
        "counter",
        "Records whose offset may be committed, by how they ended "
        "(scored, partial, dead_letter, superseded, withdrawn).",
        "records",
        ("outcome",),
    ),
    Declaration("adscore_events_published_total", "counter", "Events acknowledged on the output topic.", "records"),
    Declaration("adscore_dlq_total", "counter", "Dead letters acknowledged, by code.", "records", ("code",)),
    Declaration(
        "adscore_cache_requests_total",
        "counter",
        "Cache look-ups per head (hit, miss, error, off).",
        "requests",
        ("head", "result"),
    ),
    Declaration(
        "adscore_held_images_total",
        "counter",
        "Images from the network, by whether their bytes were still held (hit), came with another creative's download "
        "(shared), or had to be downloaded (miss).",
        "images",
        ("result",),
    ),
    Declaration(
        "adscore_event_age_seconds",
        "histogram",
        "From the input record's timestamp to its acknowledged publish: the number to watch.",
        "seconds",
        buckets=_AGE,
    ),
    Declaration(
        "adscore_stage_duration_seconds",
        "histogram",
        "Time one record (fetch, decode, ocr, publish) or one batch (infer) spends in a stage.",
        "seconds",
        ("stage",),
        _SECONDS,
    ),
    Declaration("adscore_batch_size", "histogram", "Creatives per engine batch.", "creatives", buckets=_BATCH),
    Declaration(
        "adscore_batch_limit",
        "gauge",
        "Creatives that a batch may hold now: below the setting for a while after the engine ran out of memory.",
        "creatives",
    ),
    Declaration("adscore_score", "histogram", "Published score values per head.", "1", ("head",), _TENTHS),
    Declaration("adscore_head_errors_total", "counter", "Heads that failed for a creative.", "creatives", ("head",)),
    Declaration("adscore_queue_depth", "gauge", "Creatives waiting before a stage.", "creatives", ("queue",)),
    Declaration("adscore_inflight_events", "gauge", "Records received and not yet finished.", "records"),
    Declaration(
        "adscore_consumer_lag_records",
        "gauge",
        "Records on the assigned partitions that are not yet received.",
        "records",
        ("partition",),
    ),
    Declaration(
        "adscore_model_info",
        "gauge",
        "1 for each bundle that serves a head.",
        "1",
        ("head", "name", "version", "digest", "backend", "precision"),
    ),
    Declaration(
        "adscore_model_seconds_total",
        "counter",
        "Time the engine spent on a model: GPU seconds where a GPU serves.",
        "seconds",
        ("name", "version"),
    ),
    Declaration(
        "adscore_model_creatives_total",
        "counter",
        "Creatives that a model was run on, shared encoders included; what the cache knew isn't.",
        "creatives",
        ("name", "version"),
    ),
    Declaration(
        "adscore_served_sampled_total",
        "counter",
        "Events drawn at random from the output topic, by what they are: fresh, partial, stale (scored by another set "
        "of models than this worker's), withdrawn, unreadable.",
        "events",
        ("state",),
    ),
    Declaration(
        "adscore_shadow_events_total",
        "counter",
        "Creatives published live that candidate models were to score, by how that ended (published, failed, or "
        "dropped for want of room).",
        "creatives",
        ("outcome",),
    ),
    Declaration("adscore_cache_breaker_open", "gauge", "1 while Redis is left alone after a failure.", "1"),
    Declaration("adscore_commits_total", "counter", "Offset commits by result (ok, error).", "commits", ("result",)),
    Declaration("adscore_rebalances_total", "counter", "Partition hand-overs by kind.", "rebalances", ("kind",)),
)


class Metrics:
    """The process's metrics on a registry of its own, so that tests and workers in one process don't share counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made = {item.name: _make(item, self.registry) for item in DECLARATIONS}
        self.consumed: Counter = made["adscore_events_consumed_total"]
        self.processed: Counter = made["adscore_events_processed_total"]
        self.published: Counter = made["adscore_events_published_total"]
        self.dead_letters: Counter = made["adscore_dlq_total"]
        self.cache_requests: Counter = made["adscore_cache_requests_total"]
        self.held_images: Counter = made["adscore_held_images_total"]
        self.event_age: Histogram = made["adscore_event_age_seconds"]
        self.stage: Histogram = made["adscore_stage_duration_seconds"]
        self.batch_size: Histogram = made["adscore_batch_size"]
        self.batch_limit: Gauge = made["adscore_batch_limit"]
        self.score: Histogram = made["adscore_score"]
        self.head_errors: Counter = made["adscore_head_errors_total"]
        self.queue_depth: Gauge = made["adscore_queue_depth"]
        self.inflight: Gauge = made["adscore_inflight_events"]
        self.lag: Gauge = made["adscore_consumer_lag_records"]
        self.model_info: Gauge = made["adscore_model_info"]
        self.model_seconds: Counter = made["adscore_model_seconds_total"]
        self.model_creatives: Counter = made["adscore_model_creatives_total"]
        self.served_sampled: Counter = made["adscore_served_sampled_total"]
        self.shadow: Counter = made["adscore_shadow_events_total"]
        self.breaker_open: Gauge = made["adscore_cache_breaker_open"]
        self.commits: Counter = made["adscore_commits_total"]
        self.rebalances: Counter = made["adscore_rebalances_total"]
        # Known from the start, so that a rate over them begins at zero and not at their first event.
        for result in ("ok", "error"):
            self.commits.labels(result)
        for state in ("fresh", "partial", "stale"):
            self.served_sampled.labels(state)
        for kind in ("assigned", "revoked", "lost"):
            self.rebalances.labels(kind)


def _make(item: Declaration, registry: CollectorRegistry) -> Any:
    name = item.name.removesuffix("_total") if item.kind == "counter" else item.name
    if item.kind == "counter":
        return Counter(name, item.help, item.labels, registry=registry)
    if item.kind == "gauge":
        return Gauge(name, item.help, item.labels, registry=registry)
    return Histogram(name, item.help, item.labels, registry=registry, buckets=item.buckets)
