"""Where the machines' memories lie: in a stand-in with Redis's semantics, or in the real one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.delivery.redis_link import RedisUnavailableError


class StandIn:
    """As much of Redis as cache and revisions use; `down` makes every request fail."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.down = False
        self._queued: list[tuple[str, bytes]] = []

    def call(self, request: Callable[[Any], Any]) -> Any:
        """As `RedisLink.call`."""
        if self.down:
            raise RedisUnavailableError(asked=True)
        return request(self)

    def get(self, key: str) -> bytes | None:
        return self.held.get(key)

    def mget(self, keys: list[str]) -> list[bytes | None]:
        return [self.held.get(key) for key in keys]

    def set(self, key: str, value: bytes, ex: int) -> None:
        assert ex > 0
        self._queued.append((key, value))

    def delete(self, key: str) -> None:
        self.held.pop(key, None)

    def pipeline(self, transaction: bool) -> StandIn:
        assert not transaction
        self._queued = []
        return self

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        self._queued = []

    def execute(self) -> None:
        self.held.update(self._queued)

    def spoil(self, value: bytes) -> None:
        """Something else overwrites every entry."""
        self.held = dict.fromkeys(self.held, value)

    def clear(self) -> None:
        self.held, self.down = {}, False
