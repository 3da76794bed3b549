"""The whole walk on real parts: every record is accounted for, and what came out is as the contract says."""

import json
import subprocess

import jsonschema
import orjson
import pytest

from tests.faults.ledger import Ledger
from tests.integration.senders import (
    COPIES,
    NOT_UTF8,
    OCR_WORD,
    ODD_HEADERS,
    REPEATED,
    SECRETS,
    SUPERSEDED,
    TRACE,
)

pytestmark = [pytest.mark.broker, pytest.mark.slow]
CODES = ("bad_event", "missing_image", "bad_text", "fetch_refused", "too_large", "digest_mismatch")
CODES += ("unsupported_format", "bad_image", "image_bomb")


def test_every_record_ends_in_exactly_one_place(first, second) -> None:
    superseded = [first.places[name] for name in SUPERSEDED]
    Ledger(list(first.places.values()), first.outputs, first.dead).check(superseded=superseded)
    Ledger(list(second.places.values()), second.outputs, second.dead).check(superseded=[second.places["a-older"]])
    assert (first.status, second.status) == (0, 0)


def test_each_broken_class_gets_its_code_and_its_neighbours_are_scored(first) -> None:
    codes = {name: found.header("adscore_dlq_code") for name in first.records for found in _dead(first, name)}
    expected = {name: name.partition(".")[0] for name in first.records if name.partition(".")[0] in CODES}
    assert codes == expected


def _dead(run, name):
    return [found for found in run.dead if found.source == run.places[name]]


def test_a_dead_letter_is_the_record_as_received_and_says_where_it_was(first) -> None:
    for found in first.dead:
        (name,) = [name for name, place in first.places.items() if place == found.source]
        record, headers = first.records[name], dict(found.headers)
        if "adscore_dlq_truncated" in headers:
            assert (found.value, headers["adscore_dlq_truncated"]) == (b"", str(len(record.value)).encode())
            assert name == "too_large.data", f"{name} would have fitted"
        else:
            assert found.value == record.value, name
        assert found.key == record.key, name
        received = [pair for pair in record.headers if not pair[0].startswith("adscore_dlq_")]
        assert list(found.headers[: len(received)]) == received, name
        told = dict(found.headers[len(received) :])
        assert len(told) == len(found.headers) - len(received), f"{name}: a header stands twice"
        assert told["adscore_dlq_topic"] == first.topics.input.encode()
        assert told["adscore_dlq_retryable"] in (b"true", b"false")
        assert int(told["adscore_dlq_attempts"]) >= 1
        assert int(told["adscore_dlq_timestamp"]) > 1_700_000_000_000
        assert told["adscore_dlq_worker"]
        assert told["adscore_dlq_stage"] in (b"event", b"text", b"fetch", b"decode")


def test_null_keys_null_values_and_null_headers_come_through(first) -> None:
    assert (first.dead_letter("bad_event.nobody").key, first.dead_letter("bad_event.nobody").value) == (None, None)
    assert first.dead_letter("bad_event.nobody_odd").headers[: len(ODD_HEADERS)] == ODD_HEADERS
    assert first.dead_letter("bad_event.null_bytes_key").key == NOT_UTF8
    assert first.dead_letter("bad_event.empty").value == b""
    assert len(first.dead_letter("bad_event.many_headers").headers) > 3_000
    replayed = first.dead_letter("bad_event.replayed")
    assert [value for name, value in replayed.headers if name == "adscore_dlq_code"] == [b"bad_event"]
    assert replayed.header("adscore_replays") == "2"
    assert first.output("bytes_key").key == b"odd-key"
    assert first.output("no_key").key == b"no-key"


def test_withdrawals_are_tombstones_with_their_source(first) -> None:
    for name, creative_id in {"withdrawn_by_key": b"gone-1", "withdrawn_by_subject": b"gone-2"}.items():
        found = first.output(name)
        assert (found.key, found.value) == (creative_id, None)
        assert found.header("ce_type") == "creative.withdrawn.v1"
        assert found.header("ce_subject") == creative_id.decode()
        partition, offset = first.places[name]
        assert found.header("adscore_source") == f"{first.topics.input}:{partition}:{offset}"


def test_outputs_are_cloud_events_keyed_and_placed_by_creative(first) -> None:
    with open("worker/schemas/creative.enriched.v1.json", encoding="utf-8") as file:
        schema_id = json.load(file)["$id"]
    for found in first.outputs:
        assert found.key is not None
        assert found.partition == (_murmur2(found.key) & 0x7FFFFFFF) % 3, found.key
        assert found.header("ce_specversion") == "1.0"
        assert found.header("ce_subject") == found.key.decode()
        partition, offset = found.source
        assert found.header("ce_id") == f"{first.topics.input}:{partition}:{offset}"
        if found.value is not None:
            assert found.header("content-type") == "application/json"
            assert found.header("ce_type") == "creative.enriched.v1"
            assert found.header("ce_dataschema") == schema_id
            assert found.event["creative_id"] == found.key.decode()
            where = found.event["provenance"]
            assert (where["topic"], where["partition"], where["offset"]) == (first.topics.input, partition, offset)
    for number in range(3):
        assert first.output(f"binary-{number}").header("traceparent") == TRACE.decode()
        assert first.output(f"structured-{number}").header("ce_traceparent") == TRACE.decode()


