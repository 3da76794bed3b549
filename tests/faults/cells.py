"""The matrix: every cell is a shape and a fault, and a fault is one round of what goes wrong."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from redis import Redis

from tests.faults.cluster import BROKERS, CONTROLLER
from tests.faults.fleet import now_ms
from tests.faults.planted import POINTS
from tests.faults.process import wait_for
from tests.faults.scene import KILLED, SESSION_MS, Fault, Scene, Shape

GUARANTEES = {"alo": "at-least-once", "eos": "exactly-once"}
PARTITIONS = (1, 4)
REPLACED = 1
MEMBERSHIPS: Mapping[str, Mapping[str, str]] = {
    "eager": {"partition_assignment_strategy": "range"},
    "static": {"group_instance_id": "member-{slot}"},
}
"""Besides cooperative ones, which is what the product is: the member is made so from outside."""


@dataclass(frozen=True)
class Cell:
    """`python -m tests.faults.matrix CELL` plays it."""

    shape: Shape
    fault: Fault


# Brokers.


def kill_a_broker(scene: Scene) -> None:
    """Each broker in turn, and the controller every fourth time, crashes and comes back."""
    node = (*BROKERS, CONTROLLER)[scene.round % 4]
    scene.cluster.kill(node)
    scene.sleep(2.0, 5.0)
    scene.cluster.restart(node)


def stop_a_broker(scene: Scene) -> None:
    """Each broker in turn is stopped in good order and comes back."""
    node = BROKERS[scene.round % 3]
    scene.cluster.stop(node)
    scene.sleep(1.0, 4.0)
    scene.cluster.restart(node)


def freeze_a_broker(scene: Scene) -> None:
    """Each broker in turn hangs for longer than its own session with the controller."""
    node = BROKERS[scene.round % 3]
    scene.cluster.freeze(node)
    scene.sleep(5.0, 8.0)
    scene.cluster.thaw(node)


def all_brokers_away(scene: Scene) -> None:
    """No broker answers for longer than a session: all are killed, and come back."""
    for node in BROKERS:
        scene.cluster.kill(node)
    scene.sleep(SESSION_MS / 1000, SESSION_MS / 1000 + 4.0)
    for node in BROKERS:
        scene.cluster.restart(node)


# Workers.


def kill_a_worker(scene: Scene) -> None:
    """SIGKILL at any moment; another is started at once."""
    scene.sleep(0.0, 1.5)
    scene.fleet.kill(scene.dice.choice(scene.fleet.workers))
    scene.fleet.start(scene.shape.plan)


def stop_a_worker(scene: Scene) -> None:
    """SIGTERM at any moment; another is started at once."""
    scene.sleep(0.0, 1.5)
    scene.fleet.stop(scene.dice.choice(scene.fleet.workers))
    scene.fleet.start(scene.shape.plan)


def die_at_a_point(scene: Scene) -> None:
    """One of the workers kills itself at a named point; the next, at the next point, follows it."""
    point = list(POINTS)[scene.round % len(POINTS)]
    rare = point in ("in_revoke", "before_commit", "in_commit")
    # Armed only once the suspects of the death before have run: who dies while one runs alone condemns it.
    plan = {"die_at": point, "armed_after": 150, "skip": scene.dice.randrange(2 if rare else 100)}
    if point == "in_revoke":
        plan["skip"] = 0
    steady = scene.fleet.workers[0]
    doomed = scene.fleet.start(plan)
    if point == "in_revoke":
        # It takes over all, and hands over to a newcomer.
        doomed.wait_ready()
        scene.fleet.stop(steady)
        scene.flows(200)
        scene.fleet.start()
    wait_for(lambda: doomed.ended, f"nobody died at {point}", seconds=240.0, every=0.1)
    scene.fleet.bury_the_dead()
    scene.flows()


def freeze_a_worker(scene: Scene) -> None:
    """A zombie: it hangs until it is evicted and its partitions are another's, and then wakes up."""
    scene.sleep(0.0, 1.0)
    worker = scene.dice.choice(scene.fleet.workers)
    scene.silences_ms.append(now_ms())
    worker.signal(signal.SIGSTOP)
    scene.sleep(SESSION_MS / 1000 + 3.0)
    if len(scene.fleet.workers) > 1:
        scene.flows()
    worker.signal(signal.SIGCONT)
    scene.sleep(3.0)


