"""A worker as a process of its own: its probes, its metrics, its log lines, its end."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

PATIENCE = 90.0
"""Seconds until a test gives up waiting; long, because two loaded cores start a worker in ten."""


def wait_for(check: Callable[[], Any], what: str, seconds: float = PATIENCE, every: float = 0.02) -> Any:
    """Wait until `check` gives something true, and return it. Fails the test with `what` otherwise."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(every)
    return value


@dataclass(frozen=True)
class WorkerProcess:
    """`adscore worker`, running. `running` is the fixture's handle on the process."""

    running: Any

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log lines so far; every one must be a JSON object."""
        whole = self.running.stderr.split("\n")[:-1]
        try:
            return [orjson.loads(line) for line in whole]
        except orjson.JSONDecodeError as error:
            raise AssertionError(f"a log line is no JSON object:\n{self.told}") from error

    @property
    def told(self) -> str:
        """The end of what it logged, for a failure's message."""
        return self.running.stderr[-3_000:]

    @property
    def port(self) -> int:
        """The port of its probes."""
        return wait_for(
            lambda: next((line["http_port"] for line in self.log if "http_port" in line), 0), "no http_port was logged"
        )

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.running.guard.poll() is not None

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 when nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self) -> WorkerProcess:
        """Until it takes part in the group with warm engines."""

        def ready() -> bool:
            assert not self.ended, f"the worker ended with {self.running.wait()}:\n{self.told}"
            return self.get("/readyz")[0] == 200

        wait_for(ready, "the worker never got ready")
        return self

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; 0 when there is none."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_processed(self, count: int, *, outcome: str | None = None) -> WorkerProcess:
        """Until so many records are finished in this process."""
        labels = {"outcome": outcome} if outcome else {}

        def enough() -> bool:
            assert not self.ended, f"the worker ended with {self.running.wait()}:\n{self.told}"
            return self.metric("adscore_events_processed_total", **labels) >= count

        wait_for(enough, f"{count} records were never finished")
        return self

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.running.signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status."""
        return self.running.wait(seconds)
