"""A worker on stand-ins, running on a thread of its own."""

import threading
from typing import Any

from tests.fakes import FakeMarks, FakeOutbox, FakeSource, ManualFlow
from worker.delivery.revisions import Revisions
from worker.errors import Code, CreativeError, Stage
from worker.metrics import Metrics
from worker.pipeline.delivering import Deliverer
from worker.pipeline.messages import Delivery
from worker.pipeline.suspects import Suspects
from worker.pipeline.worker import RunLimits, Worker

OUT, DLQ = "creatives.enriched", "creatives.dlq"
BAD = CreativeError(Code.BAD_IMAGE, Stage.DECODE, "the image is cut off")


class Rig:
    """A worker on stand-ins, running on a thread of its own."""

    def __init__(self, *, max_consecutive: int = 0, marks: Any = None, tracing: Any = None, **limits: Any) -> None:
        transactional = limits.get("transactional", False)
        self.source, self.flow, self.metrics = FakeSource(), ManualFlow(), Metrics()
        self.sink = FakeOutbox(in_order=transactional)
        limits = {"max_inflight": 8, "drain_seconds": 2.0, "commit_interval_seconds": 0.01} | limits
        self.marks = FakeMarks(marks)
        self.worker = Worker(RunLimits(**limits), self.metrics, Suspects(self.marks), tracing)  # type: ignore[arg-type]
        self.held = self.worker.holdings
        revisions = Revisions(None, output_topic=OUT, keep_seconds=60, max_creatives=1_000)
        how = Delivery(OUT, DLQ, 100_000, 100_000, "adscore", "w1", max_consecutive)
        self.deliverer = Deliverer(
            self.sink,
            revisions,
            how,
            self.metrics,
            finished=self.worker.finished,
            step_failed=self.worker.reset,
            on_fatal=self.worker.fail,
        )
        self.worker.bind(self.source, self.flow, self.deliverer)  # type: ignore[arg-type]
        self.held.assigned({0, 1})
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:  # noqa: BLE001
            self.error = error

    def offer(self, *records: Any) -> None:
        self.source.offered.extend(records)

    def start(self) -> None:
        self.thread.start()

    def ended(self) -> BaseException | None:
        self.thread.join(5)
        assert not self.thread.is_alive()
        return self.error

    def count(self, outcome: str) -> float:
        return self.metrics.processed.labels(outcome)._value.get()

    def close(self) -> None:
        self.worker.stop()
        self.sink.acknowledge()
        if self.thread.is_alive():
            self.thread.join(5)
        self.deliverer.close(1)