def _murmur2(data: bytes) -> int:
    """As Kafka's own clients place keys, written down again here so that no client vouches for itself."""
    factor, mask = 0x5BD1E995, 0xFFFFFFFF
    state = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * factor & mask
        state = (state * factor & mask) ^ ((word ^ word >> 24) * factor & mask)
    if len(data) > whole:
        state = (state ^ int.from_bytes(data[whole:], "little")) * factor & mask
    state = (state ^ state >> 13) * factor & mask
    return state ^ state >> 15


def test_a_creative_whose_text_is_in_the_image_is_read(first) -> None:
    text = first.output("ocr").event["text"]
    assert OCR_WORD in text["ocr"], text["ocr"]
    assert text["boxes"]
    assert 0 < text["ocr_confidence"] <= 1
    assert first.output("bare-0").event["text"] == {
        "ocr": "50% off",
        "ocr_confidence": None,
        "boxes": [],
        "language": first.output("bare-0").event["text"]["language"],
    }


def test_equal_content_is_scored_once(first, second) -> None:
    for image in range(3):
        names = [name for name in REPEATED if name.startswith(f"copy-{image}-")]
        caches = [tuple(first.output(name).event["provenance"]["cache"].values()) for name in names]
        assert caches.count(("miss",) * 3) == 1, f"of {COPIES} with equal content: {caches}"
        assert caches.count(("hit",) * 3) == COPIES - 1, caches
    scores = {json.dumps(first.output(name).event["scores"]) for name in REPEATED if name.startswith("copy-0-")}
    assert len(scores) == 1
    contents = {found.event["content_sha256"] for found in first.outputs if found.value is not None}
    assert first.batch_items == len(contents), "the engine ran for something else than each content once"


def test_another_worker_finds_the_scores_in_redis(second) -> None:
    assert second.batch_items == 0
    assert second.hits == len(second.records)
    assert {part for found in second.outputs for part in found.event["provenance"]["cache"].values()} == {"hit"}


def test_older_revisions_are_superseded_also_by_a_worker_that_never_saw_the_newer(first, second) -> None:
    assert [found.event["lastmod"] % 1_000 for found in _life(first, "rev-a")] == [5, 5]
    assert [found.event["lastmod"] % 1_000 for found in _life(second, "rev-a")] == [5, 6]
    assert 'adscore_events_processed_total{outcome="superseded"} 1.0' in second.metrics


def test_a_withdrawn_creative_can_come_back_older(first, second) -> None:
    assert [found.value is None for found in _life(first, "rev-b")] == [False, True, False]
    assert [found.value is None for found in _life(first, "rev-c")] == [False, True]
    assert [found.event["lastmod"] % 1_000 for found in _life(second, "rev-c")] == [1]


def _life(run, creative_id: str):
    return sorted((found for found in run.outputs if found.key == creative_id.encode()), key=lambda found: found.offset)


def test_a_consumer_that_is_not_ours_reads_valid_events(first, adscore, tmp_path) -> None:
    done = adscore("schema", "export", str(tmp_path))
    assert done.returncode == 0, done.stderr
    schema = orjson.loads((tmp_path / "creative.enriched.v1.json").read_bytes())
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    command = ["kcat", "-C", "-q", "-e", "-J", "-b", first.servers, "-t", first.topics.output]
    lines = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.splitlines()
    ids = [f"{first.topics.input}:{found.source[0]}:{found.source[1]}" for found in first.outputs]
    seen = []
    for line in map(orjson.loads, lines):
        headers = dict(zip(line["headers"][::2], line["headers"][1::2], strict=True))
        seen.append(headers["ce_id"])
        if line["payload"] is not None:
            problems = [error.message for error in validator.iter_errors(orjson.loads(line["payload"]))]
            assert not problems, f"{line['key']}: {problems}"
            assert len(line["payload"]) < 65_536
    assert set(ids) <= set(seen), f"kcat never saw {set(ids) - set(seen)}"


def test_no_secret_of_a_sender_or_of_ours_is_told(first, second) -> None:
    told = {
        "log": first.logs + second.logs,
        "metrics": first.metrics + second.metrics,
        "dead letters' messages": "\n".join(found.header("adscore_dlq_message") or "" for found in first.dead),
        "the lesser headers of outputs": str([found.headers for found in first.outputs]),
    }
    leaks = [f"{name} in {where}" for where, text in told.items() for name in SECRETS if SECRETS[name] in text]
    leaks += [f"text read in an image in {where}" for where, text in told.items() if OCR_WORD in text]
    assert not leaks, leaks
    talk = [line for line in first.worker.log if line["logger"].startswith("kafka.") and line["level"] == "info"]
    assert talk, "the log was not at debug level, so this shows nothing"
