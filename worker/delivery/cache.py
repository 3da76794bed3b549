"""The cache of scores, per content and head. Down, slow, full or holding garbage, it never changes an event.

Keys: `adscore:{<content sha256>}:<head>:<digest, 12 characters>`; beside the heads, `content` holds what was read from
the image itself (OCR text and boxes, perceptual hash), under the OCR's digest.
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from worker.delivery.redis_link import RedisLink, RedisUnavailableError

VERSION = 1
Part = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """What the cache knew. `results`: per name `hit`, `miss`, `error` (asked in vain) or `off` (not asked)."""

    parts: Mapping[str, Part] = field(default_factory=dict)
    results: Mapping[str, str] = field(default_factory=dict)


class ScoreCache(Protocol):
    """Thread-safe. `digests` maps head (or `content`) → digest; the keys of the answer are the same names."""

    def get(self, content: str, digests: Mapping[str, str]) -> Found:
        """Look up all names of one content at once. Never raises."""
        ...

    def put(self, content: str, digests: Mapping[str, str], parts: Mapping[str, Part]) -> None:
        """Store parts; each name of `parts` is in `digests`. Never raises."""
        ...


class NoCache:
    """No cache: nothing is asked, nothing is kept."""

    def get(self, content: str, digests: Mapping[str, str]) -> Found:
        """Always `off`."""
        del content
        return Found({}, dict.fromkeys(digests, "off"))

    def put(self, content: str, digests: Mapping[str, str], parts: Mapping[str, Part]) -> None:
        """Keep nothing."""


class MemoryCache:
    """A cache inside the process, least recently used entries go first; for workers without Redis."""

    def __init__(self, max_entries: int) -> None:
        self._max = max_entries
        self._entries: OrderedDict[tuple[str, str, str], Part] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, content: str, digests: Mapping[str, str]) -> Found:
        """Look up all names of one content at once."""
        parts: dict[str, Part] = {}
        with self._lock:
            for name, digest in digests.items():
                key = (content, name, digest)
                if key in self._entries:
                    self._entries.move_to_end(key)
                    parts[name] = self._entries[key]
        return Found(parts, {name: "hit" if name in parts else "miss" for name in digests})

    def put(self, content: str, digests: Mapping[str, str], parts: Mapping[str, Part]) -> None:
        """Store parts; the oldest entries make room."""
        with self._lock:
            for name, part in parts.items():
                self._entries[content, name, digests[name]] = part
                self._entries.move_to_end((content, name, digests[name]))
            while len(self._entries) > self._max:
                self._entries.popitem(last=False)


class RedisCache:
    """The cache that all workers share. Every entry says which content and digest it belongs to, and is checked."""

    def __init__(self, link: RedisLink, *, ttl_seconds: int, ttl_jitter: float) -> None:
        self._link = link
        self._ttl = ttl_seconds
        self._jitter = ttl_jitter

    def get(self, content: str, digests: Mapping[str, str]) -> Found:
        """One MGET (all keys of a content share a slot)."""
        keys = [key(content, name, digest) for name, digest in digests.items()]

        def ask(client: Any) -> list[Any]:
            values = client.mget(keys)
            if not isinstance(values, list) or len(values) != len(keys):
                raise ValueError("no answer to MGET")  # whatever it is, it isn't Redis that answers
            return values

        try:
            values = self._link.call(ask)
        except RedisUnavailableError as error:
            return Found({}, dict.fromkeys(digests, "error" if error.asked else "off"))
        parts: dict[str, Part] = {}
        for (name, digest), value in zip(digests.items(), values, strict=True):
            part = _checked(value, content, name, digest)
            if part is not None:
                parts[name] = part
        return Found(parts, {name: "hit" if name in parts else "miss" for name in digests})

    def put(self, content: str, digests: Mapping[str, str], parts: Mapping[str, Part]) -> None:
        """One round trip; a failure loses nothing but the entry."""
        if not parts:
            return

        def store(client: Any) -> None:
            with client.pipeline(transaction=False) as pipe:
                for name, part in parts.items():
                    value = {"v": VERSION, "content": content, "digest": digests[name], "part": part}
                    pipe.set(key(content, name, digests[name]), orjson.dumps(value), ex=self._seconds())
                pipe.execute()

        try:
            self._link.call(store)
        except RedisUnavailableError:
            return

    def _seconds(self) -> int:
        return max(1, round(self._ttl * random.uniform(1 - self._jitter, 1 + self._jitter)))  # noqa: S311


def key(content: str, name: str, digest: str) -> str:
    """The Redis key of one part."""
    return f"adscore:{{{content}}}:{name}:{digest[:12]}"


def _checked(value: object, content: str, name: str, digest: str) -> Part | None:
    """The part, if the entry is what its key says; anything else counts as a miss and will be overwritten."""
    if not isinstance(value, bytes | str):
        return None
    try:
        entry = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(entry, dict) or entry.get("v") != VERSION:
        return None
    if entry.get("content") != content or entry.get("digest") != digest:
        return None
    part = entry.get("part")
    return part if isinstance(part, dict) and _plausible(name, part) else None


def _plausible(name: str, part: Part) -> bool:
    if name == "content":
        return isinstance(part.get("phash"), str) and isinstance(part.get("text"), dict)
    value = part.get("value")
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 1
