import html
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worker.report import Report, Table
from worker.scoring import heatmap

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
EVENT: dict[str, Any] = {
    "creative_id": f"cr-1 {EVIL}",
    "status": "partial",
    "scores": {
        "attractiveness": {"value": 0.7, "bucket": "a7", "heatmap": heatmap.encode(np.eye(8))},
        "sentiment": {"value": -0.4, "label": "negative", "bucket": "neg"},
        "ctr": None,
    },
    "text": {"ocr": EVIL, "ocr_confidence": 0.9, "language": "en"},
    "errors": [{"head": "ctr", "code": "engine_failed", "message": EVIL}],
    "provenance": {"cache": {"attractiveness": "hit"}, "latency_ms": {"total": 12.3}},
}


class Page(HTMLParser):
    """Every tag with its attributes, and the page's text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page() -> Page:
    report = Report(f"title {EVIL}", f"subtitle {EVIL}")
    report.add(EVENT, Image.new("RGB", (1200, 628), "navy"))
    report.add(
        {"creative_id": "broken", "errors": [{"code": "bad_image", "message": "cut"}]}, None, status="dead_letter"
    )
    report.tiles = {f"tile {EVIL}": EVIL}
    report.tables = [Table(EVIL, ("a", EVIL), [(EVIL, EVIL)])]
    return Page(report.html())


def test_nothing_of_a_creative_becomes_markup(page: Page) -> None:
    assert len(page.all("script")) == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.text.count("<script>alert(1)</script>") >= 6  # as text, wherever it was given


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    sources = [attributes["src"] or "" for _, attributes in page.tags if "src" in attributes]
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert not page.all("link")
    policy = next(meta["content"] or "" for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)


def test_pictures_have_words(page: Page) -> None:
    picture, heat = page.all("img")
    assert picture["alt"] == f"Creative {EVENT['creative_id']}, 1200 × 628"
    assert heat["alt"] == ""
    assert "no picture to show" in page.text


def test_cards_can_be_filtered_and_sorted(page: Page) -> None:
    first, second = (item for item in page.all("li") if "data-status" in item)
    assert (first["data-status"], second["data-status"]) == ("partial", "dead_letter")
    assert first["data-attractiveness"] == "0.700000"
    assert "data-ctr" not in first
    assert [radio["value"] for radio in page.all("input") if radio["type"] == "radio"] == [
        "all",
        "partial",
        "dead_letter",
    ]


def test_a_card_tells_what_is_known(page: Page) -> None:
    for words in ("-0.40", "neg", "ctr: engine_failed", "from cache", "12 ms", "90% sure", "bad_image – cut"):
        assert words in page.text


def test_thumbnails_keep_two_hundred_creatives_below_15_mb() -> None:
    report = Report("size")
    noise = np.random.default_rng(0).integers(0, 256, (1080, 1080, 3), dtype=np.uint8)
    smooth = Image.fromarray(noise).resize((270, 270)).resize((1080, 1080))
    report.add(EVENT, smooth)  # far harder to compress than any advertisement
    assert len(report.html()) * 200 < 15_000_000 + 200 * len(Report("size").html())


def test_an_empty_report_is_a_page() -> None:
    assert html.escape("a & b") in Report("a & b").html()
