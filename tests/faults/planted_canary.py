"""A worker in which things go wrong with a canary in their text: `python -m tests.faults.planted_canary worker …`.

An engine that raises what it read, a stage that raises what it fetched, a thread and at last (on SIGUSR1) the loop
itself that raise secrets, libraries that log at debug level, and a native library that writes past Python.
"""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from admodels.runtime import onnxruntime
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from tests.faults.planted_engine import FAILS
from worker.intake.fetch import Fetcher
from worker.types import Creative, ImageBytes

CANARY = "canary-raised"
NATIVE = "a native library says hello"
STAGE = "https://raises.example/"


class CanaryRunner(OnnxRuntimeRunner):
    """Raises the canary for one colour."""

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The real scores, or an error that quotes."""
        if any(tuple(int(value) for value in image[0, 0]) == FAILS for image in feeds["image"]):
            raise RuntimeError(CANARY)
        return super().infer(feeds)


def _chatter() -> None:
    """What libraries do: debug lines, warnings, lines past Python, threads that die."""
    for name in ("kafka.conn", "urllib3.connectionpool", "redis", "PIL.PngImagePlugin"):
        logging.getLogger(name).debug("%s in a library's debug line", CANARY)
    warnings.warn("https://user:canary-raised@host.example/?q=canary-raised", stacklevel=1)
    libc = ctypes.CDLL(None)
    libc.write(2, f"{NATIVE}\n".encode(), len(NATIVE) + 1)
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("some.library").exception("it failed")

    def dies() -> None:
        local = CANARY  # noqa: F841  # a traceback with variables would tell it
        raise RuntimeError(CANARY)

    threading.Thread(target=dies).start()


def _end(*_: object) -> None:
    raise RuntimeError(CANARY)


def main() -> None:
    """Plant, then run the worker."""
    onnxruntime.OnnxRuntimeRunner = CanaryRunner  # type: ignore[misc]
    really = Fetcher.fetch

    def fetch(self: Fetcher, creative: Creative) -> ImageBytes:
        if creative.image_url.startswith(STAGE):
            _chatter()
            raise LookupError(f"{CANARY} {creative.image_url}")
        return really(self, creative)

    Fetcher.fetch = fetch  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, _end)
    from worker.__main__ import main as run

    run()


if __name__ == "__main__":
    sys.exit(main())
