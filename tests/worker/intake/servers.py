"""HTTP servers on loopback that answer what a test wants, honest or not."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Handler = Callable[[socket.socket, bytes], None]
"""Speaks on a connection; the bytes are the request's head."""


@dataclass
class Server:
    """Accepts on loopback and lets the handler speak; remembers every request head that came."""

    port: int
    seen: list[bytes] = field(default_factory=list)
    connections: int = 0


@contextmanager
def serving(handler: Handler | bytes, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server on a free port: bytes are every connection's answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(listener.getsockname()[1])
    open_connections: list[socket.socket] = []

    def speak(connection: socket.socket) -> None:
        with connection:
            try:
                if tls is not None:
                    connection = tls.wrap_socket(connection, server_side=True)
                with connection:
                    head = b""
                    while b"\r\n\r\n" not in head and (chunk := connection.recv(65536)):
                        head += chunk
                    server.seen.append(head)
                    if callable(handler):
                        handler(connection, head)
                    else:
                        connection.sendall(handler)
            except OSError:
                pass  # the client has hung up, as it should on much of this

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            server.connections += 1
            open_connections.append(connection)
            threading.Thread(target=speak, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in open_connections:
            connection.close()
        thread.join(5)


def drip(before: bytes) -> Handler:
    def answer(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(before)
        while True:
            connection.sendall(b"x")
            time.sleep(0.02)

    return answer


def hang(connection: socket.socket, _head: bytes) -> None:
    connection.recv(1)
