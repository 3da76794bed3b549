"""Whether an ONNX graph holds all of its numbers itself, told from its bytes before any engine parses them.

An ONNX file may name other files for its tensors ("external data"). A bundle's files are hashed and handed out as
bytes, so a graph that reaches for a path would read what nobody checked. This walks the protobuf's own structure, of
which only the messages that can hold a tensor matter (onnx.proto of ONNX 1.19); it needs neither onnx nor protobuf.
"""

from __future__ import annotations

from collections.abc import Iterator

_TENSOR = "tensor"
# Message → field number → the message in it.
_HOLDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10
_MAX_DEPTH = 100


def refuse_external_data(model: bytes) -> None:
    """Raise ValueError where a tensor of the serialised graph lies in another file, or the bytes are no protobuf."""
    _walk(memoryview(model), "model", _MAX_DEPTH)


def _walk(message: memoryview, kind: str, levels: int) -> None:
    if levels == 0:
        raise ValueError("its graphs are nested too deep")
    inside = _HOLDS.get(kind, {})
    for number, value in _fields(message):
        if kind == _TENSOR and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
            raise ValueError("a tensor of it lies in another file (ONNX external data)")
        if number in inside:
            if not isinstance(value, memoryview):
                raise ValueError("it isn't an ONNX graph")
            _walk(value, inside[number], levels - 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Each field's number, with its bytes or its varint (0 for numbers of fixed width)."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            if number == 0:
                raise ValueError("it isn't an ONNX graph")
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:  # groups are no part of ONNX, and the rest is no protobuf
            raise ValueError("it isn't an ONNX graph")
        if number == 0 or size > end - at:
            raise ValueError("it isn't an ONNX graph")
        yield number, message[at : at + size] if wire == _BYTES else 0
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if at + index >= len(message):
            break
        byte = message[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("it isn't an ONNX graph")
