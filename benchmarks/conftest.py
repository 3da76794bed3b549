"""What the benchmarks run on, and p50, p95 and p99 in their table and their JSON.

    make bench
    .venv/bin/python -m pytest benchmarks -o 'python_files=bench_*.py' --benchmark-json=latency.json -k 'decode'

`make test` doesn't collect them: it looks for `test_*.py` in tests/.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.gate import ROOT
from tools.stack import Stack, StackUnavailableError
from worker.commands.figures import percentile

PERCENTS = (50, 95, 99)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """The figures are of the defaults."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ADSCORE_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A real Kafka and a real Redis for this run."""
    stack = Stack()
    try:
        stack.start()
    except StackUnavailableError as error:
        pytest.skip(str(error))
    yield stack
    stack.stop()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p95, p99 of one benchmark's rounds."""
    return {f"p{percent}": percentile(seconds, percent) for percent in PERCENTS}


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """The percentiles beside pytest-benchmark's own figures; the times themselves stay out."""
    del config
    told = {one.fullname: percentiles(one.stats.sorted_data) for one in benchmarks if one.stats.sorted_data}
    for entry in output_json["benchmarks"]:
        entry["stats"] |= told.get(entry["fullname"], {})


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Without the machine's name; with what decides about a figure here."""
    del config
    machine_info.pop("node", None)
    machine_info["load"] = os.getloadavg()
    machine_info["cores"] = len(os.sched_getaffinity(0))
    machine_info["platform"] = platform.platform()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A line per benchmark, in milliseconds."""
    session = getattr(config, "_benchmarksession", None)
    found = [one for one in session.benchmarks if one.stats.sorted_data] if session else []
    if not found:
        return
    write = terminalreporter.write_line
    terminalreporter.section(f"milliseconds, of {ROOT.name}")
    write(f"{'':<52}{'p50':>11}{'p95':>11}{'p99':>11}{'rounds':>8}")
    for one in found:
        name = one.params["name"] if one.params and "name" in one.params else one.name.removeprefix("test_")
        times = "".join(f"{value * 1000:>11.3f}" for value in percentiles(one.stats.sorted_data).values())
        write(f"{name:<52}{times}{len(one.stats.sorted_data):>8}")
