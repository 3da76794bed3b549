"""What a child gives up, tried out in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(script: str) -> subprocess.CompletedProcess[str]:
    head = "import os, resource, socket, subprocess, sys, tempfile\nfrom worker.intake import sandbox\n"
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(script)], cwd=ROOT, capture_output=True, text=True, timeout=30
    )


def test_files_network_programs_and_core_dumps_are_given_up() -> None:
    done = run("""
        file = tempfile.TemporaryFile()
        if not sandbox.forbid_files_and_network():
            print("no filter here")
            sys.exit(0)
        refused = []
        def attempt(what, *arguments, **options):
            try:
                what(*arguments, **options)
            except OSError as error:
                refused.append(type(error).__name__)
        attempt(socket.socket)
        attempt(socket.socketpair)
        attempt(subprocess.run, ["/bin/true"])
        attempt(os.execv, "/bin/true", ["true"])
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        attempt(os.write, file.fileno(), b"x")
        print(*refused, resource.getrlimit(resource.RLIMIT_CORE)[1])
        import threading
        thread = threading.Thread(target=print, args=("threads still start",))
        thread.start()
        thread.join()
    """)
    assert done.stderr == ""
    if "no filter here" in done.stdout:
        pytest.skip("the kernel takes no filter")
    assert done.stdout.split("\n")[0] == "PermissionError " * 4 + "OSError 0"
    assert "threads still start" in done.stdout


def test_cpu_time_is_bounded_by_a_signal_that_kills_even_where_it_was_ignored() -> None:
    done = run("""
        import signal
        signal.signal(signal.SIGPROF, signal.SIG_IGN)
        with sandbox.bounded(0.2, 10**9):
            while True:
                pass
    """)
    assert done.returncode == -signal.SIGPROF


def test_waiting_costs_no_cpu_time_and_the_bound_ends_with_the_attempt() -> None:
    done = run("""
        import time
        with sandbox.bounded(0.1, 10**9):
            time.sleep(0.4)
        stop = time.process_time() + 0.3
        while time.process_time() < stop:
            pass
        print("alive")
    """)
    assert done.stdout == "alive\n"


def test_memory_is_bounded_above_what_is_mapped_and_free_again_afterwards() -> None:
    done = run("""
        kept = bytearray(200_000_000)
        with sandbox.bounded(5, 50_000_000) as room:
            print(40_000_000 < room() <= 50_000_000)
            bytearray(30_000_000)
            try:
                bytearray(60_000_000)
            except MemoryError:
                print("bounded")
        bytearray(400_000_000)
    """)
    assert done.stdout == "True\nbounded\n"
    assert done.returncode == 0
