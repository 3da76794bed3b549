"""Fetching over HTTP from hostile and honest servers on loopback, which the tests' allow-list names."""

from __future__ import annotations

import gzip
import socket
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.worker.intake.fetching import CAP, OK, short_backoff, source, verdict
from tests.worker.intake.servers import Handler, Server, drip, hang, serving
from worker.errors import Code
from worker.intake.addresses import Address
from worker.intake.pinned import Deadline

__all__ = ["short_backoff"]


def fetch(server: Server, path: str = "/c.jpg", seconds: float = 5.0, *more: str) -> bytes:
    allowed = source(f"http://127.0.0.1:{server.port}", *more)
    return allowed.read(f"http://127.0.0.1:{server.port}{path}", Deadline(seconds))


def test_a_plain_fetch_asks_for_nothing_but_the_image() -> None:
    with serving(OK) as server:
        assert fetch(server, "/a%20b?x=1#y") == b"hello"
    head = server.seen[0].decode().split("\r\n")
    assert head[0] == "GET /a%20b?x=1 HTTP/1.1"
    names = {line.split(":")[0].lower(): line.split(": ", 1)[1] for line in head[1:] if line}
    assert names["host"] == f"127.0.0.1:{server.port}"
    assert names["accept-encoding"] == "identity"
    assert not names.keys() & {"cookie", "authorization", "proxy-authorization", "referer"}


def test_neither_proxies_nor_netrc_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text("default login canary password canary\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(OK) as server, serving(OK) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert fetch(server) == b"hello"
    assert proxy.connections == 0
    assert b"canary" not in server.seen[0]


@pytest.mark.parametrize(
    ("entries", "url"),
    [
        ([], "http://127.0.0.1:{port}/canary"),
        (["127.0.0.1:{port}"], "http://127.0.0.1:{port}/"),
        (["http://127.0.0.1"], "http://127.0.0.1:{port}/"),
        (["http://10.0.0.0/8:{port}"], "http://127.0.0.1:{port}/"),
        (["http://*:{port}"], "http://127.0.0.1:{port}/"),
        (["http://*:{port}"], "http://inside.example:{port}/?canary"),
        (["http://inside.example:{port}"], "http://inside.example:{port}/"),
        (["http://inside.example:{port}", "10.0.0.0/8"], "http://inside.example:{port}/"),
        (["http://127.0.0.1:{port}"], "http://canary@127.0.0.1:{port}/"),
        (["http://127.0.0.1:{port}"], "http://2130706433:{port}/"),
        (["http://127.0.0.1:{port}"], "http://[::ffff:127.0.0.1]:{port}/"),
        (["http://127.0.0.1:{port}"], "http://127.0.0.1:{port}\\@canary.example/"),
    ],
)
def test_what_is_not_allowed_is_refused_before_any_connection(entries: list[str], url: str) -> None:
    with serving(OK) as server:
        allowed = source(*(entry.format(port=server.port) for entry in entries))
        error = verdict(lambda: allowed.read(url.format(port=server.port), Deadline(5)))
    assert error.code is Code.FETCH_REFUSED
    assert not error.retryable
    assert server.connections == 0


def test_an_empty_list_is_named_in_the_refusal() -> None:
    error = verdict(lambda: source().read("https://x.example/?canary", Deadline(5)))
    assert "ADSCORE_FETCH__ALLOWED_HOSTS is empty" in error.message


def test_a_name_is_resolved_once_and_connected_to_that_address() -> None:
    asked: list[str] = []

    def rebinding(name: str, _timeout: float) -> list[Address]:
        asked.append(name)
        return [ip_address("127.0.0.1" if len(asked) == 1 else "169.254.169.254")]

    with serving(OK) as server:
        allowed = source(f"http://cdn.example:{server.port}", "127.0.0.1", resolve=rebinding)
        assert allowed.read(f"http://cdn.example:{server.port}/", Deadline(5)) == b"hello"
    assert asked == ["cdn.example"]
    assert f"Host: cdn.example:{server.port}".encode() in server.seen[0]


def test_one_internal_address_among_public_ones_refuses_the_name() -> None:
    def mixed(_name: str, _timeout: float) -> list[Address]:
        return [ip_address("8.8.8.8"), ip_address("2606:4700::1"), ip_address("fd00::1")]

    error = verdict(lambda: source("*", resolve=mixed).read("https://x.example/", Deadline(5)))
    assert error.code is Code.FETCH_REFUSED


def test_the_next_address_is_tried_where_the_first_does_not_answer() -> None:
    def two(_name: str, _timeout: float) -> list[Address]:
        return [ip_address("127.0.0.9"), ip_address("127.0.0.1")]

    with serving(OK) as server:
        allowed = source(f"http://x.example:{server.port}", "127.0.0.0/8", resolve=two)
        assert allowed.read(f"http://x.example:{server.port}/", Deadline(5)) == b"hello"


def redirect(to: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


def chain(length: int) -> Handler:
    def answer(connection: socket.socket, head: bytes) -> None:
        step = int(head.split()[1].strip(b"/").decode() or 0)
        connection.sendall(OK if step == length else redirect(f"/{step + 1}", (301, 302, 303, 307, 308)[step % 5]))

    return answer


def test_three_redirects_are_followed_and_a_fourth_is_not() -> None:
    with serving(chain(3)) as server:
        assert fetch(server, "/0") == b"hello"
    with serving(chain(4)) as server:
        assert verdict(lambda: fetch(server, "/0")).code is Code.FETCH_REFUSED
    assert server.connections == 4


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{other}/canary",
        "http://169.254.169.254/latest/meta-data",
        "https://127.0.0.1:{port}/",
        "//evil.example/",
        "file:///etc/passwd",
        "data:image/png;base64,aGVsbG8=",
        "s3://bucket/key",
        "http://user:canary@127.0.0.1:{port}/",
        "\\\\evil.example",
        "",
    ],
)
def test_every_redirect_is_checked_like_the_first_url(location: str) -> None:
    with serving(OK) as other:
        handler = redirect("placeholder")

        def answer(connection: socket.socket, _head: bytes) -> None:
            connection.sendall(handler.replace(b"placeholder", location.format(port=port, other=other.port).encode()))

        with serving(answer) as server:
            port = server.port
            assert verdict(lambda: fetch(server)).code is Code.FETCH_REFUSED
    assert other.connections == 0


