"""A whole worker as a process of its own on the real broker, with topics and a group that are made and deleted here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import click
import orjson
from kafka import TopicPartition, errors
from kafka.errors import KafkaError
from prometheus_client.parser import text_string_to_metric_families

from worker.commands import kafka
from worker.commands.bench_rig import Offer, Result, Stages, read_stages
from worker.commands.group_lag import patiently
from worker.commands.topics import policies
from worker.errors import FatalError
from worker.settings_schema import Settings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

PARTITIONS = 4
READY_SECONDS = 120.0
STOP_SECONDS = 10.0
POLL_MS = 200
ORPHANED_SECONDS = "600"
"""A worker whose benchmark was killed ends after so long without work."""
KEPT_SECONDS = 600
"""What the worker writes to the configured Redis is gone after it."""
_PACKAGES = str(Path(__file__).resolve().parents[2])


class BrokerRig:
    """`adscore worker`, the sender of its records and the reader of what it publishes."""

    def __init__(self, settings: Settings, environment: Mapping[str, str], config: Path | None, log: Path) -> None:
        self.results: SimpleQueue[Result] = SimpleQueue()
        self._settings, self._environment, self._config, self._log = settings, environment, config, log
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._ending = threading.Event()
        self._withdrawn = threading.Event()
        self._failed: BaseException | None = None
        self._sender: threading.Thread | None = None
        self._left = 0
        self._producer: KafkaProducer = self._stack.enter_context(kafka.producer(settings.kafka))
        consumer = self._stack.enter_context(kafka.consumer(settings.kafka))
        self._reader = threading.Thread(target=self._guarded, args=(self._read, consumer), daemon=True)
        self._reader.start()

    def offer(self, offers: Iterable[Offer]) -> None:
        """Write the records, each when it is due."""
        waiting = list(offers)
        self._withdrawn.clear()
        self._left = len(waiting)
        self._sender = threading.Thread(target=self._guarded, args=(self._send, waiting), daemon=True)
        self._sender.start()
        if self._process is None:
            self._sender.join()

    def start(self) -> None:
        """Start the process and wait until it takes part in its group. Raises FatalError with what it said."""
        config = [] if self._config is None else ["--config", str(self._config)]
        command = [sys.executable, "-P", "-m", "worker", *config, "worker", "--until-idle", ORPHANED_SECONDS]
        with self._log.open("wb") as log:
            # A session of its own: a Ctrl-C is for the benchmark, which then stops its worker.
            self._process = subprocess.Popen(  # noqa: S603  our own
                command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            self.check()
            if time.monotonic() > deadline:
                raise FatalError(f"the worker wasn't ready within {READY_SECONDS:g} s", exit_code=3)
            time.sleep(0.05)

    def withdraw(self) -> int:
        """Write nothing more; how many records never will be."""
        self._withdrawn.set()
        if self._sender is not None:
            self._sender.join()
        return self._left

    def stages(self) -> Stages:
        """From the worker's own /metrics."""
        return read_stages(text_string_to_metric_families(self._get("/metrics")))

    def check(self) -> None:
        """Raises FatalError where the worker has ended, or its records can't be written or read."""
        if self._failed is not None:
            raise kafka.unreachable(self._settings.kafka, self._failed) from self._failed
        if self._process is not None and (status := self._process.poll()) is not None:
            said = [line.get("event") for line in self._lines() if line.get("level") in ("error", "critical")]
            why = said[-1] if said else f"it ended with {status}"
            raise FatalError(f"the worker: {why}", exit_code=status if status in (1, 2, 3) else 1)

    def close(self) -> None:
        """Stop the worker (SIGTERM, it drains), the sender and the reader."""
        self._withdrawn.set()
        self._ending.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(self._settings.drain.timeout_seconds + STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for thread in (self._sender, self._reader):
            if thread is not None:
                thread.join(STOP_SECONDS)
        self._stack.close()

    # Threads.

    def _guarded(self, work: Callable[[Any], None], argument: Any) -> None:
        try:
            work(argument)
        except Exception as error:  # noqa: BLE001  told by `check`, on the thread that asks
            self._failed = error

    def _send(self, waiting: list[Offer]) -> None:
        topic, futures = self._settings.kafka.input_topic, []
        for offer in waiting:
            if self._withdrawn.wait(max(0.0, offer.due - time.monotonic())):
                break
            futures.append(
                kafka.send(self._producer, topic, offer.key, offer.value, (), timestamp_ms=offer.timestamp_ms)
            )
            self._left -= 1
        self._producer.flush(timeout=kafka.REQUEST_TIMEOUT_MS / 1000)
        for future in futures:
            future.get(timeout=kafka.REQUEST_TIMEOUT_MS / 1000)

    def _read(self, consumer: KafkaConsumer) -> None:
        output, dlq = self._settings.kafka.output_topic, self._settings.kafka.dlq_topic
        consumer.assign([TopicPartition(topic, number) for topic in (output, dlq) for number in range(PARTITIONS)])
        while not self._ending.is_set():
            polled = consumer.poll(timeout_ms=POLL_MS)
            moment = time.monotonic()
            for message in (message for messages in polled.values() for message in messages):
                record = kafka.record(message)
                code = None if message.topic == output else kafka.text_headers(record.headers).get("adscore_dlq_code")
                self.results.put(Result(record.key or b"", moment, None if code else record.value, code))

    # The process.

    def _ready(self) -> bool:
        if not self._port:
            self._port = next((line["http_port"] for line in self._lines() if "http_port" in line), 0)
        if not self._port:
            return False
        try:
            return bool(self._get("/readyz"))
        except OSError:
            return False

    def _get(self, path: str) -> str:
        # No proxy of the environment comes between.
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        return body if answer.status == HTTPStatus.OK else ""

    def _lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self._log.read_bytes().splitlines():
            try:
                told = orjson.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict):
                found.append(told)
        return found


