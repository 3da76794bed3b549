"""The memory of revisions as a state machine: commits, lost steps, lost answers, crashes and hand-overs in any order.

With exactly-once every decision must be the one that a reader of the committed outputs would make. With at-least-once
the newest revision must be the last one of its creative once everything has been read again.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.machines.redis_like import StandIn
from worker.delivery.redis_link import RedisLink
from worker.delivery.revisions import Revisions
from worker.types import Origin

EFFORT = settings(max_examples=120, stateful_step_count=40, deadline=None)
NAMES, LASTMODS = ("a", "b"), st.one_of(st.none(), st.integers(0, 4))
ENDS = ("ok", "failed", "answer lost", "crash before it is stored", "crash before the commit", "crash after the commit")


def origin(offset: int) -> Origin:
    return Origin("in", 0, offset, 0)


class Log(RuleBasedStateMachine):
    """One partition; `None` as lastmod is a withdrawal."""

    def link(self) -> Any:
        return StandIn()

    @initialize(most=st.sampled_from([1, 2, 100]))
    def begin(self, most: int) -> None:
        self.store = self.link()
        self.most = most
        self.log: list[tuple[str, int | None]] = []
        self.position = self.committed = 0
        self.here, self.there = self.worker(), self.worker()

    def worker(self) -> Revisions:
        return Revisions(self.store, output_topic="out", keep_seconds=60, max_creatives=self.most)

    @rule(name=st.sampled_from(NAMES), lastmod=LASTMODS)
    def arrives(self, name: str, lastmod: int | None) -> None:
        self.log.append((name, lastmod))


class ExactlyOnce(Log):
    """`told` is what the committed outputs say, `step` what the transaction under way would make of it."""

    @initialize()
    def nothing_is_told(self) -> None:
        self.told: dict[str, int] = {}
        self.step: dict[str, int] = {}

    @precondition(lambda self: self.position < len(self.log))
    @rule()
    def read_one(self) -> None:
        name, lastmod = self.log[self.position]
        where = origin(self.position)
        self.position += 1
        if lastmod is None:
            self.here.stage(name, None, where)
            self.step.pop(name, None)
            return
        superseded = self.here.is_superseded(name, lastmod, where)
        assert superseded == (self.step.get(name, -1) > lastmod)
        if not superseded:
            self.here.stage(name, lastmod, where)
            self.step[name] = lastmod

    @rule(end=st.sampled_from(ENDS))
    def end_the_step(self, end: str) -> None:
        if end != "crash before it is stored":
            self.here.store_staged()
        if end in ("ok", "answer lost", "crash after the commit"):
            self.told, self.committed = dict(self.step), self.position
        self.step, self.position = dict(self.told), self.committed
        if end == "ok":
            self.here.committed()
        elif end.startswith("crash"):
            self.here = self.worker()
        else:
            self.here.rolled_back()

    @rule(tidy=st.booleans())
    def hand_over(self, tidy: bool) -> None:
        """The partition goes to the other worker, after a last commit or without."""
        self.end_the_step("ok" if tidy else "failed")
        self.here.disowned({0})
        self.here, self.there = self.there, self.here


class AtLeastOnce(Log):
    """`last` is the newest output of each creative, in the order of publishing."""

    @initialize()
    def nothing_is_out(self) -> None:
        self.last: dict[str, int | None] = {}

    @precondition(lambda self: self.position < len(self.log))
    @rule(remembered=st.booleans())
    def read_one(self, remembered: bool) -> None:
        """Publish; a crash may come between the acknowledgement and the memory."""
        name, lastmod = self.log[self.position]
        where = origin(self.position)
        if lastmod is None or not self.here.is_superseded(name, lastmod, where):
            self.last[name] = lastmod
            if not remembered:
                self.crash(0)
                return
            self.here.published(name, lastmod, where)
        self.position += 1

    @rule(back=st.integers(0, 4))
    def crash(self, back: int) -> None:
        """Records since the last commit come again."""
        self.committed = max(self.committed, self.position - back)
        self.position = self.committed
        self.here = self.worker()

    @rule()
    def hand_over(self) -> None:
        self.committed = self.position
        self.here.disowned({0})
        self.here, self.there = self.there, self.here

    @precondition(lambda self: self.position == len(self.log))
    @rule()
    def the_newest_is_last(self) -> None:
        newest: dict[str, int | None] = {}
        for name, lastmod in self.log:
            known = newest.get(name)
            newest[name] = lastmod if lastmod is None or known is None else max(known, lastmod)
        assert self.last == newest


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = EFFORT
TestAtLeastOnce = AtLeastOnce.TestCase
TestAtLeastOnce.settings = EFFORT


def test_a_doubtful_step_is_forgotten_with_its_partition() -> None:
    """Found while these machines were written: the partition comes back after another worker went on."""
    store = StandIn()
    first, second = (Revisions(store, output_topic="out", keep_seconds=60, max_creatives=9) for _ in range(2))  # type: ignore[arg-type]
    first.stage("a", 4, origin(5))
    first.store_staged()
    first.rolled_back()
    first.disowned({0})
    assert not second.is_superseded("a", 4, origin(5))
    second.stage("a", 4, origin(5))
    second.stage("a", None, origin(6))
    second.store_staged()
    second.committed()
    assert not first.is_superseded("a", 1, origin(7)), "the withdrawal came in between"


def test_the_same_on_a_real_redis(topics: Any) -> None:
    link = RedisLink(topics.redis_url, timeout_seconds=5, breaker_seconds=1)

    def fresh(_: Log) -> RedisLink:
        link.call(lambda client: client.flushdb())
        return link

    for machine in (ExactlyOnce, AtLeastOnce):
        real = type(f"Real{machine.__name__}", (machine,), {"link": fresh})
        run_state_machine_as_test(real, settings=settings(max_examples=15, stateful_step_count=25, deadline=None))
    link.close()
