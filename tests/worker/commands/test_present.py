from worker.commands import present

EVENT = {
    "creative_id": "cr-1",
    "status": "partial",
    "scores": {
        "attractiveness": {"value": 0.7341, "bucket": "a7"},
        "sentiment": None,
        "ctr": {"value": 0.0124, "bucket": "high", "relative": 1.31},
    },
    "text": {"language": "en"},
    "errors": [{"head": "sentiment", "code": "engine_failed", "message": "x"}],
}


def test_a_row_stands_under_its_header() -> None:
    header, row = present.header(), present.row(EVENT)
    for title, cell in (("status", "partial"), ("attractiveness", "0.734 a7"), ("CTR", "0.0124 ×1.31 high")):
        assert row[header.index(title) :].startswith(cell)
    assert row.endswith("en        sentiment: engine_failed")


def test_a_failure_tells_why() -> None:
    row = present.row({"input": "a.jpg", "status": "failed", "errors": [{"code": "bad_image", "message": "cut off"}]})
    assert row.split() == ["a.jpg", "failed", "bad_image:", "cut", "off"]


def test_nothing_steers_the_terminal() -> None:
    row = present.row(EVENT | {"creative_id": "\x1b[2J\x07evil\n\u202e"})
    assert row.isprintable()
    assert "evil" in row


def test_a_time_that_is_none_is_still_told() -> None:
    assert present.moment(1_763_750_000_000) == "2025-11-21 18:33:20"
    assert present.moment(2**62) == str(2**62)
