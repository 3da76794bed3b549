"""An image host that answers when the test says so: the way to hold a record unfinished for as long as needed."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.faults.creatives import png


class Gate:
    """Serves `/<number>.png` on loopback. While closed, requests wait. Use as a context manager."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self.asked: Counter[str] = Counter()
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                gate.asked[self.path] += 1
                gate._open.wait(60)
                body = png(int(self.path.strip("/").partition(".")[0]))
                self.send_response(200)
                self.send_header("Content-Type", "image/png")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """The test's output is no place for it."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A worker that was killed hangs up."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def host(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def settings(self) -> dict[str, str]:
        """What lets a worker fetch from here."""
        return {"ADSCORE_FETCH__ALLOWED_HOSTS": f"http://{self.host}"}

    def url(self, number: int) -> str:
        """Where image `number` lies."""
        return f"http://{self.host}/{number}.png"

    def open(self) -> None:
        """Answer everything from now on."""
        self._open.set()

    def close(self) -> None:
        """Hold every request from now on."""
        self._open.clear()

    def __enter__(self) -> Gate:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
