"""Records without end, and what must become of each: new creatives, revisions out of order, withdrawals, bad images.

Every record of one creative lies on one partition. What must become of it follows from the order of the input alone,
so it is worked out while sending: superseded or not, and which revision must be the last on the output.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer

from tests.faults.creatives import LASTMOD, Outgoing, data_url, png, with_image, withdrawal
from tests.faults.wire import Place
from worker.commands.kafka import MAX_REQUEST_BYTES, send

IMAGES = 200
POOL = 12
CHUNK = 50
OUTPUT, DEAD, WITHDRAWN, SUPERSEDED = "output", "dead letter", "withdrawn", "superseded"


@dataclass(frozen=True)
class Sent:
    """A record on the input topic. `code` is the dead letter's, where its fate is one. lastmod None: a withdrawal."""

    place: Place
    creative_id: str
    lastmod: int | None
    fate: str
    image: int
    code: str = ""
    sent_ms: int = 0


@dataclass(frozen=True)
class _Planned:
    """One to be sent."""

    record: Outgoing
    creative_id: str
    lastmod: int | None
    image: int
    code: str = ""


class Script:
    """Makes the records of one partition and says what becomes of each. Pure: the same seed, the same records.

    poison: one in so many new creatives carries an image that kills whoever decodes it (None: none does).
    """

    def __init__(self, partition: int, seed: str, poison: int | None = None) -> None:
        self._partition, self._poison = partition, poison
        self._dice = random.Random(f"{seed}/{partition}")
        self._serial = 0
        self._newest: dict[str, int] = {}

    def next(self) -> _Planned:
        """The next record."""
        self._serial += 1
        pick, number = self._dice.random(), self._dice.randrange(IMAGES)
        pooled = f"p{self._partition}-pool{self._dice.randrange(POOL)}"
        alone = f"p{self._partition}-n{self._serial}"
        if self._poison and self._serial % self._poison == 0:
            return _Planned(with_image(alone, poisoned(number)), alone, LASTMOD, number, "decode_crashed")
        if pick < 0.03:
            return _Planned(with_image(alone, "data:image/png;base64,AAAA"), alone, LASTMOD, -1, "unsupported_format")
        if pick < 0.06:
            return _Planned(withdrawal(pooled), pooled, None, -1)
        if pick < 0.18:
            lastmod = LASTMOD + self._serial + self._dice.randint(-40, 40)
            return _Planned(with_image(pooled, picture(number), lastmod=lastmod), pooled, lastmod, number)
        return _Planned(with_image(alone, picture(number)), alone, LASTMOD, number)

    def fate(self, planned: _Planned) -> str:
        """What becomes of it; call once for each, in the order they were sent."""
        name, lastmod = planned.creative_id, planned.lastmod
        if lastmod is None:
            self._newest.pop(name, None)
            return WITHDRAWN
        if planned.code:
            return DEAD
        if self._newest.get(name, lastmod) > lastmod:
            return SUPERSEDED
        self._newest[name] = lastmod
        return OUTPUT


@functools.cache
def picture(number: int) -> str:
    """One of the images."""
    return data_url(png(number))


def poisoned(number: int) -> str:
    """An image as good as any, but for a mark that a planted decoder dies of."""
    return data_url(png(number) + POISON)


POISON = b"poison"


class Load:
    """Sends until told to stop, never further ahead of the workers than `ahead` records. Use as a context manager."""

    def __init__(
        self,
        servers: str,
        topic: str,
        scripts: Sequence[Script],
        *,
        ended: Callable[[], int],
        ahead: int,
    ) -> None:
        self._servers, self._topic, self._scripts = servers, topic, scripts
        self._ended, self._ahead = ended, ahead
        self._stopping = threading.Event()
        self._pausing = threading.Event()
        self._error: BaseException | None = None
        self._coming = 0  # of what was sent, what will come out
        self.sent: list[Sent] = []
        """Acknowledged by the brokers; of each partition in order."""
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def finish(self) -> list[Sent]:
        """Send nothing more; all that was sent."""
        self.__exit__()
        if self._error is not None:
            raise self._error
        return self.sent

    def _run(self) -> None:
        client = KafkaProducer(
            bootstrap_servers=self._servers.split(","),
            acks="all",
            linger_ms=2,
            max_request_size=MAX_REQUEST_BYTES,
            delivery_timeout_ms=300_000,
            max_block_ms=120_000,
            allow_auto_create_topics=False,
            reconnect_backoff_max_ms=1_000,
        )
        try:
            while not self._stopping.is_set():
                if self._coming - self._ended() >= self._ahead:
                    time.sleep(0.01)
                    continue
                self._send_some(client)
        except BaseException as error:  # noqa: BLE001  told to whoever asks for what was sent
            self._error = error
        finally:
            client.close(timeout=10)

    def _send_some(self, client: KafkaProducer) -> None:
        waiting: list[tuple[Script, _Planned, Any]] = []
        for _ in range(CHUNK):
            for partition, script in enumerate(self._scripts):
                planned = script.next()
                record = planned.record
                future = send(client, self._topic, record.key, record.value, record.headers, partition=partition)
                waiting.append((script, planned, future))
        client.flush(timeout=300)
        for script, planned, future in waiting:
            done = future.get(timeout=300)
            fate = script.fate(planned)
            self._coming += fate != SUPERSEDED
            place = (done.partition, done.offset)
            self.sent.append(
                Sent(place, planned.creative_id, planned.lastmod, fate, planned.image, planned.code, done.timestamp)
            )
