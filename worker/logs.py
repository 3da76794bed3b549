"""Logs: one JSON object per line on standard error, or a console form for people.

structlog, stdlib logging (kafka, redis, urllib3 …), warnings, uncaught exceptions and, where asked for, what native
libraries and children write to descriptor 2 all come out in the same shape. Never in a line: creative text, a URL's
userinfo or query, the values of variables.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson
import structlog

MAX_TEXT = 2_000
"""Characters of one text in a line; the rest is cut."""
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]{1,15}://)[^\s/?#\"'<>]*@", re.IGNORECASE)
_QUERY = re.compile(r"([a-z][a-z0-9+.-]{1,15}://[^\s?#\"'<>]*)[?#][^\s\"'<>]*", re.IGNORECASE)
_DATA = re.compile(r"data:[^\s,\"']{0,100},[^\s\"']*", re.IGNORECASE)
# Exceptions whose text is written by code that keeps creative text out of it. Of all others only the type is told.
_TRUSTED = ("worker.", "kafka.", "redis.")
_ROOT = str(Path(__file__).resolve().parent.parent)

Event = MutableMapping[str, Any]


def redacted(text: str) -> str:
    """`text` without userinfo and query of URLs, without the content of `data:` URLs, at most MAX_TEXT long."""
    text = text[: 4 * MAX_TEXT].strip()
    if ":" in text:
        text = _QUERY.sub(r"\1", _USERINFO.sub(r"\1", _DATA.sub("data:…", text)))
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def described(error: BaseException) -> dict[str, Any]:
    """An exception for a log line: its type, its text where that is safe, and its stack without values."""
    trusted = isinstance(error, OSError) or type(error).__module__.startswith(_TRUSTED)
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    frames = traceback.extract_tb(error.__traceback__)[-20:]
    return {
        "error_type": type(error).__qualname__,
        **({"error": redacted(text)} if trusted else {}),
        "stack": [f"{frame.filename.removeprefix(_ROOT + '/')}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _redact(_logger: Any, _method: str, event: Event) -> Event:
    return {key: _redacted(value) for key, value in event.items()}


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, dict):
        return {key: _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value


def _exception(_logger: Any, _method: str, event: Event) -> Event:
    given = event.pop("exc_info", None)
    if given:
        error = (
            given if isinstance(given, BaseException) else (given if isinstance(given, tuple) else sys.exc_info())[1]
        )
        if error is not None:
            event.update(described(error))
    event.pop("stack_info", None)
    return event


def _json(_logger: Any, _method: str, event: Event) -> str:
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(event, default=lambda value: redacted(str(value)), option=options).decode()


@contextmanager
def configured(level: str, form: str, *, wrap_native: bool = False) -> Iterator[None]:
    """Route all logging to standard error until the block ends.

    level: `debug`, `info`, `warning` or `error`. form: `json`, `console`, or `auto` (console on a terminal).
    wrap_native: with JSON also catch what is written to descriptor 2 past Python, by libraries and children.
    """
    json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    with _descriptor_2_caught() if json and wrap_native else _stderr() as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(_formatter(json, colours=stream.isatty()))
        root = logging.getLogger()
        before = root.handlers[:], root.level, logging.raiseExceptions
        root.handlers[:] = [handler]
        root.setLevel(level.upper())
        logging.raiseExceptions = False  # a closed standard error must not take the worker with it
        # Their debug lines quote records, requests and URLs whole.
        for chatty in ("kafka", "urllib3", "redis", "PIL"):
            logging.getLogger(chatty).setLevel("INFO" if level == "debug" else "WARNING")
        with warnings.catch_warnings():
            logging.captureWarnings(True)
            try:
                with _hooks():
                    yield
            finally:
                logging.captureWarnings(False)
                handler.flush()
                root.handlers[:], level_before, logging.raiseExceptions = before
                root.setLevel(level_before)


def _formatter(json: bool, *, colours: bool) -> logging.Formatter:
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    render = _json if json else structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False)
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, _exception, _redact, render]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last)


@contextmanager
def _hooks() -> Iterator[None]:
    """Uncaught exceptions, of the main thread and of others, become one line each."""
    log = structlog.get_logger("uncaught")
    before = sys.excepthook, threading.excepthook, sys.unraisablehook

    def main(kind: type[BaseException], error: BaseException, stack: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            before[0](kind, error, stack)
        else:
            log.critical("uncaught exception", exc_info=error)

    def thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else ""
        log.critical("uncaught exception in a thread", thread=name, exc_info=args.exc_value)

    def unraisable(args: Any) -> None:
        log.error("exception that could not be raised", exc_info=args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = main, thread, unraisable
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook, sys.unraisablehook = before


@contextmanager
def _stderr() -> Iterator[IO[str]]:
    yield sys.stderr


@contextmanager
def _descriptor_2_caught() -> Iterator[IO[str]]:
    """Descriptor 2 becomes a pipe whose lines are logged; what is yielded writes to the real standard error."""
    sys.stderr.flush()
    real = os.dup(2)
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.close(writer)
    copier = threading.Thread(target=_log_lines, args=(reader,), name="stderr-lines", daemon=True)
    with os.fdopen(real, "w", encoding="utf-8", errors="replace", closefd=False) as stream:
        copier.start()
        try:
            yield stream
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            copier.join(timeout=1.0)  # a child that outlives us may hold the pipe open
    # `real` stays open: a thread that still logs must not write into whatever takes its number next.


def _log_lines(reader: int) -> None:
    log = structlog.get_logger("stderr")
    with os.fdopen(reader, "rb") as lines:
        while line := lines.readline(8_192):
            if text := line.decode(errors="replace").strip():
                log.warning(text)
