"""One run of a worker over everything that senders do; the tests beside it look at what came out."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.faults.creatives import Outgoing
from tests.faults.process import WorkerProcess
from tests.faults.wire import Found, Place, publish, read_all
from tests.integration.senders import SECRETS, everything, second_day
from tools.server import GUARD

DLQ_BYTES = 100_000
"""`max.message.bytes` of the dead letters here, small, so that one of them has to be truncated."""


@dataclass(frozen=True)
class Run:
    """What one worker was sent and what it made of it."""

    topics: Any
    servers: str
    records: dict[str, Outgoing]
    places: dict[str, Place]
    outputs: list[Found]
    dead: list[Found]
    metrics: str
    logs: str
    status: int
    worker: WorkerProcess
    batch_items: float
    hits: float

    def output(self, name: str) -> Found:
        """The one output of the record called `name`."""
        (found,) = [found for found in self.outputs if found.source == self.places[name]]
        return found

    def dead_letter(self, name: str) -> Found:
        """The one dead letter of the record called `name`."""
        (found,) = [found for found in self.dead if found.source == self.places[name]]
        return found


@dataclass(frozen=True)
class _Process:
    """What WorkerProcess needs, for a worker that outlives one test."""

    guard: subprocess.Popen[bytes]
    folder: Path

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    def signal(self, number: int) -> None:
        self.guard.send_signal(number)

    def wait(self, seconds: float = 60.0) -> int:
        return self.guard.wait(seconds)


def _start(folder: Path, env: dict[str, str]) -> WorkerProcess:
    guard = [sys.executable, "-I", "-S", str(GUARD), "--grace", "60", "--"]
    with (folder / "stderr").open("wb") as log:
        popen = subprocess.Popen([*guard, sys.executable, "-m", "worker", "worker"], env=env, stderr=log)
    return WorkerProcess(_Process(popen, folder))


def _run(stack: Any, topics: Any, folder: Path, records: dict[str, Outgoing], settings: dict[str, str]) -> Run:
    servers = stack.bootstrap_servers
    seen = len(read_all(servers, topics.output)), len(read_all(servers, topics.dlq))
    places = dict(zip(records, publish(servers, topics.input, records.values()), strict=True))
    worker = _start(folder, topics.env | settings)
    try:
        worker.wait_processed(len(records))
        metrics = worker.get("/metrics")[1]
        items = worker.metric("adscore_batch_size_sum")
        hits = worker.metric("adscore_cache_requests_total", head="ctr", result="hit")
        worker.signal(signal.SIGTERM)
        status = worker.wait()
    finally:
        worker.running.guard.terminate()
        worker.running.guard.wait()
    before = set(places.values())
    outputs = [found for found in read_all(servers, topics.output) if found.source in before]
    dead = [found for found in read_all(servers, topics.dlq) if found.source in before]
    assert len(outputs) + len(dead) + sum(seen) == len(read_all(servers, topics.output)) + len(
        read_all(servers, topics.dlq)
    ), "something was published that no record of this run explains"
    logs = worker.running.stderr
    return Run(topics, servers, records, places, outputs, dead, metrics, logs, status, worker, items, hits)


@pytest.fixture(scope="module")
def make_runs(
    stack: Any, make_module_topics: Callable[[int], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Run, Run]]:
    """The first day, and a second worker's day after it with the same group, topics and Redis."""
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    topics = make_module_topics(3)
    admin = KafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.dlq, {"max.message.bytes": DLQ_BYTES})])
    admin.close()
    place, _, database = topics.redis_url.removeprefix("redis://").rpartition("/")
    redis = Redis.from_url(topics.redis_url)
    redis.execute_command("ACL", "SETUSER", "walker", "on", f">{SECRETS['redis']}", "~*", "&*", "+@all")
    roots = tmp_path_factory.mktemp("images")
    settings = {
        "ADSCORE_REDIS__URL": f"redis://walker:{SECRETS['redis']}@{place}/{database}",
        "ADSCORE_FETCH__FILE_ROOTS": str(roots),
        "ADSCORE_FETCH__MAX_BYTES": "200000",
        "ADSCORE_LOG__LEVEL": "debug",
        "ADSCORE_HTTP__HOST": "127.0.0.1",
    }
    try:
        first = _run(stack, topics, tmp_path_factory.mktemp("first"), everything(roots), settings)
        second = _run(stack, topics, tmp_path_factory.mktemp("second"), second_day(), settings)
        yield first, second
    finally:
        redis.execute_command("ACL", "DELUSER", "walker")
        redis.close()


@pytest.fixture(scope="module")
def first(make_runs: tuple[Run, Run]) -> Run:
    """The first worker's run."""
    return make_runs[0]


@pytest.fixture(scope="module")
def second(make_runs: tuple[Run, Run]) -> Run:
    """The run of the worker that came after it."""
    return make_runs[1]
