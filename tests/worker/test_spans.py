"""Traces: whose child each span is, what it says, and that it never says more."""

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.fakes import record
from worker.errors import Code, CreativeError, Stage
from worker.spans import RecordTrace, Spans

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01".encode()
UNSAMPLED = PARENT[:-1] + b"0"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[Spans]:
    made = Spans(SimpleSpanProcessor(exporter), group="adscore", client="w1")
    yield made
    made.close(5)


def finished(exporter: InMemorySpanExporter) -> dict:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_record_continues_the_trace_that_its_headers_name(spans, exporter) -> None:
    received = record(7, partition=2)
    spans.receive(received, (("traceparent", PARENT), ("tracestate", b"vendor=1"))).end("scored")
    span = finished(exporter)["process creatives"]
    assert format(span.context.trace_id, "032x") == TRACE_ID
    assert format(span.parent.span_id, "016x") == "00f067aa0ba902b7"
    assert span.kind is SpanKind.CONSUMER
    assert dict(span.attributes) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "creatives",
        "messaging.destination.partition.id": "2",
        "messaging.kafka.offset": 7,
        "messaging.consumer.group.name": "adscore",
        "messaging.client.id": "w1",
        "messaging.message.body.size": len(received.value or b""),
        "adscore.outcome": "scored",
    }
    assert span.resource.attributes["service.name"] == "adscore"


def test_kafkas_header_wins_over_the_events_extension(spans, exporter) -> None:
    other = PARENT.replace(b"4bf9", b"aaaa")
    spans.receive(record(0), (("ce_traceparent", other), ("traceparent", PARENT))).end("scored")
    assert format(finished(exporter)["process creatives"].context.trace_id, "032x") == TRACE_ID


@pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"00-zz-zz-01", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
def test_an_unreadable_trace_begins_a_new_one(spans, exporter, garbage: bytes) -> None:
    trace = spans.receive(record(0), (("traceparent", garbage),))
    ((name, value),) = trace.sending("creatives.enriched", (("traceparent", garbage),))
    trace.end("scored")
    span = finished(exporter)["process creatives"]
    assert (span.parent, name) == (None, "traceparent")
    assert format(span.context.trace_id, "032x").encode() in value


@pytest.mark.parametrize(
    ("came", "goes"),
    [
        ((), ["traceparent"]),
        (("traceparent", "tracestate"), ["traceparent", "tracestate"]),
        (("ce_traceparent",), ["ce_traceparent"]),
        (
            ("traceparent", "ce_traceparent", "ce_tracestate"),
            ["traceparent", "ce_traceparent"],
        ),
        (("ce_traceparent", "ce_tracestate"), ["ce_traceparent", "ce_tracestate"]),
    ],
)
def test_the_output_carries_the_sends_span_under_the_names_that_came(spans, exporter, came, goes) -> None:
    headers = tuple((name, PARENT if name.endswith("parent") else b"vendor=1") for name in came)
    trace = spans.receive(record(0), headers)
    sent = dict(trace.sending("creatives.enriched", headers))
    trace.end("scored")
    send = finished(exporter)["send creatives.enriched"]
    assert list(sent) == goes
    wanted = f"00-{format(send.context.trace_id, '032x')}-{format(send.context.span_id, '016x')}-0".encode()
    assert {value[:-1] for name, value in sent.items() if name.endswith("parent")} == {wanted}
    assert {value for name, value in sent.items() if name.endswith("state")} <= {b"vendor=1"}
    assert send.kind is SpanKind.PRODUCER
    assert send.parent.span_id == finished(exporter)["process creatives"].context.span_id
    assert send.attributes["messaging.operation.type"] == "send"


def test_a_stage_that_fails_tells_the_code_and_nothing_of_the_text(spans, exporter) -> None:
    trace = spans.receive(record(0), ())
    with pytest.raises(CreativeError), trace.stage("decode"):
        raise CreativeError(Code.BAD_IMAGE, Stage.DECODE, "a secret of the sender")
    with pytest.raises(KeyError), trace.stage("ocr"):
        raise KeyError("another secret")
    trace.end("dead_letter", "bad_image")
    found = finished(exporter)
    assert {name: found[name].attributes["error.type"] for name in ("decode", "ocr", "process creatives")} == {
        "decode": "bad_image",
        "ocr": "KeyError",
        "process creatives": "bad_image",
    }
    assert {span.status.status_code for span in found.values()} == {StatusCode.ERROR}
    assert "secret" not in "".join(span.to_json() for span in found.values())


def test_a_batch_and_its_records_are_linked_both_ways(spans, exporter) -> None:
    first = spans.receive(record(0), (("traceparent", PARENT),))
    second = spans.receive(record(1), ())
    with spans.batch([first, second]):
        pass
    ended = exporter.get_finished_spans()
    (batch,) = [span for span in ended if span.name == "infer_batch"]
    shares = [span for span in ended if span.name == "infer"]
    assert batch.parent is None
    assert batch.attributes["adscore.batch.size"] == 2
    assert isinstance(first, RecordTrace)
    assert isinstance(second, RecordTrace)
    records = [first.span.get_span_context().span_id, second.span.get_span_context().span_id]
    assert [link.context.span_id for link in batch.links] == records
    assert [span.parent.span_id for span in shares] == records
    assert {link.context.span_id for span in shares for link in span.links} == {batch.context.span_id}
    assert all(span.start_time <= batch.end_time for span in shares)


def test_a_follower_is_linked_to_the_record_that_was_scored(spans, exporter) -> None:
    leader, follower = spans.receive(record(0), ()), spans.receive(record(1), ())
    follower.follows(leader)
    follower.end("scored")
    leader.end("scored")
    linked, target = exporter.get_finished_spans()
    assert [link.context.span_id for link in linked.links] == [target.context.span_id]


def test_what_the_sender_decided_not_to_sample_is_not_sampled(spans, exporter) -> None:
    trace = spans.receive(record(0), (("traceparent", UNSAMPLED),))
    with trace.stage("fetch"), spans.batch([trace]):
        pass
    ((_, value),) = trace.sending("creatives.enriched", (("traceparent", UNSAMPLED),))
    trace.end("scored")
    assert exporter.get_finished_spans() == ()
    assert value.startswith(f"00-{TRACE_ID}-".encode())
    assert value.endswith(b"-00")


@pytest.mark.parametrize(("ratio", "wanted"), [(0.0, 0), (1.0, 20)])
def test_the_share_of_traces_that_begin_here(exporter, ratio: float, wanted: int) -> None:
    spans = Spans(SimpleSpanProcessor(exporter), group="g", client="c", sample_ratio=ratio)
    for offset in range(20):
        spans.receive(record(offset), ()).end("scored")
    assert len(exporter.get_finished_spans()) == wanted


def test_it_ends_once(spans, exporter) -> None:
    trace = spans.receive(record(0), ())
    trace.end("lost")
    trace.end("scored")
    (span,) = exporter.get_finished_spans()
    assert span.attributes["adscore.outcome"] == "lost"
