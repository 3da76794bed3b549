"""`adscore schema export` and `check`, as a user calls them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from worker import schemas
from worker.commands.schema import problem, schema

SUBMITTED = {"ad": {"id": "x", "display": {"banner": {"img": "https://x/y"}}}}


def in_base64(event: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(event).encode()).decode()


ENRICHED: dict[str, Any] = {
    "creative_id": "cr-123",
    "lastmod": 1763750000000,
    "status": "scored",
    "content_sha256": "0" * 64,
    "image_sha256": "f" * 64,
    "phash": "c3d1c3d1c3d1c3d1",
    "scores": {
        "attractiveness": {
            "value": 0.734,
            "bucket": "a7",
            "heatmap": {"grid": [48, 48], "encoding": "u8-base64", "values": "AAAA"},
            "regions": [{"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.1, "share": 0.31, "label": "headline"}],
        },
        "sentiment": {
            "value": 0.56,
            "label": "positive",
            "bucket": "pos",
            "probabilities": {"negative": 0.05, "neutral": 0.34, "positive": 0.61},
            "topics": [{"name": "automobiles", "p": 0.81}],
            "aspects": [{"text": "t", "field": "body", "start": 4, "end": 16, "polarity": "positive", "p": 0.9}],
        },
        "ctr": {
            "value": 0.0124,
            "bucket": "high",
            "relative": 1.31,
            "share_likelihood": 0.22,
            "attributes": {"theme": "x", "attention": 0.5, "keywords": ["k"]},
        },
    },
    "text": {
        "ocr": "t",
        "ocr_confidence": 0.87,
        "boxes": [{"text": "t", "x": 0, "y": 0, "w": 0, "h": 0}],
        "language": "en",
    },
    "targeting": {"ads_attr": "a7", "ads_sent": "pos", "ads_ctr": "high", "ads_mv": "3f9c12ab"},
    "ortb": {"bid": {"crid": "x", "attr": [21], "ext": {"adscore": {"attr": "a7", "sent": "pos", "ctr": "high"}}}},
    "audit": {"corr": {"attr": [21]}, "feedback": []},
    "errors": [],
    "provenance": {
        "models": {
            "ctr": [{"name": "n", "version": "1", "digest": "d", "backend": "onnxruntime", "precision": "fp32"}]
        },
        "cache": {"ctr": "hit"},
        "topic": "creatives",
        "partition": 3,
        "offset": 981,
        "scored_at": 1763750000456,
        "latency_ms": {"total": 212.0},
    },
}


def run(*arguments: str, text: bytes | None = None) -> Result:
    return CliRunner().invoke(schema, list(arguments), input=text, standalone_mode=False, catch_exceptions=False)


def changed(path: str, value: Any) -> dict[str, Any]:
    event = json.loads(json.dumps(ENRICHED))
    *parents, last = path.split(".")
    target = event
    for name in parents:
        target = target[name]
    target[last] = value
    return event


def test_export_writes_every_file_as_it_is(tmp_path: Path) -> None:
    done = run("export", str(tmp_path / "new" / "folder"))
    paths = [Path(line) for line in done.stdout.split()]
    assert {path.name for path in paths} == {*schemas.FILES.values(), schemas.ASYNCAPI}
    for schema_id, name in schemas.FILES.items():
        assert json.loads((tmp_path / "new" / "folder" / name).read_text())["$id"] == schema_id


@pytest.mark.parametrize(
    "event",
    [
        SUBMITTED,
        ENRICHED,
        {"specversion": "1.0", "type": "creative.submitted.v1", "data": SUBMITTED},
        {"specversion": "1.0", "type": "creative.submitted.v1", "data_base64": in_base64(SUBMITTED)},
        {"specversion": "1.0", "type": "creative.enriched.v1", "data": ENRICHED},
        {"partition": 0, "offset": 1, "key": "k", "headers": {}, "value": ENRICHED},
        {"partition": 0, "offset": 1, "key": "k", "headers": {}, "value": None},
        {**ENRICHED, "input": "a.png"},
        changed("scores.ctr", None) | {"status": "partial", "errors": [{"head": "ctr", "code": "c", "message": "m"}]},
        changed("text", {"ocr": None, "ocr_confidence": None, "boxes": [], "language": None}),
    ],
)
def test_good_events(event: dict[str, Any]) -> None:
    assert problem(event) is None


@pytest.mark.parametrize(
    ("event", "says"),
    [
        ({"x": 1}, "neither"),
        (5, "neither"),
        ([], "neither"),
        ({"ad": {"id": 5, "display": SUBMITTED["ad"]["display"]}}, "ad.id: 5 is not"),
        ({"specversion": "1.0", "data": {"ad": {}}}, "creative.submitted.v1: ad"),
        ({"specversion": "1.0", "data": SUBMITTED}, "type must be creative.submitted.v1"),
        (
            {"specversion": "1.0", "type": "creative.submitted.v1", "data": ENRICHED},
            "type must be creative.enriched.v1",
        ),
        ({"specversion": "0.3", "type": "creative.submitted.v1", "data": SUBMITTED}, "specversion must be 1.0"),
        ({"specversion": "1.0", "type": "creative.submitted.v1", "data": None}, "data must be an object"),
        ({"specversion": "1.0", "type": "creative.submitted.v1", "data_base64": "?"}, "data_base64 is not base64"),
        (changed("scores.ctr.value", 1.5), "scores.ctr.value: 1.5"),
        (changed("scores.sentiment.bucket", "great"), "scores.sentiment.bucket"),
        (changed("status", "failed"), "status"),
        (changed("phash", "xyz"), "phash"),
        (changed("targeting.BAD", "x"), "targeting"),
        (changed("targeting.ads_new", "Ü"), "targeting"),
        (changed("ortb.bid.price", 1), "ortb.bid"),
        (changed("errors", [{"head": "ctr", "code": "c", "message": "m"}]), "errors"),
        (changed("provenance.cache", {"ctr": "error"}), "provenance.cache.ctr"),
        (changed("text.boxes", [{"text": "t", "x": 0, "y": 0, "w": 0, "h": 2}]), "text.boxes[0].h"),
        (changed("creative_id", "x" * 600), "creative_id: does not fit `maxLength`"),
    ],
)
def test_bad_events_and_the_reason(event: Any, says: str) -> None:
    reason = problem(event)
    assert reason is not None
    assert says in reason
    assert len(reason) < 400


def test_check_names_file_line_and_reason(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    lines = [json.dumps(SUBMITTED), "", json.dumps({"x": 1}), "not json", '"text"', json.dumps(ENRICHED)]
    file.write_text("\n".join(lines))
    done = run("check", str(file))
    assert done.return_value == 1
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [f"{file}:{number}" for number in (3, 4, 5)]
    assert "2 good, 3 bad" in done.stderr


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (json.dumps(SUBMITTED, indent=2), 0),
        (json.dumps([SUBMITTED, ENRICHED]), 0),
        (json.dumps([SUBMITTED, {}]), 1),
        (f"{json.dumps(SUBMITTED)}\r\n{json.dumps(ENRICHED)}\r\n", 0),
        ("", 1),
        ("{", 1),
    ],
)
def test_check_reads_json_and_jsonl_from_standard_input(text: str, status: int) -> None:
    assert run("check", "-", text=text.encode()).return_value == status


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="No such file") as caught:
        run("check", str(tmp_path / "none"))
    assert getattr(caught.value, "exit_code", None) == 2
