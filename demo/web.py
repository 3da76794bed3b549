"""A web server on loopback, as far as the demonstration needs one: it gives, it refuses, and it hangs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HANG_SECONDS = 30.0


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """`http://127.0.0.1:PORT`: files of `folder` by name, `/broken` answers 500, `/slow` doesn't answer."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                ended.wait(HANG_SECONDS)
                return
            name = self.path.lstrip("/")
            known = {entry.name: entry for entry in folder.iterdir()}
            if name not in known:
                self.send_error(500 if name == "broken" else 404)
                return
            data = known[name].read_bytes()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """The worker's own log says what it fetched."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="web", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
