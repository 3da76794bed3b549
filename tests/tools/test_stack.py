import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer

from tools.guard import descendants, start_time
from tools.stack import ROOT, Stack

STACK = [sys.executable, str(ROOT / "tools" / "stack.py")]


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def ping(stack: Stack, seconds: float = 1.0) -> bytes:
    host, port = stack.redis_url.removeprefix("redis://").rpartition("/")[0].split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16)


def send(stack: Stack, topic: str, value: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=stack.bootstrap_servers)
    try:
        producer.send(topic, value).get(timeout=30)
    finally:
        producer.close()


def values(stack: Stack, topic: str, count: int) -> set[bytes]:
    consumer = KafkaConsumer(
        topic, bootstrap_servers=stack.bootstrap_servers, auto_offset_reset="earliest", group_id=None
    )
    found: set[bytes] = set()

    def enough() -> bool:
        for records in consumer.poll(timeout_ms=200).values():
            found.update(record.value for record in records)
        return len(found) >= count

    try:
        wait_until(enough)
    finally:
        consumer.close()
    return found


def test_a_broker_that_crashed_comes_back_with_its_ports_and_its_data(stack: Stack, topics) -> None:
    send(stack, topics.input, b"before")
    address = stack.bootstrap_servers
    stack.kill_broker()
    assert stack.kafka.pid is None
    stack.restart_broker()
    assert stack.bootstrap_servers == address
    send(stack, topics.input, b"after")
    assert values(stack, topics.input, 2) == {b"before", b"after"}


def test_a_paused_redis_accepts_and_never_answers_and_a_stopped_one_refuses(stack: Stack) -> None:
    assert ping(stack) == b"+PONG\r\n"
    stack.pause_redis()
    with pytest.raises(TimeoutError):
        ping(stack, 0.2)
    stack.resume_redis()
    assert ping(stack) == b"+PONG\r\n"
    stack.stop_redis()
    with pytest.raises(ConnectionRefusedError):
        ping(stack)
    stack.start_redis()
    assert ping(stack) == b"+PONG\r\n"


def test_a_broker_paused_when_the_stack_stops_leaves_nothing(stack: Stack) -> None:
    other = Stack()
    other.start()
    folder, pids = other.folder, [other.kafka.pid, other.redis.pid]
    assert folder is not None
    assert other.bootstrap_servers != stack.bootstrap_servers
    other.pause_broker()
    other.stop()
    assert not folder.exists()
    assert [pid for pid in pids if pid and start_time(pid)] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_owner_however_it_ends(stack: Stack, tmp_path: Path, number: signal.Signals) -> None:
    marker = tmp_path / "env"
    nested = f"touch $(mktemp -d)/x; env > '{marker}.new'; mv '{marker}.new' '{marker}'; "
    nested += "(trap '' TERM; sleep 300) & exec sleep 300"
    run = subprocess.Popen([*STACK, "run", "--", "sh", "-c", nested])
    try:
        wait_until(marker.exists, 60)
        environment = dict(line.partition("=")[::2] for line in marker.read_text().splitlines())
        port = int(environment["ADSCORE_KAFKA__BOOTSTRAP_SERVERS"].rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        below = descendants(run.pid)
        started = {pid: start_time(pid) for pid in below}
        assert len(below) >= 6  # two guards and their servers, one guard and the command's shells
        folder = next(path for path in (ROOT / ".run").glob("own-*") if f":{port}" in properties(path))
        run.send_signal(number)
        status = run.wait(30)
        assert status == {signal.SIGKILL: -9, signal.SIGINT: 130}[number]
        wait_until(lambda: [pid for pid, began in started.items() if began and start_time(pid) == began] == [])
        wait_until(lambda: not folder.exists())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
    finally:
        if run.poll() is None:
            run.terminate()
            run.wait(60)


def properties(folder: Path) -> str:
    file = folder / "kafka" / "server.properties"
    return file.read_text() if file.exists() else ""


def test_run_gives_the_command_its_settings_and_takes_its_exit_status(stack: Stack) -> None:
    command = 'echo "$ADSCORE_REDIS__URL"; exit 7'
    done = subprocess.run([*STACK, "run", "--", "sh", "-c", command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith("redis://127.0.0.1:")
    assert done.stderr == ""


def test_without_java_the_message_says_what_to_do(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    environment = {"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run([*STACK, "run", "--", "true"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "sudo apt-get install default-jre-headless" in done.stderr
    assert "Traceback" not in done.stderr
