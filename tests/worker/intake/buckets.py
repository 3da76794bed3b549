"""A small object store on loopback, for S3 and Google Cloud Storage: it checks signatures, and misbehaves by key.

The signature is AWS's Signature Version 4 as its documentation gives it, worked out here on its own: a client that
signs wrongly, or with another secret, is denied.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote

ACCESS_KEY, SECRET, TOKEN, REGION = "AKIDEXAMPLE", "canary-secret", "canary-token", "eu-central-1"
IMAGE = b"\x89PNG an image" * 10
DRIP_SECONDS = 0.05


@dataclass
class Buckets:
    """What the store was asked: (path, Authorization or None) of each request."""

    port: int
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    elsewhere: str = ""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def buckets(*, signed: bool = True) -> Iterator[Buckets]:
    """Serves `objects` by `bucket/key`; the last part of a key may name a misbehaviour (see `_Handler.answer`)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    store = Buckets(server.server_port)
    server.store, server.signed = store, signed  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ThreadingHTTPServer

    def do_GET(self) -> None:
        store: Buckets = self.server.store  # type: ignore[attr-defined]
        store.asked.append((self.path, self.headers.get("Authorization")))
        if self.server.signed and not (_is_signed(self) or self.headers.get("Authorization") == f"Bearer {TOKEN}"):  # type: ignore[attr-defined]
            self.error(403, "SignatureDoesNotMatch")
            return
        with suppress(OSError):
            self.answer(store, unquote(self.path).lstrip("/"))

    def answer(self, store: Buckets, name: str) -> None:
        behaviour = name.rpartition("/")[2]
        if behaviour == "redirects":
            self.head(302, 0, Location=store.elsewhere)
        elif behaviour == "denied":
            self.error(403, "AccessDenied")
        elif behaviour == "unauthenticated":
            self.error(401, "Unauthorized")
        elif behaviour == "broken":
            self.error(503, "SlowDown")
        elif behaviour == "silent":
            time.sleep(10)
        elif behaviour == "drips":
            self.head(200, 10_000)
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(DRIP_SECONDS)
        elif behaviour == "cut":
            self.head(200, 10_000)
            self.wfile.write(b"x" * 100)
            self.close_connection = True
        elif behaviour == "huge":
            self.head(200, 10**12)
            self.wfile.write(b"x" * 1_000)
        elif behaviour == "grows":
            self.head(200, None)
            for _ in range(10_000):
                self.wfile.write(b"x" * 10_000)
        elif behaviour in ("zipped", "bomb", "half-zipped"):
            body = gzip.compress(bytes(50_000_000) if behaviour == "bomb" else IMAGE)
            body = body[:-8] if behaviour == "half-zipped" else body
            self.head(200, len(body), **{"Content-Encoding": "gzip"})
            self.wfile.write(body)
        elif name in store.objects:
            self.head(200, len(store.objects[name]))
            self.wfile.write(store.objects[name])
        else:
            self.error(404, "NoSuchKey")

    def head(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.send_header("ETag", '"1"')
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()

    def error(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Resource>{self.path}</Resource></Error>".encode()
        self.head(status, len(body))
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _is_signed(request: BaseHTTPRequestHandler) -> bool:
    """AWS Signature Version 4, header form, for a GET without a query."""
    given = request.headers.get("Authorization") or ""
    if not given.startswith("AWS4-HMAC-SHA256 "):
        return False
    parts = dict(part.strip().split("=", 1) for part in given.removeprefix("AWS4-HMAC-SHA256 ").split(","))
    key, day, region, service, closing = parts["Credential"].split("/")
    names = parts["SignedHeaders"].split(";")
    path = quote(unquote(request.path), safe="/-_.~")
    canonical = "\n".join(
        [
            "GET",
            path,
            "",
            *(f"{name}:{(request.headers.get(name) or '').strip()}" for name in names),
            "",
            ";".join(names),
            request.headers.get("x-amz-content-sha256") or "",
        ]
    )
    scope = f"{day}/{region}/{service}/{closing}"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", request.headers.get("x-amz-date") or "", scope, digest])
    secret = f"AWS4{SECRET}".encode()
    for part in (day, region, service, closing):
        secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
    expected = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    return (key, region, parts["Signature"]) == (ACCESS_KEY, REGION, expected)
