"""The candidate's events beside the live ones of the same creatives and revisions, and what they differ by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import orjson
from kafka import KafkaConsumer

from worker.commands import agreement, kafka, reading
from worker.commands.newest import identity
from worker.commands.progress import Progress
from worker.settings import Settings
from worker.types import HEADS, Record

MAX_CREATIVES = 100_000
"""Of more, so many are compared: a uniform sample, by a hash of their ids."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate may differ by."""

    min_rank_correlation: float
    max_psi: float
    max_flip_rate: float
    max_failed: float


@dataclass(frozen=True, slots=True)
class HeadReport:
    """One head. `creatives` both models scored; `failed` the candidate alone didn't; `over`: the limits it breaks."""

    live: list[str]
    candidate: list[str]
    creatives: int
    failed: int
    rank_correlation: float | None
    psi: float | None
    psi_deciles: float
    flip_rate: float | None
    over: list[str]


@dataclass(frozen=True, slots=True)
class Report:
    """`creatives` are compared; `unmatched` of the candidate's have no live event of the same revision any more."""

    candidate: str | None
    creatives: int
    unmatched: int
    heads: dict[str, HeadReport]
    limits: Limits
    over: bool

    def as_json(self) -> bytes:
        """One object."""
        return orjson.dumps(asdict(self))


Score = tuple[float, str | None] | None
"""Value and bucket; None where the head failed."""


@dataclass(slots=True)
class _Event:
    """What is compared of one event."""

    key: tuple[int, str]
    models: Mapping[str, list[str]]
    scores: Mapping[str, Score]


@dataclass(slots=True)
class _Sample:
    """Creative → its newest event, of at most twice MAX_CREATIVES by the lowest hashes."""

    events: dict[int, _Event] = field(default_factory=dict)
    below: int = 1 << 64

    def put(self, creative: int, event: _Event) -> None:
        if creative >= self.below:
            return
        self.events[creative] = event
        if len(self.events) > 2 * MAX_CREATIVES:
            self.below = sorted(self.events)[MAX_CREATIVES]
            self.events = {name: event for name, event in self.events.items() if name < self.below}


def report(settings: Settings, limits: Limits, since_ms: int | None) -> Report:
    """Read both topics as they stand. Raises KafkaError, or FatalError (3) where a topic is missing."""
    progress = Progress()
    with kafka.consumer(settings.kafka) as client:
        sample, newest = _Sample(), None
        for record in _records(client, settings.kafka.shadow_topic, since_ms, progress):
            event, version = _read(record)
            if event is None:
                continue
            at = record.origin.timestamp_ms
            if newest is None or (version != newest[1] and at >= newest[0]):
                # Another candidate has taken its place: what the one before it said is no part of this report.
                sample, newest = _Sample(), (at, version)
            if version == newest[1]:
                newest = max(newest, (at, version))
                sample.put(identity(record.key or b""), event)
        live: dict[int, _Event] = {}
        for record in _records(client, settings.kafka.output_topic, None, progress):
            creative = identity(record.key or b"")
            if creative in sample.events:
                event, _ = _read(record)
                if event is None:
                    live.pop(creative, None)
                else:
                    live[creative] = event
    progress.end()
    return _compared(sample.events, live, newest[1] if newest else None, limits)


def _records(client: KafkaConsumer, topic: str, since_ms: int | None, progress: Progress) -> Iterator[Record]:
    first, end = reading.span(client, topic)
    if since_ms is not None:
        found = client.offsets_for_times(dict.fromkeys(end, since_ms))
        first = {part: found[part].offset if found.get(part) else end[part] for part in end}
    for number, record in enumerate(reading.read(client, first, end)):
        if number % 1_000 == 0:
            progress.show(f"reading {topic}: {number} events")
        yield record


def _read(record: Record) -> tuple[_Event | None, str]:
    """What is compared, and the name of the set of models; None for a withdrawal or what is no enriched event."""
    try:
        event = orjson.loads(record.value or b"null")
        key = (event["lastmod"], event["content_sha256"])
        told = event["provenance"]["models"]
        models = {head: [f"{one['name']}/{one['version']}@{one['digest']}" for one in told[head]] for head in told}
        parts = {head: event["scores"].get(head) for head in models if head in HEADS}
        scores = {head: (float(part["value"]), part.get("bucket")) if part else None for head, part in parts.items()}
        return _Event(key, models, scores), str(event["targeting"]["ads_mv"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, ""


def _compared(candidate: dict[int, _Event], live: dict[int, _Event], version: str | None, limits: Limits) -> Report:
    pairs = [
        (live[creative], event)
        for creative, event in candidate.items()
        if creative in live and live[creative].key == event.key
    ]
    heads = {}
    for head in HEADS:
        # Where the candidate serves already there is nothing to compare.
        beside = [
            pair for pair in pairs if head in pair[0].scores and pair[0].models.get(head) != pair[1].models.get(head)
        ]
        beside = [pair for pair in beside if head in pair[1].scores]
        if beside:
            heads[head] = _head(head, beside, limits)
    over = any(one.over for one in heads.values())
    return Report(version, len(pairs) if heads else 0, len(candidate) - len(pairs), heads, limits, over)


def _head(head: str, pairs: list[tuple[_Event, _Event]], limits: Limits) -> HeadReport:
    scored = [(live.scores[head], new.scores[head]) for live, new in pairs]
    both = [(live, new) for live, new in scored if live is not None and new is not None]
    failed = sum(live is not None and new is None for live, new in scored)
    values = np.array([[live[0], new[0]] for live, new in both], dtype=np.float64).reshape(-1, 2)
    buckets = [(live[1], new[1]) for live, new in both if live[1] is not None and new[1] is not None]
    told = [live for live, _ in buckets], [new for _, new in buckets]
    correlation = agreement.rank_correlation(values[:, 0], values[:, 1])
    psi = agreement.stability(*told) if buckets else None
    flips = agreement.flip_rate(*told) if buckets else None
    over = []
    if correlation is not None and correlation < limits.min_rank_correlation:
        over.append("rank_correlation")
    if psi is not None and psi > limits.max_psi:
        over.append("psi")
    if flips is not None and flips > limits.max_flip_rate:
        over.append("flip_rate")
    if failed > limits.max_failed * len(scored):
        over.append("failed")
    return HeadReport(
        live=_named(live.models[head] for live, _ in pairs),
        candidate=_named(new.models[head] for _, new in pairs),
        creatives=len(both),
        failed=failed,
        rank_correlation=_rounded(correlation),
        psi=_rounded(psi),
        psi_deciles=round(agreement.decile_stability(values[:, 0], values[:, 1]), 4) if both else 0.0,
        flip_rate=_rounded(flips),
        over=over,
    )


def _named(models: Iterator[list[str]]) -> list[str]:
    return sorted({name.partition("@")[0] for names in models for name in names})


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
