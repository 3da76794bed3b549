"""The local stack: a real Kafka and a real Redis on loopback, on free ports, in folders of their own under `.run/`.

    stack.py up [-- COMMAND…]    start them (or find them running), run COMMAND on them, print the lines to export
    stack.py down                stop them and drop their data
    stack.py run -- COMMAND…     a stack for one command, gone when the command ends

Only the standard library: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):  # run as a file: the neighbours below are found from the checkout's root
    sys.path[0] = str(ROOT)

from tools.local_stack import RUN, Stack  # noqa: E402
from tools.server import GUARD, Server, StackUnavailableError  # noqa: E402

__all__ = ["ROOT", "Stack"]


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[Path]:
    """Only one `up` or `down` per checkout. Yields the folder of the stack that stays."""
    RUN.mkdir(exist_ok=True)
    with (RUN / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield RUN / "up"


def up(command: list[str]) -> int:
    """Start the stack that stays, or find it running; run `command` on it; print the lines to export, nothing else."""
    with _one_at_a_time() as folder, contextlib.ExitStack() as undo:
        stack = Stack(folder, owned=False)
        if not folder.exists():
            undo.callback(stack.stop)
        stack.start()
        if command and (status := _run_on(stack, command, output=sys.stderr)) != 0:
            return status
        undo.pop_all()
    for name, value in stack.environment.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def down(_command: list[str]) -> int:
    """Stop the stack that stays and drop its data."""
    with _one_at_a_time() as folder:
        for name in ("kafka", "redis"):
            Server(name, folder / name, [], "", owned=False).stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def run(command: list[str]) -> int:
    """Run `command` with the settings of a stack of its own; its exit status is ours."""
    stack = Stack()
    try:
        folder = stack.start()
        # What the command leaves in its folder for temporary files goes too, even when it is killed.
        scratch = folder / "tmp"
        scratch.mkdir()
        return _run_on(stack, command, output=None, scratch=scratch)
    finally:
        stack.stop()


def _run_on(stack: Stack, command: list[str], output: TextIO | None, scratch: Path | None = None) -> int:
    environment = os.environ | stack.environment
    guarded = [sys.executable, "-I", "-S", str(GUARD), "--grace", "30"]
    if scratch is not None:
        environment["TMPDIR"] = str(scratch)
        guarded += ["--remove", str(scratch)]
    # A session of its own: the guard hears of a Ctrl-C from us alone, once.
    with subprocess.Popen(  # noqa: S603 - the caller's own command
        [*guarded, "--", *command], env=environment, stdout=output, start_new_session=True
    ) as child:
        return _wait(child)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Wait for the child, passing on each signal, and SIGTERM when our own parent is gone."""
    parent: int | None = os.getppid()
    while True:
        try:
            return child.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if parent is not None and os.getppid() != parent:
                parent = None  # say it once: a second signal means "at once"
                child.send_signal(signal.SIGTERM)
        except _Signalled as caught:
            child.send_signal(caught.number)


class _Signalled(BaseException):
    """A signal asks us to end. Not an Exception: nothing may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _on_signal(number: int, _frame: object) -> None:
    raise _Signalled(number)


def main() -> int:
    """Read the command line; exit 3 when the stack can't run here, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="stack.py", description="A real Kafka and Redis on loopback.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="start them, print the lines to export").add_argument("command", nargs="*")
    verbs.add_parser("down", help="stop them, drop their data").set_defaults(command=[])
    verbs.add_parser("run", help="start them for one command").add_argument("command", nargs="+")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    try:
        return {"up": up, "down": down, "run": run}[options.verb](options.command)
    except StackUnavailableError as error:
        print(f"stack.py: {error}", file=sys.stderr)
        return 3
    except _Signalled as caught:
        return 130 if caught.number == signal.SIGINT else 128 + caught.number


if __name__ == "__main__":
    sys.exit(main())
