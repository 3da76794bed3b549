"""The loop and the delivery on stand-ins: order, commits, dead letters, back-pressure, drain, rebalance."""

import threading
import time
from dataclasses import replace
from typing import Any

import orjson
from kafka.errors import (
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RebalanceInProgressError,
    UnknownTopicOrPartitionError,
)

from tests.fakes import eventually, record
from tests.worker.pipeline.rig import BAD, DLQ, OUT
from worker.errors import FatalError


def test_offsets_follow_the_oldest_unfinished_record(make: Any) -> None:
    rig = make()
    rig.offer(*(record(offset) for offset in range(3)))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 3)
    rig.flow.finish("cr-0-2")
    rig.flow.finish("cr-0-1")
    eventually(lambda: rig.count("scored") == 2)
    time.sleep(0.05)
    assert rig.source.committed.get(0, 0) == 0
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.source.committed.get(0) == 3)


def test_nothing_is_committed_before_it_is_acknowledged(make: Any) -> None:
    rig = make()
    rig.sink.hold = True
    rig.offer(record(0))
    rig.start()
    eventually(lambda: rig.flow.submitted)
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.sink.sent)
    time.sleep(0.05)
    assert rig.source.committed.get(0, 0) == 0
    assert rig.count("scored") == 0
    rig.sink.acknowledge()
    eventually(lambda: rig.source.committed.get(0) == 1)


def test_one_bad_creative_leaves_its_neighbours_alone(make: Any) -> None:
    rig = make()
    rig.offer(*(record(offset) for offset in range(3)))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 3)
    rig.flow.finish("cr-0-0")
    rig.flow.finish("cr-0-1", BAD)
    rig.flow.finish("cr-0-2")
    eventually(lambda: rig.source.committed.get(0) == 3)
    assert rig.sink.keys(OUT) == ["cr-0-0", "cr-0-2"]
    assert rig.sink.keys(DLQ) == ["cr-0-1"]
    letter = next(message for message in rig.sink.sent if message.topic == DLQ)
    assert (letter.key, letter.value) == (b"cr-0-1", record(1).value)
    assert dict(letter.headers)["adscore_dlq_code"] == b"bad_image"
    assert dict(letter.headers)["adscore_dlq_offset"] == b"1"


def test_what_cannot_be_read_is_a_dead_letter_too(make: Any) -> None:
    rig = make()
    rig.offer(record(0, value=b"{nonsense"), record(1, value=None, key=None))
    rig.start()
    eventually(lambda: rig.source.committed.get(0) == 2)
    assert [dict(message.headers)["adscore_dlq_code"] for message in rig.sink.sent] == [b"bad_event", b"bad_event"]
    assert (rig.sink.sent[1].key, rig.sink.sent[1].value) == (None, None)


def test_outputs_of_one_creative_keep_the_order_of_arrival(make: Any) -> None:
    rig = make()
    rig.offer(*(record(offset, "same", lastmod=offset) for offset in range(3)), record(3, "other"))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 4)
    rig.flow.finish("same", last=True)
    rig.flow.finish("same", last=True)
    rig.flow.finish("other")
    eventually(lambda: rig.sink.keys(OUT) == ["other"])
    rig.flow.finish("same")
    eventually(lambda: rig.source.committed.get(0) == 4)
    revisions = [orjson.loads(m.value)["lastmod"] for m in rig.sink.sent if m.key == b"same"]
    assert revisions == [0, 1, 2]


def test_an_older_revision_is_superseded_and_an_equal_one_is_published_again(make: Any) -> None:
    rig = make()
    rig.offer(record(0, "a", lastmod=5), record(1, "a", lastmod=4), record(2, "a", lastmod=5))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 3)
    for _ in range(3):
        rig.flow.finish("a")
    eventually(lambda: rig.source.committed.get(0) == 3)
    assert rig.sink.keys(OUT) == ["a", "a"]
    assert rig.count("superseded") == 1


def test_a_dead_letter_does_not_move_the_memory_of_revisions(make: Any) -> None:
    rig = make()
    rig.offer(record(0, "a", lastmod=9), record(1, "a", lastmod=4))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 2)
    rig.flow.finish("a", BAD)
    rig.flow.finish("a")
    eventually(lambda: rig.source.committed.get(0) == 2)
    assert rig.sink.keys(OUT) == ["a"]


