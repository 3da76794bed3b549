"""Records of the input topic put back on it: which ones, in which order, and never faster than the workers are.

The record goes through the workers like any other: they alone own a partition's order and the memory of revisions, so a
newer revision or a withdrawal wins however late it comes, and as many workers share the work as there are.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

import click
import orjson
from kafka import KafkaConsumer, TopicPartition

from admodels.contract.bundle import BundleError
from worker.commands import kafka, reading
from worker.commands.bundles import load_heads, trusted, version_of
from worker.commands.group_lag import GroupLag
from worker.commands.newest import MAX_PARTITIONS, Chosen, Newest, Seen, identity, packed
from worker.commands.progress import Progress
from worker.commands.rescore_memory import Counts, Memory, Run, memory
from worker.commands.resending import Resender
from worker.errors import CreativeError, FatalError
from worker.intake.events import parse_record
from worker.settings import Settings
from worker.types import HEADS, Creative, Record

CHUNK = 64
GAP = 500
"""So many records that nobody wants are read over rather than sought past."""
LOOK_SECONDS = 0.5
"""How often it is asked how far behind the workers are."""
NOTE_SECONDS = 30.0
FIRST_NOTE_SECONDS = 5.0
ELSEWHERE = MAX_PARTITIONS - 1
"""Stands for places on other topics: no input topic has this partition."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events (see the verb's options), at most how many a second, and how far the workers may be behind."""

    since_ms: int | None
    stale: bool
    rate: float | None
    max_lag: int


def rescore(settings: Settings, wanted: Wanted, *, resume: bool, dry_run: bool) -> Counts:
    """Do it; what became of each creative. Raises KafkaError, or FatalError (2, 3)."""
    models = _configured(settings) if wanted.stale or resume else None
    progress = Progress()
    with ExitStack() as stack:
        known = stack.enter_context(memory(settings, progress, needed=resume))
        outputs, inputs = (stack.enter_context(kafka.consumer(settings.kafka)) for _ in range(2))
        admin = stack.enter_context(kafka.admin(settings.kafka))
        lag = GroupLag(admin, inputs, settings.kafka.input_topic, settings.kafka.group_id)
        run = _begun(known, wanted, models, resume=resume, progress=progress)
        sender = None if dry_run else Resender(stack.enter_context(kafka.producer(settings.kafka)), wanted.rate)
        rescorer = _Rescorer(settings, run, Memory(None, "", progress) if dry_run else known, lag, progress, sender)
        stack.callback(progress.end)
        try:
            rescorer.choose(outputs)
            rescorer.work(inputs, wanted.max_lag)
        except BaseException:
            rescorer.ended_early()
            raise
        return run.counts


def _configured(settings: Settings) -> str:
    try:
        configured = {head: getattr(settings.models, head) for head in HEADS}
        heads = load_heads(settings.models.dir, configured, trusted(settings.models.public_key))
    except BundleError as error:
        raise FatalError(str(error), exit_code=3) from error
    return version_of(heads)


def _begun(known: Memory, wanted: Wanted, models: str | None, *, resume: bool, progress: Progress) -> Run:
    """A new run, or the one that was ended early."""
    new = Run(wanted.since_ms, models if wanted.stale else None)
    last = known.load() if resume else None
    if last is None:
        if resume:
            progress.note("no run was ended early: this one begins at the start")
        return new
    if last.models not in (None, models):
        progress.note("the configured models have changed since the last run: this one begins at the start")
        return new
    if wanted.since_ms not in (None, last.since_ms):
        raise FatalError("--resume goes on with the --since of the last run: leave this one out", exit_code=2)
    return last


