"""Traces with OpenTelemetry: a span per record and stage, links for batches, exported by OTLP over HTTP.

Needs the extra `adscore[tracing]`. Span names and attributes follow OpenTelemetry's semantic conventions for messaging
(Kafka). A span tells where a record lies and how it ended, never what is in it.

    process <input topic>      one record, child of the span that its headers name
      fetch, decode, ocr       its stages
      infer                    its share of a batch, linked to the batch's span
      send <topic>             its output or dead letter; its context travels on in the output's headers
    infer_batch                one engine batch, a trace of its own, linked to the spans of all its records
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.errors import CreativeError
from worker.tracing import Trace
from worker.types import Headers, Record

EXPORT_SECONDS = 5.0
_W3C = TraceContextTextMapPropagator()
_FIELDS = ("traceparent", "tracestate")
_EXTENSION = "ce_"


def otlp(endpoint: str, headers: dict[str, str]) -> SpanProcessor:
    """Sends ended spans in batches from a thread of its own; what a dead collector doesn't take is dropped."""
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, headers=headers, timeout=EXPORT_SECONDS))


class Spans:
    """A worker's traces.

    Args:
        processor: where ended spans go.
        group, client: the consumer group and this worker's name.
        sample_ratio: share of the traces that begin here; a record that brings a decision keeps it.
    """

    def __init__(self, processor: SpanProcessor, *, group: str, client: str, sample_ratio: float = 1.0) -> None:
        resource = Resource.create({"service.name": "adscore", "service.version": version("adscore")})
        sampler = ParentBased(_Sampled(sample_ratio))
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("adscore", version("adscore"))
        self._common = {
            "messaging.system": "kafka",
            "messaging.consumer.group.name": group,
            "messaging.client.id": client,
        }

    def receive(self, record: Record, trace: Headers) -> Trace:
        """A consumer span, child of the one that `trace` names; without a readable one it begins a trace."""
        origin = record.origin
        attributes: dict[str, str | int | bool] = {
            **self._common,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": origin.topic,
            "messaging.destination.partition.id": str(origin.partition),
            "messaging.kafka.offset": origin.offset,
            "messaging.message.body.size": len(record.value or b""),
        }
        if record.value is None:
            attributes["messaging.kafka.message.tombstone"] = True
        span = self._tracer.start_span(
            f"process {origin.topic}", _parent(trace), kind=SpanKind.CONSUMER, attributes=attributes
        )
        return RecordTrace(self._tracer, span, self._common)

    @contextmanager
    def batch(self, traces: Sequence[Trace]) -> Iterator[None]:
        """A span for the batch, linked to its records, and one in each record's trace, linked to the batch."""
        members = [trace for trace in traces if isinstance(trace, RecordTrace)]
        links = [Link(member.span.get_span_context()) for member in members]
        span = self._tracer.start_span(
            "infer_batch", Context(), links=links, attributes={"adscore.batch.size": len(traces)}
        )
        begun = time.time_ns()
        try:
            yield
        finally:
            span.end()
            for member in members:
                member.took_part(span, begun)

    def close(self, timeout_seconds: float) -> None:
        """Send what has ended; a collector that doesn't answer is left alone after the time."""
        closing = threading.Thread(target=self._provider.shutdown, name="tracing-close", daemon=True)
        closing.start()
        closing.join(timeout_seconds)


class RecordTrace:
    """One record's span and those below it."""

    def __init__(self, tracer: api.Tracer, span: Span, common: dict[str, str]) -> None:
        self.span = span
        self._tracer, self._common = tracer, common
        self._context = api.set_span_in_context(span, Context())
        self._send: Span | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A span of this name; an error is told by its code."""
        span = self._tracer.start_span(name, self._context)
        try:
            yield
        except Exception as error:
            _failed(span, str(error.code) if isinstance(error, CreativeError) else type(error).__name__)
            raise
        finally:
            span.end()

    def took_part(self, batch: Span, begun_ns: int) -> None:
        """The record was in a batch that has just ended."""
        links = [Link(batch.get_span_context())]
        self._tracer.start_span("infer", self._context, links=links, start_time=begun_ns).end()

    def follows(self, other: Trace) -> None:
        """A link to the record that was scored in its place."""
        if isinstance(other, RecordTrace):
            self.span.add_link(other.span.get_span_context())

    def sending(self, topic: str, trace: Headers) -> Headers:
        """A producer span, and its context under the names that the input's came with, `traceparent` without any."""
        self._sent()
        attributes = {
            **self._common,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
        }
        self._send = self._tracer.start_span(
            f"send {topic}", self._context, kind=SpanKind.PRODUCER, attributes=attributes
        )
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, api.set_span_in_context(self._send, Context()))
        extension = any(name.startswith(_EXTENSION) for name, _ in trace)
        header = any(not name.startswith(_EXTENSION) for name, _ in trace) or not extension
        return tuple(
            (prefix + name, carrier[name].encode())
            for prefix, wanted in (("", header), (_EXTENSION, extension))
            for name in _FIELDS
            if wanted and name in carrier
        )

    def end(self, outcome: str, code: str | None = None) -> None:
        """End the send, if one is open, and the record's span."""
        if not self.span.is_recording():
            return
        self._sent()
        self.span.set_attribute("adscore.outcome", outcome)
        if code is not None:
            _failed(self.span, code)
        self.span.end()

    def _sent(self) -> None:
        if self._send is not None:
            self._send.end()
        self._send = None


class _Sampled(Sampler):
    """A share of the traces; a batch is sampled where one of its records is."""

    def __init__(self, ratio: float) -> None:
        self._share = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        """By the links where there are some, else by the trace id."""
        if links:
            sampled = any(link.context.trace_flags.sampled for link in links)
            return SamplingResult(Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP, attributes)
        return self._share.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """For people."""
        return f"links, else {self._share.get_description()}"


def _parent(trace: Headers) -> Context:
    """The context that the headers name; Kafka's own headers win over the event's extensions."""
    found = {name: value.decode("latin-1") for name, value in trace if value is not None}
    prefix = "" if "traceparent" in found else _EXTENSION
    carrier = {name: found[prefix + name] for name in _FIELDS if prefix + name in found}
    return _W3C.extract(carrier, Context())


def _failed(span: Span, why: str) -> None:
    span.set_attribute("error.type", why)
    span.set_status(Status(StatusCode.ERROR))
