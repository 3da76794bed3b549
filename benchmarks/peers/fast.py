"""(3) The fastest loop that is still honest: confluent-kafka, a thread per core that decodes ahead, whole batches.

Honest: an offset is committed only when its output is acknowledged. Nothing else that a worker promises: a bad creative
ends it, a rebalance repeats what is in flight, a decoder's crash takes it along.
"""

from __future__ import annotations

import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from confluent_kafka import Consumer, Message, Producer

from benchmarks.peers.work import Work, arguments

AHEAD = 64
COMMIT_SECONDS = 0.5
IDLE_SECONDS = 0.02


class Loop:
    """Decodes ahead, scores in batches, produces, commits."""

    def __init__(self, told: Any, work: Work) -> None:
        self._told, self._work = told, work
        self._producer = Producer(
            {"bootstrap.servers": told.servers, "acks": "all", "compression.type": "lz4", "linger.ms": 5}
        )
        self._consumer = Consumer(
            {
                "bootstrap.servers": told.servers,
                "group.id": told.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
            }
        )
        self._consumer.subscribe([told.input])
        self._threads = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        self._ahead: deque[tuple[Message, Future[Any]]] = deque()
        self._scored: list[Message] = []
        self._committed_at = time.monotonic()

    def run(self) -> None:
        """Until killed."""
        while True:
            self._receive()
            if self._ahead:
                self._score(min(self._work.batch_size, len(self._ahead)))
            if time.monotonic() - self._committed_at > COMMIT_SECONDS:
                self._commit()

    def _receive(self) -> None:
        room = AHEAD - len(self._ahead)
        wait = 0.0 if self._ahead else IDLE_SECONDS
        for message in self._consumer.consume(room, wait) if room else ():
            if message.error():
                raise SystemExit(str(message.error()))
            place = (message.topic(), message.partition(), message.offset(), message.key(), message.value())
            self._ahead.append((message, self._threads.submit(self._work.prepare, *place)))

    def _score(self, count: int) -> None:
        batch = [self._ahead.popleft() for _ in range(count)]
        jobs = [future.result() for _, future in batch]
        for key, value in self._work.score(jobs):
            self._producer.produce(self._told.output, value, key)
        self._producer.poll(0)
        self._scored += [message for message, _ in batch]

    def _commit(self) -> None:
        self._producer.flush()
        for message in self._scored:
            self._consumer.store_offsets(message)
        if self._scored:
            self._consumer.commit(asynchronous=True)
        self._scored.clear()
        self._committed_at = time.monotonic()


def main() -> None:
    """Until killed."""
    told = arguments()
    Loop(told, Work()).run()


if __name__ == "__main__":
    main()
