"""One HTTP connection to one address that was checked, under one wall-clock deadline.

The name stays what it was: it is sent as Host and SNI and the certificate must be its own. Nothing here asks a
resolver, a proxy or .netrc. Each read waits no longer than the deadline allows, so that a server that drips a byte at
a time gets no more time than a silent one.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from typing import Any

from worker.intake.addresses import Address

_MAX_CHUNK_LINE = 4096
_HEX = frozenset(b"0123456789abcdefABCDEF")


class Deadline:
    """A moment on the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left. Raises TimeoutError when there are none."""
        seconds = self.at - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("the deadline has passed")
        return seconds

    def passed(self) -> bool:
        return time.monotonic() >= self.at


class _DeadlineSocket(socket.socket):
    deadline: Deadline | None = None

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        if self.deadline is not None:
            self.settimeout(self.deadline.left())
        return super().recv_into(*arguments, **options)


class _DeadlineTlsSocket(ssl.SSLSocket):
    deadline: Deadline | None = None

    def recv_into(self, *arguments: Any, **options: Any) -> int:
        if self.deadline is not None:
            self.settimeout(self.deadline.left())
        return super().recv_into(*arguments, **options)


def tls_context() -> ssl.SSLContext:
    """Verification against the system's roots, for sockets that keep to a deadline."""
    return keep_deadlines(ssl.create_default_context())


def keep_deadlines(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make `context` wrap sockets into ones that `PinnedConnection` can hold to a deadline."""
    context.sslsocket_class = _DeadlineTlsSocket
    return context


class _Response(http.client.HTTPResponse):
    """Takes a chunk's size as RFC 9112 writes it; http.client takes `-1` too, and then reads all that ever comes."""

    def _read_next_chunk_size(self) -> int:
        line = self.fp.readline(_MAX_CHUNK_LINE + 1)
        size = line.partition(b";")[0].strip()
        if len(line) > _MAX_CHUNK_LINE or not size or not set(size) <= _HEX:
            raise http.client.IncompleteRead(b"")
        return int(size, 16)


class PinnedConnection(http.client.HTTPConnection):
    """Speaks to `address`, as `host`. `tls` is a context from `keep_deadlines`, or None for plain http."""

    response_class = _Response

    def __init__(self, host: str, address: Address, port: int, tls: ssl.SSLContext | None, deadline: Deadline) -> None:
        super().__init__(host, port)
        self.default_port = 443 if tls is not None else 80  # decides whether Host names the port
        self._address, self._tls, self._deadline = address, tls, deadline
        self.sock: Any = None  # a socket of the two kinds above

    def connect(self) -> None:
        """Connect, and shake hands. Raises OSError (TimeoutError past the deadline)."""
        plain = _DeadlineSocket(socket.AF_INET6 if self._address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            plain.settimeout(self._deadline.left())
            plain.connect((str(self._address), self.port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(self._deadline.left())
            self.sock = plain if self._tls is None else self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        self.hold_to(self._deadline)

    def hold_to(self, deadline: Deadline) -> None:
        """Give the connection a new deadline (a kept-alive one serves another fetch)."""
        self._deadline = deadline
        if self.sock is not None:
            self.sock.settimeout(deadline.left())
            self.sock.deadline = deadline
