"""One way to Redis, with a breaker: a server that is gone, hung or refuses costs one short time-out, then nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import FatalError

Result = TypeVar("Result")
_log = structlog.get_logger(__name__)


class RedisUnavailableError(Exception):
    """No answer from Redis. `asked` tells whether a request was made (an error) or the breaker held it back."""

    def __init__(self, *, asked: bool) -> None:
        super().__init__("Redis did not answer" if asked else "Redis is left alone for a while")
        self.asked = asked


def client_of(url: str, **options: Any) -> Redis:
    """redis-py's client, not connected yet. Raises FatalError (exit status 2) for a URL that it can't read."""
    try:
        client = Redis.from_url(url, **options)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # not opened: tells options that there aren't
    except (TypeError, ValueError):  # their texts quote the URL
        message = "ADSCORE_REDIS__URL: its port, database or an option behind its ? is none that redis-py knows"
        raise FatalError(message, exit_code=2) from None
    return client


class Breaker:
    """Opens on a failure for `seconds`; then one caller probes while the others still stay away. Thread-safe."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_until_failure = True
        self._retry_at = 0.0

    def admits(self) -> bool:
        """Whether a request may be made now; after the period exactly one caller gets True per period."""
        with self._lock:
            if self._closed_until_failure:
                return True
            now = self._clock()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._seconds
            return True

    def succeeded(self) -> bool:
        """Close the breaker; True when it was open."""
        with self._lock:
            was_open, self._closed_until_failure = not self._closed_until_failure, True
            return was_open

    def failed(self) -> bool:
        """Open the breaker; True when it was closed."""
        with self._lock:
            was_closed, self._closed_until_failure = self._closed_until_failure, False
            self._retry_at = self._clock() + self._seconds
            return was_closed


class RedisLink:
    """A thread-safe client whose every call is bounded by `timeout_seconds` and guarded by a breaker.

    redis-py's own defaults (5 s time-outs, 10 retries) are wrong on a hot path: one GET on a hung server blocks for
    a minute. Raises FatalError (exit status 2) for a URL that it can't read.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float,
        breaker_seconds: float,
        on_breaker: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._client = client_of(
            url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
        self._breaker = Breaker(breaker_seconds)
        self._on_breaker = on_breaker

    def call(self, request: Callable[[Redis], Result]) -> Result:
        """Make one request. Raises RedisUnavailableError; no error text is logged, it may hold the password."""
        if not self._breaker.admits():
            raise RedisUnavailableError(asked=False)
        try:
            result = request(self._client)
        except Exception as error:  # noqa: BLE001  of answers that are none of Redis's its client raises TypeErrors, too
            if self._breaker.failed():
                _log.warning("redis_breaker_opened", error=type(error).__name__)
                self._on_breaker(True)
            raise RedisUnavailableError(asked=True) from None
        if self._breaker.succeeded():
            _log.info("redis_breaker_closed")
            self._on_breaker(False)
        return result

    def close(self) -> None:
        """Close the pool's connections."""
        self._client.close()
