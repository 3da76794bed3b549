"""`adscore shadow report` on a real broker, over events written by hand; the workers' part is in tests/integration."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.faults.creatives import Outgoing
from tests.faults.wire import publish
from worker.commands import shadow_report

DAY_MS = 86_400_000
BASE_MS = 1_763_596_800_000  # 2025-11-20
DIGESTS = {"1": "a" * 12, "2": "b" * 12, "3": "c" * 12}
LENIENT = ("--min-rank-correlation", "-1", "--max-psi", "99", "--max-flip-rate", "1", "--max-failed", "1")


def event(number: int, value: float | None, version: str, **more: Any) -> Outgoing:
    """An enriched event with a CTR, as much of it as is read."""
    bucket = None if value is None else ("low", "medium", "high")[min(2, int(value * 3))]
    told = {
        "creative_id": f"cr-{number}",
        "lastmod": 1,
        "content_sha256": f"{number:064d}",
        "scores": {"ctr": None if value is None else {"value": value, "bucket": bucket}},
        "targeting": {"ads_mv": f"models-{version}"},
        "provenance": {"models": {"ctr": [{"name": "adfusion", "version": version, "digest": DIGESTS[version]}]}},
    }
    return Outgoing(f"cr-{number}".encode(), orjson.dumps(told | more))


@pytest.fixture
def write(stack: Any, topics: Any) -> Any:
    def write(topic: str, *events: Outgoing, day: int = 0) -> None:
        publish(stack.bootstrap_servers, getattr(topics, topic), events, timestamp_ms=BASE_MS + day * DAY_MS)

    return write


def test_a_candidate_that_agrees(adscore, topics, write) -> None:
    write("output", *(event(number, number / 200, "1") for number in range(200)))
    write("shadow", *(event(number, number / 200 + 0.001, "2") for number in range(200)))
    ran = adscore("shadow", "report", "--json", env=topics.env)
    assert (ran.status, ran.err) == (0, "")
    told = orjson.loads(ran.out)
    assert (told["candidate"], told["creatives"], told["unmatched"], told["over"]) == ("models-2", 200, 0, False)
    assert told["heads"] == {
        "ctr": {
            "live": ["adfusion/1"],
            "candidate": ["adfusion/2"],
            "creatives": 200,
            "failed": 0,
            "rank_correlation": 1.0,
            "psi": told["heads"]["ctr"]["psi"],
            "psi_deciles": told["heads"]["ctr"]["psi_deciles"],
            "flip_rate": 0.0,
            "over": [],
        }
    }
    assert 0 <= told["heads"]["ctr"]["psi"] < 0.01
    people = adscore("shadow", "report", env=topics.env)
    assert people.status == 0
    assert "adfusion/1 → adfusion/2" in people.out
    assert "within all" in people.out
    assert "*" not in people.out


def test_a_candidate_that_does_not_is_1_and_says_where(adscore, topics, write) -> None:
    write("output", *(event(number, number / 50, "1") for number in range(50)))
    write("shadow", *(event(number, 1 - number / 50, "2") for number in range(49)), event(49, None, "2"))
    ran = adscore("shadow", "report", "--json", env=topics.env)
    assert ran.status == 1
    head = orjson.loads(ran.out)["heads"]["ctr"]
    assert head["over"] == ["rank_correlation", "flip_rate", "failed"], "the buckets are as full as before"
    assert (head["rank_correlation"], head["failed"], head["creatives"]) == (-1.0, 1, 49)
    assert "only 50 creatives" in ran.err
    people = adscore("shadow", "report", env=topics.env)
    assert people.status == 1
    assert "-1.000*" in people.out
    assert adscore("shadow", "report", *LENIENT, env=topics.env).status == 0


def test_only_the_same_revisions_of_the_newest_candidate_are_compared(adscore, topics, write) -> None:
    write("output", *(event(number, number / 10, "1") for number in range(10)))
    write("shadow", *(event(number, 0.5, "3") for number in range(10)))
    newer = [event(number, number / 10, "2") for number in range(6)]
    write("shadow", *newer, event(0, 0.0, "2"), event(6, 0.9, "2", lastmod=2), day=1)
    odd = [
        event(7, 0.9, "2", content_sha256="another"),
        event(99, 0.9, "2"),
        Outgoing(b"cr-8", b"{"),
        Outgoing(b"x", None),
    ]
    write("shadow", *odd, day=1)
    write("output", Outgoing(b"cr-5", None), event(4, 0.4, "2"), day=1)
    told = orjson.loads(adscore("shadow", "report", "--json", *LENIENT, env=topics.env).out)
    assert told["candidate"] == "models-2"
    assert told["heads"]["ctr"]["creatives"] == 4, "cr-5 is withdrawn, and the candidate serves cr-4 already"
    assert told["unmatched"] == 4
    since = adscore("shadow", "report", "--since", "2025-11-22", env=topics.env)
    assert since.status == 3


def test_without_anything_to_compare_it_is_3(adscore, topics, write) -> None:
    empty = adscore("shadow", "report", "--json", env=topics.env)
    assert (empty.status, empty.out) == (3, "")
    assert "ADSCORE_SHADOW__" in empty.err
    write("shadow", event(1, 0.5, "2"))
    assert adscore("shadow", "report", env=topics.env).status == 3
    write("output", event(1, 0.5, "2"))
    live = adscore("shadow", "report", env=topics.env)
    assert live.status == 3
    assert "live already" in live.err
    missing = adscore("shadow", "report", env=topics.env | {"ADSCORE_KAFKA__SHADOW_TOPIC": "nowhere"})
    assert missing.status == 3
    assert "topics create" in missing.err


def test_of_many_creatives_a_sample_is_compared(adscore, topics, write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_report, "MAX_CREATIVES", 20)
    write("output", *(event(number, number / 100, "1") for number in range(100)))
    write("shadow", *(event(number, number / 100, "2") for number in range(100)))
    told = orjson.loads(adscore("shadow", "report", "--json", env=topics.env).out)
    assert 20 <= told["creatives"] <= 40
    assert told["unmatched"] == 0


@pytest.mark.parametrize("arguments", [("--max-psi", "-1"), ("--max-flip-rate", "2"), ("--since", "tomorrow")])
def test_wrong_usage_is_2(adscore, arguments: tuple[str, str]) -> None:
    assert adscore("shadow", "report", *arguments).status == 2
