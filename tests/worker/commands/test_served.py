"""The sample of what ad servers hold, from a real topic with gaps."""

from typing import Any

import orjson
import pytest

from tests.fakes import eventually
from tests.faults.creatives import Outgoing
from tests.faults.wire import publish
from worker.commands import clients
from worker.commands.served import DRAWS, ServedSample, state_of
from worker.metrics import Metrics
from worker.settings import Settings

NOW = "0123abcd"


def event(version: str = NOW, status: str = "scored") -> bytes:
    return orjson.dumps({"creative_id": "a", "status": status, "targeting": {"ads_mv": version}})


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (event(), "fresh"),
        (event(status="partial"), "partial"),
        (event("ffffffff"), "stale"),
        (event("ffffffff", "partial"), "stale"),
        (None, "withdrawn"),
        (b"", "unreadable"),
        (b"no json", "unreadable"),
        (b"[]", "unreadable"),
        (b'{"targeting": null}', "unreadable"),
        (b'{"targeting": {"ads_mv": "0123abcd"}}', "unreadable"),
    ],
)
def test_what_a_record_is(value: bytes | None, state: str) -> None:
    assert state_of(value, NOW) == state


def counts(metrics: Metrics) -> dict[str, float]:
    (family,) = metrics.served_sampled.collect()
    return {s.labels["state"]: s.value for s in family.samples if s.name.endswith("_total") and s.value}


@pytest.fixture
def sample(stack: Any, make_topics: Any) -> Any:
    topics = make_topics(2)
    settings = Settings.model_validate(
        {"kafka": {"bootstrap_servers": [stack.bootstrap_servers], "output_topic": topics.output}}
    )
    samples: list[ServedSample] = []

    def start(metrics: Metrics, *records: Outgoing) -> None:
        publish(stack.bootstrap_servers, topics.output, records)
        samples.append(ServedSample(lambda: clients.sampler(settings), topics.output, NOW, metrics, 0.05))

    yield start
    for each in samples:
        each.close()
        each._thread.join(20)
        assert not each._thread.is_alive()


@pytest.mark.broker
def test_every_record_is_as_likely_as_any_other(sample: Any) -> None:
    metrics = Metrics()
    records = [Outgoing(f"k{n}".encode(), event()) for n in range(30)]
    records += [Outgoing(f"s{n}".encode(), event("ffffffff")) for n in range(10)]
    sample(metrics, *records)
    eventually(lambda: sum(counts(metrics).values()) >= 4 * DRAWS, seconds=60)
    found = counts(metrics)
    assert set(found) == {"fresh", "stale"}
    # A quarter is stale; of 80 draws fewer than 5 or more than 40 are seen once in ten thousand runs.
    assert 5 <= found["stale"] <= 0.5 * sum(found.values())


@pytest.mark.broker
def test_an_empty_topic_gives_no_sample(sample: Any) -> None:
    metrics = Metrics()
    sample(metrics)
    assert counts(metrics) == {}


def test_brokers_that_are_away_cost_nothing() -> None:
    from kafka.errors import KafkaTimeoutError

    asked = []

    def away() -> Any:
        asked.append(1)
        raise KafkaTimeoutError("nobody answers")

    sample = ServedSample(away, "creatives.enriched", NOW, Metrics(), 0.01)
    eventually(lambda: len(asked) >= 3)
    sample.close()
    sample._thread.join(5)
    assert not sample._thread.is_alive()
