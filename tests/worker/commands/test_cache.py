import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from worker.delivery.cache import key

CONTENT = ["a" * 64, "b" * 64]
OLD, NEW = "1" * 64, "2" * 64
FOREIGN = (
    "adscore:rev:creatives.enriched:cr-1",
    "adscore:other",
    f"xadscore:{{{'a' * 64}}}:ctr:{'1' * 12}",
    "sessions",
)


@pytest.fixture
def client(topics: Any) -> Iterator[Any]:
    client = Redis.from_url(topics.redis_url, decode_responses=True)
    client.flushdb()
    for content in CONTENT:
        client.set(key(content, "ctr", OLD), "{}")
        client.set(key(content, "ctr", NEW), "{}")
        client.set(key(content, "sentiment", OLD), "{}")
    for name in FOREIGN:
        client.set(name, "kept")
    yield client
    client.flushdb()
    client.close()


def test_stats(adscore: Callable[..., Any], topics: Any, client: Any) -> None:
    ran = adscore("cache", "stats", "--json", env=topics.env)
    assert ran.status == 0
    told = json.loads(ran.out)
    assert told["entries"] == [
        {"head": "ctr", "version": OLD[:12], "count": 2},
        {"head": "ctr", "version": NEW[:12], "count": 2},
        {"head": "sentiment", "version": OLD[:12], "count": 2},
    ]
    assert told["revisions"] == 1
    assert told["maxmemory_policy"] == "noeviction"
    assert "sentiment" in adscore("cache", "stats", env=topics.env).out


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (("--head", "ctr"), {("sentiment", OLD)}),
        (("--version", OLD[:12]), {("ctr", NEW)}),
        (("--head", "ctr", "--version", NEW), {("ctr", OLD), ("sentiment", OLD)}),
        ((), set()),
    ],
)
def test_purge_removes_that_and_nothing_else(
    adscore: Callable[..., Any], topics: Any, client: Any, arguments: tuple[str, ...], left: set[tuple[str, str]]
) -> None:
    ran = adscore("cache", "purge", *arguments, env=topics.env)
    assert ran.status == 0
    assert f"removed {6 - 2 * len(left)} entries" in ran.err
    expected = {key(content, head, digest) for content in CONTENT for head, digest in left}
    assert set(client.keys("*")) == expected | set(FOREIGN)


def test_what_cannot_be_is_told(adscore: Callable[..., Any], topics: Any) -> None:
    assert adscore("cache", "purge", "--head", "fame").status == 2
    assert adscore("cache", "purge", "--version", "*").status == 2
    assert adscore("cache", "stats", env=topics.env | {"ADSCORE_REDIS__URL": ""}).status == 3
    for odd in ("redis://:secret@h:6379/0?foo=bar", "redis://:secret@h:port/0"):
        ran = adscore("cache", "stats", env=topics.env | {"ADSCORE_REDIS__URL": odd})
        assert (ran.status, "ADSCORE_REDIS__URL" in ran.err, "secret" in ran.err) == (2, True, False), ran.err
    ran = adscore("cache", "stats", env=topics.env | {"ADSCORE_REDIS__URL": "redis://:secret@127.0.0.1:1/0"})
    assert ran.status == 3
    assert "secret" not in ran.err
