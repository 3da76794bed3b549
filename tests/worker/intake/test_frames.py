"""Frames between the worker and its children."""

from __future__ import annotations

import json

import pytest

from worker.intake import frames


def joined(parts: list[frames.Buffer]) -> bytearray:
    return bytearray(b"".join(bytes(part) for part in parts))


def test_a_reply_comes_back_as_it_was() -> None:
    reply = frames.unpack(joined(frames.pack({"a": [1, "ü"]}, [b"xy", memoryview(b"z")], retire=True)))
    assert (reply.head, bytes(reply.body), reply.retire) == ({"a": [1, "ü"]}, b"xyz", True)
    assert not frames.unpack(joined(frames.pack({}))).retire


@pytest.mark.parametrize(
    "payload",
    [b"", b"\0", b"\0\0\0\0\0", b"\0\x09\0\0\0{}", b"\0\x02\0\0\0[]", b"\0\x02\0\0\0{x", b"\0\xff\xff\xff\xff{}"],
)
def test_what_no_sound_child_sends(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        frames.unpack(bytearray(payload))


def test_nothing_is_unpickled() -> None:
    assert json.loads(bytes(joined(frames.pack({"x": 1}))[5:])) == {"x": 1}
