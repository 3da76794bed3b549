"""One scene: topics of its own on the cluster, workers, a load without end, a reader beside them, and the account."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from redis import Redis

from tests.faults.account import Account, Evidence, account, longest_silence
from tests.faults.cluster import Cluster
from tests.faults.fleet import Fleet, clean_environment, now_ms
from tests.faults.load import SUPERSEDED, Load, Script
from tests.faults.process import WorkerProcess
from tests.faults.proxy import Proxy
from tests.faults.watch import Watcher, commits, open_transactions, read_all
from tools.local_stack import RUN
from worker.commands.topics import policies
from worker.settings import load

SESSION_MS = 6_000
TRANSACTION_MS = 10_000
PATIENCE_SECONDS = 100.0
"""Without any progress for so long, the scene gives up waiting; the account then says what is missing."""
KILLED = 137
NOBODY_LISTENED = 143
SLACK_MS = 1_500
WARM_RECORDS = 60
LOGS = RUN / "faults"
"""Where the workers' logs of a failed cell stay."""


@dataclass(frozen=True)
class Shape:
    """How a scene is set up. `exits`: statuses with which a worker may end during the faults."""

    delivery: str
    partitions: int
    workers: int = 2
    passing: int = 1_000
    """Records per partition that must pass while the faults happen."""
    rounds: int = 3
    exits: frozenset[int] = frozenset()
    poison: int | None = None
    proxied: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    plan: Mapping[str, Any] | None = None
    compare_scores: bool = False
    patience_seconds: float = PATIENCE_SECONDS

    @property
    def exactly_once(self) -> bool:
        """Which guarantee."""
        return self.delivery == "exactly-once"


@dataclass(frozen=True)
class Result:
    """What a scene showed."""

    account: Account
    records: int
    passed: int
    """Per partition, the least, while the faults happened."""
    recovery_seconds: float
    """The longest that a partition stood still around a fault."""
    seconds: float
    deaths: int
    exits: Sequence[int]

    @property
    def clean(self) -> bool:
        """Whether all of it is as promised."""
        return self.account.clean


Fault = Callable[["Scene"], None]


class Scene:
    """What a fault may touch, and how it waits. Made by `play`."""

    def __init__(
        self, shape: Shape, cluster: Cluster, fleet: Fleet, watcher: Watcher, proxy: Proxy, seed: str, redis: Redis
    ) -> None:
        self.shape, self.cluster, self.fleet, self.watcher, self.proxy = shape, cluster, fleet, watcher, proxy
        self.redis = redis
        self.dice = random.Random(seed)
        self.round = 0
        self.silences_ms: list[int] = []
        """Moments from which on a worker counts as dead although its process lives (a freeze, a cut network)."""

    def sleep(self, least: float, most: float | None = None) -> None:
        """Let time pass, and replace workers that end meanwhile."""
        until = time.monotonic() + (self.dice.uniform(least, most) if most else least)
        while (left := until - time.monotonic()) > 0:
            self.tend()
            time.sleep(min(0.1, left))

    def tend(self) -> None:
        """What a supervisor does: a worker that ended is started again."""
        for _ in self.fleet.bury_the_dead():
            self.fleet.start(self.shape.plan)

    def flows(self, records: int = WARM_RECORDS) -> None:
        """Wait until so many more records of every partition came out."""
        since = now_ms()
        self.until(lambda: min(self._passed(since).values()) >= records, "a partition stands still")

    def until(self, check: Callable[[], Any], what: str, patience: float = 0.0) -> None:
        """Wait for `check`; raises StuckError once nothing has come out for `patience` seconds (0: the shape's)."""
        patience = patience or self.shape.patience_seconds
        seen, since = self.watcher.ended, time.monotonic()
        while not check():
            self.tend()
            if self.watcher.ended != seen:
                seen, since = self.watcher.ended, time.monotonic()
            if time.monotonic() - since > patience:
                self.fleet.tell_stacks()
                raise StuckError(f"{what}: nothing came out for {patience:.0f} s")
            time.sleep(0.05)

    def _passed(self, since_ms: int) -> dict[int, int]:
        found = self.watcher.passed(since_ms)
        return {partition: found.get(partition, 0) for partition in range(self.shape.partitions)}

    def play(self, fault: Fault) -> tuple[int, int, list[tuple[int, int]]]:
        """Round after round until enough has passed: (when it began, records that passed, the rounds' times)."""
        self.flows()
        began, rounds = now_ms(), []
        while self.round < self.shape.rounds or min(self._passed(began).values()) < self.shape.passing:
            start = now_ms()
            fault(self)
            self.flows()
            rounds.append((start, now_ms()))
            self.round += 1
        return began, min(self._passed(began).values()), rounds


