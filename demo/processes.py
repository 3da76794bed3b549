"""The worker as a process of its own, and the verbs that the demonstration calls."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[1]
GUARD = ROOT / "tools" / "guard.py"
START_SECONDS = 120.0
STOP_SECONDS = 40.0


class DemoError(Exception):
    """The demonstration can't go on; the text says why."""


def verb(*arguments: str, env: Mapping[str, str]) -> int:
    """Run `adscore` with these arguments; its exit status. What it prints goes to standard error."""
    command = [sys.executable, "-m", "worker", *arguments]
    return subprocess.run(command, cwd=ROOT, env=dict(env), stdout=sys.stderr, check=False).returncode  # noqa: S603


class RunningWorker:
    """`adscore worker`, and what its port tells."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self._log = log
        self._port: str | None = None

    def _get(self, path: str) -> str | None:
        found = re.search(rb'"http_port":(\d+)', self._log.read_bytes()) if self._port is None else None
        self._port = found[1].decode() if found else self._port
        if self._port is None:
            return None
        try:
            with urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (URLError, OSError):
            return None

    def wait_ready(self) -> None:
        """Engines warm, group joined. Raises DemoError with the log's end when that doesn't come."""
        until = time.monotonic() + START_SECONDS
        while self._get("/readyz") is None:
            if self._popen.poll() is not None or time.monotonic() > until:
                raise DemoError(f"the worker doesn't become ready; its log ends with\n{self.log_tail()}")
            time.sleep(0.1)

    def log_tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])

    def outcomes(self) -> dict[str, int]:
        """Finished records by outcome, as /metrics counts them."""
        found = re.findall(
            r'^adscore_events_processed_total\{outcome="(\w+)"\} (\S+)$', self._get("/metrics") or "", re.M
        )
        return {name: int(float(count)) for name, count in found}

    def wait_finished(self, records: int, patience_seconds: float) -> None:
        """Until so many records are finished. Tells the log's end where that doesn't come: nothing is finished for
        `patience_seconds`, or the worker is gone.
        """
        done, moved = -1, time.monotonic()
        while self._popen.poll() is None:
            now = sum(self.outcomes().values())
            if now >= records:
                return
            if time.monotonic() - moved > patience_seconds:
                break
            if now != done:
                done, moved = now, time.monotonic()
            if sys.stderr.isatty():
                print(f"\r{max(0, done)} of {records} ", end="", file=sys.stderr, flush=True)
            time.sleep(0.2)
        print(f"the worker has finished {max(0, done)} of {records}; its log ends with", file=sys.stderr)
        print(self.log_tail(), file=sys.stderr)

    def peak_mib(self) -> float:
        """Largest resident memory so far of the worker and its children, each at its own peak."""
        pids = _below(self._popen.pid)
        peaks = [re.search(r"VmHWM:\s+(\d+) kB", _read(f"/proc/{pid}/status")) for pid in pids]
        return sum(int(peak[1]) for peak in peaks if peak) / 1024


@contextmanager
def worker(env: Mapping[str, str], log: Path) -> Iterator[RunningWorker]:
    """Start the worker; stop it with SIGTERM behind the block. It can't outlive this process."""
    guard = [sys.executable, "-I", "-S", str(GUARD), "--grace", "30", "--"]
    with log.open("wb") as out:
        popen = subprocess.Popen(  # noqa: S603
            [*guard, sys.executable, "-m", "worker", "worker"], cwd=ROOT, env=dict(env), stdout=out, stderr=out
        )
    try:
        yield RunningWorker(popen, log)
    finally:
        if popen.poll() is None:
            popen.send_signal(signal.SIGTERM)
        try:
            popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def environment(web: str) -> dict[str, str]:
    """This process's environment with what the demonstration sets: an images' host more, JSON logs, any free port."""
    hosts = [host for host in (os.environ.get("ADSCORE_FETCH__ALLOWED_HOSTS"), web) if host]
    return os.environ | {
        "ADSCORE_FETCH__ALLOWED_HOSTS": ",".join(hosts),
        "ADSCORE_FETCH__TIMEOUT_SECONDS": "3",
        "ADSCORE_HTTP__HOST": "127.0.0.1",
        "ADSCORE_HTTP__PORT": "0",
        "ADSCORE_LOG__FORMAT": "json",
    }


def _below(pid: int) -> list[int]:
    """`pid` and every process below it."""
    children = [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]
    return [pid, *(found for child in children for found in _below(child))]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
