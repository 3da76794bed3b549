"""A pool of child processes: what a stranger's bytes can bring down is one of these, never the worker."""

from __future__ import annotations

import contextlib
import queue
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from worker.errors import FatalError
from worker.intake import frames
from worker.intake.child import Child, ChildDiedError, ChildHungError

_START_ATTEMPTS = 3
_START_AGAIN_SECONDS = 0.2


class ChildPool:
    """A fixed number of children of one kind. Thread-safe: a request has a child to itself, and waits for a free one.

    A child that died, hung, asked to retire, or answered `recycle_after` requests (leaks of native libraries stay
    bounded) is replaced. Raises FatalError (exit 3) where children can't be started at all.
    """

    def __init__(
        self,
        module: str,
        workers: int,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        recycle_after: int = 2000,
    ) -> None:
        if workers < 1:
            raise ValueError(f"{workers} workers: at least 1 is needed")
        self._module, self._arguments, self._environment = module, tuple(arguments), dict(environment or {})
        self._recycle_after = recycle_after
        self._closed = False
        self._free: queue.LifoQueue[int] = queue.LifoQueue()  # the child used last has the warmest caches
        self._children = [self._start() for _ in range(workers)]
        self.ready: dict[str, Any] = {}
        """What the children said of themselves when they started."""
        try:
            for slot in range(workers):
                self.ready = self._ready_child(slot).ready_head
                self._free.put(slot)
        except BaseException:
            for child in self._children:
                child.close()
            raise

    def pids(self) -> list[int]:
        """The children's process ids, for tests and for `doctor`."""
        return [child.pid for child in self._children]

    def ask(self, request: Sequence[bytes | memoryview], timeout_seconds: float) -> frames.Reply:
        """Let a child answer. Raises ChildDiedError or ChildHungError; the child is replaced before the next one."""
        slot = self._free.get()
        try:
            child = self._ready_child(slot)
            try:
                reply = child.ask(request, timeout_seconds)
            except BaseException:
                # Also where this process had no memory for the answer: what is left of it would be the next one's.
                self._replace(slot)
                raise
            if reply.retire or child.answered >= self._recycle_after:
                self._replace(slot)
            return reply
        finally:
            self._free.put(slot)

    def close(self) -> None:
        """End all children. Requests under way fail with ChildDiedError, waiting and later ones with RuntimeError."""
        if self._closed:
            return
        self._closed = True
        for child in self._children:
            child.kill()
        slots = [self._free.get() for _ in self._children]  # the killed children's requests end at once
        for slot in slots:
            self._children[slot].close()
            self._free.put(slot)

    def _start(self) -> Child:
        return Child(self._module, self._arguments, self._environment)

    def _replace(self, slot: int) -> None:
        self._children[slot].close()
        if not self._closed:
            with contextlib.suppress(OSError):  # no memory, no descriptors: whoever asks next tries again
                self._children[slot] = self._start()

    def _ready_child(self, slot: int) -> Child:
        for _ in range(_START_ATTEMPTS):
            if self._closed:
                raise RuntimeError("the pool of child processes is closed")
            child = self._children[slot]
            try:
                if child.alive():
                    child.wait_ready()
                    return child
            except (ChildDiedError, ChildHungError):
                pass
            self._replace(slot)
            if not self._children[slot].alive():
                time.sleep(_START_AGAIN_SECONDS)
        message = f"child processes don't start; `{sys.executable} -m {self._module} < /dev/null` shows why"
        raise FatalError(message, exit_code=3)
