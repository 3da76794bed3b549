"""A real Redis on loopback, as a cache: nothing written to disk, and no key evicted in silence."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tools.server import Server, StackUnavailableError

DATABASES = 1024  # tests take one each


def redis_cache(folder: Path, *, port: int, owned: bool) -> Server:
    """The Redis of `folder`, not yet started.

    Raises:
        StackUnavailableError: redis-server isn't installed.
    """
    binary = shutil.which("redis-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        raise StackUnavailableError("there is no redis-server; run `make setup`, or: sudo apt-get install redis-server")
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "bind": "127.0.0.1",
        "port": port,
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "databases": DATABASES,
        "daemonize": "no",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return Server("Redis", folder, [binary, *options], ready_line="Ready to accept connections", owned=owned)
