from worker.commands.figures import from_cache, percentile, stage_milliseconds


def test_percentile_is_a_value_that_was_seen() -> None:
    values = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert [percentile(values, percent) for percent in (0, 20, 50, 95, 100)] == [1.0, 1.0, 3.0, 5.0, 5.0]


def test_stages_stand_in_the_order_of_the_walk() -> None:
    spent = [{"total": 9.0, "warm": 1.0, "ocr": 5.0, "fetch": 1.0}, {"total": 3.0, "fetch": 2.0}]
    told = stage_milliseconds({"provenance": {"latency_ms": latency}} for latency in spent)
    assert list(told) == ["fetch", "ocr", "warm", "total"]
    assert told["total"] == {"count": 2, "p50": 3.0, "p95": 9.0, "p99": 9.0}
    assert stage_milliseconds([]) == {}


def test_from_cache_means_every_head() -> None:
    assert from_cache({"provenance": {"cache": {"ctr": "hit", "sentiment": "hit"}}})
    assert not from_cache({"provenance": {"cache": {"ctr": "hit", "sentiment": "miss"}}})
    assert not from_cache({"provenance": {"cache": {}}})
