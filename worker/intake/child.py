"""One child process that may be killed at any moment, and the conversation with it.

A child is a fresh interpreter (`python -m MODULE`), not a fork: the worker may hold CUDA, threads and secrets. It sees
an environment of its own, runs in its own session (a Ctrl-C at the terminal is for the worker) and ends when the
worker's end of the pipe closes, however the worker ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.intake import frames

_PIPE_BYTES = 1 << 20
_MAX_REPLY_BYTES = 1 << 28
_START_SECONDS = 60.0
_PACKAGES = str(Path(__file__).resolve().parents[2])


class ChildDiedError(Exception):
    """The child ended instead of answering. `signal` is what killed it, None where it left by itself."""

    def __init__(self, returncode: int) -> None:
        super().__init__(f"the process ended with {returncode}")
        self.signal = signal.Signals(-returncode) if returncode < 0 else None


class ChildHungError(Exception):
    """The child did not answer within the wall-clock deadline, and was killed."""


class Child:
    """One child process. Used by one thread at a time, but `kill` may come from any."""

    def __init__(self, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.answered = 0
        self.ready_head: dict[str, Any] = {}
        self._is_ready = False
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # native libraries write what they like there; the log holds only our lines
            env=_environment(environment),
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("subprocess gave no pipes")
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        for pipe in (self._in, self._out):
            os.set_blocking(pipe, False)
            with contextlib.suppress(OSError):  # over the user's share of pipe memory: small pipes work too
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        """Wait for the child's first frame. Raises ChildDiedError or ChildHungError."""
        if not self._is_ready:
            self.ready_head = self._reply(time.monotonic() + _START_SECONDS).head
            self._is_ready = True

    def ask(self, request: Sequence[bytes | memoryview], timeout_seconds: float) -> frames.Reply:
        """Send one request (its parts), wait for the reply. Raises ChildDiedError, ChildHungError; then it is gone."""
        self.wait_ready()
        deadline = time.monotonic() + timeout_seconds
        length = sum(len(part) for part in request).to_bytes(frames.LENGTH_BYTES, "little")
        try:
            for part in (length, *request):
                self._write(memoryview(part), deadline)
        except BrokenPipeError:
            raise self._died() from None
        reply = self._reply(deadline)
        self.answered += 1
        return reply

    def kill(self) -> None:
        """End the child and all that it started, at once."""
        if self._process.returncode is None:  # once it is waited for, its number may be another's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill and forget the child."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _reply(self, deadline: float) -> frames.Reply:
        length = int.from_bytes(self._read(frames.LENGTH_BYTES, deadline), "little")
        if not frames.LENGTH_BYTES < length <= _MAX_REPLY_BYTES:
            raise self._died()
        try:
            return frames.unpack(self._read(length, deadline))
        except ValueError:
            raise self._died() from None

    def _read(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                count = os.readv(self._out, [view])
            except BlockingIOError:
                self._wait(self._out, select.POLLIN, deadline)
                continue
            if count == 0:
                raise self._died()
            view = view[count:]
        return data

    def _write(self, view: memoryview, deadline: float) -> None:
        while view:
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                self._wait(self._in, select.POLLOUT, deadline)

    def _wait(self, fd: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(fd, event)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000) and time.monotonic() >= deadline:
            self.close()
            raise ChildHungError

    def _died(self) -> ChildDiedError:
        """The pipe is closed: the child has ended, with a status that killing its group does not change any more.

        Its group may outlive it (a program that it ran); and a child that broke the protocol is ended here.
        """
        self.kill()
        returncode = self._process.wait()
        self.close()
        return ChildDiedError(returncode)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Only what an interpreter needs to start: the worker's secrets may stand in its environment."""
    passed = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    packages = os.pathsep.join(filter(None, (_PACKAGES, os.environ.get("PYTHONPATH"))))
    return {**passed, "PYTHONPATH": packages, "LC_ALL": "C.UTF-8", **own}