def test_a_redirect_to_nowhere() -> None:
    with serving(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n") as server:
        assert verdict(lambda: fetch(server)).code is Code.FETCH_FAILED


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (204, False),
        (206, False),
        (304, False),
        (400, False),
        (401, False),
        (404, False),
        (429, True),
        (500, True),
        (503, True),
    ],
)
def test_bad_answers(status: int, retryable: bool) -> None:
    with serving(f"HTTP/1.1 {status} canary\r\nContent-Length: 0\r\n\r\n".encode()) as server:
        error = verdict(lambda: fetch(server))
    assert (error.code, error.retryable) == (Code.FETCH_FAILED, retryable)
    assert str(status) in error.message
    assert error.attempts == server.connections == (3 if retryable else 1)


def test_a_transient_failure_is_tried_again() -> None:
    def recovers(connection: socket.socket, _head: bytes) -> None:
        connection.sendall(OK if server.connections == 3 else b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n")

    with serving(recovers) as server:
        assert fetch(server) == b"hello"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x00\x01\x02",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1_0\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"0" * 70_000 + b"5\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nshort",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_broken_answers(answer: bytes) -> None:
    with serving(answer) as server:
        assert verdict(lambda: fetch(server)).code is Code.FETCH_FAILED


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: r\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"hello"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/html\r\n\r\nhello and more",
    ],
)
def test_odd_but_good_answers(answer: bytes) -> None:
    with serving(answer) as server:
        assert fetch(server) == b"hello"


def endless(connection: socket.socket, _head: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(bytes(65536))


@pytest.mark.parametrize(
    "handler",
    [
        endless,
        f"HTTP/1.1 200 OK\r\nContent-Length: {CAP + 1}\r\n\r\n".encode(),
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(CAP + 1),
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(50_000_000)),
    ],
    ids=["endless", "announced", "streamed", "compressed"],
)
def test_more_than_the_cap_is_too_large_and_not_read_on(handler: Handler | bytes) -> None:
    started = time.monotonic()
    with serving(handler) as server:
        assert verdict(lambda: fetch(server)).code is Code.TOO_LARGE
    assert time.monotonic() - started < 3


def test_exactly_the_cap_is_good() -> None:
    with serving(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(CAP)) as server:
        assert len(fetch(server)) == CAP


def slow_redirects(connection: socket.socket, _head: bytes) -> None:
    time.sleep(0.12)
    connection.sendall(redirect("/again"))


def endless_100(connection: socket.socket, _head: bytes) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.01)


@pytest.mark.parametrize(
    "handler",
    [
        hang,
        drip(b""),
        drip(b"HTTP/1.1 200 OK\r\nX: "),
        drip(b"HTTP/1.1 200 OK\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"),
        slow_redirects,
        endless_100,
    ],
    ids=["silent", "status", "header", "body", "length", "chunk", "redirects", "100"],
)
def test_slow_servers_get_the_deadline_and_no_more(handler: Handler) -> None:
    with serving(handler) as server:
        started = time.monotonic()
        error = verdict(lambda: fetch(server, "/", 0.3))
        assert time.monotonic() - started < 1.2
    assert (error.code, error.retryable) == (Code.FETCH_TIMEOUT, True)


def test_a_name_that_does_not_resolve_in_time_and_one_that_does_not_exist() -> None:
    def never(_name: str, timeout: float) -> list[Address]:
        time.sleep(timeout)
        raise TimeoutError

    def nobody(_name: str, _timeout: float) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "canary")

    error = verdict(lambda: source("*", resolve=never).read("https://x.example/", Deadline(0.3)))
    assert error.code is Code.FETCH_TIMEOUT
    error = verdict(lambda: source("*", resolve=nobody).read("https://x.example/", Deadline(5)))
    assert (error.code, error.retryable, error.attempts) == (Code.FETCH_FAILED, False, 1)


def test_nobody_listens() -> None:
    with serving(OK) as server:
        pass
    error = verdict(lambda: fetch(server))
    assert (error.code, error.retryable, error.attempts) == (Code.FETCH_FAILED, True, 3)


def test_retries_stop_at_the_deadline() -> None:
    with serving(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n") as server:
        started = time.monotonic()
        error = verdict(lambda: fetch(server, "/", 0.15))
        assert time.monotonic() - started < 0.5
    assert error.code is Code.FETCH_FAILED