def _was_no_worker_yet(worker: WorkerProcess, status: int) -> bool:
    """Whether a stop found the interpreter still loading, so that nobody was there to take it."""
    return status == NOBODY_LISTENED and not worker.running.stderr


class StuckError(Exception):
    """The scene doesn't go on. What is missing, the account says."""


def play(
    shape: Shape, fault: Fault, cluster: Cluster, models: Path, name: str, seed: str, scores: Mapping[int, Any]
) -> Result:
    """Play one scene on a cluster that runs, and account for every record of it."""
    started = time.monotonic()
    with ExitStack() as stack:
        scene, feed, names = stack.enter_context(_scene(shape, cluster, models, name, seed))
        stuck: list[str] = []
        passed, rounds = 0, []
        try:
            _, passed, rounds = scene.play(fault)
        except StuckError as error:
            stuck.append(str(error))
        cluster.mend()
        scene.proxy.heal()
        sent = feed.finish()
        expected = sum(1 for record in sent if record.fate != SUPERSEDED)
        try:
            scene.until(lambda: scene.watcher.ended >= expected, f"{expected} records were never finished")
            ends = dict(record.place for record in sent)
            group, servers = names["group"], cluster.bootstrap_servers
            scene.until(
                lambda: _committed(servers, group, names["input"]) == {p: o + 1 for p, o in ends.items()},
                "not all was committed",
                patience=20.0,
            )
        except StuckError as error:
            stuck.append(str(error))
        exits = [status for _, status in scene.fleet.gone]
        for worker in list(scene.fleet.workers):
            scene.fleet.stop(worker)
        unexpected = [
            f"{status}: {worker.running.stderr[-600:]}"
            for number, (worker, status) in enumerate(scene.fleet.gone)
            if status not in (shape.exits if number < len(exits) else {0}) and not _was_no_worker_yet(worker, status)
        ]
        evidence = _evidence(scene, cluster, names, sent, scores)
        result = account(evidence)
        if stuck or unexpected or not result.clean:
            scene.fleet.keep_logs(LOGS / name)
    extra = {
        "stuck": stuck,
        "unexpected exit": unexpected,
        "too few passed": [] if passed >= shape.passing else [passed],
    }
    silences = [max(longest_silence(evidence.after, start, end).values(), default=0) for start, end in rounds]
    return Result(
        Account({**result.wrong, **extra}, result.repeats, result.ended),
        len(sent),
        passed,
        max(silences, default=0) / 1000,
        time.monotonic() - started,
        len(evidence.deaths_ms),
        exits,
    )


