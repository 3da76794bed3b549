import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from worker.commands import kafka
from worker.settings import Settings, load

EVENT = {"creative_id": "cr-1", "status": "scored", "scores": {"attractiveness": {"value": 0.5, "bucket": "a5"}}}


def put(topics: Any, *records: tuple[str, bytes | None]) -> Settings:
    """Write (key, value) to the output topic, a millisecond apart."""
    settings = load(None, {name: value for name, value in topics.env.items() if name.startswith("ADSCORE_")}).settings
    with kafka.producer(settings.kafka) as producer:
        for number, (key, value) in enumerate(records):
            headers = (("ce_type", b"creative.enriched.v1"), ("odd", None))
            kafka.send(producer, topics.output, key.encode(), value, headers, timestamp_ms=1_763_750_000_000 + number)
        producer.flush()
    return settings


def test_the_last_of_all_partitions_oldest_first(adscore: Callable[..., Any], topics: Any) -> None:
    put(topics, *((f"cr-{n}", json.dumps(EVENT | {"creative_id": f"cr-{n}"}).encode()) for n in range(30)))
    ran = adscore("tail", "--last", "7", "--json", env=topics.env)
    assert ran.status == 0
    told = [json.loads(line) for line in ran.out.splitlines()]
    assert [record["key"] for record in told] == [f"cr-{n}" for n in range(23, 30)]
    assert set(told[0]) == {"partition", "offset", "key", "headers", "value"}
    assert told[0]["headers"] == {"ce_type": "creative.enriched.v1", "odd": ""}
    assert told[0]["value"]["creative_id"] == "cr-23"
    assert len(adscore("tail", "--json", env=topics.env).out.splitlines()) == 10
    assert len(adscore("tail", "--json", "--last", "1000", env=topics.env).out.splitlines()) == 30


def test_withdrawn_and_foreign_records(adscore: Callable[..., Any], topics: Any) -> None:
    put(topics, ("gone", None), ("\x1b[2Jodd", b"\x1b[31mnot json"), ("cr-1", json.dumps(EVENT).encode()))
    told = [json.loads(line) for line in adscore("tail", "--json", env=topics.env).out.splitlines()]
    assert [record["value"] for record in told] == [None, "\x1b[31mnot json", EVENT]
    out = adscore("tail", env=topics.env).out
    assert "\x1b" not in out
    assert [line.split()[3] for line in out.splitlines()[1:]] == ["withdrawn", "unreadable", "scored"]


def test_an_empty_topic(adscore: Callable[..., Any], topics: Any) -> None:
    assert adscore("tail", "--json", env=topics.env).out == ""


@pytest.mark.parametrize("count", ["0", "1"])
def test_follow_shows_what_comes(start_adscore: Callable[..., Any], topics: Any, count: str) -> None:
    put(topics, ("before", json.dumps(EVENT).encode()))
    running = start_adscore("tail", "--follow", "--json", "--last", count, env=topics.env)
    deadline = time.monotonic() + 30
    while count == "1" and not running.stdout and time.monotonic() < deadline:
        time.sleep(0.1)
    keys: list[str] = []
    while "after-9" not in keys and time.monotonic() < deadline:
        put(topics, *((f"after-{n}", json.dumps(EVENT).encode()) for n in range(10)))
        time.sleep(0.5)
        keys = [json.loads(line)["key"] for line in running.stdout.splitlines()]
    assert keys[: int(count)] == ["before"][: int(count)]
    assert "after-9" in keys
    running.signal(2)
    assert running.wait(15) == 130
    assert "Traceback" not in running.stderr
