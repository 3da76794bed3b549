import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tools.guard import descendants, start_time
from tools.stack import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}


def make(*arguments: str, cwd: Path = ROOT, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    command = ["make", *arguments]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=seconds)


@pytest.fixture
def no_stack_up() -> None:
    if (ROOT / ".run" / "up").exists():
        pytest.skip("a stack from `make up` is in use here; `make down` first")


def test_make_alone_lists_every_target() -> None:
    done = make()
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines()]
    assert listed == re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)
    assert all(len(line.split()) > 2 for line in done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.broker
def test_up_prints_two_lines_and_nothing_else_and_down_leaves_nothing(no_stack_up: None) -> None:
    try:
        first = make("up")
        assert first.returncode == 0, first.stderr
        kafka, redis = first.stdout.splitlines()
        assert re.fullmatch(r"export ADSCORE_KAFKA__BOOTSTRAP_SERVERS=127\.0\.0\.1:\d+", kafka)
        assert re.fullmatch(r"export ADSCORE_REDIS__URL=redis://127\.0\.0\.1:\d+/0", redis)
        pids = [(ROOT / ".run" / "up" / name / "pid").read_text().split() for name in ("kafka", "redis")]
        assert all(start_time(int(pid)) == began for pid, began in pids)
        assert make("-s", "up").stdout == first.stdout
    finally:
        down = make("down")
    assert (down.returncode, down.stdout) == (0, "")
    assert [pid for pid, began in pids if start_time(int(pid)) == began] == []
    assert not (ROOT / ".run" / "up").exists()


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(number: signal.Signals) -> None:
    command = ["make", "demo"]
    run = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not worker_runs(run.pid):
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started = {pid: start_time(pid) for pid in descendants(run.pid)}
    folders = {path for path in (ROOT / ".run").glob("own-*") if str(path) in commands(started)}
    assert len(folders) == 1
    os.killpg(run.pid, number)  # as a terminal's Ctrl-C does
    assert run.wait(60) != 0
    deadline = time.monotonic() + 30
    while [pid for pid, began in started.items() if began and start_time(pid) == began]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not folders.pop().exists()


def commands(pids: dict[int, str | None]) -> str:
    """The command lines of these processes, where they still run."""
    files = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    return "\n".join(file.read_text() for file in files if file.exists())


def worker_runs(root: int) -> bool:
    """Whether the demo has come as far as starting its worker."""
    for pid in descendants(root):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:
            continue
        if "worker" in words and ("-m" in words or (words[1:2] and words[1].endswith("/adscore"))):
            return True
    return False
