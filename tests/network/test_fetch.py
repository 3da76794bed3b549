"""Fetching in a network of the test's own: where connections go is seen, packet by packet, not inferred."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.network import cases
from tests.network.inside import DEADLINE, GOOD_BESIDE_HOSTILE
from tools.stack import ROOT

NAMESPACES = (
    ("unshare", "--net", "--mount", "--user", "--map-root-user"),
    ("unshare", "--net", "--mount"),  # root where users may not make namespaces of their own
)


@functools.cache
def namespace() -> tuple[tuple[str, ...], str]:
    """How to make such a network here, or why there can be none."""
    for program in ("unshare", "ip"):
        if shutil.which(program) is None:
            return (), f"{program} is not installed (util-linux, iproute2)"
    for command in NAMESPACES:
        probe = subprocess.run([*command, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
        if probe.returncode == 0:
            return command, ""
    return (), "this user may make no network namespace here"


@functools.cache
def report(*flags: str) -> dict[str, Any]:
    """One run of `inside`."""
    prefix, why = namespace()
    if why:
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    command = [*prefix, sys.executable, "-m", "tests.network.inside", *flags]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr[-3_000:]
    return json.loads(run.stdout)


def test_no_connection_goes_where_it_may_not() -> None:
    ran = report()["cases"]
    assert len(ran) == len(list(cases.cases())) > 150
    assert {case["name"]: case["astray"] for case in ran if case["astray"]} == {}


def test_every_fetch_ends_by_the_contract() -> None:
    ran = report()["cases"]
    assert {case["name"]: case["code"] for case in ran if case["code"] != case["expected"]} == {}
    assert all(case["reached"] for case in ran if case["expected"] is None), "a good image came over the network"


def test_nothing_outlives_its_deadline() -> None:
    assert {case["name"]: case["seconds"] for case in report()["cases"] if case["seconds"] > DEADLINE + 0.5} == {}


def test_hostile_servers_cost_their_own_record_its_deadline() -> None:
    alone, together = report()["alone"], report()["together"]
    assert {what: code for what, (code, _) in alone.items()} == cases.HOSTILE
    longest = {what: max(seconds for _, seconds in [alone[what], *together[what]]) for what in cases.HOSTILE}
    assert {what: seconds for what, seconds in longest.items() if seconds > DEADLINE + 1.0} == {}


def test_hostile_servers_cost_others_nothing() -> None:
    seconds = sorted(report()["good_seconds"])
    assert len(seconds) == GOOD_BESIDE_HOSTILE, "every good fetch beside them succeeds"
    assert seconds[len(seconds) // 2] < DEADLINE / 4


def test_the_watch_notices_when_the_guard_is_gone() -> None:
    astray = {case["name"] for case in report("--unguarded")["cases"] if case["astray"]}
    assert astray == set(cases.TELLING)
