"""A real cluster for faults: one controller and three brokers on loopback, every topic on all three, two must confirm.

Each broker has two listeners: clients that may not be disturbed (the tests' own) use the plain one; the other is
advertised under the port of a proxy, so that whoever bootstraps there can be cut off (`proxy.py`).
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools.kafka_broker import JVM, SOURCES, jars, java
from tools.local_stack import ROOT, RUN
from tools.redis_cache import redis_cache
from tools.server import Server, StackUnavailableError, free_port

BROKERS = (1, 2, 3)
CONTROLLER = 100
START_SECONDS = 180.0
STOP_SECONDS = 60.0

COMMON = """\
node.id={node}
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=data
auto.create.topics.enable=false
# A broker that was killed may register again after this, instead of after nine seconds.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""
OF_CONTROLLER = """\
process.roles=controller
listeners=CONTROLLER://127.0.0.1:{controller}
"""
OF_BROKER = """\
process.roles=broker
listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{behind}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{proxy}
inter.broker.listener.name=PLAINTEXT
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
share.coordinator.state.topic.num.partitions=1
# An open transaction that has timed out is ended within a second, instead of within ten.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
replica.lag.time.max.ms=5000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# The default takes 128 MiB of heap.
log.cleaner.dedupe.buffer.size=4194304
log.segment.delete.delay.ms=1000
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=1
"""


class Cluster:
    """Use as a context manager: started in it, and gone after it, data too, however this process ends."""

    def __init__(self) -> None:
        RUN.mkdir(exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="cluster-", dir=RUN))
        self._controller_port = free_port()
        self.ports = {node: (free_port(), free_port(), free_port()) for node in BROKERS}
        """Per broker: the plain port, the one behind the proxy, and the proxy's."""
        self.redis_port = free_port()
        self._servers: dict[int, Server] = {}
        self.redis: Server
        """The Redis beside it."""

    @property
    def bootstrap_servers(self) -> str:
        """For clients that nothing may disturb but the brokers' own faults."""
        return ",".join(f"127.0.0.1:{plain}" for plain, _, _ in self.ports.values())

    @property
    def proxied_servers(self) -> str:
        """For clients whose network is to be cut."""
        return ",".join(f"127.0.0.1:{proxy}" for _, _, proxy in self.ports.values())

    def __enter__(self) -> Cluster:
        try:
            self._make()
            self._servers[CONTROLLER].start()
            with ThreadPoolExecutor(len(BROKERS)) as pool:
                list(pool.map(self.restart, BROKERS))
            self.redis = redis_cache(self.folder / "redis", port=self.redis_port, owned=True)
            self.redis.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in [*self._servers.values(), *([self.redis] if hasattr(self, "redis") else [])]:
            server.stop(seconds=0)
        shutil.rmtree(self.folder, ignore_errors=True)

    # Faults.

    def kill(self, node: int) -> None:
        """SIGKILL: a crash."""
        self._servers[node].stop(seconds=0)

    def stop(self, node: int) -> None:
        """SIGTERM: it hands its partitions over and ends."""
        self._servers[node].stop(STOP_SECONDS)

    def restart(self, node: int) -> None:
        """Start it again on the ports and the data it had."""
        self._servers[node].start()

    def freeze(self, node: int) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._servers[node].signal(signal.SIGSTOP)

    def thaw(self, node: int) -> None:
        """End of `freeze`."""
        self._servers[node].signal(signal.SIGCONT)

    def running(self, node: int) -> bool:
        """Whether its process is there."""
        return self._servers[node].pid is not None

    def mend(self) -> None:
        """Everything runs again."""
        for node, server in self._servers.items():
            if server.pid is None:
                self.restart(node)
            else:
                server.signal(signal.SIGCONT)
        if self.redis.pid is None:
            self.redis.start()
        else:
            self.redis.signal(signal.SIGCONT)

    def renew_redis(self) -> None:
        """Redis begins again, empty, whatever a fault has left it: full, read-only, without rights."""
        self.redis.stop(seconds=0)
        (self.redis.folder / "dump.rdb").unlink(missing_ok=True)
        self.redis.start()

    # Making it.

    def _make(self) -> None:
        libs = jars(ROOT / ".cache")
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        program = java()
        formats = []
        for node in (CONTROLLER, *BROKERS):
            folder = self.folder / f"node-{node}"
            (folder / "tmp").mkdir(parents=True)
            (folder / "server.properties").write_text(self._properties(node), encoding="ascii")
            run = [
                program,
                *JVM,
                f"-Djava.io.tmpdir={folder / 'tmp'}",
                f"-Dlog4j2.configurationFile={os.path.relpath(SOURCES / 'log4j2.properties', folder)}",
                "-cp",
                f"{os.path.relpath(libs, folder)}/*",
            ]
            first = ["--standalone"] if node == CONTROLLER else []
            tool = ["kafka.tools.StorageTool", "format", *first, f"--cluster-id={cluster_id}", "-c"]
            formats.append(
                subprocess.Popen(
                    [*run, *tool, "server.properties"],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
            )
            self._servers[node] = Server(
                f"Kafka node {node}",
                folder,
                [*run, "kafka.Kafka", "server.properties"],
                ready_line="Kafka Server started",
                owned=True,
                start_seconds=START_SECONDS,
            )
        for process in formats:
            said, _ = process.communicate()
            if process.returncode != 0:
                raise StackUnavailableError(f"Kafka couldn't format its storage:\n{said.decode()[-1_000:]}")

    def _properties(self, node: int) -> str:
        if node == CONTROLLER:
            return (COMMON + OF_CONTROLLER).format(node=node, controller=self._controller_port)
        plain, behind, proxy = self.ports[node]
        return (COMMON + OF_BROKER).format(
            node=node, controller=self._controller_port, plain=plain, behind=behind, proxy=proxy
        )
