"""The cache as a state machine: it gives back what was put under the very content and digest, or nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.machines.redis_like import StandIn
from worker.delivery.cache import MemoryCache, RedisCache, ScoreCache
from worker.delivery.redis_link import RedisLink

EFFORT = settings(max_examples=50, stateful_step_count=40, deadline=None)
CONTENTS = st.sampled_from(["c" * 64, "d" * 64])
DIGESTS = st.fixed_dictionaries(
    # Two of them share the twelve characters that the key holds.
    {
        "ctr": st.sampled_from(["1" * 64, "1" * 63 + "2", "3" * 64]),
        "attractiveness": st.sampled_from(["5" * 64, "6" * 64]),
    }
)
GARBAGE = st.sampled_from(
    [b"", b"\xff", b"null", b"[]", b"{}", b'{"v": 2}', b'{"v": 1, "part": {"value": 0.5}}', b"x" * 10_000]
)


class RedisMachine(RuleBasedStateMachine):
    """`held`: what lies under a key, with the content and the whole digest that it was put for."""

    def store(self) -> Any:
        return StandIn()

    @initialize()
    def begin(self) -> None:
        self.link = self.store()
        self.cache: ScoreCache = RedisCache(self.link, ttl_seconds=60, ttl_jitter=0.5)
        self.held: dict[tuple[str, str, str], tuple[str, float]] = {}

    @rule(
        content=CONTENTS,
        digests=DIGESTS,
        value=st.floats(0, 1),
        names=st.sets(st.sampled_from(["ctr", "attractiveness"])),
    )
    def put(self, content: str, digests: dict[str, str], value: float, names: set[str]) -> None:
        self.cache.put(content, digests, {name: {"value": value} for name in names})
        if not getattr(self.link, "down", False):
            self.held |= {(content, name, digests[name][:12]): (digests[name], value) for name in names}

    @rule(content=CONTENTS, digests=DIGESTS)
    def get(self, content: str, digests: dict[str, str]) -> None:
        found = self.cache.get(content, digests)
        if getattr(self.link, "down", False):
            assert (found.parts, set(found.results.values())) == ({}, {"error"})
            return
        right = {}
        for name, digest in digests.items():
            whole, value = self.held.get((content, name, digest[:12]), ("", 0.0))
            if whole == digest:
                right[name] = {"value": value}
        assert found.parts == right
        assert found.results == {name: "hit" if name in right else "miss" for name in digests}

    @rule(garbage=GARBAGE)
    def spoil(self, garbage: bytes) -> None:
        if isinstance(self.link, StandIn):
            self.link.spoil(garbage)
        else:
            keys = self.link.call(lambda client: client.keys())
            for key in keys:
                self.link.call(lambda client, key=key: client.set(key, garbage))
        self.held.clear()

    @rule(down=st.booleans())
    def fails(self, down: bool) -> None:
        if isinstance(self.link, StandIn):
            self.link.down = down


class MemoryMachine(RuleBasedStateMachine):
    """The cache inside the process: least recently used goes first, and it never grows."""

    @initialize(most=st.integers(1, 4))
    def begin(self, most: int) -> None:
        self.most, self.cache = most, MemoryCache(most)
        self.held: dict[tuple[str, str, str], float] = {}

    @rule(content=CONTENTS, digests=DIGESTS, value=st.floats(0, 1))
    def put(self, content: str, digests: dict[str, str], value: float) -> None:
        self.cache.put(content, digests, {name: {"value": value} for name in digests})
        for name, digest in digests.items():
            self.held.pop((content, name, digest), None)
            self.held[content, name, digest] = value
        while len(self.held) > self.most:
            del self.held[next(iter(self.held))]

    @rule(content=CONTENTS, digests=DIGESTS)
    def get(self, content: str, digests: dict[str, str]) -> None:
        found = self.cache.get(content, digests)
        right = {}
        for name, digest in digests.items():
            key = (content, name, digest)
            if key in self.held:
                right[name] = {"value": self.held[key]}
                self.held[key] = self.held.pop(key)
        assert found.parts == right

    @invariant()
    def it_never_grows(self) -> None:
        assert len(self.cache._entries) <= self.most


TestRedis = RedisMachine.TestCase
TestRedis.settings = EFFORT
TestMemory = MemoryMachine.TestCase
TestMemory.settings = EFFORT


def test_the_same_on_a_real_redis(topics: Any) -> None:
    link = RedisLink(topics.redis_url, timeout_seconds=5, breaker_seconds=1)

    def fresh(_: RedisMachine) -> RedisLink:
        link.call(lambda client: client.flushdb())
        return link

    real = type("RealRedisMachine", (RedisMachine,), {"store": fresh})
    run_state_machine_as_test(real, settings=settings(max_examples=15, stateful_step_count=25, deadline=None))
    link.close()