def rebalance_storm(scene: Scene) -> None:
    """Members that own partitions for a moment and do nothing come and go, faster than hand-overs settle."""
    settings = scene.fleet.settings
    for _ in range(4):
        guest = KafkaConsumer(
            settings["ADSCORE_KAFKA__INPUT_TOPIC"],
            bootstrap_servers=scene.cluster.bootstrap_servers.split(","),
            group_id=settings["ADSCORE_KAFKA__GROUP_ID"],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=500,
            partition_assignment_strategy=[CooperativeStickyAssignor],
            max_poll_records=1,
        )
        until = time.monotonic() + scene.dice.uniform(0.2, 3.0)
        while time.monotonic() < until:
            guest.poll(timeout_ms=100)
        guest.close(autocommit=False, timeout_ms=5_000)
        scene.tend()


# The network.


def cut_the_network(scene: Scene) -> None:
    """The workers' connections end and none can be made, for less or for more than a session."""
    scene.silences_ms.append(now_ms())
    scene.proxy.cut()
    scene.sleep(1.0, 1.6 * SESSION_MS / 1000)
    scene.proxy.heal()


def hang_the_network(scene: Scene) -> None:
    """Connections stay open and nothing comes through, for less or for more than a session."""
    scene.silences_ms.append(now_ms())
    scene.proxy.hang()
    scene.sleep(1.0, 1.6 * SESSION_MS / 1000)
    scene.proxy.heal()


def delay_the_network(scene: Scene) -> None:
    """Every answer takes 100 to 400 ms longer."""
    scene.proxy.delay(scene.dice.uniform(0.05, 0.2))
    scene.flows(150)
    scene.proxy.heal()


# Redis.


def _dead(scene: Scene) -> Callable[[], None]:
    scene.cluster.redis.stop(seconds=0)
    return scene.cluster.redis.start


def _hung(scene: Scene) -> Callable[[], None]:
    scene.cluster.redis.signal(signal.SIGSTOP)
    return lambda: scene.cluster.redis.signal(signal.SIGCONT)


def _full(scene: Scene) -> Callable[[], None]:
    scene.redis.config_set("maxmemory", "1")
    return lambda: scene.redis.config_set("maxmemory", "0")


def _read_only(scene: Scene) -> Callable[[], None]:
    scene.redis.replicaof("127.0.0.1", "1")
    return lambda: scene.redis.replicaof("NO", "ONE")


def _without_rights(scene: Scene) -> Callable[[], None]:
    with Redis(port=scene.cluster.redis_port, username="root", password="root") as root:
        scene.redis.acl_setuser("root", enabled=True, passwords=["+root"], categories=["+@all"], keys=["*"])
        root.execute_command("ACL", "SETUSER", "default", "-@all", "+select")

    def mend() -> None:
        with Redis(port=scene.cluster.redis_port, username="root", password="root") as root:
            root.execute_command("ACL", "SETUSER", "default", "+@all")

    return mend


def _loading(scene: Scene) -> Callable[[], None]:
    """A server that has begun again and reads its data: every request is answered with LOADING."""
    scene.redis.mset({f"filler:{number}": "x" * 100 for number in range(20_000)})
    scene.redis.save()
    server = scene.cluster.redis
    plain = list(server.command)
    server.stop(seconds=0)
    # Slow for every key (µs), and free to answer after every kilobyte.
    server.command[:] = [*plain, "--key-load-delay", "300", "--loading-process-events-interval-bytes", "1024"]
    ready, server.ready_line = server.ready_line, "Server initialized"
    server.start()
    server.command[:], server.ready_line = plain, ready

    def mend() -> None:
        scene.until(lambda: not _is_loading(scene.redis), "Redis loads for ever")
        (server.folder / "dump.rdb").unlink()
        for start in range(0, 20_000, 5_000):
            scene.redis.delete(*[f"filler:{number}" for number in range(start, start + 5_000)])

    return mend


def _is_loading(redis: Redis) -> bool:
    return bool(redis.info("persistence")["loading"])


