"""The way to Redis: what can't be its URL is told at the start, without its secret."""

from __future__ import annotations

import pytest

from worker.delivery.redis_link import RedisLink
from worker.errors import FatalError


@pytest.mark.parametrize(
    "url",
    [
        "redis://:canary@localhost:notaport/0",
        "redis://:canary@localhost:99999999/0",
        "redis://:canary@localhost/0?canary=1",
        "redis://:canary@localhost/0?socket_timeout=canary",
        "redis://:canary@[::1/0",
    ],
)
def test_a_url_that_redis_cant_read_ends_at_once_without_quoting_it(url: str) -> None:
    with pytest.raises(FatalError, match="ADSCORE_REDIS__URL") as caught:
        RedisLink(url, timeout_seconds=0.05, breaker_seconds=1)
    assert caught.value.exit_code == 2
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", ["redis://u:p@localhost:1/3?client_name=x", "rediss://localhost", "unix:///tmp/x?db=1"])
def test_a_url_that_it_can_read_needs_no_server_yet(url: str) -> None:
    RedisLink(url, timeout_seconds=0.05, breaker_seconds=1).close()
