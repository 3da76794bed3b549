"""Stand-ins for fast tests: a source, a sink and a scoring flow that do just what a test tells them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from worker.delivery.outbox import Message, Outgoing, StepFailedError
from worker.pipeline.job import Job, Outcome
from worker.tracing import NO_TRACE, Trace
from worker.types import Creative, OcrResult, Origin, Record, ScoredCreative

TOPIC = "creatives"


def eventually(check: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Wait until `check` holds; its value. Fails the test when it never does."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)
    return value


def record(
    offset: int, creative_id: str | None = None, *, partition: int = 0, lastmod: int = 1, **extra: Any
) -> Record:
    """An input record with a `data:` image; `value=None` makes a withdrawal."""
    name = creative_id or f"cr-{partition}-{offset}"
    event = {"ad": {"id": name, "lastmod": lastmod, "display": {"banner": {"img": f"data:image/png;base64,{offset}"}}}}
    value = orjson.dumps(event | extra.pop("event", {}))
    fields: dict[str, Any] = {"value": value, "key": name.encode(), "headers": ()} | extra
    return Record(
        Origin(TOPIC, partition, offset, 1_763_750_000_000), fields["key"], fields["value"], fields["headers"]
    )


def scored(creative: Creative, value: float = 0.5) -> ScoredCreative:
    """A finished creative with one head."""
    return ScoredCreative(
        creative=creative,
        content_sha256="c" * 64,
        image_sha256="a" * 64,
        phash="0" * 16,
        heads={"ctr": {"value": value, "bucket": "low", "relative": 1.0}},
        cache={"ctr": "miss"},
        models={"ctr": [{"name": "m", "version": "1", "digest": "d" * 12, "backend": "fake", "precision": "fp32"}]},
        ocr=OcrResult(""),
    )


class FakeSource:
    """Partitions in memory. `offered` are received in order; commits and seeks are kept."""

    def __init__(self) -> None:
        self.offered: deque[Record] = deque()
        self.commits: list[dict[int, int]] = []
        self.polls = 0
        self.paused = False
        self.joined = True
        self.is_member = True
        self.closed = False
        self.seeks: list[tuple[int, int]] = []
        self.lags: dict[int, int] = {}
        self.fail_commit: Exception | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def committed(self) -> dict[int, int]:
        """The newest committed offset of each partition."""
        return {partition: offset for commit in self.commits for partition, offset in commit.items()}

    def poll(self, timeout_ms: int, max_records: int) -> list[Record]:
        self.polls += 1
        for callback in self._callbacks:
            callback()
        self._callbacks.clear()
        if self.paused or not self.offered:
            time.sleep(min(timeout_ms, 5) / 1000)
            return []
        return [self.offered.popleft() for _ in range(min(max_records, len(self.offered)))]

    def commit(self, offsets: Mapping[int, int], done: Callable[[Exception | None], None]) -> None:
        error = self.fail_commit
        if error is None:
            self.commits.append(dict(offsets))
        self._callbacks.append(lambda: done(error))

    def commit_and_wait(self, offsets: Mapping[int, int], timeout_ms: int) -> None:
        if self.fail_commit is not None:
            raise self.fail_commit
        self.commits.append(dict(offsets))

    def position(self, partition: int) -> int | None:
        return None

    def seek(self, partition: int, offset: int) -> None:
        self.seeks.append((partition, offset))

    def rewind(self, partition: int) -> None:
        self.seeks.append((partition, -1))

    def lag(self) -> dict[int, int]:
        return self.lags

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self, timeout_ms: int) -> None:
        self.closed = True


class FakeOutbox:
    """Keeps what is put; settles it at once, or when told to. `in_order` makes it transactional."""

    def __init__(self, *, in_order: bool = False) -> None:
        self.in_order = in_order
        self.full = False
        self.put_: list[Outgoing] = []
        self.waiting: list[Outgoing] = []
        self.hold = in_order
        self.error: Exception | None = None
        self.errors: dict[str, Exception] = {}
        self.fail_next = 0
        self.steps: list[list[Outgoing]] = []

    @property
    def sent(self) -> list[Message]:
        """The messages, in order."""
        return [outgoing.message for outgoing in self.put_ if outgoing.message]

    def put(self, outgoing: Outgoing) -> None:
        self.put_.append(outgoing)
        if self.hold:
            self.waiting.append(outgoing)
        else:
            topic = outgoing.message.topic if outgoing.message else ""
            outgoing.settled(self.errors.get(topic, self.error))

    def due_in(self, now: float) -> float | None:
        return 0.0 if self.in_order and self.waiting else None

    def flush(self) -> None:
        step, self.waiting = [item for item in self.waiting if not item.is_lost()], []
        if self.fail_next:
            self.fail_next -= 1
            raise StepFailedError
        self.steps.append(step)
        for outgoing in step:
            outgoing.settled(None)

    def recover(self, stopping: Callable[[], bool]) -> None:
        """Nothing to mend."""

    def acknowledge(self) -> None:
        """Settle everything that waits."""
        waiting, self.waiting = self.waiting, []
        for outgoing in waiting:
            outgoing.settled(None)

    def keys(self, topic: str) -> list[str]:
        """Keys sent to a topic, in order."""
        return [(message.key or b"").decode() for message in self.sent if message.topic == topic]

    def close(self, timeout_seconds: float) -> None:
        """Nothing to close."""


class FakeMarks:
    """Marks in memory, as another worker may have left them."""

    def __init__(self, left: dict[int, dict[int, str]] | None = None) -> None:
        self.marks = left or {}

    def hold(self, origin: Origin, how: str) -> None:
        self.marks.setdefault(origin.partition, {})[origin.offset] = how

    def release(self, origin: Origin) -> None:
        self.marks.get(origin.partition, {}).pop(origin.offset, None)

    def left(self, topic: str, partition: int) -> dict[int, str]:
        return dict(self.marks.get(partition, {}))


class ManualFlow:
    """A scoring flow whose work is done when the test says so."""

    def __init__(self) -> None:
        self.jobs: dict[str, deque[Job]] = {}
        self.submitted: list[str] = []
        self._lock = threading.Lock()

    def submit(
        self,
        creative: Creative,
        on_done: Callable[[Outcome], None],
        before_decoding: Callable[[], None],
        trace: Trace = NO_TRACE,
    ) -> Job:
        job = Job(creative, on_done, trace=trace)
        before_decoding()
        with self._lock:
            self.jobs.setdefault(creative.creative_id, deque()).append(job)
            self.submitted.append(creative.creative_id)
        return job

    def finish(self, creative_id: str, outcome: Outcome | None = None, *, last: bool = False) -> None:
        """Finish the oldest (or the newest) job of a creative, with a score unless told otherwise."""
        with self._lock:
            jobs = self.jobs[creative_id]
            job = jobs.pop() if last else jobs.popleft()
        job.on_done(outcome or scored(job.creative))
