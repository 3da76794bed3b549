"""A source over HTTP that may fetch from loopback, and what it says of what it refuses."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from worker.errors import CreativeError, Stage
from worker.intake import http_source
from worker.intake.addresses import Address
from worker.intake.hosts import AllowList
from worker.intake.http_source import HttpSource

CAP = 100_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_source, "_BACKOFF_SECONDS", 0.005)


def loopback(_name: str, _timeout: float) -> list[Address]:
    return [ip_address("127.0.0.1")]


def source(
    *entries: str,
    resolve: Callable[[str, float], list[Address]] = loopback,
    tls: ssl.SSLContext | None = None,
) -> HttpSource:
    return HttpSource(AllowList(entries), CAP, tls=tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), resolve=resolve)


def verdict(call: Callable[[], object]) -> CreativeError:
    with pytest.raises(CreativeError) as caught:
        call()
    assert caught.value.stage is Stage.FETCH
    assert "canary" not in caught.value.message
    return caught.value
