import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from worker.commands import kafka, reading
from worker.commands.replaying import original
from worker.delivery.dead_letters import dead_letter_record
from worker.errors import Code, CreativeError, Stage
from worker.settings import Settings, load
from worker.types import Headers, Origin, Record

IMAGE = "data:image/png;base64," + "A" * 5_000
HEADERS: Headers = (("ce_type", b"creative.submitted.v1"), ("odd", None), ("odd", b"\xff"))


def settings_of(topics: Any) -> Settings:
    return load(None, {name: value for name, value in topics.env.items() if name.startswith("ADSCORE_")}).settings


def value(number: int) -> bytes:
    return json.dumps({"ad": {"id": f"cr-{number}", "display": {"banner": {"img": IMAGE}}}}).encode()


def fill(topics: Any, codes: Iterable[Code], max_bytes: int = 1_000_000, key: bytes | None = None) -> None:
    """One dead letter per code, as the worker writes them."""
    settings = settings_of(topics)
    with kafka.producer(settings.kafka) as producer:
        for number, code in enumerate(codes):
            origin = Origin(topics.input, number % 3, number, 1_763_750_000_000 + number)
            record = Record(origin, key or f"cr-{number}".encode(), value(number), HEADERS)
            error = CreativeError(code, Stage.DECODE, "why it was refused", retryable=code == Code.FETCH_TIMEOUT)
            kafka.send(producer, topics.dlq, *dead_letter_record(record, error, "worker-1", max_bytes))
        producer.flush()


def on_input(topics: Any) -> list[Record]:
    settings = settings_of(topics)
    with kafka.consumer(settings.kafka) as client:
        return list(reading.read(client, *reading.span(client, topics.input)))


def test_list(adscore: Callable[..., Any], topics: Any) -> None:
    fill(topics, [Code.BAD_IMAGE, Code.FETCH_TIMEOUT])
    ran = adscore("dlq", "list", "--json", env=topics.env)
    assert ran.status == 0
    told = {line["key"]: line for line in map(json.loads, ran.out.splitlines())}
    assert told["cr-1"] == {
        "partition": told["cr-1"]["partition"],
        "offset": told["cr-1"]["offset"],
        "key": "cr-1",
        "code": "fetch_timeout",
        "stage": "decode",
        "topic": topics.input,
        "timestamp": 1_763_750_000_001,
        "retryable": True,
    }
    assert told["cr-0"]["retryable"] is False
    people = adscore("dlq", "list", env=topics.env).out
    assert "bad_image" in people
    assert "why it was refused" in people


def test_what_no_worker_wrote_is_listed_too(adscore: Callable[..., Any], topics: Any) -> None:
    with kafka.producer(settings_of(topics).kafka) as producer:
        kafka.send(producer, topics.dlq, None, b"\x1b[2J", ()).get(timeout=10)
    (told,) = map(json.loads, adscore("dlq", "list", "--json", env=topics.env).out.splitlines())
    assert told | {"partition": 0} == dict.fromkeys(told) | {"partition": 0, "offset": 0}
    assert adscore("dlq", "list", env=topics.env).status == 0
    ran = adscore("dlq", "replay", env=topics.env)
    assert ran.status == 1
    assert "names no topic" in ran.err


def test_show(adscore: Callable[..., Any], topics: Any) -> None:
    fill(topics, [Code.BAD_IMAGE])
    (told,) = map(json.loads, adscore("dlq", "list", "--json", env=topics.env).out.splitlines())
    place = f"{told['partition']}:{told['offset']}"
    ran = adscore("dlq", "show", place, env=topics.env)
    assert ran.status == 0
    assert "key: cr-0\n" in ran.out
    assert "adscore_dlq_code: bad_image\n" in ran.out
    assert '"img": "data:image/png;base64,… (' in ran.out
    assert len(ran.out) < 2_000
    assert adscore("dlq", "show", "--raw", place, env=topics.env).out.encode() == value(0)
    assert adscore("dlq", "show", f"{told['partition']}:99", env=topics.env).status == 1
    assert adscore("dlq", "show", "99:0", env=topics.env).status == 1


@pytest.mark.parametrize("place", ["1", "1:", ":1", "-1:0", "1:0:0", "a:b", "٣:٣"])
def test_a_place_is_partition_and_offset(adscore: Callable[..., Any], place: str) -> None:
    assert adscore("dlq", "show", "--", place).status == 2


