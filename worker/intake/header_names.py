"""Names of headers that aren't UTF-8, which brokers take and other clients write.

kafka-python 3.0.12 calls the whole batch corrupt for one, again at every start: a record that nobody can get past.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Self

from kafka.record.default_records import DefaultRecordBatch


class HeaderName(str):
    """A name as text, that is the same bytes again where it is written."""

    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        """Bytes that are no UTF-8 become lone surrogates."""
        return super().__new__(cls, raw.decode("utf-8", "surrogateescape"))

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The bytes as they were."""
        del encoding, errors
        return str.encode(self, "utf-8", "surrogateescape")


class _Buffer(bytearray):
    """A batch whose names are read by `HeaderName`."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Buffer(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        del encoding, errors
        return HeaderName(bytes(self))


@cache
def accept_any() -> None:
    """Have this process's consumers read such names. Once is enough."""
    read = DefaultRecordBatch._read_msg

    def tolerant(batch: Any) -> Any:
        try:
            return read(batch)
        except UnicodeDecodeError:
            batch._buffer = _Buffer(batch._buffer)  # slower, hence only for such a batch
            return read(batch)

    DefaultRecordBatch._read_msg = tolerant
