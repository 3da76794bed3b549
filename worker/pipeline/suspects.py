"""Records that were held when a worker died: they run one by one, and one that kills again is condemned.

Random deaths must not condemn the innocent: being held at a death only makes a record a suspect, and only a death
while it ran alone makes it a dead letter.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import structlog

from worker.delivery.marks import ALONE, TOGETHER, Marks
from worker.errors import Code, CreativeError, Stage
from worker.pipeline.delivering import Assignment, Item

_log = structlog.get_logger(__name__)


class Suspects:
    """`hold`, `release` and `take` are called from any thread, the rest by the loop."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._known: dict[Assignment, dict[int, str]] = {}
        self._waiting: deque[Item] = deque()
        self._held: set[Item] = set()
        self._taking = threading.Lock()
        self._keeping = False

    @property
    def waiting(self) -> int:
        """Suspects that wait for their turn alone; nothing is received meanwhile."""
        return len(self._waiting)

    def stop(self, item: Item, condemn: Callable[[CreativeError], None]) -> bool:
        """Keep a suspect back for its turn alone, or condemn it; False for a record nobody suspects."""
        assignment, origin = item.assignment, item.record.origin
        if assignment not in self._known:
            self._known[assignment] = self._marks.left(origin.topic, origin.partition)
        how = self._known[assignment].pop(origin.offset, None)
        if how is None:
            return False
        self._held.add(item)
        if how == ALONE:
            message = "the worker died while its decoder or engine held this record, and again when it ran alone"
            condemn(CreativeError(Code.DECODE_CRASHED, Stage.DECODE, message, attempts=2))
        else:
            _log.warning("suspect_runs_alone", record=str(origin))
            self._waiting.append(item)
        return True

    def take(self, undecided: int) -> Item | None:
        """The next suspect, once nothing else is at work.

        undecided: records without an outcome, the suspects among them. One that has its outcome may have to wait for
        a suspect before it in the order of outputs.
        """
        with self._taking:
            while self._waiting and self._waiting[0].assignment.lost:
                self._waiting.popleft()
            if not self._waiting or undecided > len(self._waiting):
                return None
            return self._waiting.popleft()

    def hold(self, item: Item, *, alone: bool) -> None:
        """The record goes to the decoder and the engine now."""
        self._held.add(item)
        self._marks.hold(item.record.origin, ALONE if alone else TOGETHER)

    def release(self, item: Item) -> None:
        """The record is finished."""
        if item in self._held:
            self._held.discard(item)
            self._marks.release(item.record.origin)

    def keep(self) -> None:
        """This worker dies of what it holds: the marks stay, and leaving the group takes none of them away."""
        self._keeping = True

    def disowned(self, assignment: Assignment) -> None:
        """Another worker owns the partition: what was held of it is free."""
        self._known.pop(assignment, None)
        if self._keeping:
            return
        for item in [item for item in list(self._held) if item.assignment is assignment]:
            self.release(item)

    def clear(self) -> None:
        """Nothing is held any more: all records come again, here or at another worker."""
        self._waiting.clear()
        if self._keeping:
            return
        for item in list(self._held):
            self.release(item)