def test_a_withdrawal_takes_its_turn_and_lets_the_creative_come_back(make: Any) -> None:
    rig = make()
    rig.offer(record(0, "a", lastmod=9), record(1, "a", value=None), record(2, "a", lastmod=4))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 2)
    time.sleep(0.02)
    assert not rig.sink.sent, "the withdrawal must wait for the record before it"
    rig.flow.finish("a")
    rig.flow.finish("a")
    eventually(lambda: rig.source.committed.get(0) == 3)
    assert [message.value is None for message in rig.sink.sent] == [False, True, False]
    assert dict(rig.sink.sent[1].headers)["ce_type"] == b"creative.withdrawn.v1"
    assert (rig.count("withdrawn"), rig.count("scored")) == (1, 2)


def test_in_flight_work_is_bounded_and_the_loop_goes_on(make: Any) -> None:
    rig = make(max_inflight=4)
    rig.offer(*(record(offset) for offset in range(20)))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 4)
    polls = rig.source.polls
    eventually(lambda: rig.source.polls > polls + 3)
    assert rig.source.paused
    assert len(rig.flow.submitted) == 4
    rig.flow.finish("cr-0-0")
    eventually(lambda: len(rig.flow.submitted) == 5)
    for offset in range(1, 20):
        eventually(lambda offset=offset: f"cr-0-{offset}" in rig.flow.jobs)
        rig.flow.finish(f"cr-0-{offset}")
    eventually(lambda: rig.source.committed.get(0) == 20)


def test_stop_commits_what_is_finished_and_leaves_the_rest(make: Any) -> None:
    rig = make(drain_seconds=0.4)
    rig.offer(record(0), record(1))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 2)
    rig.flow.finish("cr-0-0")
    rig.worker.stop()
    started = time.monotonic()
    assert rig.ended() is None
    assert time.monotonic() - started < 0.6
    assert rig.source.committed == {0: 1}
    assert rig.source.closed
    rig.flow.finish("cr-0-1")


def test_stop_waits_for_work_that_finishes_in_time(make: Any) -> None:
    rig = make(drain_seconds=4.0)
    rig.offer(record(0))
    rig.start()
    eventually(lambda: rig.flow.submitted)
    rig.worker.stop()
    threading.Timer(0.1, lambda: rig.flow.finish("cr-0-0")).start()
    assert rig.ended() is None
    assert rig.source.committed == {0: 1}


def test_stop_without_an_answer_from_the_broker_is_status_3(make: Any) -> None:
    rig = make(drain_seconds=0.3)
    rig.offer(record(0))
    rig.start()
    eventually(lambda: rig.flow.submitted)
    rig.source.fail_commit = KafkaTimeoutError()
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.count("scored") == 1)
    rig.worker.stop()
    error = rig.ended()
    assert isinstance(error, FatalError)
    assert error.exit_code == 3


def test_a_hand_over_waits_for_what_is_in_flight(make: Any) -> None:
    rig = make()
    rig.offer(record(0), record(7, partition=1))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 2)
    ready = threading.Event()
    rig.held.drain({1}, ready.set)
    assert not ready.wait(0.05)
    rig.flow.finish("cr-1-7")
    assert ready.wait(2)
    assert rig.held.committable({1}) in ({1: 8}, {})
    rig.held.lost({1})
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.source.committed.get(0) == 1)


def test_lost_work_is_neither_published_nor_counted(make: Any) -> None:
    rig = make()
    rig.offer(record(7, "a", partition=1), record(8, "a", partition=1), record(0))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 3)
    jobs = list(rig.flow.jobs["a"])
    rig.held.lost({1})
    assert all(job.cancelled for job in jobs)
    rig.flow.finish("a")
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.source.committed.get(0) == 1)
    assert rig.sink.keys(OUT) == ["cr-0-0"]
    assert 1 not in rig.source.committed or rig.source.committed[1] == 7
    # The partition comes back, and its records are received again.
    rig.held.assigned({1})
    rig.offer(record(7, "a", partition=1))
    eventually(lambda: len(rig.flow.submitted) == 4)
    rig.flow.finish("a", last=True)
    eventually(lambda: rig.source.committed.get(1) == 8)


