"""How the worker and its child processes talk: length-prefixed frames over pipes, and nothing that is ever unpickled.

A frame is a 32-bit little-endian length and that many bytes. A child sends one reply frame when it is ready, and one
for each request. A reply begins with a flags byte (RETIRE: the child wants to be replaced), the length of its JSON head
(32 bits), the head, and after it raw bytes that the head describes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Buffer = bytes | bytearray | memoryview

RETIRE = 1
LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply taken apart: `head` is JSON, `body` the raw bytes after it."""

    head: dict[str, Any]
    body: memoryview
    retire: bool


def pack(head: dict[str, Any], body: Sequence[Buffer] = (), *, retire: bool = False) -> list[Buffer]:
    """The parts of a reply's payload, not yet joined."""
    text = json.dumps(head).encode()
    return [bytes((RETIRE if retire else 0,)) + len(text).to_bytes(LENGTH_BYTES, "little") + text, *body]


def unpack(payload: bytearray) -> Reply:
    """Take a reply apart. Raises ValueError on what no sound child would send."""
    view = memoryview(payload)
    size = int.from_bytes(view[1 : 1 + LENGTH_BYTES], "little")
    start = 1 + LENGTH_BYTES
    head = json.loads(bytes(view[start : start + size]))
    if len(view) < start + size or not isinstance(head, dict):
        raise ValueError("the child's reply is not a reply")
    return Reply(head, view[start + size :], retire=bool(view[0] & RETIRE))


def serve(ready: dict[str, Any], answer: Callable[[memoryview], list[Buffer]]) -> None:
    """A child's life: say `ready`, then answer one request after the other until the worker closes the pipe.

    Standard output carries the frames, so whatever a library prints goes to standard error instead.
    """
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # masks and ignored signals outlive an exec
    _send(replies, pack(ready))
    while (request := _receive(requests)) is not None:
        _send(replies, answer(memoryview(request)))


def _receive(fd: int) -> bytearray | None:
    length = _read_exactly(fd, LENGTH_BYTES)
    return None if length is None else _read_exactly(fd, int.from_bytes(length, "little"))


def _read_exactly(fd: int, size: int) -> bytearray | None:
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = os.readv(fd, [view])
        if count == 0:
            return None
        view = view[count:]
    return data


def _send(fd: int, parts: Sequence[Buffer]) -> None:
    views = [memoryview(part).cast("B") for part in parts]
    length = sum(view.nbytes for view in views)
    for view in (memoryview(length.to_bytes(LENGTH_BYTES, "little")), *views):
        while view:
            view = view[os.write(fd, view) :]
