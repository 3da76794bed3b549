"""What readers see: a consumer of committed records that runs during the faults, and everything the cluster holds."""

from __future__ import annotations

import struct
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from tests.faults.wire import Place

OFFSETS_TOPIC = "__consumer_offsets"


@dataclass(frozen=True)
class Seen:
    """A record on the output or dead-letter topic. `code` is a dead letter's; lastmod None: a withdrawal's."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    source: Place
    creative_id: str
    lastmod: int | None
    code: str = ""
    scores: Any = None
    status: str = ""

    @property
    def where(self) -> tuple[str, int, int]:
        """Topic, partition, offset."""
        return self.topic, self.partition, self.offset


@dataclass(frozen=True)
class Commit:
    """An offset that the group committed, and when."""

    partition: int
    offset: int
    timestamp_ms: int


def seen(message: Any) -> Seen:
    """A consumed message, read as far as the checks need it."""
    headers = {name: value or b"" for name, value in message.headers}
    key = (message.key or b"").decode()
    place = (message.topic, message.partition, message.offset, message.timestamp)
    if "adscore_dlq_code" in headers:
        source = int(headers["adscore_dlq_partition"]), int(headers["adscore_dlq_offset"])
        return Seen(*place, source, key, None, headers["adscore_dlq_code"].decode())
    _, partition, offset = (headers.get("adscore_source") or headers["ce_id"]).decode().rsplit(":", 2)
    source = int(partition), int(offset)
    if message.value is None:
        return Seen(*place, source, key, None, status="withdrawn")
    event = orjson.loads(message.value)
    values = {head: part and part["value"] for head, part in event["scores"].items()}
    return Seen(*place, source, event["creative_id"], event["lastmod"], scores=values, status=event["status"])


def _consumer(servers: str, isolation: str, **config: Any) -> KafkaConsumer:
    return KafkaConsumer(
        bootstrap_servers=servers.split(","),
        group_id=None,
        enable_auto_commit=False,
        isolation_level=isolation,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        reconnect_backoff_max_ms=1_000,
        bootstrap_timeout_ms=60_000,
        request_timeout_ms=10_000,
        **config,
    )


def _places(client: KafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    return [
        TopicPartition(topic, number) for topic in topics for number in sorted(client.partitions_for_topic(topic) or ())
    ]


class Watcher:
    """Reads `topics` with `read_committed` while the faults happen. Use as a context manager."""

    def __init__(self, servers: str, topics: Sequence[str]) -> None:
        self._servers, self._topics = servers, topics
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._sources: set[Place] = set()
        self._times: dict[int, list[int]] = {}
        self.seen: list[Seen] = []
        self.errors: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    @property
    def ended(self) -> int:
        """How many different records have come out."""
        return len(self._sources)

    def passed(self, since_ms: int) -> dict[int, int]:
        """Per input partition how many records came out since then."""
        with self._lock:
            return {
                partition: sum(1 for time_ms in times if time_ms >= since_ms)
                for partition, times in self._times.items()
            }

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        client = _consumer(self._servers, "read_committed")
        client.assign(_places(client, self._topics))
        while not self._stopping.is_set():
            try:
                polled = client.poll(timeout_ms=200)
            except KafkaError as error:
                self.errors[type(error).__name__] += 1
                continue
            records = [seen(message) for messages in polled.values() for message in messages]
            with self._lock:
                for record in records:
                    self.seen.append(record)
                    if record.source not in self._sources:
                        self._sources.add(record.source)
                        self._times.setdefault(record.source[0], []).append(record.timestamp_ms)
        client.close(timeout_ms=2_000)


def read_all(servers: str, topics: Sequence[str]) -> list[Seen]:
    """Every committed record of the topics; of each partition in order."""
    return [seen(message) for message in _read(servers, topics)]


def _read(servers: str, topics: Sequence[str]) -> list[Any]:
    client = _consumer(servers, "read_committed")
    try:
        places = _places(client, topics)
        client.assign(places)
        ends = client.end_offsets(places)
        found: list[Any] = []
        while any(client.position(place) < ends[place] for place in places):
            for messages in client.poll(timeout_ms=500).values():
                found += messages
        return found
    finally:
        client.close(timeout_ms=2_000)


def commits(servers: str, group: str, topic: str) -> list[Commit]:
    """Every commit of the group that counted (those of aborted transactions don't), read from the brokers' own log."""
    found = []
    for message in _read(servers, [OFFSETS_TOPIC]):
        key = _Fields(message.key)
        if key.short() not in (0, 1) or message.value is None:
            continue  # a group's members, or an offset that was deleted
        if (key.text(), key.text()) != (group, topic):
            continue
        partition, value = key.int(), _Fields(message.value)
        value.short()
        found.append(Commit(partition, value.long(), message.timestamp))
    return found


class _Fields:
    """Reads the fields of an offset's key and value (`OffsetCommitKey`, `OffsetCommitValue`) one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _next(self, kind: str) -> int:
        (value,) = struct.unpack_from(kind, self._data, self._at)
        self._at += struct.calcsize(kind)
        return int(value)

    def short(self) -> int:
        return self._next(">h")

    def int(self) -> int:
        return self._next(">i")

    def long(self) -> int:
        return self._next(">q")

    def text(self) -> str:
        length = self._next(">h")
        self._at += length
        return self._data[self._at - length : self._at].decode()


def open_transactions(servers: str, topics: Sequence[str]) -> Mapping[tuple[str, int], int]:
    """Partitions whose last stable offset lies behind the high water mark, and by how much."""
    ends: list[Mapping[TopicPartition, int]] = []
    for isolation in ("read_committed", "read_uncommitted"):
        client = _consumer(servers, isolation)
        try:
            ends.append(client.end_offsets(_places(client, [*topics, OFFSETS_TOPIC])))
        finally:
            client.close(timeout_ms=2_000)
    stable, high = ends
    return {
        (place.topic, place.partition): high[place] - stable[place] for place in high if high[place] > stable[place]
    }