class _Rescorer:
    """One run, on one thread."""

    def __init__(
        self,
        settings: Settings,
        run: Run,
        known: Memory,
        lag: GroupLag,
        progress: Progress,
        sender: Resender | None,
    ) -> None:
        self._settings, self._run, self._known, self._lag = settings, run, known, lag
        self._progress, self._sender = progress, sender
        self._chosen = Newest(())
        self._room = 0
        self._looked_at = 0.0
        self._noted_at = time.monotonic() - NOTE_SECONDS + FIRST_NOTE_SECONDS
        self._topic = settings.kafka.input_topic

    # Which creatives.

    def choose(self, outputs: KafkaConsumer) -> None:
        """Read the output topic as it stands; from then on `outputs` follows it."""
        first, end = reading.span(outputs, self._settings.kafka.output_topic)
        self._run.ends = self._run.ends or {part.partition: offset for part, offset in end.items()}
        if self._run.since_ms is not None:
            found = outputs.offsets_for_times(dict.fromkeys(end, self._run.since_ms))
            first = {part: found[part].offset if found.get(part) else end[part] for part in end}
        self._known.save(self._run, now=True)
        self._chosen = Newest(self._seen(outputs, {part: first[part]}, {part: end[part]}) for part in end)
        self._outputs = outputs
        outputs.assign(list(end))
        outputs.resume(*end)
        for part, offset in end.items():
            outputs.seek(part, offset)

    def _seen(self, outputs: KafkaConsumer, first: reading.Offsets, end: reading.Offsets) -> Iterator[Seen]:
        for number, record in enumerate(reading.read(outputs, first, end)):
            if number % 1_000 == 0:
                place = f"{record.origin.partition}:{record.origin.offset}"
                self._progress.show(f"reading {record.origin.topic}, at {place}")
            yield Seen(identity(record.key or b""), self._place(record))

    def _place(self, record: Record) -> int | None:
        """Where the record's creative is read from; None where it isn't to be scored again."""
        origin, run = record.origin, self._run
        later = origin.offset >= run.ends.get(origin.partition, 0)
        if record.value is None or later or (run.since_ms is not None and origin.timestamp_ms < run.since_ms):
            return None
        try:
            event = orjson.loads(record.value)
            if run.models is not None and event["targeting"].get("ads_mv") == run.models:
                return None
            place = event["provenance"]
            found = packed(int(place["partition"]), int(place["offset"]))
            here = place["topic"] == self._topic
        except (ValueError, TypeError, KeyError, AttributeError):
            run.counts.failed += 1
            self._progress.note(f"{origin.partition}:{origin.offset} on {origin.topic} is no enriched event")
            return None
        return found if here and found is not None else packed(ELSEWHERE, origin.offset)

    # Putting them back.

    def work(self, inputs: KafkaConsumer, max_lag: int) -> None:
        """Put back what was chosen, some of each partition in turn, and wait until the workers have done it."""
        there = set(kafka.partitions(inputs, self._topic))
        left = {partition: self._chosen.within(partition) for partition in self._chosen.partitions()}
        size = max(1, min(CHUNK, max_lag // (2 * max(1, len(left)))))
        while left:
            for partition in list(left):
                self._follow()
                chunk = list(islice(self._open(partition, left[partition]), size))
                if not chunk:
                    del left[partition]
                elif partition not in there:
                    self._run.counts.expired += len(chunk)
                    self._run.done[partition] = chunk[-1].offset
                else:
                    self._wait_for_room(len(chunk), max_lag)
                    self._put_back(inputs, partition, chunk)
        self._wait_for_workers()
        self._known.forget()

    def _open(self, partition: int, chosen: Iterator[Chosen]) -> Iterator[Chosen]:
        """Without what an earlier part of the run has done, and what has changed since."""
        done = self._run.done.get(partition, -1)
        for one in chosen:
            if one.offset <= done:
                continue
            if self._chosen.is_gone(one):
                self._run.counts.skipped += 1
            else:
                yield one

    def _follow(self) -> None:
        """Forget the creatives of which something was published since."""
        for messages in self._outputs.poll(timeout_ms=0).values():
            for message in messages:
                self._chosen.forget(identity(message.key or b""))

    def _put_back(self, inputs: KafkaConsumer, partition: int, chunk: list[Chosen]) -> None:
        counts, dry = self._run.counts, self._sender is None
        for one, record, creative in self._originals(inputs, partition, chunk):
            if record is None or creative is None:
                counts.expired += 1
            elif self._sender is not None:
                self._sender.send(record, creative)
            else:
                counts.sent += 1
                place = {"topic": self._topic, "partition": partition, "offset": one.offset}
                click.echo(orjson.dumps({"creative_id": creative.creative_id, "lastmod": creative.lastmod, **place}))
        if self._sender is not None:
            sent, failed = self._sender.settle()
            counts.sent, counts.failed = counts.sent + sent, counts.failed + failed
        self._run.done[partition] = chunk[-1].offset
        if not dry:
            self._known.save(self._run)
        told = counts.sent + counts.skipped + counts.expired + counts.failed
        self._progress.show(f"{told} of {len(self._chosen)}: {counts.told('sent')}")

    def _originals(
        self, inputs: KafkaConsumer, partition: int, chunk: list[Chosen]
    ) -> Iterator[tuple[Chosen, Record | None, Creative | None]]:
        """Each with its input record and what it says; None where it is gone, or is another creative's by now."""
        part = TopicPartition(self._topic, partition)
        begin, end = inputs.beginning_offsets([part])[part], inputs.end_offsets([part])[part]
        there = [one for one in chunk if begin <= one.offset < end]
        yield from ((one, None, None) for one in chunk if not begin <= one.offset < end)
        for run in _runs(there):
            wanted = {one.offset: one for one in run}
            for record in reading.read(inputs, {part: run[0].offset}, {part: run[-1].offset + 1}):
                one = wanted.pop(record.origin.offset, None)
                if one is not None:
                    yield one, record, self._creative(one, record)
            for one in wanted.values():
                yield one, None, None

    def _creative(self, one: Chosen, record: Record) -> Creative | None:
        try:
            content: Any = parse_record(record)
        except CreativeError:
            return None
        return content if isinstance(content, Creative) and self._chosen.is_of(one, content.creative_id) else None

    # Behind live traffic.

    def _wait_for_room(self, count: int, max_lag: int) -> None:
        if self._sender is None:
            return
        while self._room < count or time.monotonic() - self._looked_at > LOOK_SECONDS:
            behind = self._lag.records()
            self._looked_at, self._room = time.monotonic(), max_lag - behind
            if self._room >= count:
                break
            self._say(f"waiting: the workers are {behind} records behind, {max_lag} are allowed (--max-lag)")
            self._follow()
            time.sleep(LOOK_SECONDS / 5)
        self._room -= count

    def _wait_for_workers(self) -> None:
        last = self._sender.last if self._sender else {}
        while last and not self._lag.finished(last):
            if not self._lag.members():
                group = self._settings.kafka.group_id
                self._progress.note(f"no worker is in group {group}: what was sent is scored when one starts")
                return
            self._say("waiting for the workers to finish what was sent")
            time.sleep(LOOK_SECONDS / 5)

    def _say(self, text: str) -> None:
        """Always on a terminal; elsewhere when it takes long."""
        self._progress.show(text)
        if time.monotonic() - self._noted_at > NOTE_SECONDS:
            self._noted_at = time.monotonic()
            members = self._lag.members()
            self._progress.note(f"{text}; workers in group {self._settings.kafka.group_id}: {members}")

    def ended_early(self) -> None:
        """Remember how far it came."""
        if self._sender is not None:
            self._known.save(self._run, now=True)
            more = "; --resume goes on from here" if self._known.lasts else ""
            self._progress.note(f"ended early: {self._run.counts.told('sent')}{more}")


def _runs(chunk: list[Chosen]) -> Iterator[list[Chosen]]:
    """Neighbours together: what lies far from the one before it is sought."""
    run: list[Chosen] = []
    for one in chunk:
        if run and one.offset - run[-1].offset > GAP:
            yield run
            run = []
        run.append(one)
    if run:
        yield run
