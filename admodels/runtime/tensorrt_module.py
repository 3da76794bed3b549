"""Which TensorRT is here. `tensorrt` (data-centre GPUs) and `tensorrt_rtx` have one interface under two names.

Both are imported here alone, and only when somebody asks: a worker on CPUs needs neither.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections import deque
from types import ModuleType
from typing import Any, Literal

_log = logging.getLogger("tensorrt")

Choice = Literal["auto", "tensorrt", "tensorrt_rtx"]
ORDER = ("tensorrt", "tensorrt_rtx")


class TensorRtUnavailableError(Exception):
    """There is no TensorRT, no GPU, or not for this target. The message says the mend."""


def load(choice: Choice = "auto") -> ModuleType:
    """The module. `auto` takes `tensorrt` where it is installed, else `tensorrt_rtx`.

    Raises TensorRtUnavailableError: not installed, or its libraries can't be loaded.
    """
    failed = []
    for name in ORDER if choice == "auto" else (choice,):
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            failed.append(f"{name}: {type(error).__name__}")
    raise TensorRtUnavailableError(
        f"TensorRT can't be loaded ({', '.join(failed)}): pip install 'adscore[tensorrt]' (data-centre GPUs) or "
        "'adscore[rtx]', or set ADSCORE_BACKEND=onnxruntime"
    )


@functools.cache
def logger(trt: ModuleType) -> Any:
    """The TensorRT logger of this process (it takes one alone): it writes to the log `tensorrt`, severity for severity.

    Its `errors` are the last ones, for the message of the call that failed; clear them before it.
    """
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.DEBUG,
        trt.ILogger.Severity.VERBOSE: logging.NOTSET,
    }

    class Logger(trt.ILogger):  # type: ignore[name-defined]  # the base class comes with the module
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=20)

        def log(self, severity: Any, message: str) -> None:
            level = levels[severity]
            if level == logging.ERROR:
                self.errors.append(message)
            if level > logging.NOTSET:
                _log.log(level, "%s", message)

    return Logger()


def version(trt: ModuleType) -> str:
    """The installed version, as engine folders carry it."""
    return str(trt.__version__)
