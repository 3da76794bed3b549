"""Run a command so that nothing of it outlives the process that wanted it: `guard.py [options] -- COMMAND…`.

The guard passes SIGINT, SIGTERM and SIGHUP on to the command, once each (the command has a session of its own, so a
terminal's Ctrl-C doesn't reach it twice), and SIGTERM when the guard's own parent has died, by SIGKILL even. A command
that doesn't end then is killed. The guard is also the subreaper of everything that the command starts: once the command
has ended, whatever is left of it is ended too.

Only the standard library, and nothing of this project: it also guards what runs before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
FORWARDED = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
POLL_SECONDS = 0.25
LEFTOVER_SECONDS = 3.0  # for what the command left behind, from SIGTERM to SIGKILL
ECHO_SECONDS = 0.1  # `kill -TERM -GROUP` reaches the guard twice: by itself, and from the make above it


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value}) failed")


def _as_child() -> None:
    """In the child, before exec: signals unblocked again, and an end with the guard if that is killed by SIGKILL."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start_time(pid: int) -> str | None:
    """The clock tick in which process `pid` began, or None when it has ended. It tells a reused pid from the first."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def descendants(root: int) -> list[int]:
    """Every living process below `root`, parents before children."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended meanwhile
            if fields[0] not in "ZX":
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [root]
    while queue:
        queue += (below := children.get(queue.pop(0), []))
        found += below
    return found


def _send(pids: list[int], *signals: signal.Signals) -> None:
    for pid in pids:
        for each in signals:
            try:
                os.kill(pid, each)
            except ProcessLookupError:
                break


def _reap() -> dict[int, int]:
    """Collect every child that has ended: exit status by pid."""
    ended = {}
    try:
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    except ChildProcessError:
        pass
    return ended


def end_descendants() -> None:
    """End everything below this process: politely at first, then by SIGKILL."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    told: set[int] = set()
    while left := descendants(os.getpid()):
        if time.monotonic() > deadline:
            _send(left, signal.SIGKILL)
        else:
            # Stopped processes only hear SIGTERM once they are continued.
            _send([pid for pid in left if pid not in told], signal.SIGTERM, signal.SIGCONT)
            told.update(left)
        time.sleep(0.02)
        _reap()


def guard(command: list[str], *, pid_file: Path | None, grace_seconds: float) -> tuple[int, bool]:
    """Run `command` to its end or to the guard's.

    Returns:
        Its exit status as a shell would give it, and whether it was cut short.
    """
    parent = os.getppid()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    child = subprocess.Popen(  # noqa: S603 - the command is the caller's own
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_as_child,
    )
    if pid_file is not None:
        new = pid_file.with_suffix(".new")
        new.write_text(f"{child.pid} {start_time(child.pid)}")
        new.rename(pid_file)  # never seen half-written
    status: int | None = None
    asked_at: float | None = None  # when the end was first asked for
    last = (0, 0.0)  # the signal last passed on, and when
    while status is None:
        found = signal.sigtimedwait(FORWARDED | {signal.SIGCHLD}, POLL_SECONDS)
        now = time.monotonic()
        if found is not None and found.si_signo in FORWARDED:
            if found.si_signo != last[0] or now > last[1] + ECHO_SECONDS:
                _send([child.pid], signal.Signals(found.si_signo), signal.SIGCONT)
            last, asked_at = (found.si_signo, now), asked_at or now
        elif asked_at is None and os.getppid() != parent:
            _send([child.pid], signal.SIGTERM, signal.SIGCONT)
            asked_at = now
        if asked_at is not None and now > asked_at + grace_seconds:
            _send([child.pid], signal.SIGKILL)
        status = _reap().get(child.pid)
    child.returncode = status  # reaped above, not by subprocess
    end_descendants()
    return (status if status >= 0 else 128 - status), asked_at is not None


def main() -> int:
    """Read the command line, guard, clean up."""
    parser = argparse.ArgumentParser(prog="guard.py", description="Run a command; let nothing of it outlive its owner.")
    parser.add_argument("--pid-file", type=Path, help="write the command's pid and start time here")
    parser.add_argument("--remove", type=Path, help="remove this folder when the command was cut short")
    parser.add_argument("--grace", type=float, default=10.0, metavar="SECONDS", help="from SIGTERM to SIGKILL (10)")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    try:
        status, cut_short = guard(options.command, pid_file=options.pid_file, grace_seconds=options.grace)
    except OSError as error:
        print(f"guard.py: can't run {options.command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    if cut_short and options.remove is not None:
        shutil.rmtree(options.remove, ignore_errors=True)
        with contextlib.suppress(OSError):  # the last guard of a stack takes the stack's folder along
            options.remove.parent.rmdir()
    return status


if __name__ == "__main__":
    sys.exit(main())