@contextmanager
def _scene(
    shape: Shape, cluster: Cluster, models: Path, name: str, seed: str
) -> Iterator[tuple[Scene, Load, Mapping[str, str]]]:
    unique = f"{name}-{random.SystemRandom().randrange(10**6)}".replace("/", "-")
    names = {kind: f"{unique}.{kind}" for kind in ("input", "output", "dlq", "shadow")} | {"group": unique}
    redis_url = f"redis://127.0.0.1:{cluster.redis_port}/0"
    settings = {
        f"ADSCORE_KAFKA__{kind.upper()}_TOPIC": names[kind] for kind in ("input", "output", "dlq", "shadow")
    } | {
        "ADSCORE_KAFKA__BOOTSTRAP_SERVERS": cluster.proxied_servers if shape.proxied else cluster.bootstrap_servers,
        "ADSCORE_KAFKA__GROUP_ID": unique,
        "ADSCORE_KAFKA__DELIVERY": shape.delivery,
        "ADSCORE_KAFKA__SESSION_TIMEOUT_MS": str(SESSION_MS),
        "ADSCORE_KAFKA__TRANSACTION_TIMEOUT_MS": str(TRANSACTION_MS),
        "ADSCORE_REDIS__URL": redis_url,
        "ADSCORE_REDIS__BREAKER_SECONDS": "1",
        "ADSCORE_MODELS__DIR": str(models),
        "ADSCORE_DECODE__WORKERS": "1",
        "ADSCORE_OCR__WORKERS": "1",
        "ADSCORE_PIPELINE__ENGINE_THREADS": "1",
        "ADSCORE_FETCH__WORKERS": "4",
        "ADSCORE_BATCH__MAX_DELAY_MS": "5",
        "ADSCORE_HTTP__HOST": "127.0.0.1",
        "ADSCORE_HTTP__PORT": "0",
        "ADSCORE_LOG__FORMAT": "json",
        **shape.settings,
    }
    _create_topics(cluster.bootstrap_servers, settings, shape.partitions)
    cluster.renew_redis()
    with ExitStack() as stack:
        redis = stack.enter_context(Redis.from_url(redis_url, socket_timeout=30, socket_connect_timeout=30))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scene-")))
        proxy = stack.enter_context(Proxy({outer: inner for _, inner, outer in cluster.ports.values()}))
        fleet = stack.enter_context(Fleet(folder, clean_environment() | settings | {"OMP_NUM_THREADS": "1"}))
        watcher = stack.enter_context(Watcher(cluster.bootstrap_servers, [names["output"], names["dlq"]]))
        for _ in range(shape.workers):
            fleet.start(shape.plan)
        scripts = [Script(partition, seed, shape.poison) for partition in range(shape.partitions)]
        feed = stack.enter_context(
            Load(
                cluster.bootstrap_servers,
                names["input"],
                scripts,
                ended=lambda: watcher.ended,
                ahead=600 * shape.partitions,
            )
        )
        yield Scene(shape, cluster, fleet, watcher, proxy, seed, redis), feed, names


def _create_topics(servers: str, settings: Mapping[str, str], partitions: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","), request_timeout_ms=30_000)
    try:
        wanted = {
            policy.name: {"num_partitions": partitions, "replication_factor": 3, "configs": policy.configs()}
            for policy in policies(load(None, dict(settings)).settings)
        }
        admin.create_topics(wanted)
        admin.wait_for_topics(list(wanted))
    finally:
        admin.close()


def _committed(servers: str, group: str, topic: str) -> dict[int, int]:
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","), request_timeout_ms=30_000)
    try:
        found = admin.list_group_offsets({group: None})[group]
        return {place.partition: entry.offset for place, entry in found.items() if place.topic == topic}
    finally:
        admin.close()


def _evidence(
    scene: Scene, cluster: Cluster, names: Mapping[str, str], sent: Sequence[Any], scores: Mapping[int, Any]
) -> Evidence:
    servers, topics = cluster.bootstrap_servers, [names["output"], names["dlq"]]
    # An open transaction ends within its time-out; only then what is left is hanging.
    deadline = time.monotonic() + TRANSACTION_MS / 1000 + 20.0
    while (hanging := open_transactions(servers, topics)) and time.monotonic() < deadline:
        time.sleep(0.5)
    after = read_all(servers, topics)
    # The reader beside the faults has what it was shown so far; let it see the end.
    until = time.monotonic() + 20.0
    while len(scene.watcher.seen) < len(after) and time.monotonic() < until:
        time.sleep(0.05)
    evictions = [_moment(line) for line in scene.fleet.lines("evicted")]
    return Evidence(
        sent=sent,
        during=list(scene.watcher.seen),
        after=after,
        commits=commits(servers, names["group"], names["input"]),
        open_transactions=hanging,
        deaths_ms=[*scene.fleet.deaths_ms, *evictions],
        silences_ms=scene.silences_ms,
        refusals_ms=[_moment(line) for line in scene.fleet.lines("commit_failed")],
        exactly_once=scene.shape.exactly_once,
        slack_ms=SLACK_MS,
        scores=scores if scene.shape.compare_scores else {},
    )


def _moment(line: Mapping[str, Any]) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp() * 1000)
