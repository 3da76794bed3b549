"""The local stack: a real Kafka and a real Redis on loopback, on free ports, in folders of their own under `.run/`.

    stack.py up [-- COMMAND…]    start them (or find them running), run COMMAND on them, print the lines to export
    stack.py down                stop them and drop their data
    stack.py run -- COMMAND…     a stack for one command, gone when the command ends

Only the standard library: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: the neighbours below are found from the checkout's root
    sys.path[0] = str(ROOT)

from tools.kafka_broker import jars, kafka_broker  # noqa: E402
from tools.redis_cache import redis_cache  # noqa: E402
from tools.server import GUARD, PortTakenError, Server, StackUnavailableError, free_port  # noqa: E402

RUN = ROOT / ".run"
TRIES = 5


class Stack:
    """One Kafka broker and one Redis.

    By default they belong to this process and end with it, however it ends. `Stack(folder=…, owned=False)` leaves them
    running, and the same call in another process finds them again.
    """

    def __init__(self, folder: Path | None = None, *, owned: bool = True) -> None:
        self._owned = owned
        self.folder = folder
        self._ports: dict[str, int] = {}
        self._kafka: Server | None = None
        self._redis: Server | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What `ADSCORE_KAFKA__BOOTSTRAP_SERVERS` takes."""
        return f"127.0.0.1:{self._ports['broker']}"

    @property
    def redis_url(self) -> str:
        """What `ADSCORE_REDIS__URL` takes."""
        return f"redis://127.0.0.1:{self._ports['redis']}/0"

    @property
    def environment(self) -> dict[str, str]:
        """The settings with which every verb finds this stack."""
        return {"ADSCORE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers, "ADSCORE_REDIS__URL": self.redis_url}

    @property
    def kafka(self) -> Server:
        """The broker's process."""
        return self._started(self._kafka)

    @property
    def redis(self) -> Server:
        """The Redis server's process."""
        return self._started(self._redis)

    @staticmethod
    def _started(server: Server | None) -> Server:
        if server is None:
            raise StackUnavailableError("the stack hasn't been started; call start() first")
        return server

    def start(self) -> None:
        """Start what doesn't run yet, with the ports and the data it had. Ready when this returns.

        Raises:
            StackUnavailableError: something is missing or doesn't start; the text says what to do.
        """
        libs = jars(ROOT / ".cache")
        if self.folder is None:
            RUN.mkdir(exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix="own-", dir=RUN))
        self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(TRIES):
            self._assemble(self.folder, libs)
            try:
                self._start_both()
            except PortTakenError:
                self.stop()  # another program was faster: all anew, on other ports
                self._ports = {}
                self.folder.mkdir(parents=True, exist_ok=True)
            except BaseException:
                self.stop()
                raise
            else:
                return
        raise StackUnavailableError(f"{TRIES} times in a row another program took the ports chosen; try again")

    def _assemble(self, folder: Path, libs: Path) -> None:
        record = folder / "ports.json"  # only a stack that stays is looked for by another process
        if not self._owned and record.exists():
            self._ports = json.loads(record.read_text())
        elif not self._ports:
            self._ports = {"broker": free_port(), "controller": free_port(), "redis": free_port()}
            if not self._owned:
                record.write_text(json.dumps(self._ports))
        self._kafka = kafka_broker(
            folder / "kafka",
            libs,
            broker_port=self._ports["broker"],
            controller_port=self._ports["controller"],
            owned=self._owned,
        )
        self._redis = redis_cache(folder / "redis", port=self._ports["redis"], owned=self._owned)

    def _start_both(self) -> None:
        for server in (self.kafka, self.redis):
            if server.pid is None:
                server.start()
            else:
                server.signal(signal.SIGCONT)

    ensure = _start_both

    def stop(self) -> None:
        """Stop both and remove their folder. Twice does no harm."""
        for server in (self._kafka, self._redis):
            if server is not None:
                server.stop(seconds=0)  # the data goes too, so there is nothing to flush
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill_broker(self) -> None:
        """SIGKILL: a crash."""
        self.kafka.stop(seconds=0)

    def pause_broker(self) -> None:
        """SIGSTOP: a hang. Connections stay open, nothing answers."""
        self.kafka.signal(signal.SIGSTOP)

    def resume_broker(self) -> None:
        """End of the hang."""
        self.kafka.signal(signal.SIGCONT)

    def restart_broker(self) -> None:
        """Stop the broker in an orderly way if it runs, and start it with the same ports and data."""
        self.kafka.stop()
        self.kafka.start()

    def stop_redis(self) -> None:
        """Redis is gone, and what it held."""
        self.redis.stop()

    def start_redis(self) -> None:
        """Redis is back on the same port, empty."""
        if self.redis.pid is None:
            self.redis.start()

    def pause_redis(self) -> None:
        """SIGSTOP: Redis accepts connections (the kernel does) and never answers."""
        self.redis.signal(signal.SIGSTOP)

    def resume_redis(self) -> None:
        """End of the hang."""
        self.redis.signal(signal.SIGCONT)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[Path]:
    """Only one `up` or `down` per checkout. Yields the folder of the stack that stays."""
    RUN.mkdir(exist_ok=True)
    with (RUN / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield RUN / "up"


def up(command: list[str]) -> int:
    """Start the stack that stays, or find it running; run `command` on it; print the lines to export, nothing else."""
    with _one_at_a_time() as folder, contextlib.ExitStack() as undo:
        stack = Stack(folder, owned=False)
        if not folder.exists():
            undo.callback(stack.stop)
        stack.start()
        if command and (status := _run_on(stack, command, output=sys.stderr)) != 0:
            return status
        undo.pop_all()
    for name, value in stack.environment.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def down(_command: list[str]) -> int:
    """Stop the stack that stays and drop its data."""
    with _one_at_a_time() as folder:
        for name in ("kafka", "redis"):
            Server(name, folder / name, [], "", owned=False).stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def run(command: list[str]) -> int:
    """Run `command` with the settings of a stack of its own; its exit status is ours."""
    stack = Stack()
    try:
        stack.start()
        return _run_on(stack, command, output=None)
    finally:
        stack.stop()


def _run_on(stack: Stack, command: list[str], output: TextIO | None) -> int:
    environment = os.environ | stack.environment
    guarded = [sys.executable, "-I", "-S", str(GUARD), "--grace", "30", "--", *command]
    # A session of its own: the guard hears of a Ctrl-C from us alone, once.
    with subprocess.Popen(guarded, env=environment, stdout=output, start_new_session=True) as child:  # noqa: S603
        return _wait(child)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child, passing on each signal, and SIGTERM when our own parent is gone."""
    parent: int | None = os.getppid()
    while True:
        try:
            return child.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if parent is not None and os.getppid() != parent:
                parent = None  # say it once: a second signal means "at once"
                child.send_signal(signal.SIGTERM)
        except _Signalled as caught:
            child.send_signal(caught.number)


class _Signalled(BaseException):
    """A signal asks us to end. Not an Exception: nothing may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _on_signal(number: int, _frame: object) -> None:
    raise _Signalled(number)


def main() -> int:
    """Read the command line; exit 3 when the stack can't run here, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="stack.py", description="A real Kafka and Redis on loopback.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="start them, print the lines to export").add_argument("command", nargs="*")
    verbs.add_parser("down", help="stop them, drop their data").set_defaults(command=[])
    verbs.add_parser("run", help="start them for one command").add_argument("command", nargs="+")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    try:
        return {"up": up, "down": down, "run": run}[options.verb](options.command)
    except StackUnavailableError as error:
        print(f"stack.py: {error}", file=sys.stderr)
        return 3
    except _Signalled as caught:
        return 130 if caught.number == signal.SIGINT else 128 + caught.number


if __name__ == "__main__":
    sys.exit(main())
