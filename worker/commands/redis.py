"""Redis for the verbs. The worker has its own, far more impatient way (`worker.delivery.redis_link`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from worker.commands.edge import UNAVAILABLE, of_standard_output
from worker.errors import FatalError
from worker.settings import Settings, masked

TIMEOUT_SECONDS = 5.0


@contextmanager
def connected(settings: Settings, purpose: str) -> Iterator[Any]:
    """A client that answers. purpose: what Redis is needed for, as the end of a sentence.

    Raises FatalError (exit status 3) without Redis or when it fails in the block, (2) for a URL that can't be read.
    """
    from redis.exceptions import RedisError

    from worker.delivery.redis_link import client_of

    url = settings.redis.url.get_secret_value()
    if not url:
        raise FatalError(f"ADSCORE_REDIS__URL isn't set: {purpose}", exit_code=UNAVAILABLE)
    client = client_of(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
    try:
        client.ping()
        yield client
    except (RedisError, OSError) as error:
        if isinstance(error, OSError) and of_standard_output(error):
            raise
        raise FatalError(f"Redis at {masked(url)}: {error}; check ADSCORE_REDIS__URL", exit_code=UNAVAILABLE) from error
    finally:
        client.close()