def test_replay_sends_what_was_received_each_once(adscore: Callable[..., Any], topics: Any) -> None:
    fill(topics, [Code.BAD_IMAGE, Code.FETCH_TIMEOUT, Code.FETCH_TIMEOUT])
    assert adscore("dlq", "replay", "--dry-run", env=topics.env).out.count("\n") == 3
    assert on_input(topics) == []
    first = adscore("dlq", "replay", "--code", "fetch_timeout", "--limit", "1", env=topics.env)
    assert (first.status, "1 sent" in first.err) == (0, True)
    rest = adscore("dlq", "replay", "--rate", "1000", env=topics.env)
    assert (rest.status, "2 sent, 1 sent before" in rest.err) == (0, True)
    assert "0 sent, 3 sent before" in adscore("dlq", "replay", env=topics.env).err
    found = {record.key: record for record in on_input(topics)}
    assert sorted(found) == [b"cr-0", b"cr-1", b"cr-2"]
    assert found[b"cr-1"].value == value(1)
    assert found[b"cr-1"].headers == (*HEADERS, ("adscore_replays", b"1"))
    assert found[b"cr-1"].origin.timestamp_ms == 1_763_750_000_001
    assert adscore("dlq", "replay", "--again", env=topics.env).status == 0
    assert len(on_input(topics)) == 6
    assert adscore("dlq", "list", "--json", env=topics.env).out.count("\n") == 3


def test_truncated_ones_are_skipped_and_told(adscore: Callable[..., Any], topics: Any) -> None:
    fill(topics, [Code.BAD_IMAGE], max_bytes=2_000)
    ran = adscore("dlq", "replay", env=topics.env)
    assert ran.status == 1
    assert "0 sent, 0 sent before, 1 truncated" in ran.err
    assert on_input(topics) == []


def test_replay_needs_redis_for_its_memory(adscore: Callable[..., Any], topics: Any) -> None:
    fill(topics, [Code.BAD_IMAGE])
    ran = adscore("dlq", "replay", env=topics.env | {"ADSCORE_REDIS__URL": ""})
    assert ran.status == 3
    assert "ADSCORE_REDIS__URL" in ran.err
    assert on_input(topics) == []


def test_a_dead_letter_that_can_go_nowhere_does_not_keep_those_behind_it(
    adscore: Callable[..., Any], make_topics: Callable[[int], Any]
) -> None:
    topics = make_topics(1)
    settings = settings_of(topics)
    came_from = ("adscore_dlq_topic", topics.input.encode())
    to_partition = "adscore_dlq_partition"
    odd: list[tuple[bytes | None, Headers]] = [
        (None, (came_from,)),
        (None, (came_from, (to_partition, b"x"))),
        (None, (came_from, (to_partition, b"77"))),
        (b"k", (("adscore_dlq_topic", b"bad topic!"),)),
        (b"k", (("adscore_dlq_topic", b"not.there"),)),
        (b"k", (("adscore_dlq_topic", None),)),
        (b"k", (("adscore_dlq_topic", b"__consumer_offsets"),)),
        (b"k", (came_from, ("adscore_dlq_timestamp", b"9" * 17))),
    ]
    with kafka.producer(settings.kafka) as producer:
        for key, headers in odd:
            kafka.send(producer, topics.dlq, key, b"{}", headers)
        producer.flush()
    fill(topics, [Code.BAD_IMAGE])
    ran = adscore("dlq", "replay", "--dry-run", env=topics.env)
    assert ran.status == 1
    assert 2 <= ran.out.count("\n") <= 3  # the timestamp, and Kafka's own topic once it is there, the broker refuses
    ran = adscore("dlq", "replay", env=topics.env)
    assert (ran.status, "1 sent, 0 sent before, 0 truncated, 8 failed" in ran.err) == (1, True), ran.err
    assert [line.split(": ")[0] for line in ran.err.splitlines()[:8]] == [f"0:{offset}" for offset in range(8)]
    assert [record.key for record in on_input(topics)] == [b"cr-0"]


@pytest.mark.parametrize(
    ("before", "after"), [(None, b"1"), (b"1", b"2"), (b"41", b"42"), (b"x", b"1"), (b"-3", b"1"), (b"9" * 50, b"1")]
)
def test_replays_are_counted(before: bytes | None, after: bytes) -> None:
    headers: Headers = (("a", b"b"),) if before is None else (("a", b"b"), ("adscore_replays", before))
    record = Record(Origin("dlq", 0, 0, 0), None, b"", (*headers, ("adscore_dlq_code", b"bad_image")))
    assert original(record) == (("a", b"b"), ("adscore_replays", after))
