"""What a worker's loop and delivery tell of each record: one span per record, ended as the record ended."""

from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.fakes import eventually, record
from tests.worker.pipeline.rig import DLQ, OUT
from worker.errors import Code, CreativeError, Stage
from worker.spans import Spans

PARENT = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
BAD = CreativeError(Code.BAD_IMAGE, Stage.DECODE, "the image is cut off")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def rig(make: Any, exporter: InMemorySpanExporter) -> Any:
    return make(tracing=Spans(SimpleSpanProcessor(exporter), group="g", client="w1"))


def outcomes(exporter: InMemorySpanExporter) -> dict[int, str]:
    spans = [span for span in exporter.get_finished_spans() if span.name == "process creatives"]
    return {span.attributes["messaging.kafka.offset"]: span.attributes["adscore.outcome"] for span in spans}


def test_every_end_is_told(rig: Any, exporter: InMemorySpanExporter) -> None:
    rig.offer(
        record(0, "a", lastmod=5, headers=(PARENT,)),
        record(1, "b"),
        record(2, "c", value=b"no json", headers=(PARENT,)),
        record(3, "d", value=None, headers=(PARENT,)),
        record(4, "a", lastmod=1),
    )
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 3)
    rig.flow.finish("a")
    rig.flow.finish("b", BAD)
    rig.flow.finish("a")
    eventually(lambda: rig.source.committed.get(0) == 5)
    assert outcomes(exporter) == {
        0: "scored",
        1: "dead_letter",
        2: "dead_letter",
        3: "withdrawn",
        4: "superseded",
    }
    # An unreadable value doesn't hide the trace that its headers name.
    inside = [span for span in exporter.get_finished_spans() if format(span.context.trace_id, "032x").startswith("4bf")]
    assert {span.attributes.get("messaging.kafka.offset") for span in inside} == {0, 2, 3, None}


def test_outputs_carry_the_trace_on_and_dead_letters_are_left_as_they_came(
    rig: Any, exporter: InMemorySpanExporter
) -> None:
    rig.offer(record(0, "a", headers=(PARENT,)), record(1, "b", headers=(PARENT,)))
    rig.start()
    eventually(lambda: len(rig.flow.submitted) == 2)
    rig.flow.finish("a")
    rig.flow.finish("b", BAD)
    eventually(lambda: rig.source.committed.get(0) == 2)
    headers = {message.topic: dict(message.headers) for message in rig.sink.sent}
    assert headers[DLQ]["traceparent"] == PARENT[1]
    (send,) = [span for span in exporter.get_finished_spans() if span.name == f"send {OUT}"]
    assert headers[OUT]["traceparent"].decode().split("-")[1:3] == [
        format(send.context.trace_id, "032x"),
        format(send.context.span_id, "016x"),
    ]


def test_a_partition_that_goes_away_ends_its_traces(rig: Any, exporter: InMemorySpanExporter) -> None:
    rig.offer(record(0, "a"))
    rig.start()
    eventually(lambda: rig.flow.submitted)
    rig.held.lost({0})
    rig.flow.finish("a")
    eventually(lambda: outcomes(exporter) == {0: "lost"})


def test_without_tracing_the_senders_headers_pass_unchanged(make: Any) -> None:
    rig = make()
    rig.offer(record(0, "a", headers=(PARENT, ("tracestate", b"vendor=1"))))
    rig.start()
    eventually(lambda: rig.flow.submitted)
    rig.flow.finish("a")
    eventually(lambda: rig.source.committed.get(0) == 1)
    (message,) = rig.sink.sent
    assert [pair for pair in message.headers if pair[0].startswith("trace")] == [PARENT, ("tracestate", b"vendor=1")]
