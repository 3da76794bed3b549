"""A real Apache Kafka on loopback: its jars from Maven, one node that is broker and controller (KRaft)."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path

from tools.server import Server, StackUnavailableError

SOURCES = Path(__file__).with_name("kafka")
JAVA_VERSION = 17
INSTALL_JAVA = "run `make setup`, or install it: sudo apt-get install default-jre-headless"
INSTALL_MAVEN = "run `make setup`, or install it: sudo apt-get install maven"
# Small and quick to start: one user, no load worth a second compiler.
JVM = [
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
]

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
# Relative to the broker's own folder, so that no path has to be escaped.
log.dirs=data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# The default takes 128 MiB of heap.
log.cleaner.dedupe.buffer.size=4194304
log.segment.delete.delay.ms=1000
# A broker that was killed may register again after this, instead of after nine seconds.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


def java() -> str:
    """Path of a Java that can run Kafka.

    Raises:
        StackUnavailableError: there is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    found = (shutil.which("java", path=f"{home}/bin") if home else None) or shutil.which("java")
    if found is None:
        raise StackUnavailableError(f"Kafka needs Java {JAVA_VERSION} or newer, and there is none; {INSTALL_JAVA}")
    said = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA_VERSION:
        first_line = said.strip().partition("\n")[0]
        raise StackUnavailableError(
            f"Kafka needs Java {JAVA_VERSION} or newer; {found} is {first_line}; {INSTALL_JAVA}"
        )
    return found


def jars_folder(cache: Path) -> Path:
    """Where the jars of this pom lie below `cache`; whole if it is there."""
    return cache / "kafka" / hashlib.sha256((SOURCES / "pom.xml").read_bytes()).hexdigest()[:12]


def jars(cache: Path) -> Path:
    """The folder with Kafka's jars below `cache`, fetched by Maven unless this pom's are there already.

    Raises:
        StackUnavailableError: no Maven, or it failed; the text has its last lines.
    """
    folder = jars_folder(cache)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():  # another process may have been faster
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise StackUnavailableError(f"Maven fetches Kafka's jars, and there is none; {INSTALL_MAVEN}")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run(  # noqa: S603 - built here, and no shell reads it
        [maven, "-q", "-B", "-Dstyle.color=never", "--strict-checksums", *goal],
        cwd=SOURCES,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = "\n".join(done.stdout.strip().splitlines()[:3])  # what follows is advice on Maven's switches
        raise StackUnavailableError(f"Maven couldn't fetch Kafka's jars; can it reach its repository?\n{said}")
    partial.rename(folder)


def kafka_broker(folder: Path, libs: Path, *, broker_port: int, controller_port: int, owned: bool) -> Server:
    """The broker whose data lies in `folder` (absolute), formatted if it is new, not yet started."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    # Paths relative to the broker's folder: neither spaces nor colons nor `%` in the checkout's path can hurt.
    run = [
        java(),
        *JVM,
        f"-Djava.io.tmpdir={folder / 'tmp'}",
        f"-Dlog4j2.configurationFile={os.path.relpath(SOURCES / 'log4j2.properties', folder)}",
        "-cp",
        f"{os.path.relpath(libs, folder)}/*",
    ]
    if not (folder / "data").exists():
        ports = {"broker": broker_port, "controller": controller_port}
        (folder / "server.properties").write_text(PROPERTIES.format(**ports), encoding="ascii")
        _format(folder, run)
    command = [*run, "kafka.Kafka", "server.properties"]
    return Server("Kafka", folder, command, ready_line="Kafka Server started", owned=owned)


def _format(folder: Path, run: list[str]) -> None:
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    tool = ["kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}", "-c", "server.properties"]
    done = subprocess.run(  # noqa: S603 - built here, and no shell reads it
        [*run, *tool], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        shutil.rmtree(folder / "data", ignore_errors=True)
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise StackUnavailableError(f"Kafka couldn't format its storage in {folder}:\n{tail}")
