"""What `rescore` remembers in Redis of a run, so that `--resume` goes on where it ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
from redis.exceptions import RedisError

from worker.commands import kafka, redis
from worker.commands.progress import Progress
from worker.errors import FatalError
from worker.settings import Settings

VERSION = 1
KEEP_SECONDS = 90 * 24 * 3600
SAVE_SECONDS = 1.0


@dataclass(slots=True)
class Counts:
    """What became of the creatives that were chosen."""

    sent: int = 0
    skipped: int = 0
    """Withdrawn, or published anew, since the run began."""
    expired: int = 0
    """Their record is not on the input topic any more."""
    failed: int = 0

    def told(self, verb: str) -> str:
        """For people."""
        return f"{self.sent} {verb}, {self.skipped} withdrawn or newer, {self.expired} expired, {self.failed} failed"


@dataclass(slots=True)
class Run:
    """One run over the output topic.

    since_ms, models: what was chosen by: published at or after, and scored by other bundles than this set.
    ends: output partition → its end when the run began; what was published later is left alone.
    done: input partition → the last offset that was dealt with.
    """

    since_ms: int | None
    models: str | None
    ends: dict[int, int] = field(default_factory=dict)
    done: dict[int, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)


class Memory:
    """The last run over an output topic that didn't come to its end. Without a client it remembers nothing."""

    def __init__(self, client: Any, topic_id: str, progress: Progress) -> None:
        self._client, self._progress = client, progress
        self._key = f"adscore:rescore:{topic_id}"
        self.lasts = client is not None
        """Whether `--resume` will know."""
        self._at = time.monotonic()
        self._warned = False

    def load(self) -> Run | None:
        """The run that ended early, if any. Raises RedisError."""
        value = self._client.get(self._key)
        try:
            told = orjson.loads(value) if value else {}
            if told.get("v") != VERSION:
                return None
            ends, done = ({int(number): int(at) for number, at in told[name].items()} for name in ("ends", "done"))
            return Run(told["since_ms"], told["models"], ends, done, Counts(**told["counts"]))
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def save(self, run: Run, *, now: bool = False) -> None:
        """Remember the run; at most once a second, unless `now`. Redis may fail: then less is remembered."""
        if self._client is None or (not now and time.monotonic() - self._at < SAVE_SECONDS):
            return
        self._at = time.monotonic()
        value = orjson.dumps({"v": VERSION, **asdict(run)}, option=orjson.OPT_NON_STR_KEYS)
        try:
            self._client.set(self._key, value, ex=KEEP_SECONDS)
        except RedisError as error:
            if not self._warned:
                self._progress.note(f"Redis doesn't remember how far this is ({type(error).__name__}); it goes on")
            self._warned = True

    def forget(self) -> None:
        """The run came to its end."""
        if self._client is not None:
            with suppress(RedisError):  # what is remembered then is done, and a resumed run finds nothing left
                self._client.delete(self._key)


@contextmanager
def memory(settings: Settings, progress: Progress, *, needed: bool) -> Iterator[Memory]:
    """The memory of the runs over the settings' output topic.

    needed: whether the verb can't do without. Raises FatalError (3) where it can't, or where Redis doesn't answer.
    """
    topic = settings.kafka.output_topic
    with kafka.admin(settings.kafka) as admin:
        found = admin.describe_topics([topic])[0]
    if found["error_code"]:
        raise kafka.no_topic(topic)
    topic_id = str(found["topic_id"])
    if not settings.redis.url.get_secret_value():
        if needed:
            raise FatalError("ADSCORE_REDIS__URL isn't set: rescore remembers there how far it was", exit_code=3)
        yield Memory(None, topic_id, progress)
        return
    with redis.connected(settings, "rescore remembers there how far it was") as client:
        yield Memory(client, topic_id, progress)
