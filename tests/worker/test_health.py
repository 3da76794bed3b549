"""The one port for the platform, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry

from worker.health import HealthServer


@contextmanager
def served(host: str) -> Iterator[int]:
    server = HealthServer(host, 0, CollectorRegistry(), lambda: None, lambda: "engines are loading")
    try:
        yield server.port
    finally:
        server.close()


def asked(host: str, port: int, method: str, path: str) -> tuple[int, bytes, str | None]:
    connection = HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read(), response.getheader("Content-Length")
    finally:
        connection.close()


def test_a_head_is_a_get_without_its_body() -> None:
    with served("127.0.0.1") as port:
        assert asked("127.0.0.1", port, "GET", "/livez") == (200, b"ok\n", "3")
        assert asked("127.0.0.1", port, "HEAD", "/livez") == (200, b"", "3")
        assert asked("127.0.0.1", port, "HEAD", "/readyz")[:2] == (503, b"")
        assert asked("127.0.0.1", port, "HEAD", "/elsewhere")[:2] == (404, b"")


def knows_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not knows_ipv6(), reason="this machine knows no IPv6")
@pytest.mark.parametrize(("host", "from_where"), [("::", ["::1", "127.0.0.1"]), ("::1", ["::1"]), ("", ["127.0.0.1"])])
def test_it_listens_on_ipv6_too(host: str, from_where: list[str]) -> None:
    with served(host) as port:
        for address in from_where:
            assert asked(address, port, "GET", "/livez")[0] == 200
