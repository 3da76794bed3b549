"""One server process on loopback: its folder, its log, its life. Kafka and Redis differ only in the values given."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tools.guard import start_time

GUARD = Path(__file__).with_name("guard.py")
# Below Linux's ephemeral range (32768–60999): there, a client that keeps trying a stopped server's port may be given
# that very port for its own end, connect to itself and keep the server from coming back.
PORTS = range(20_000, 32_000)
STOP_SECONDS = 10.0


class StackUnavailableError(RuntimeError):
    """The local broker or Redis can't run here. The text says what to do."""


class PortTakenError(RuntimeError):
    """Another process took the port between choosing and binding; choose again."""


def free_port() -> int:
    """A port on 127.0.0.1 that nothing listens on now."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise StackUnavailableError(
        f"found no free port on 127.0.0.1 in {PORTS.start}–{PORTS.stop}; stop what listens there"
    )


@dataclass
class Server:
    """A server that `command` runs in `folder`, ready once `ready_line` is in its log.

    Owned, it ends when this process does, even by SIGKILL. Otherwise it stays, and its pid file leads back to it.
    """

    name: str
    folder: Path
    command: list[str]
    ready_line: str
    owned: bool
    start_seconds: float = 60.0
    _popen: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.folder / "server.log"

    @property
    def pid_file(self) -> Path:
        """`PID START_TIME` of the server that was last started."""
        return self.folder / "pid"

    @property
    def pid(self) -> int | None:
        """The server's process id, or None when it doesn't run."""
        try:
            pid, started = self.pid_file.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if start_time(int(pid)) == started else None

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            PortTakenError: its port was taken meanwhile.
            StackUnavailableError: it ended or wasn't ready in time; the text has the end of its log.
        """
        seen = self.log.stat().st_size if self.log.exists() else 0
        self.pid_file.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._popen = self._spawn(log.fileno())
        deadline = time.monotonic() + self.start_seconds
        while True:
            ended = self._popen.poll() is not None
            text = self._log_since(seen)
            if self.ready_line in text:
                return
            if ended or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        self.stop()
        if "ddress already in use" in text:
            raise PortTakenError(self.name)
        verdict = "ended at once" if ended else f"was not ready in {self.start_seconds:.0f} s"
        raise StackUnavailableError(
            f"{self.name} {verdict}; the end of its log:\n" + "\n".join(text.splitlines()[-15:])
        )

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        command = self.command
        if self.owned:
            # -I -S: the guard needs neither site-packages nor PYTHON… variables, and starts in 20 ms.
            options = ["--pid-file", str(self.pid_file), "--remove", str(self.folder), "--grace", str(STOP_SECONDS)]
            command = [sys.executable, "-I", "-S", str(GUARD), *options, "--", *command]
        popen = subprocess.Popen(  # noqa: S603 - the command is built here, and no shell reads it
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        if not self.owned:
            self.pid_file.write_text(f"{popen.pid} {start_time(popen.pid)}")
        return popen

    def _log_since(self, position: int) -> str:
        with self.log.open("rb") as log:
            log.seek(position)
            return log.read().decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server itself, not to its guard.

        Raises:
            StackUnavailableError: it isn't running.
        """
        if (pid := self.pid) is None:
            raise StackUnavailableError(f"{self.name} isn't running, so it can't be sent {number.name}; start it first")
        os.kill(pid, number)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, and SIGKILL after `seconds`; without a wait for 0. Returns when it has ended. Twice does no harm."""
        deadline = time.monotonic() + seconds
        if seconds > 0 and (pid := self.pid) is not None:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
        while (pid := self.pid) is not None:
            if time.monotonic() >= deadline:
                os.kill(pid, signal.SIGKILL)
            if self._popen is not None:
                self._popen.poll()
            time.sleep(0.01)
        if self._popen is not None:
            if self.owned and not self.pid_file.exists():
                self._popen.terminate()  # a guard that hasn't got as far as starting its server
            self._popen.wait()
            self._popen = None
