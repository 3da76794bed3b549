"""One port for the platform: `/livez`, `/readyz`, `/metrics`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

_log = structlog.get_logger(__name__)

Check = Callable[[], str | None]
"""None when all is well, else the reason in a few words."""


class HealthServer:
    """Serves probes and metrics on threads of its own.

    Args:
        port: 0 takes a free one; `port` and a log line tell which.
        live: whether the process works at all. ready: whether it takes part in the group with warm engines.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, live: Check, ready: Check) -> None:
        checks = {"/livez": live, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            server_version = "adscore"
            sys_version = ""
            timeout = 10

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path in checks:
                    why = checks[path]()
                    status = HTTPStatus.OK if why is None else HTTPStatus.SERVICE_UNAVAILABLE
                    self._answer(status, "text/plain; charset=utf-8", f"{why or 'ok'}\n".encode())
                else:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"/livez /readyz /metrics\n")

            def do_HEAD(self) -> None:
                self.do_GET()

            def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes come every few seconds; they are not worth a line."""

        self._server = _server_at(host)((host, port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()
        _log.info("listening", http_port=self.port)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server_at(host: str) -> type[ThreadingHTTPServer]:
    """A server for the host's own family of addresses; `::` hears IPv4 too, whatever the machine's default is."""
    family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0] if host else socket.AF_INET

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = family

        def server_bind(self) -> None:
            if self.address_family == socket.AF_INET6:
                self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            super().server_bind()

    return Server
