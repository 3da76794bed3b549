from worker.delivery.dead_letters import dead_letter_record, fits
from worker.errors import Code, CreativeError, Stage
from worker.types import Headers, Origin, Record

ERROR = CreativeError(Code.FETCH_TIMEOUT, Stage.FETCH, "no answer within 10 s", retryable=True, attempts=3)
RECEIVED: Headers = (("ce_type", b"x"), ("odd", None), ("ce_type", b"again"))


def record(value: bytes | None = b"{}", headers: Headers = RECEIVED, key: bytes | None = b"cr-1") -> Record:
    return Record(Origin("creatives", 3, 981, 1_763_750_000_000), key, value, headers)


def test_bytes_and_headers_stay_and_ours_are_appended() -> None:
    key, value, headers = dead_letter_record(record(), ERROR, "worker-1", 1_000_000)
    assert (key, value) == (b"cr-1", b"{}")
    assert headers == (
        *RECEIVED,
        ("adscore_dlq_code", b"fetch_timeout"),
        ("adscore_dlq_message", b"no answer within 10 s"),
        ("adscore_dlq_stage", b"fetch"),
        ("adscore_dlq_topic", b"creatives"),
        ("adscore_dlq_partition", b"3"),
        ("adscore_dlq_offset", b"981"),
        ("adscore_dlq_timestamp", b"1763750000000"),
        ("adscore_dlq_attempts", b"3"),
        ("adscore_dlq_retryable", b"true"),
        ("adscore_dlq_worker", b"worker-1"),
    )


def test_headers_of_an_earlier_refusal_are_replaced() -> None:
    earlier: Headers = (("adscore_dlq_code", b"old"), ("adscore_replays", b"1"), ("adscore_dlq_truncated", b"9"))
    _, _, headers = dead_letter_record(record(headers=earlier), ERROR, "w", 1_000_000)
    assert [name for name, _ in headers].count("adscore_dlq_code") == 1
    assert ("adscore_replays", b"1") in headers
    assert "adscore_dlq_truncated" not in dict(headers)


def test_null_and_empty_stay_apart() -> None:
    assert dead_letter_record(record(None, key=None), ERROR, "w", 1_000_000)[:2] == (None, None)
    assert dead_letter_record(record(b"", key=b""), ERROR, "w", 1_000_000)[:2] == (b"", b"")


def test_too_large_is_written_empty_with_its_size() -> None:
    key, value, headers = dead_letter_record(record(b"x" * 5_000), ERROR, "w", 2_000)
    assert (key, value) == (b"cr-1", b"")
    assert dict(headers)["adscore_dlq_truncated"] == b"5000"
    assert headers[: len(RECEIVED)] == RECEIVED
    assert fits(key, value, headers, 2_000)


def test_headers_that_alone_are_too_large_go() -> None:
    _, value, headers = dead_letter_record(record(b"x", headers=(("big", b"x" * 3_000),)), ERROR, "w", 2_000)
    assert value == b""
    assert "big" not in dict(headers)
    assert dict(headers)["adscore_dlq_offset"] == b"981"


def test_a_long_message_is_cut_between_characters() -> None:
    error = CreativeError(Code.BAD_EVENT, Stage.EVENT, "ü" * 5_000, attempts=0)
    headers = dict(dead_letter_record(record(), error, "w", 1_000_000)[2])
    assert headers["adscore_dlq_message"] == ("ü" * 500).encode()
    assert headers["adscore_dlq_attempts"] == b"1"
    assert headers["adscore_dlq_retryable"] == b"false"