def _garbage(scene: Scene) -> Callable[[], None]:
    """Values that are no JSON, of another type, cut, or huge, under every key there is, again and again."""
    until = time.monotonic() + 4.0
    while time.monotonic() < until:
        for number, key in enumerate(list(scene.redis.scan_iter("adscore:*", count=1_000))):
            if number % 5 == 4:
                scene.redis.delete(key)
                scene.redis.rpush(key, "a list")
            elif not key.startswith(b"adscore:rev:"):
                scene.redis.set(key, (b"\xff\x00", b"", b"{", b"[" * 5_000)[number % 4])
        scene.sleep(0.2)
    return lambda: None


def _foreign(scene: Scene) -> Callable[[], None]:
    """Values of another content, another model, or another version of the format, under every key of the cache."""
    until = time.monotonic() + 4.0
    while time.monotonic() < until:
        for number, key in enumerate(list(scene.redis.scan_iter("adscore:{*", count=1_000))):
            if (value := _json(scene.redis, key)) is None:
                continue
            field, other = (("content", "0" * 64), ("digest", "0" * 12), ("v", 0))[number % 3]
            wrong = {name: 0.123 if name == "value" else held for name, held in value.items()}
            scene.redis.set(key, json.dumps(wrong | {field: other}))
        scene.sleep(0.2)
    return lambda: None


def _json(redis: Redis, key: bytes) -> dict[str, Any] | None:
    held = redis.get(key) if redis.type(key) == b"string" else None
    with suppress(ValueError, RecursionError):  # what another fault left there
        return json.loads(held or b"")
    return None


REDIS_FAULTS = {
    "dead": _dead,
    "hung": _hung,
    "full": _full,
    "read-only": _read_only,
    "rights": _without_rights,
    "loading": _loading,
    "garbage": _garbage,
    "foreign": _foreign,
}


def break_redis(scene: Scene) -> None:
    """Each of Redis's faults in turn."""
    begin = list(REDIS_FAULTS.values())[scene.round % len(REDIS_FAULTS)]
    mend = begin(scene)
    scene.flows(200)
    mend()


def poison(scene: Scene) -> None:
    """Nothing but what the records do; whoever dies of one is replaced."""
    scene.flows(300)


def _cells() -> Mapping[str, Cell]:
    made: dict[str, Cell] = {}
    died, stopped = frozenset({KILLED}), frozenset({0})
    for short, delivery in GUARANTEES.items():
        for partitions in PARTITIONS:
            shape = Shape(delivery, partitions)
            made |= {
                f"broker-kill-{short}-{partitions}": Cell(replace(shape, rounds=4), kill_a_broker),
                f"broker-stop-{short}-{partitions}": Cell(shape, stop_a_broker),
                f"worker-kill-{short}-{partitions}": Cell(replace(shape, exits=died), kill_a_worker),
                f"worker-stop-{short}-{partitions}": Cell(replace(shape, exits=stopped), stop_a_worker),
            }
        # With exactly-once a worker whose partitions went to another while it was silent ends with 1.
        evicted = frozenset({REPLACED}) if short == "eos" else frozenset()
        shape = Shape(delivery, 4)
        away = replace(shape, exits=evicted)
        made |= {
            f"broker-freeze-{short}": Cell(shape, freeze_a_broker),
            f"brokers-away-{short}": Cell(replace(away, rounds=2), all_brokers_away),
            f"points-{short}": Cell(
                replace(shape, workers=1, rounds=len(POINTS), exits=died | stopped), die_at_a_point
            ),
            f"zombie-{short}": Cell(away, freeze_a_worker),
            f"storm-{short}": Cell(shape, rebalance_storm),
            f"cut-{short}": Cell(replace(away, proxied=True), cut_the_network),
            f"hang-{short}": Cell(replace(away, proxied=True), hang_the_network),
            f"delay-{short}": Cell(replace(shape, proxied=True), delay_the_network),
            f"redis-{short}": Cell(
                Shape(delivery, 1, workers=1, rounds=len(REDIS_FAULTS), compare_scores=True), break_redis
            ),
            f"poison-{short}": Cell(replace(shape, poison=400, plan={"poison": True}, exits=died), poison),
        }
        for kind, config in MEMBERSHIPS.items():
            member = replace(shape, plan={"consumer": config}, exits=stopped)
            made[f"{kind}-{short}"] = Cell(member, stop_a_worker)
    return made


CELLS = _cells()
