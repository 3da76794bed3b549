"""Names resolve on a thread of their own."""

from __future__ import annotations

import socket
import threading
from ipaddress import ip_address
from typing import Any

import pytest

from worker.intake import names


def test_every_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = [
        (2, 1, 6, "", ("127.0.0.1", 0)),
        (10, 1, 6, "", ("fe80::1%2", 0, 0, 2)),
        (2, 1, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert names.resolve("x.example", 5) == [ip_address("127.0.0.1"), ip_address("fe80::1%2")]


def test_a_resolver_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait(10) and [])
    with pytest.raises(TimeoutError):
        names.resolve("x.example", 0.05)
    released.set()


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "no"), UnicodeError("label too long")])
def test_what_does_not_resolve_is_an_os_error(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(OSError, match=r"no|encoded"):
        names.resolve("x.example", 5)