def test_max_messages_stops_after_exactly_so_many(make: Any) -> None:
    rig = make(max_messages=2)
    rig.offer(*(record(offset) for offset in range(5)))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 2)
    rig.flow.finish("cr-0-0")
    rig.flow.finish("cr-0-1")
    assert rig.ended() is None
    assert rig.flow.submitted == ["cr-0-0", "cr-0-1"]
    assert rig.source.committed == {0: 2}


def test_idle_means_nothing_received_and_nothing_unfinished(make: Any) -> None:
    rig = make(until_idle_seconds=0.1)
    rig.offer(record(0))
    rig.start()
    eventually(lambda: rig.flow.submitted)
    time.sleep(0.2)
    assert rig.thread.is_alive()
    rig.flow.finish("cr-0-0")
    assert rig.ended() is None
    assert rig.source.committed == {0: 1}


def test_too_many_dead_letters_in_a_row_stop_the_worker_uncommitted(make: Any) -> None:
    rig = make(max_consecutive=2)
    rig.offer(*(record(offset) for offset in range(5)))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 5)
    rig.flow.finish("cr-0-0", BAD)
    rig.flow.finish("cr-0-1")
    for offset in (2, 3, 4):
        rig.flow.finish(f"cr-0-{offset}", BAD)
    error = rig.ended()
    assert isinstance(error, FatalError)
    assert error.exit_code == 1
    assert "MAX_CONSECUTIVE" in str(error)
    assert len(rig.sink.keys(DLQ)) == 3
    assert rig.source.committed.get(0, 0) <= 4


def test_an_event_too_large_for_the_output_is_a_dead_letter(make: Any) -> None:
    rig = make()
    rig.offer(record(0))
    rig.start()
    eventually(lambda: rig.flow.submitted)
    rig.sink.errors = {OUT: MessageSizeTooLargeError()}
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.source.committed.get(0) == 1)
    assert dict(rig.sink.sent[-1].headers)["adscore_dlq_code"] == b"publish_too_large"


def test_a_topic_that_is_gone_ends_the_worker_with_3(make: Any) -> None:
    rig = make()
    rig.sink.error = UnknownTopicOrPartitionError()
    rig.offer(record(0))
    rig.start()
    eventually(lambda: rig.flow.submitted)
    rig.flow.finish("cr-0-0")
    error = rig.ended()
    assert isinstance(error, FatalError)
    assert error.exit_code == 3
    assert "adscore topics create" in str(error)
    assert rig.source.committed.get(0, 0) == 0


def test_a_withdrawal_that_cannot_be_written_names_the_topic_that_it_was_for(make: Any) -> None:
    rig = make()
    rig.sink.error = UnknownTopicOrPartitionError()
    rig.offer(replace(record(0), key=b"cr-1", value=None))
    rig.start()
    error = rig.ended()
    assert isinstance(error, FatalError)
    assert f"topic {OUT} " in str(error)


def test_the_last_commit_waits_for_a_rebalance_to_end(make: Any) -> None:
    rig = make()
    rig.offer(record(0))
    rig.start()
    eventually(lambda: rig.flow.submitted)
    rig.source.fail_commit = RebalanceInProgressError()
    rig.flow.finish("cr-0-0")
    eventually(lambda: rig.count("scored") == 1)
    rig.worker.stop()
    time.sleep(0.2)
    assert rig.thread.is_alive()
    rig.source.fail_commit = None
    assert rig.ended() is None
    assert rig.source.committed == {0: 1}


def test_the_lag_of_a_partition_that_was_lost_is_not_told_any_more(make: Any) -> None:
    rig = make()

    def told() -> dict[str, float]:
        (metric,) = rig.metrics.lag.collect()
        return {sample.labels["partition"]: sample.value for sample in metric.samples}

    rig.source.lags = {0: 5, 1: 3}
    rig.start()
    eventually(lambda: told() == {"0": 5.0, "1": 3.0})
    rig.source.lags = {1: 2}
    eventually(lambda: told() == {"1": 2.0})
    rig.source.lags = {}
    eventually(lambda: told() == {})
