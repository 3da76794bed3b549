"""Records as other clients write them: every codec of the broker, and names of headers that aren't UTF-8."""

from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition

from worker.commands import kafka
from worker.delivery.outbox import Message, append
from worker.intake.header_names import HeaderName
from worker.settings import load
from worker.types import Record

ODD = b"\xff\xfename"


def received(topics: Any, count: int) -> list[Record]:
    settings = load(None, topics.env).settings
    with kafka.consumer(settings.kafka) as client:
        place = TopicPartition(topics.input, 0)
        client.assign([place])
        found: list[Record] = []
        while len(found) < count:
            found += [kafka.record(one) for batch in client.poll(timeout_ms=5_000).values() for one in batch]
    return found


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_and_any_name_comes_in_as_it_was(topics: Any, codec: str | None) -> None:
    values = [b'{"n": %d}' % number + b" " * 5_000 for number in range(3)]
    with KafkaProducer(
        bootstrap_servers=topics.env["ADSCORE_KAFKA__BOOTSTRAP_SERVERS"], compression_type=codec
    ) as made:
        for number, value in enumerate(values):
            headers = [("plain", b"1"), (HeaderName(ODD), b"2"), ("ünï", None)] if number == 1 else []
            append(made, Message(topics.input, None, value, tuple(headers)), partition=0)
    found = received(topics, 3)
    assert [one.value for one in found] == values
    assert [[(name.encode(), value) for name, value in one.headers] for one in found] == [
        [],
        [(b"plain", b"1"), (ODD, b"2"), ("ünï".encode(), None)],
        [],
    ]


def test_a_name_is_its_bytes_again() -> None:
    assert HeaderName(b"note") == "note"
    assert HeaderName(ODD).encode() == ODD
    assert HeaderName(ODD).lower().startswith("\udcff")