@contextmanager
def broker_rig(settings: Settings, config: Path | None) -> Iterator[BrokerRig]:
    """A worker by the settings, on topics and a group of its own; they are gone behind the block. Raises FatalError.

    config: the file that the settings came from, beside the environment.
    """
    name = f"adscore-bench-{uuid.uuid4().hex[:12]}"
    own = {
        "KAFKA__INPUT_TOPIC": f"{name}.input",
        "KAFKA__OUTPUT_TOPIC": f"{name}.output",
        "KAFKA__DLQ_TOPIC": f"{name}.dlq",
        "KAFKA__SHADOW_TOPIC": f"{name}.shadow",
        "KAFKA__GROUP_ID": name,
        "KAFKA__TRANSACTIONAL_ID_PREFIX": name,
        "REDIS__TTL_SECONDS": str(KEPT_SECONDS),
        "REDIS__REVISION_DAYS": str(KEPT_SECONDS / 86_400),
        "SHADOW__ATTRACTIVENESS": "",
        "SHADOW__SENTIMENT": "",
        "SHADOW__CTR": "",
        "DLQ__MAX_CONSECUTIVE": "0",
        "HTTP__HOST": "127.0.0.1",
        "HTTP__PORT": "0",
        "SERVED__SAMPLE_SECONDS": "0",
        "TRACING__ENDPOINT": "",
        "LOG__LEVEL": "info",
        "LOG__FORMAT": "json",
    }
    environment = {**os.environ, **{f"ADSCORE_{key}": value for key, value in own.items()}}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (_PACKAGES, os.environ.get("PYTHONPATH"))))
    names = settings.kafka.model_copy(
        update={key.partition("__")[2].lower(): value for key, value in own.items() if key.startswith("KAFKA__")}
    )
    mine = settings.model_copy(update={"kafka": names})
    with (
        _terminable(),
        kafka.reached(settings.kafka),
        kafka.admin(mine.kafka) as admin,
        _topics(admin, mine),
        tempfile.TemporaryDirectory(prefix="adscore-bench-") as folder,
    ):
        rig = BrokerRig(mine, environment, config, Path(folder) / "log")
        try:
            yield rig
        finally:
            rig.close()


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is as good as a Ctrl-C: what was made here is deleted."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _topics(admin: KafkaAdminClient, settings: Settings) -> Iterator[None]:
    wanted = {
        policy.name: {"num_partitions": PARTITIONS, "replication_factor": -1, "configs": policy.configs()}
        for policy in policies(settings)
    }
    try:
        admin.create_topics(wanted)
        admin.wait_for_topics(list(wanted))
        yield
    finally:
        group = settings.kafka.group_id
        try:
            admin.delete_topics(list(wanted))
            left = patiently(lambda: _delete(admin, group))
        except KafkaError as error:
            left = type(error).__name__
        if left:
            told = f"{left}; delete topics and group that begin with {group} by hand"
            click.echo(f"what was made for the benchmark isn't all deleted: {told}", err=True)


def _delete(admin: KafkaAdminClient, group: str) -> str | None:
    """None, or why the group stays. Raises KafkaError where asking again may help."""
    said = str(admin.delete_groups([group])[group])
    if said in ("OK", "GroupIdNotFoundError"):
        return None
    error = getattr(errors, said, KafkaError)
    if error.retriable:
        raise error
    return said
