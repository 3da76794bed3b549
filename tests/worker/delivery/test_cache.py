"""The cache never changes an event: foreign, old and garbage entries are misses, a dead server costs one time-out."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import orjson
import pytest
from redis import Redis

from worker.delivery.cache import MemoryCache, NoCache, RedisCache, key
from worker.delivery.marks import Marks
from worker.delivery.redis_link import Breaker, RedisLink, RedisUnavailableError

CONTENT = "c" * 64
DIGESTS = {"ctr": "d" * 64, "sentiment": "e" * 64}
PART = {"value": 0.25, "bucket": "low"}


@pytest.fixture
def link(stack: Any) -> Iterator[RedisLink]:
    made = RedisLink(stack.redis_url, timeout_seconds=0.5, breaker_seconds=0.2)
    yield made
    made.close()


@pytest.fixture
def server(stack: Any) -> Iterator[Redis]:
    client = Redis.from_url(stack.redis_url)
    client.flushdb()
    yield client
    client.close()


@pytest.mark.broker
def test_what_was_put_is_found_by_content_and_digest(link: RedisLink, server: Redis) -> None:
    cache = RedisCache(link, ttl_seconds=100, ttl_jitter=0.1)
    cache.put(CONTENT, DIGESTS, {"ctr": PART})
    found = cache.get(CONTENT, DIGESTS)
    assert found.parts == {"ctr": PART}
    assert found.results == {"ctr": "hit", "sentiment": "miss"}
    assert cache.get("f" * 64, DIGESTS).parts == {}
    assert cache.get(CONTENT, {"ctr": "a" * 64}).parts == {}
    assert 85 <= server.ttl(key(CONTENT, "ctr", DIGESTS["ctr"])) <= 110
    assert key(CONTENT, "ctr", DIGESTS["ctr"]) == f"adscore:{{{CONTENT}}}:ctr:{'d' * 12}"


@pytest.mark.broker
@pytest.mark.parametrize(
    "value",
    [
        b"garbage",
        b"\xff\xfe",
        b"[]",
        b"null",
        orjson.dumps({"v": 2, "content": CONTENT, "digest": DIGESTS["ctr"], "part": PART}),
        orjson.dumps({"v": 1, "content": "other", "digest": DIGESTS["ctr"], "part": PART}),
        orjson.dumps({"v": 1, "content": CONTENT, "digest": "d" * 12 + "f" * 52, "part": PART}),
        orjson.dumps({"v": 1, "content": CONTENT, "digest": DIGESTS["ctr"], "part": {"value": "0.25"}}),
        orjson.dumps({"v": 1, "content": CONTENT, "digest": DIGESTS["ctr"], "part": {"value": 7}}),
    ],
)
def test_an_entry_that_is_not_ours_is_a_miss_and_is_overwritten(link: RedisLink, server: Redis, value: bytes) -> None:
    cache = RedisCache(link, ttl_seconds=100, ttl_jitter=0.0)
    server.set(key(CONTENT, "ctr", DIGESTS["ctr"]), value)
    assert cache.get(CONTENT, DIGESTS).results["ctr"] == "miss"
    cache.put(CONTENT, DIGESTS, {"ctr": PART})
    assert cache.get(CONTENT, DIGESTS).parts == {"ctr": PART}


@pytest.mark.broker
def test_a_key_of_another_type_is_a_miss_and_is_overwritten(link: RedisLink, server: Redis) -> None:
    cache = RedisCache(link, ttl_seconds=100, ttl_jitter=0.0)
    server.lpush(key(CONTENT, "ctr", DIGESTS["ctr"]), "x")
    assert cache.get(CONTENT, DIGESTS).results["ctr"] == "miss"
    cache.put(CONTENT, DIGESTS, {"ctr": PART})
    assert cache.get(CONTENT, DIGESTS).parts == {"ctr": PART}


def test_a_hung_server_costs_one_time_out_and_then_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        states: list[bool] = []
        link = RedisLink(
            f"redis://127.0.0.1:{silent.getsockname()[1]}",
            timeout_seconds=0.05,
            breaker_seconds=60,
            on_breaker=states.append,
        )
        cache = RedisCache(link, ttl_seconds=100, ttl_jitter=0.0)
        assert cache.get(CONTENT, DIGESTS).results == {"ctr": "error", "sentiment": "error"}
        started = time.monotonic()
        for _ in range(1_000):
            assert cache.get(CONTENT, DIGESTS).results == {"ctr": "off", "sentiment": "off"}
            cache.put(CONTENT, DIGESTS, {"ctr": PART})
        assert time.monotonic() - started < 1.0
        assert states == [True]
        link.close()


@pytest.mark.parametrize(
    "answer", [b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*0\r\n", b"*-1\r\n", b"*2\r\n:1\r\n:2\r\n", b"*1\r\n*1\r\n:1\r\n"]
)
def test_what_is_no_redis_is_as_if_it_were_not_there(answer: bytes) -> None:
    def talk(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                with client, suppress(OSError):
                    while client.recv(65536):
                        client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=talk, args=(server,), daemon=True).start()
        url = f"redis://127.0.0.1:{server.getsockname()[1]}"
        for ask in (
            lambda link: RedisCache(link, ttl_seconds=100, ttl_jitter=0.0).get(CONTENT, DIGESTS).parts == {},
            lambda link: Marks(link, "group").left("topic", 0) == {},
        ):
            link = RedisLink(url, timeout_seconds=1.0, breaker_seconds=60)
            assert ask(link)
            link.close()
        server.shutdown(socket.SHUT_RDWR)


def test_a_refused_port_names_no_secret() -> None:
    link = RedisLink("redis://:hunter2@127.0.0.1:1", timeout_seconds=0.05, breaker_seconds=60)
    with pytest.raises(RedisUnavailableError) as caught:
        link.call(lambda client: client.ping())
    assert "hunter2" not in str(caught.value)
    assert caught.value.asked
    link.close()


def test_the_breaker_lets_one_probe_through_per_period() -> None:
    now = [0.0]
    breaker = Breaker(5.0, clock=lambda: now[0])
    assert breaker.admits()
    assert breaker.failed()
    assert not breaker.admits()
    now[0] = 5.0
    assert breaker.admits()
    assert not breaker.admits(), "a second caller must not probe too"
    assert not breaker.failed(), "it was open already"
    now[0] = 9.9
    assert not breaker.admits()
    now[0] = 10.0
    assert breaker.admits()
    assert breaker.succeeded()
    assert breaker.admits()


def test_the_cache_in_the_process_forgets_the_least_recently_used() -> None:
    cache = MemoryCache(2)
    for name in ("a", "b"):
        cache.put(name, DIGESTS, {"ctr": PART})
    cache.get("a", DIGESTS)
    cache.put("c", DIGESTS, {"ctr": PART})
    assert [cache.get(name, DIGESTS).results["ctr"] for name in ("a", "b", "c")] == ["hit", "miss", "hit"]


def test_no_cache_is_off() -> None:
    cache = NoCache()
    cache.put(CONTENT, DIGESTS, {"ctr": PART})
    assert cache.get(CONTENT, DIGESTS).results == {"ctr": "off", "sentiment": "off"}
