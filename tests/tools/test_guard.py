import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.guard import start_time
from tools.server import GUARD

COMMAND = [sys.executable, "-I", "-S", str(GUARD)]


def guarded(script: str, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*COMMAND, *options, "--", "sh", "-c", script])


def read_when_there(path: Path) -> str:
    deadline = time.monotonic() + 10
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)
    return path.read_text()


def gone(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while start_time(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 5", 5), ("kill -9 $$", 137)])
def test_the_exit_status_is_the_commands(script: str, status: int) -> None:
    assert guarded(script).wait(10) == status


def test_a_command_that_is_not_there_is_named() -> None:
    done = subprocess.run([*COMMAND, "--", "no-such-command"], capture_output=True, text=True)
    assert done.returncode == 127
    assert "can't run no-such-command: No such file or directory" in done.stderr


def test_what_the_command_leaves_behind_is_ended_even_a_daemon(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    daemon = f"(setsid sh -c 'echo $$ > \"{note}\"; exec sleep 300' &) ; while [ ! -s '{note}' ]; do sleep 0.01; done"
    assert guarded(daemon).wait(10) == 0
    assert start_time(int(note.read_text())) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on_once(tmp_path: Path, number: signal.Signals) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here (nohup does that), and so it is by every child")
    note = tmp_path / "heard"
    name = number.name.removeprefix("SIG")
    ready = tmp_path / "ready"
    wait = 'while [ -z "$n" ]; do sleep 0.02; done; sleep 0.2'
    script = f"trap 'echo x >> \"{note}\"; n=1' {name}; echo y > '{ready}'; {wait}"
    guard = guarded(script)
    read_when_there(ready)
    guard.send_signal(number)
    assert guard.wait(10) == 0
    assert note.read_text() == "x\n"


def test_a_second_signal_reaches_the_command_too(tmp_path: Path) -> None:
    ready, note = tmp_path / "ready", tmp_path / "heard"
    wait = 'while [ "$n" != xx ]; do sleep 0.02; done; exit 9'
    script = f"trap 'n=x$n; echo $n > \"{note}\"' TERM; echo y > '{ready}'; {wait}"
    guard = guarded(script)
    read_when_there(ready)
    guard.terminate()
    read_when_there(note)
    time.sleep(0.15)
    guard.terminate()
    assert guard.wait(10) == 9


def test_a_command_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    guard = guarded(f"trap '' TERM; echo y > '{ready}'; while :; do sleep 1; done", "--grace", "0.3")
    read_when_there(ready)
    guard.terminate()
    assert guard.wait(10) == 137


@pytest.mark.parametrize("frozen", [False, True])
def test_the_command_ends_with_the_guards_owner_and_its_folder_goes(tmp_path: Path, frozen: bool) -> None:
    folder = tmp_path / "run" / "server"
    folder.mkdir(parents=True)
    note = folder / "pid"
    inner = [*COMMAND, "--pid-file", str(note), "--remove", str(folder), "--", "sleep", "300"]
    owner = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({inner!r})"])
    pid, started = read_when_there(note).split()
    assert start_time(int(pid)) == started
    if frozen:
        os.kill(int(pid), signal.SIGSTOP)
    owner.kill()
    owner.wait()
    assert gone(int(pid))
    deadline = time.monotonic() + 5
    while folder.parent.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_command_ends_with_a_guard_that_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    guard = guarded("exec sleep 300", "--pid-file", str(note))
    pid = int(read_when_there(note).split()[0])
    guard.kill()
    guard.wait()
    assert gone(pid)
