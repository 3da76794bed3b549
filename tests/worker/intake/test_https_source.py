"""Fetching over TLS: the name is the certificate's, the address is the one that was checked."""

from __future__ import annotations

import ssl
import subprocess
import time
from pathlib import Path

import pytest

from tests.worker.intake.fetching import OK, short_backoff, source, verdict
from tests.worker.intake.servers import Server, drip, hang, serving
from worker.errors import Code
from worker.intake.pinned import Deadline

__all__ = ["short_backoff"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for cdn.example, with its key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "cdn.pem"
    names = ("-subj", "/CN=cdn.example", "-addext", "subjectAltName=DNS:cdn.example")
    kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    command = ["openssl", "req", *kind, *names, "-keyout", str(file), "-out", str(file) + ".crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + Path(str(file) + ".crt").read_text())
    return file


def https(certificate: Path, server: Server, name: str, *, trusted: bool = True, seconds: float = 5.0) -> bytes:
    context = ssl.create_default_context(cafile=str(certificate) if trusted else None)
    allowed = source(f"{name}:{server.port}", "127.0.0.1", tls=context)
    return allowed.read(f"https://{name}:{server.port}/", Deadline(seconds))


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_https_keeps_the_name_while_it_connects_to_the_address(certificate: Path) -> None:
    with serving(OK, server_side(certificate)) as server:
        assert https(certificate, server, "cdn.example") == b"hello"
    assert f"Host: cdn.example:{server.port}".encode() in server.seen[0]


def test_a_certificate_for_another_name_or_of_a_stranger_is_not_taken(certificate: Path) -> None:
    with serving(OK, server_side(certificate)) as server:
        for name, trusted in (("other.example", True), ("cdn.example", False)):
            error = verdict(lambda name=name, trusted=trusted: https(certificate, server, name, trusted=trusted))
            assert (error.code, error.retryable) == (Code.FETCH_FAILED, False)
    assert server.seen == []


def test_slow_tls_gets_the_deadline_and_no_more(certificate: Path) -> None:
    dripping = drip(b"HTTP/1.1 200 OK\r\n\r\n")
    with serving(dripping, server_side(certificate)) as body, serving(hang) as handshake:
        for server in (body, handshake):
            started = time.monotonic()
            error = verdict(lambda server=server: https(certificate, server, "cdn.example", seconds=0.4))
            assert time.monotonic() - started < 1.2
            assert error.code is Code.FETCH_TIMEOUT
