"""Steps of exactly-once on a stand-in producer: what they hold, when they commit, and what is left out."""

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.errors import KafkaError
from kafka.future import Future
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from worker.delivery.outbox import Message, Outgoing, StepFailedError
from worker.delivery.transactions import TransactionalOutbox
from worker.types import Origin


class Producer:
    """Keeps what it is told; `fail` makes the next commit fail."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.offsets: list[tuple[dict[TopicPartition, OffsetAndMetadata], Any]] = []
        self.committed = 0
        self.fail: Exception | None = None

    def init_transactions(self) -> None: ...

    def begin_transaction(self) -> None: ...

    def send(self, topic: str, value: bytes, **more: Any) -> Future:
        self.sent.append((topic, value))
        return Future().success(None)

    def send_offsets_to_transaction(self, offsets: Any, metadata: Any) -> None:
        self.offsets.append((offsets, metadata))

    def commit_transaction(self) -> None:
        if self.fail:
            raise self.fail
        self.committed += 1

    def close(self, timeout: float) -> None: ...


class Rig:
    """An outbox, its producer, and what was settled."""

    def __init__(self, **limits: Any) -> None:
        self.producer, self.settled, self.generation = Producer(), [], 1
        self.on_metadata: Any = lambda: None
        self.outbox = TransactionalOutbox(
            lambda: self.producer,  # type: ignore[arg-type, return-value]
            self._metadata,
            timeout_seconds=5.0,
            **limits,
        )

    def _metadata(self) -> ConsumerGroupMetadata:
        self.on_metadata()
        return SimpleNamespace(generation_id=self.generation)  # type: ignore[return-value]

    def put(self, offset: int, is_lost: Any = lambda: False, partition: int = 0) -> None:
        message = Message("out", b"key", str(offset).encode(), ())
        origin = Origin("in", partition, offset, 0)
        self.outbox.put(Outgoing(origin, message, lambda error: self.settled.append((offset, error)), is_lost))


def test_a_step_is_outputs_and_offsets_in_one_transaction() -> None:
    rig = Rig()
    rig.put(3)
    rig.put(4)
    rig.put(9, partition=1)
    rig.outbox.flush()
    assert [value for _, value in rig.producer.sent] == [b"3", b"4", b"9"]
    (offsets, _) = rig.producer.offsets[0]
    assert {place.partition: entry.offset for place, entry in offsets.items()} == {0: 5, 1: 10}
    assert rig.producer.committed == 1
    assert rig.settled == [(3, None), (4, None), (9, None)]


def test_what_is_lost_is_left_out_and_settled() -> None:
    rig = Rig()
    rig.put(3, is_lost=lambda: True)
    rig.put(9, partition=1)
    rig.outbox.flush()
    assert [value for _, value in rig.producer.sent] == [b"9"]
    assert {place.partition for place in rig.producer.offsets[0][0]} == {1}
    assert rig.settled == [(3, None), (9, None)]


def test_a_membership_that_is_joined_after_the_loss_commits_nothing_of_it() -> None:
    """The group lets a member commit any partition: only the older generation keeps a replaced worker out."""
    rig = Rig()
    lost: list[bool] = []
    rig.put(3, is_lost=lambda: bool(lost))

    def evicted_and_joined() -> None:
        lost.append(True)
        rig.generation = 2

    rig.on_metadata = evicted_and_joined
    rig.outbox.flush()
    assert rig.producer.sent == []


def test_a_step_that_fails_settles_nothing_and_is_forgotten() -> None:
    rig = Rig()
    rig.put(3)
    rig.producer.fail = KafkaError("fenced")
    with pytest.raises(StepFailedError):
        rig.outbox.flush()
    assert rig.settled == []
    assert rig.outbox.due_in(0.0) is None


def test_a_step_is_due_when_it_has_enough_or_is_old_and_full_at_its_most() -> None:
    rig = Rig(enough_records=2, max_records=3, interval_seconds=1_000.0)
    assert rig.outbox.due_in(0.0) is None
    rig.put(1)
    assert (rig.outbox.due_in(0.0) or 0.0) > 0.0
    rig.put(2)
    assert rig.outbox.due_in(0.0) == 0.0
    assert not rig.outbox.full
    rig.put(3)
    assert rig.outbox.full
