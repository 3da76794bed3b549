"""Redis for the verbs. The worker has its own, far more impatient way (`worker.delivery.redis_link`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from worker.commands.edge import UNAVAILABLE
from worker.errors import FatalError
from worker.settings import Settings, masked

TIMEOUT_SECONDS = 5.0


@contextmanager
def connected(settings: Settings, purpose: str) -> Iterator[Any]:
    """A client that answers. Raises FatalError (exit status 3) without Redis or when it fails in the block.

    purpose: what Redis is needed for, as the end of a sentence.
    """
    from redis import Redis
    from redis.exceptions import RedisError

    url = settings.redis.url.get_secret_value()
    if not url:
        raise FatalError(f"ADSCORE_REDIS__URL isn't set: {purpose}", exit_code=UNAVAILABLE)
    try:
        client = Redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
    except ValueError:
        raise FatalError("ADSCORE_REDIS__URL isn't a URL that Redis's client reads", exit_code=2) from None
    try:
        client.ping()
        yield client
    except (RedisError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise FatalError(f"Redis at {masked(url)}: {error}; check ADSCORE_REDIS__URL", exit_code=UNAVAILABLE) from error
    finally:
        client.close()
