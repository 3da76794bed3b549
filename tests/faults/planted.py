"""`adscore` with faults planted from outside: python -m tests.faults.planted PLAN VERB…, PLAN being a JSON object.

    {"die_at": "after_score", "armed_after": 300, "skip": 7}   SIGKILL to itself at the 8th pass of a point, once 300
                                                               records are finished (see POINTS)
    {"poison": true}                                           the worker dies when a marked image is decoded
    {"consumer": {"group_instance_id": "m-{slot}"}}            the group member is made with these settings
    {"defect": "commits_early"}                                a broken worker, to show that the checks see it (DEFECTS)

The product knows nothing of it: functions are replaced by name, here, in the process of the test's worker.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

from tests.faults.fleet import SLOT
from tests.faults.load import POISON
from worker.__main__ import main
from worker.commands import clients
from worker.delivery import outbox, transactions
from worker.delivery.offsets import PartitionOffsets
from worker.intake.decode import DecoderPool
from worker.intake.source import Source
from worker.pipeline.delivering import Deliverer
from worker.pipeline.holdings import Holdings
from worker.types import ScoredCreative

ON_THE_WAY_SECONDS = 0.02
"""Long enough for a request to leave, too short for most answers to be handled."""


class Killer:
    """Counts the passes of one point and kills the process at the one that was chosen."""

    def __init__(self, armed_after: int, skip: int) -> None:
        self._lock = threading.Lock()
        self._armed_after, self._skip = armed_after, skip
        self._finished = 0
        finished = Holdings.finished

        def counted(holdings: Holdings, item: Any) -> bool:
            counts = finished(holdings, item)
            with self._lock:
                self._finished += 1
            return counts

        Holdings.finished = counted  # type: ignore[method-assign]

    def passes(self, wait_seconds: float = 0.0) -> None:
        """The point is passed; it may be the last thing that happens."""
        with self._lock:
            if self._finished < self._armed_after:
                return
            self._skip -= 1
            if self._skip >= 0:
                return
        time.sleep(wait_seconds)
        print(json.dumps({"event": "killed_by_plan", "level": "info"}), file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


def _after(owner: Any, name: str, then: Callable[..., None]) -> None:
    """Replace `owner.name` by itself, followed by `then(result, *arguments)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def replaced(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        then(result, *arguments)
        return result

    setattr(owner, name, replaced)


def _before(owner: Any, name: str, first: Callable[..., None]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def replaced(*arguments: Any, **named: Any) -> Any:
        first(*arguments)
        return original(*arguments, **named)

    setattr(owner, name, replaced)


def _after_poll(killer: Killer) -> None:
    _after(Source, "poll", lambda records, *_: killer.passes() if records else None)


def _after_score(killer: Killer) -> None:
    def done(_deliverer: Deliverer, _item: Any, outcome: Any) -> None:
        if isinstance(outcome, ScoredCreative):
            killer.passes()

    _before(Deliverer, "done", done)


def _after_send(killer: Killer) -> None:
    for module in (outbox, transactions):
        _after(module, "append", lambda *_: killer.passes(ON_THE_WAY_SECONDS))


def _after_acknowledgement(killer: Killer) -> None:
    _before(Holdings, "finished", lambda *_: killer.passes())


def _in_commit(killer: Killer) -> None:
    _after(Source, "commit", lambda *_: killer.passes(ON_THE_WAY_SECONDS / 10))

    original = KafkaProducer.commit_transaction

    def commit(producer: KafkaProducer) -> None:
        timer = threading.Timer(ON_THE_WAY_SECONDS / 10, killer.passes)
        timer.daemon = True
        timer.start()
        original(producer)

    KafkaProducer.commit_transaction = commit


def _before_commit(killer: Killer) -> None:
    """Everything is sent, the offsets too, and the transaction is left open (at-least-once: nothing is committed)."""
    _before(Source, "commit", lambda *_: killer.passes())
    _before(KafkaProducer, "commit_transaction", lambda *_: killer.passes())


def _in_revoke(killer: Killer) -> None:
    """The hand-over is drained, and not yet committed."""

    def committable(_holdings: Holdings, partitions: set[int] | None = None) -> None:
        if partitions is not None:
            killer.passes()

    _before(Holdings, "committable", committable)


POINTS = {
    "after_poll": _after_poll,
    "after_score": _after_score,
    "after_send": _after_send,
    "after_acknowledgement": _after_acknowledgement,
    "before_commit": _before_commit,
    "in_commit": _in_commit,
    "in_revoke": _in_revoke,
}


def _poison() -> None:
    def decode(_pool: DecoderPool, data: bytes, **_: Any) -> None:
        if bytes(data).endswith(POISON):
            print(json.dumps({"event": "poisoned", "level": "info"}), file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    original = DecoderPool.decode

    def replaced(pool: DecoderPool, data: bytes, **named: Any) -> Any:
        decode(pool, data)
        return original(pool, data, **named)

    DecoderPool.decode = replaced  # type: ignore[method-assign]


def _commits_early() -> None:
    """Offsets are committed as soon as a record is received."""
    PartitionOffsets.committable = lambda offsets: offsets._position  # type: ignore[method-assign]


def _drops() -> None:
    """One output in fifty is never sent, and its record counts as finished."""
    original, count = outbox.AtLeastOnceOutbox.put, iter(range(10**9))

    def put(self: outbox.AtLeastOnceOutbox, outgoing: outbox.Outgoing) -> None:
        if next(count) % 50 == 49:
            outgoing.settled(None)
        else:
            original(self, outgoing)

    outbox.AtLeastOnceOutbox.put = put  # type: ignore[method-assign]


def _repeats() -> None:
    """One output in fifty is sent twice."""
    original, count = outbox.append, iter(range(10**9))

    def append(producer: Any, message: Any, **named: Any) -> Any:
        if next(count) % 50 == 49:
            original(producer, message, **named)
        return original(producer, message, **named)

    outbox.append = append
    transactions.append = append  # type: ignore[attr-defined]


def _leaks() -> None:
    """Every finished record leaves 20 KB behind; every hundredth an open file and a thread."""
    kept: list[Any] = []
    original = Holdings.finished

    def finished(holdings: Holdings, item: Any) -> bool:
        kept.append(bytearray(b"\1" * 20_000))
        if len(kept) % 100 == 0:
            kept.append(open(os.devnull))  # noqa: SIM115  a leak
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return original(holdings, item)

    Holdings.finished = finished  # type: ignore[method-assign]


DEFECTS = {"commits_early": _commits_early, "drops": _drops, "repeats": _repeats, "leaks": _leaks}
ASSIGNORS = {"range": RangePartitionAssignor, "cooperative-sticky": CooperativeStickyAssignor}


def _member(config: dict[str, Any]) -> None:
    if "partition_assignment_strategy" in config:
        config["partition_assignment_strategy"] = [ASSIGNORS[config["partition_assignment_strategy"]]]
    if "group_instance_id" in config:
        config["group_instance_id"] = config["group_instance_id"].format(slot=os.environ[SLOT])
    original = clients.KafkaConsumer

    def make(**given: Any) -> Any:
        return original(**(given | config))

    clients.KafkaConsumer = make  # type: ignore[misc, assignment]


def plant(plan: dict[str, Any]) -> None:
    """Put the plan into this process; SIGUSR1 tells what its threads do, for a scene that is stuck."""
    faulthandler.register(signal.SIGUSR1)
    if "die_at" in plan:
        POINTS[plan["die_at"]](Killer(plan["armed_after"], plan["skip"]))
    if plan.get("poison"):
        _poison()
    if "consumer" in plan:
        _member(plan["consumer"])
    if "defect" in plan:
        DEFECTS[plan["defect"]]()


if __name__ == "__main__":
    plant(json.loads(sys.argv.pop(1)))
    main()
