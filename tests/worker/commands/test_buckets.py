import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.scoring.parts import attractiveness_bucket, ctr_bucket


def bucket_of(value: float, buckets: list[dict[str, Any]]) -> str:
    (name,) = [b["bucket"] for b in buckets if b["from"] <= value and (b["to"] is None or value < b["to"])]
    return str(name)


def test_cut_points_are_those_that_scoring_uses(adscore: Callable[..., Any], tiny_models: Path) -> None:
    ran = adscore("buckets", "--json", env={"ADSCORE_MODELS__DIR": str(tiny_models)})
    assert ran.status == 0
    told = json.loads(ran.out)
    assert {head: part["key"] for head, part in told.items()} == {
        "attractiveness": "ads_attr",
        "sentiment": "ads_sent",
        "ctr": "ads_ctr",
    }
    for step in range(1001):
        value = step / 1000
        assert bucket_of(value, told["attractiveness"]["buckets"]) == attractiveness_bucket(value)
        assert bucket_of(2 * value, told["ctr"]["buckets"]) == ctr_bucket(2 * value, (0.8, 1.2))
    assert [bucket["bucket"] for bucket in told["sentiment"]["buckets"]] == ["neg", "neu", "pos"]
    assert told["ctr"]["base_rate"] == 0.5


def test_for_people(adscore: Callable[..., Any], tiny_models: Path) -> None:
    out = adscore("buckets", env={"ADSCORE_MODELS__DIR": str(tiny_models)}).out
    assert "ads_attr: attractiveness" in out
    assert "  a9       0.9 and more\n" in out
    assert "  medium   0.8 to 1.2\n" in out
