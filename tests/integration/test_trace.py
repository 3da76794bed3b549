"""A trace crosses from the producer through a real worker to the consumer; the worker's spans come by OTLP."""

import http.server
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.faults.creatives import bare, binary
from tests.faults.light_models import write_light_models
from tests.faults.process import WorkerProcess, wait_for
from tests.faults.wire import publish, read_all

pytestmark = [pytest.mark.broker]
W3C = TraceContextTextMapPropagator()
SECRET = "Basic-c2VjcmV0"


@dataclass
class Collector:
    """An OTLP receiver that keeps what it is sent."""

    spans: list[Any] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    port: int = 0

    def by_name(self) -> dict[str, list[Any]]:
        return {span.name: [other for other in self.spans if other.name == span.name] for span in self.spans}


@pytest.fixture
def collector() -> Iterator[Collector]:
    kept = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
            kept.keys.add(self.headers["authorization"])
            for resource in request.resource_spans:
                kept.resources.append({pair.key: pair.value.string_value for pair in resource.resource.attributes})
                for scope in resource.scope_spans:
                    kept.spans.extend(scope.spans)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield kept
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_trace_crosses_from_producer_to_consumer(stack, make_topics, start_adscore, collector, tmp_path) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("ad-platform")
    topics = make_topics(1)
    secret = tmp_path / "headers"
    secret.write_text(f"Authorization={SECRET}\n")
    env = topics.env | {
        "ADSCORE_MODELS__DIR": str(write_light_models(tmp_path / "models")),
        "ADSCORE_TRACING__ENDPOINT": f"http://127.0.0.1:{collector.port}/v1/traces",
        "ADSCORE_TRACING__HEADERS_FILE": str(secret),
        "ADSCORE_LOG__LEVEL": "debug",
        "ADSCORE_BATCH__MAX_DELAY_MS": "1000",
    }
    worker = WorkerProcess(start_adscore("worker", env=env))
    worker.wait_ready()
    with tracer.start_as_current_span("send creatives", context=Context(), kind=SpanKind.PRODUCER) as produced:
        carrier: dict[str, str] = {}
        W3C.inject(carrier, set_span_in_context(produced, Context()))
    traced = binary("traced", 1, tuple((name, value.encode()) for name, value in carrier.items()))
    publish(stack.bootstrap_servers, topics.input, [traced, bare("untraced", 2)])
    worker.wait_processed(2)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0

    outputs = {found.key: found for found in read_all(stack.bootstrap_servers, topics.output)}
    received = {name: value.decode() for name, value in outputs[b"traced"].headers if value}
    tracer.start_span("process creatives.enriched", W3C.extract(received, Context()), kind=SpanKind.CONSUMER).end()
    consumed = exporter.get_finished_spans()[-1]

    spans = collector.by_name()
    process = {_offset(span): span for span in spans[f"process {topics.input}"]}
    send = {span.span_id: span for span in spans[f"send {topics.output}"]}
    assert consumed.context.trace_id == produced.get_span_context().trace_id
    last = send[consumed.parent.span_id.to_bytes(8, "big")]
    assert last.parent_span_id == process[0].span_id
    assert process[0].parent_span_id == produced.get_span_context().span_id.to_bytes(8, "big")
    below = {span.name for span in collector.spans if span.parent_span_id == process[0].span_id}
    assert below == {"fetch", "decode", "infer", f"send {topics.output}"}
    (batch,) = spans["infer_batch"]
    assert {link.span_id for link in batch.links} == {span.span_id for span in process.values()}
    assert process[1].parent_span_id == b"", "an untraced record begins a trace of its own"
    assert "traceparent" in dict(outputs[b"untraced"].headers)
    assert {resource["service.name"] for resource in collector.resources} == {"adscore"}
    assert collector.keys == {SECRET}
    assert SECRET not in worker.running.stderr


def _offset(span: Any) -> int:
    return next(pair.value.int_value for pair in span.attributes if pair.key == "messaging.kafka.offset")


def test_a_collector_that_is_away_costs_nothing_but_its_traces(stack, make_topics, start_adscore, tmp_path) -> None:
    topics = make_topics(1)
    env = topics.env | {
        "ADSCORE_MODELS__DIR": str(write_light_models(tmp_path / "models")),
        "ADSCORE_TRACING__ENDPOINT": "http://127.0.0.1:9/v1/traces",
    }
    publish(stack.bootstrap_servers, topics.input, [bare(f"c{number}", number) for number in range(5)])
    worker = WorkerProcess(start_adscore("worker", "--max-messages", "5", env=env))
    assert worker.wait() == 0
    assert len(read_all(stack.bootstrap_servers, topics.output)) == 5
    wait_for(lambda: worker.log, "it logged nothing")
