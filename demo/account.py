"""Every published record, and what became of it: read back from the topics as any other program would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from worker.commands import figures, kafka, reading
from worker.commands.dlq import summary
from worker.commands.kafka import text_headers
from worker.settings import Settings
from worker.types import Record

Place = tuple[int, int]
"""(partition, offset) of an input record."""


@dataclass
class Account:
    """published: input place → creative id. The others: input place → what came of it, each place in one of them."""

    published: dict[Place, str]
    events: dict[Place, Mapping[str, Any]] = field(default_factory=dict)
    dead_letters: dict[Place, Mapping[str, Any]] = field(default_factory=dict)
    withdrawn: dict[Place, str] = field(default_factory=dict)
    seconds: float = 0.0
    """From the first record published to the last outcome, by the records' own times."""

    @property
    def rate(self) -> float:
        """Records per second."""
        return len(self.published) / self.seconds if self.seconds > 0 else 0.0

    @property
    def unanswered(self) -> list[Place]:
        """Input records of which no topic tells anything: superseded, or missing."""
        told = self.events.keys() | self.dead_letters.keys() | self.withdrawn.keys()
        return sorted(self.published.keys() - told)

    def summary(self, superseded: int) -> dict[str, int]:
        """The figures of `summary.json`. superseded: as the worker counted; it leaves no record behind."""
        statuses = Counter(str(event["status"]) for event in self.events.values())
        scored = [event for event in self.events.values() if event["status"] == "scored"]
        return {
            "published": len(self.published),
            "scored": len(scored),
            "from_cache": sum(map(figures.from_cache, scored)),
            "partial": statuses["partial"],
            "dead_letter": len(self.dead_letters),
            "superseded": superseded,
            "withdrawn": len(self.withdrawn),
            "missing": len(self.unanswered) - superseded,
        }


def take(settings: Settings) -> Account:
    """Read the three topics as they stand."""
    names = settings.kafka
    with kafka.reached(names), kafka.consumer(names) as client:

        def every(topic: str) -> list[Record]:
            return list(reading.read(client, *reading.span(client, topic)))

        received, outputs, refused = map(every, (names.input_topic, names.output_topic, names.dlq_topic))
        account = Account({_place(record): (record.key or b"").decode() for record in received})
        for record in outputs:
            headers = text_headers(record.headers)
            partition, offset = headers["ce_id"].rsplit(":", 2)[1:]
            place = int(partition), int(offset)
            if record.value is None:
                account.withdrawn[place] = (record.key or b"").decode()
            else:
                account.events[place] = orjson.loads(record.value)
        for record in refused:
            headers = text_headers(record.headers)
            place = int(headers["adscore_dlq_partition"]), int(headers["adscore_dlq_offset"])
            account.dead_letters[place] = summary(record) | {"message": headers["adscore_dlq_message"]}
    ended = [record.origin.timestamp_ms for record in (*outputs, *refused)]
    if ended:
        account.seconds = (max(ended) - min(record.origin.timestamp_ms for record in received)) / 1000
    return account


def _place(record: Record) -> Place:
    return record.origin.partition, record.origin.offset
