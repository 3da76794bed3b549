"""The group member on a stand-in for kafka-python's consumer: what goes wrong inside the library must end here."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import (
    CoordinatorNotAvailableError,
    FencedInstanceIdError,
    KafkaConnectionError,
    UnknownBrokerIdError,
)
from kafka.future import Future
from kafka.net.selector import _initialize_coro
from kafka.structs import MemberState

from worker.intake.source import Ownership, Source

SESSION_SECONDS = 6.0


class Network:
    """Runs what is to run on the network thread when told to."""

    def __init__(self) -> None:
        self.soon: list[Any] = []

    def call_soon_threadsafe(self, callback: Any) -> None:
        _initialize_coro(callback)  # the library's own, which refuses what it can't run
        callback()

    def call_later(self, _seconds: float, callback: Any) -> None:
        self.soon.append(callback)


class Coordinator:
    """The group, as kafka-python sees it."""

    def __init__(self) -> None:
        self.state, self.coordinator_id, self._join_task = MemberState.STABLE, "coordinator-1", None
        self.heartbeat = SimpleNamespace(last_receive=time.monotonic())
        self.rejoin, self.unknown = False, False

    def need_rejoin(self) -> bool:
        return self.rejoin

    def coordinator_unknown(self) -> bool:
        return self.unknown

    def coordinator_dead(self, _why: str) -> None:
        self.coordinator_id = None


class Consumer:
    """As much of KafkaConsumer as a Source uses."""

    config = {"session_timeout_ms": int(SESSION_SECONDS * 1000)}  # noqa: RUF012

    def __init__(self) -> None:
        self._coordinator, self._net = Coordinator(), Network()
        self.connection = SimpleNamespace(closed=None)
        self.connection.close = lambda error: setattr(self.connection, "closed", error)
        self._manager = SimpleNamespace(_conns={"coordinator-1": self.connection})
        self._fetcher = SimpleNamespace(_nodes_with_pending_fetch_requests={1}, _next_partition_records=None)
        self.polls: list[int] = []
        self.commits: list[Any] = []
        self.error: Exception | None = None
        self.generation = 1

    def partitions_for_topic(self, _topic: str) -> None: ...

    def subscribe(self, _topics: list[str], listener: Any) -> None: ...

    def poll(self, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        self.polls.append(timeout_ms)
        if self.error is not None:
            raise self.error
        return {}

    def group_metadata(self) -> Any:
        return SimpleNamespace(generation_id=self.generation, state=self._coordinator.state)

    def commit_async(self, offsets: Any, callback: Any) -> None:
        self.commits.append(offsets)


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


@pytest.fixture
def source(consumer: Consumer) -> Source:
    nothing: Any = lambda *_: None  # noqa: E731
    return Source(consumer, "creatives", Ownership(nothing, nothing, nothing, nothing, nothing))  # type: ignore[arg-type]


@pytest.mark.parametrize("away", [KafkaConnectionError, UnknownBrokerIdError])
def test_brokers_out_of_reach_are_waited_for(consumer: Consumer, source: Source, away: type[Exception]) -> None:
    consumer.error = away("connection reset by peer")
    assert source.poll(10, 5) == []
    assert consumer._fetcher._nodes_with_pending_fetch_requests == set(), "its partitions would stand still"
    consumer.error = FencedInstanceIdError()
    with pytest.raises(FencedInstanceIdError):
        source.poll(10, 5)


def test_a_join_that_ended_between_two_polls_is_kept(consumer: Consumer, source: Source) -> None:
    consumer._coordinator.rejoin = True
    consumer._coordinator._join_task = Future().success(b"assignment")
    source.poll(0, 1)
    kept = consumer._coordinator._join_task
    assert not kept.is_done, "kafka-python makes a join that is done once more"
    consumer._net.soon.pop()()
    assert kept.value == b"assignment"


@pytest.mark.parametrize("task", [None, Future(), Future().failure(KafkaConnectionError())])
def test_any_other_join_is_left_alone(consumer: Consumer, source: Source, task: Any) -> None:
    consumer._coordinator.rejoin = True
    consumer._coordinator._join_task = task
    source.poll(0, 1)
    assert consumer._coordinator._join_task is task
    assert consumer.polls == [100], "a poll without time to spare never joins"


def test_a_join_without_an_answer_is_given_up(
    consumer: Consumer, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer._coordinator.rejoin = True
    consumer._coordinator._join_task = Future()
    begin = time.monotonic()
    source.poll(0, 1)
    monkeypatch.setattr(time, "monotonic", lambda: begin + 2 * SESSION_SECONDS - 1)
    source.poll(0, 1)
    assert consumer.connection.closed is None
    monkeypatch.setattr(time, "monotonic", lambda: begin + 2 * SESSION_SECONDS + 1)
    source.poll(0, 1)
    assert isinstance(consumer.connection.closed, KafkaConnectionError)
    assert consumer._coordinator._join_task is None
    assert consumer._coordinator.coordinator_id is None


def test_nothing_is_committed_while_the_coordinator_is_unknown(consumer: Consumer, source: Source) -> None:
    told: list[Any] = []
    consumer._coordinator.unknown = True
    source.commit({0: 5}, told.append)
    assert consumer.commits == []
    assert isinstance(told[0], CoordinatorNotAvailableError)
    consumer._coordinator.unknown = False
    source.commit({0: 5}, told.append)
    assert len(consumer.commits) == 1


def test_a_member_is_who_was_confirmed_within_the_session(consumer: Consumer, source: Source) -> None:
    source.poll(0, 1)
    now = time.monotonic()
    assert source.is_member
    consumer._coordinator.heartbeat.last_receive = now - SESSION_SECONDS - 1
    source._membership._joined_at = now - SESSION_SECONDS - 1
    assert not source.is_member, "frozen, or cut off"
    consumer.generation = 2
    source.poll(0, 1)
    assert source.is_member, "joined again"
    consumer._coordinator.state = MemberState.UNJOINED
    assert not source.is_member
    consumer._coordinator.state = MemberState.REBALANCING
    assert source.is_member
