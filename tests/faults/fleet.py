"""The workers of a scene: processes that are started, killed, stopped, frozen, and whose log tells why they ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import Running
from tests.faults.process import WorkerProcess
from tools.local_stack import ROOT
from tools.server import GUARD

STOP_SECONDS = 90.0
NEVER_ENDED = -1
"""In the place of an exit status: it was told to stop, and had to be killed."""
SLOT = "FAULTS_SLOT"
"""Tells a planted worker its place: whoever follows one that ended takes the same."""


def now_ms() -> int:
    """The wall clock, as records have it."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True)
class Slotted(Running):
    """A running worker and its place."""

    slot: int = 0


class Fleet:
    """Use as a context manager: none outlives it. `plans` are those of `planted.py`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self.settings = folder, dict(environment)
        self._started = 0
        self.workers: list[WorkerProcess] = []
        """Those that run, as far as is known."""
        self.gone: list[tuple[WorkerProcess, int]] = []
        """Those that ended, with their exit status."""
        self.deaths_ms: list[int] = []

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if not worker.ended:
                worker.signal(signal.SIGKILL)
            worker.running.guard.wait()

    def start(self, plan: Mapping[str, Any] | None = None) -> WorkerProcess:
        """Start one more and return at once."""
        self._started += 1
        folder = self._folder / f"worker-{self._started}"
        folder.mkdir(parents=True)
        guard = [sys.executable, "-I", "-S", str(GUARD), "--pid-file", str(folder / "pid"), "--grace", "60", "--"]
        command = [sys.executable, "-m", "tests.faults.planted", json.dumps(plan or {}), "worker"]
        taken = {worker.running.slot for worker in self.workers}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        environment = self.settings | {"ADSCORE_WORKER_ID": f"w{self._started}", SLOT: str(slot)}
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            popen = subprocess.Popen([*guard, *command], env=environment, cwd=ROOT, stdout=out, stderr=err)
        worker = WorkerProcess(Slotted(popen, folder, slot))
        while not (folder / "pid").exists() and popen.poll() is None:
            time.sleep(0.005)
        self.workers.append(worker)
        return worker

    def kill(self, worker: WorkerProcess) -> None:
        """SIGKILL."""
        self.deaths_ms.append(now_ms())
        worker.signal(signal.SIGKILL)
        self._bury(worker)

    def stop(self, worker: WorkerProcess) -> int:
        """SIGTERM, and its exit status."""
        worker.signal(signal.SIGTERM)
        return self._bury(worker)

    def bury_the_dead(self) -> list[int]:
        """Exit statuses of those that ended by themselves."""
        ended = [worker for worker in self.workers if worker.ended]
        self.deaths_ms += [now_ms() for _ in ended]
        return [self._bury(worker) for worker in ended]

    def tell_stacks(self) -> None:
        """Every worker writes the stacks of its threads into its log."""
        for worker in self.workers:
            if not worker.ended:
                worker.signal(signal.SIGUSR1)
        time.sleep(1.0)

    def keep_logs(self, folder: Path) -> None:
        """Copy all logs there, in place of what it holds."""
        shutil.rmtree(folder, ignore_errors=True)
        for place in sorted(self._folder.glob("worker-*")):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(place / "stderr", folder / f"{place.name}.log")

    def _bury(self, worker: WorkerProcess) -> int:
        try:
            status = int(worker.running.guard.wait(STOP_SECONDS))
        except subprocess.TimeoutExpired:
            self.tell_stacks()
            worker.signal(signal.SIGKILL)
            worker.running.guard.wait(STOP_SECONDS)
            status = NEVER_ENDED
        self.workers.remove(worker)
        self.gone.append((worker, status))
        return status

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Log lines of that event, of all workers there were."""
        every = [*self.workers, *(worker for worker, _ in self.gone)]
        return [line for worker in every for line in whole_lines(worker) if line.get("event") == event]


def whole_lines(worker: WorkerProcess) -> list[dict[str, Any]]:
    """A worker's log; the last line of one that was killed may be cut."""
    found = []
    for line in worker.running.stderr.split("\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def clean_environment() -> dict[str, str]:
    """The environment without anybody's `ADSCORE_…` settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ADSCORE_")}
