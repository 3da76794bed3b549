"""Marks in Redis on the records that a worker's decoders and engine hold, so that a death is not repeated for ever.

A worker that dies leaves its marks. Whoever reads those records next runs them one by one (`ALONE`); only a death while
alone condemns a record, since any of the marked may be innocent. Without Redis there are no marks.
"""

from __future__ import annotations

from redis import Redis

from worker.delivery.redis_link import RedisLink, RedisUnavailableError
from worker.types import Origin

TOGETHER, ALONE = "together", "alone"
KEEP_SECONDS = 7 * 86_400


class Marks:
    """Thread-safe. One hash per input partition: offset → how the record was run."""

    def __init__(self, link: RedisLink | None, group: str) -> None:
        self._link = link
        self._group = group

    def hold(self, origin: Origin, how: str) -> None:
        """The record is about to be decoded and scored."""

        def mark(client: Redis) -> None:
            with client.pipeline(transaction=False) as pipe:
                pipe.hset(self._key(origin.topic, origin.partition), str(origin.offset), how)
                pipe.expire(self._key(origin.topic, origin.partition), KEEP_SECONDS)
                pipe.execute()

        if self._link is not None:
            try:
                self._link.call(mark)
            except RedisUnavailableError:
                return

    def release(self, origin: Origin) -> None:
        """The record is finished, or another worker's."""
        if self._link is not None:
            try:
                self._link.call(
                    lambda client: client.hdel(self._key(origin.topic, origin.partition), str(origin.offset))
                )
            except RedisUnavailableError:
                return

    def left(self, topic: str, partition: int) -> dict[int, str]:
        """The marks that a worker left on a partition when it died: offset → TOGETHER or ALONE."""
        if self._link is None:
            return {}
        try:
            found = self._link.call(lambda client: _hash(client.hgetall(self._key(topic, partition))))
        except RedisUnavailableError:
            return {}
        marks = {_text(field): _text(value) for field, value in found.items()}
        return {int(field): how for field, how in marks.items() if field.isdecimal() and how in (TOGETHER, ALONE)}

    def _key(self, topic: str, partition: int) -> str:
        return f"adscore:held:{self._group}:{topic}:{partition}"


def _hash(answer: object) -> dict[object, object]:
    if not isinstance(answer, dict):
        raise ValueError("no answer to HGETALL")  # whatever it is, it isn't Redis that answers
    return answer


def _text(raw: object) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)
