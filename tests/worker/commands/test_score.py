import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def score(adscore: Callable[..., Any], tiny_models: Path) -> Callable[..., Any]:
    env = {"ADSCORE_MODELS__DIR": str(tiny_models), "ADSCORE_OCR__WORKERS": "1", "ADSCORE_DECODE__WORKERS": "1"}
    return lambda *arguments: adscore("score", *map(str, arguments), env=env)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "ads"
    folder.mkdir()
    for number, colour in enumerate(("white", "grey")):
        Image.new("RGB", (300, 250), colour).save(folder / f"ad-{number}.png")
    return folder


def event(creative_id: str, image: str, **rest: Any) -> str:
    return json.dumps({"ad": {"id": creative_id, "display": {"banner": {"img": image}}}, "ocr_text": "SALE"} | rest)


def test_a_line_per_input_in_order_and_the_rest_goes_on(
    score: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    jsonl = tmp_path / "events.jsonl"
    lines = [
        event("one", "ads/ad-0.png", copy={"headline": "Discover the new season"}),
        "{bad",
        event("two", "data:image/png;base64,AAAA"),
        event("one", "ads/ad-0.png", copy={"headline": "Discover the new season"}),
        event("three", "https://cdn.example/x.png"),
    ]
    jsonl.write_text("\n".join(lines))
    ran = score(tmp_path / "no.png", jsonl, folder, "--json")
    assert ran.status == 1
    told = [json.loads(line) for line in ran.out.splitlines()]
    labels = [tmp_path / "no.png", *(f"{jsonl}:{n}" for n in range(1, 6)), folder / "ad-0.png", folder / "ad-1.png"]
    assert [line["input"] for line in told] == [str(label) for label in labels]
    failed = {line["input"]: line for line in told if line["status"] == "failed"}
    assert [line["errors"][0]["code"] for line in failed.values()] == [
        *("missing_image", "bad_event", "unsupported_format", "fetch_refused")
    ]
    assert all(set(line) == {"input", "creative_id", "status", "errors"} for line in failed.values())
    assert [line["creative_id"] for line in failed.values()] == ["no.png", None, "two", "three"]
    good = told[1]
    assert good["status"] == "scored"
    assert good["text"]["language"] == "en"
    assert good["text"]["ocr"] == "SALE"
    assert "topic" not in good["provenance"]
    assert told[4]["scores"] == good["scores"]
    assert told[-2]["lastmod"] == os.stat(folder / "ad-0.png").st_mtime_ns // 1_000_000


def test_a_table_an_overlay_and_a_report(score: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    page, overlays = tmp_path / "report.html", tmp_path / "new" / "overlays"
    ran = score(folder, "--headline", "Jetzt kaufen und sparen", "--overlay", overlays, "--report", page)
    assert ran.status == 0
    header, *rows = ran.out.splitlines()
    assert header.split()[:2] == ["creative", "status"]
    assert [row.split()[:2] for row in rows] == [["ad-0.png", "scored"], ["ad-1.png", "scored"]]
    assert rows[0].endswith(" de")
    assert sorted(path.name for path in overlays.iterdir()) == ["ad-0.png", "ad-1.png"]
    with Image.open(overlays / "ad-1.png") as shown:
        assert shown.size == (300, 250)
        assert (np.asarray(shown) != 128).any()
    assert page.read_text().count('data-status="scored"') == 2
    assert str(page) in ran.err


def test_a_name_from_an_event_is_no_path(score: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    jsonl = tmp_path / "events.jsonl"
    names = ("../../evil", "/etc/passwd", "a b", "..", "ad", "AD")
    jsonl.write_text("\n".join(event(name, "ads/ad-0.png") for name in names))
    out = tmp_path / "out"
    assert score(jsonl, "--overlay", out).status == 0
    assert sorted(path.name for path in out.iterdir()) == [
        *("AD-2.png", "a-b.png", "ad.png", "creative.png", "evil.png", "passwd.png")
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ads", "events.jsonl", "out"]


def test_a_folder_without_images_is_1(score: Callable[..., Any], tmp_path: Path) -> None:
    ran = score(tmp_path)
    assert ran.status == 1
    assert "holds no images" in ran.out


def test_where_nothing_can_be_written_is_told_first(score: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    assert score(folder, "--report", tmp_path / "nowhere" / "r.html").status == 2
    (tmp_path / "file").write_text("")
    assert score(folder, "--overlay", tmp_path / "file" / "x").status == 2


def test_bundles_that_are_not_there_are_3(adscore: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    ran = adscore("score", str(folder), env={"ADSCORE_MODELS__DIR": str(tmp_path)})
    assert ran.status == 3
    assert "dbafn" in ran.err
