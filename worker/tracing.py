"""Traces of records on their way through the worker, as the pipeline knows them. Here, everything is switched off.

`worker.spans` gives the same interface with OpenTelemetry behind it; the pipeline never sees the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from worker.types import Headers, Record

_NOTHING: AbstractContextManager[None] = nullcontext()


class Trace(Protocol):
    """One record's. Used by one thread at a time, handed over with the record."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A stage of its work; what the block raises is noted by its code or class, never by its text."""
        ...

    def follows(self, other: Trace) -> None:
        """It gets the result of another record with the same content."""
        ...

    def sending(self, topic: str, trace: Headers) -> Headers:
        """Its output is about to be written: the trace headers that the output carries instead of the input's."""
        ...

    def end(self, outcome: str, code: str | None = None) -> None:
        """How it ended, and the dead letter's code; what is said after the first time doesn't count."""
        ...


class Tracing(Protocol):
    """Makes the traces of a worker."""

    def receive(self, record: Record, trace: Headers) -> Trace:
        """A record was received; `trace` are its `traceparent` and `tracestate` as they came."""
        ...

    def batch(self, traces: Sequence[Trace]) -> AbstractContextManager[None]:
        """An engine batch over these records."""
        ...

    def close(self, timeout_seconds: float) -> None:
        """Send what has ended, as far as the time allows."""
        ...


class _NoTrace:
    def stage(self, name: str) -> AbstractContextManager[None]:
        del name
        return _NOTHING

    def follows(self, other: Trace) -> None:
        del other

    def sending(self, topic: str, trace: Headers) -> Headers:
        """The input's own headers: without tracing they pass through unchanged."""
        del topic
        return trace

    def end(self, outcome: str, code: str | None = None) -> None:
        del outcome, code


NO_TRACE: Trace = _NoTrace()


class NoTracing:
    """Tracing that is switched off."""

    def receive(self, record: Record, trace: Headers) -> Trace:
        """Always the same trace, which does nothing."""
        del record, trace
        return NO_TRACE

    def batch(self, traces: Sequence[Trace]) -> AbstractContextManager[None]:
        """Nothing."""
        del traces
        return _NOTHING

    def close(self, timeout_seconds: float) -> None:
        """Nothing."""
        del timeout_seconds
