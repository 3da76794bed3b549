"""Runs in the namespace: fetch every case with the product's own fetcher and resolver, and report as JSON.

`python -m tests.network.inside [--unguarded]`: with it the table of internal addresses is emptied for a few cases, to
show that the watch notices. The servers have a process of their own: what they do costs the fetcher nothing.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.network import cases as world_cases
from tests.network.world import Names, Watch, Web, build
from worker.errors import CreativeError
from worker.intake import http_source
from worker.intake.fetch import Fetcher, FetchLimits
from worker.types import Creative

DEADLINE = 2.0
GOOD_BESIDE_HOSTILE = 200
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def main() -> None:
    """Build the world, run the cases one by one, then the hostile servers all at once."""
    build()
    unguarded = "--unguarded" in sys.argv
    if unguarded:
        http_source.is_internal = lambda _: False  # type: ignore[assignment]
    for name in PROXIES:
        os.environ[name] = "http://10.9.9.9:3128"
    names = world_cases.names()
    names |= {f"{what}.hostile.test": ["151.101.1.9"] for what in world_cases.HOSTILE}
    watch = Watch()
    ready, told = os.pipe()
    servers = os.fork()
    if servers == 0:
        Names(names)
        Web(world_cases.answer)
        os.write(told, b"1")
        signal.pause()
    os.read(ready, 1)
    try:
        chosen = [case for case in world_cases.cases() if not unguarded or case.name in world_cases.TELLING]
        report: dict[str, Any] = {"cases": [_run(case, watch) for case in chosen]}
        if not unguarded:
            report["alone"] = {what: _hostile(what) for what in world_cases.HOSTILE}
            report["together"], report["good_seconds"] = _together()
        json.dump(report, sys.stdout)
    finally:
        os.kill(servers, signal.SIGKILL)


@functools.cache
def _fetcher(hosts: tuple[str, ...]) -> Fetcher:
    return Fetcher(FetchLimits(allowed_hosts=hosts, max_bytes=world_cases.CAP, timeout_seconds=DEADLINE))


def _fetch(url: str, hosts: tuple[str, ...]) -> tuple[str | None, float]:
    fetcher = _fetcher(hosts)
    began = time.monotonic()
    code = None
    try:
        fetched = fetcher.fetch(Creative("c", 1, url))
        if fetched.data != world_cases.IMAGE:
            code = "other bytes"
    except CreativeError as error:
        code = str(error.code)
    return code, time.monotonic() - began


def _run(case: world_cases.Case, watch: Watch) -> dict[str, Any]:
    code, seconds = _fetch(case.url, case.hosts)
    reached = sorted(watch.take())
    allowed = {("tcp", address, 80) for address in case.reached}
    return {
        "name": case.name,
        "code": code,
        "expected": case.code,
        "astray": [place for place in reached if place not in allowed],
        "reached": len(reached),
        "seconds": seconds,
    }


def _hostile(what: str) -> tuple[str | None, float]:
    return _fetch(f"http://{what}.hostile.test/", ("http://*",))


def _together() -> tuple[dict[str, Any], list[float]]:
    """Each hostile server thrice, and good fetches beside them."""
    with ThreadPoolExecutor(3 * len(world_cases.HOSTILE)) as bad, ThreadPoolExecutor(4) as good:
        slow = {what: [bad.submit(_hostile, what) for _ in range(3)] for what in world_cases.HOSTILE}
        fine = [good.submit(_fetch, "http://public.test/", ("http://*",)) for _ in range(GOOD_BESIDE_HOSTILE)]
        seconds = [future.result()[1] for future in fine if future.result()[0] is None]
        ended = {what: [future.result() for future in futures] for what, futures in slow.items()}
    return ended, seconds


if __name__ == "__main__":
    main()
