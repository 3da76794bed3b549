"""What `adscore rescore` puts back on the input topic, on a real broker; the workers' part is in tests/integration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tests.faults.creatives import LASTMOD, Outgoing, bare, binary, structured
from tests.faults.wire import Found, Place, publish, read_all
from worker.commands import rescoring
from worker.commands.bundles import load_heads, version_of
from worker.commands.resending import Resender

DAY_MS = 86_400_000


@pytest.fixture
def models(tiny_models: Any) -> str:
    """The set of bundles that the settings below name, as events tell it."""
    names = {"attractiveness": ("dbafn",), "sentiment": ("fgmfn",), "ctr": ("adfusion",)}
    return version_of(load_heads(tiny_models, names, None))


@pytest.fixture
def env(topics: Any, tiny_models: Any) -> dict[str, str]:
    return topics.env | {"ADSCORE_MODELS__DIR": str(tiny_models)}


def enriched(topics: Any, record: Outgoing, place: Place, models: str = "0ld0ld00", **more: Any) -> Outgoing:
    """As much of an enriched event as `rescore` reads."""
    where = {"topic": topics.input, "partition": place[0], "offset": place[1]} | more
    event = {"creative_id": (record.key or b"").decode(), "targeting": {"ads_mv": models}, "provenance": where}
    return Outgoing(record.key, orjson.dumps(event))


def scored(stack: Any, topics: Any, records: list[Outgoing], models: str = "0ld0ld00", **when: int) -> list[Place]:
    """Publish the records, and an event of each."""
    places = publish(stack.bootstrap_servers, topics.input, records, **when)
    events = [enriched(topics, record, place, models) for record, place in zip(records, places, strict=True)]
    publish(stack.bootstrap_servers, topics.output, events, **when)
    return places


def put_back(stack: Any, topics: Any) -> dict[str, Found]:
    """Key → the record that was put back."""
    found = [one for one in read_all(stack.bootstrap_servers, topics.input) if one.header("adscore_rescore_of")]
    assert len({one.key for one in found}) == len(found), "a creative was put back twice"
    return {(one.key or b"").decode(): one for one in found}


def test_a_record_is_put_back_as_it_was_with_what_orders_it(adscore, stack, topics, env) -> None:
    odd = (("note", None), ("note", b"\xff"))
    records = [binary("binary", 1, odd), structured("structured", 2), bare("bare", 3, lastmod=None)]
    places = scored(stack, topics, records, timestamp_ms=LASTMOD - 5 * DAY_MS)
    ran = adscore("rescore", env=env)
    assert (ran.status, ran.out) == (0, ""), ran.err
    assert "3 sent, 0 withdrawn or newer, 0 expired, 0 failed" in ran.err
    assert "no worker is in group" in ran.err
    found = put_back(stack, topics)
    for record, place, lastmod in zip(records, places, [LASTMOD - 5 * DAY_MS] * 3, strict=True):
        again = found[record.key.decode()]
        where = f"{topics.input}:{place[0]}:{place[1]}"
        assert (again.partition, again.value) == (place[0], record.value)
        assert again.headers == (
            *record.headers,
            ("adscore_rescore_of", where.encode()),
            ("adscore_rescore_lastmod", str(lastmod).encode()),
        )
        assert again.timestamp_ms > LASTMOD, "it would seem to have waited for days, and expire with the original"


def test_what_is_put_back_is_put_back_from_where_it_is_now(adscore, stack, topics, env) -> None:
    scored(stack, topics, [bare("cr", 1)])
    assert adscore("rescore", env=env).status == 0
    (again,) = put_back(stack, topics).values()
    record = Outgoing(again.key, again.value)
    event = enriched(topics, record, (again.partition, again.offset))
    publish(stack.bootstrap_servers, topics.output, [event])
    assert adscore("rescore", env=env).status == 0
    found = [one for one in read_all(stack.bootstrap_servers, topics.input) if one.header("adscore_rescore_of")]
    assert found[-1].header("adscore_rescore_of") == f"{topics.input}:{again.partition}:{again.offset}"
    assert [name for name, _ in found[-1].headers] == ["adscore_rescore_of", "adscore_rescore_lastmod"]
    assert found[-1].header("adscore_rescore_lastmod") == str(LASTMOD)


def test_the_newest_event_of_a_creative_decides(adscore, stack, topics, env, models) -> None:
    servers = stack.bootstrap_servers
    records = [bare(name, 1) for name in ("stale", "mixed", "withdrawn", "current")]
    places = scored(stack, topics, records[:3])
    scored(stack, topics, records[3:], models)
    newer = scored(stack, topics, [bare("stale", 2, lastmod=LASTMOD + 1)])
    publish(servers, topics.output, [enriched(topics, records[1], places[1], models), Outgoing(b"withdrawn", None)])
    ran = adscore("rescore", "--stale", env=env)
    assert ran.status == 0
    assert "1 sent" in ran.err
    (again,) = put_back(stack, topics).values()
    assert again.header("adscore_rescore_of") == f"{topics.input}:{newer[0][0]}:{newer[0][1]}"


@pytest.mark.parametrize(
    ("since", "names"),
    [
        ("2025-11-20", ["current", "late", "recent"]),
        ("2025-11-20T00:00:01Z", ["current", "late"]),
        ("2025-11-20T01:00:01+01:00", ["current", "late"]),
        ("2099-01-01", []),
    ],
)
def test_since_is_when_it_was_published(adscore, stack, topics, env, models, since: str, names: list[str]) -> None:
    midnight = 1_763_596_800_000  # 2025-11-20T00:00:00Z
    scored(stack, topics, [bare("early", 1)], timestamp_ms=midnight - 1)
    scored(stack, topics, [bare("recent", 1)], timestamp_ms=midnight)
    scored(stack, topics, [bare("late", 1)], timestamp_ms=midnight + 1_000)
    scored(stack, topics, [bare("current", 1)], models, timestamp_ms=midnight + 2_000)
    ran = adscore("rescore", "--since", since, "--dry-run", env=env)
    assert ran.status == 0
    assert f"{len(names)} would be sent" in ran.err
    told = [orjson.loads(line) for line in ran.out.splitlines()]
    assert sorted(line["creative_id"] for line in told) == names
    if names:
        both = adscore("rescore", "--since", since, "--stale", "--dry-run", env=env)
        assert f"{len(names) - 1} would be sent" in both.err, "what the configured models scored isn't stale"
    assert put_back(stack, topics) == {}


@pytest.mark.parametrize("since", ["", "yesterday", "2026-13-01", "1763596800", "2026-11-01T25:00"])
def test_a_bad_date_is_2_and_told_how_to_mend(adscore, since: str) -> None:
    ran = adscore("rescore", "--since", since)
    assert ran.status == 2
    assert "2026-11-01T08:30:00+01:00" in ran.err


def test_what_has_expired_is_counted_and_makes_the_status_1(adscore, stack, topics, env) -> None:
    from kafka import KafkaAdminClient, TopicPartition

    servers = stack.bootstrap_servers
    place = publish(servers, topics.input, [bare("expired", 1), bare("kept", 1), bare("other", 1)], partition=0)
    elsewhere = [
        enriched(topics, bare("renamed", 1), (0, 1), topic="another"),
        enriched(topics, bare("narrow", 1), (99, 0)),
        enriched(topics, bare("ahead", 1), (0, 1_000)),
        enriched(topics, bare("made-anew", 1), place[2]),
    ]
    good = [enriched(topics, bare(name, 1), place[number]) for number, name in enumerate(("expired", "kept"))]
    publish(servers, topics.output, [*good, *elsewhere])
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.delete_records({TopicPartition(topics.input, 0): 1})
    admin.close()
    ran = adscore("rescore", env=env)
    assert ran.status == 1
    assert "1 sent, 0 withdrawn or newer, 5 expired, 0 failed" in ran.err
    assert list(put_back(stack, topics)) == ["kept"]


def test_what_is_no_enriched_event_is_told_and_makes_the_status_1(adscore, stack, topics, env) -> None:
    scored(stack, topics, [bare("good", 1)])
    odd = [b"\xff", b"[]", b'{"targeting": {}}', b'{"targeting": {}, "provenance": {"topic": 1}}']
    publish(stack.bootstrap_servers, topics.output, [Outgoing(b"odd%d" % n, value) for n, value in enumerate(odd)])
    ran = adscore("rescore", env=env)
    assert ran.status == 1
    assert "1 sent, 0 withdrawn or newer, 0 expired, 4 failed" in ran.err


def test_a_run_that_ended_early_goes_on(adscore, stack, topics, env, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(stack, topics, [bare(f"cr-{number}", number) for number in range(40)])
    send, sent = Resender.send, []

    def interrupted(self: Resender, record: Any, creative: Any) -> None:
        if len(sent) == 20:
            raise KeyboardInterrupt
        sent.append(record)
        send(self, record, creative)

    monkeypatch.setattr(rescoring, "CHUNK", 5)
    monkeypatch.setattr(Resender, "send", interrupted)
    first = adscore("rescore", "--since", "2020-01-01", env=env)
    assert first.status == 130
    assert "ended early: 20 sent" in first.err
    assert "--resume" in first.err
    assert len(put_back(stack, topics)) == 20
    monkeypatch.setattr(Resender, "send", send)
    # Published since the run began: what was put back is scored, something is withdrawn, something is new.
    gone = next(f"cr-{number}" for number in range(40) if f"cr-{number}" not in put_back(stack, topics))
    publish(stack.bootstrap_servers, topics.output, [Outgoing(gone.encode(), None)])
    scored(stack, topics, [bare("new", 1)])
    assert adscore("rescore", "--resume", "--since", "2021-01-01", env=env).status == 2
    rest = adscore("rescore", "--resume", env=env)
    assert rest.status == 0
    assert "39 sent, 0 withdrawn or newer" in rest.err, "the counts are those of the whole run"
    assert put_back(stack, topics).keys() == {f"cr-{number}" for number in range(40)} - {gone}
    again = adscore("rescore", "--resume", "--since", "2099-01-01", env=env)
    assert "this one begins at the start" in again.err


def test_resume_needs_redis_and_a_run_does_not(adscore, stack, topics, env) -> None:
    scored(stack, topics, [bare("cr", 1)])
    without = env | {"ADSCORE_REDIS__URL": ""}
    ran = adscore("rescore", "--resume", env=without)
    assert ran.status == 3
    assert "ADSCORE_REDIS__URL" in ran.err
    assert adscore("rescore", env=without).status == 0


def test_it_keeps_behind_the_workers(adscore, stack, topics, env, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(stack, topics, [bare(f"cr-{number}", number) for number in range(12)])
    behind: list[int] = []

    def records(self: Any) -> int:
        behind.append(len(put_back(stack, topics)))
        # The workers keep up only after they were asked twice.
        return 4 if len(behind) % 2 else 0

    monkeypatch.setattr("worker.commands.group_lag.GroupLag.records", records)
    assert adscore("rescore", "--max-lag", "4", env=env).status == 0
    assert behind[:2] == [0, 0], "something was sent while the workers were behind"
    assert all(later - earlier <= 4 for earlier, later in zip(behind, [*behind[1:], 12], strict=True))
    assert len(put_back(stack, topics)) == 12


def test_the_rate_is_kept(adscore: Callable[..., Any], stack, topics, env) -> None:
    import time

    scored(stack, topics, [bare(f"cr-{number}", number) for number in range(10)])
    started = time.monotonic()
    assert adscore("rescore", "--rate", "20", env=env).status == 0
    assert time.monotonic() - started >= 9 / 20


def test_without_a_topic_or_bundles_it_is_3(adscore, topics, env, tmp_path) -> None:
    ran = adscore("rescore", env=env | {"ADSCORE_KAFKA__OUTPUT_TOPIC": "nowhere"})
    assert ran.status == 3
    assert "topics create" in ran.err
    ran = adscore("rescore", "--stale", env=env | {"ADSCORE_MODELS__DIR": str(tmp_path)})
    assert ran.status == 3
    assert "dbafn" in ran.err
