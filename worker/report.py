"""The HTML report: a gallery of creatives with their heatmaps, in one file that opens from disk without a network.

Everything that comes from a creative is escaped, and a policy inside the page lets nothing be loaded from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from PIL import Image

from worker.scoring import heatmap

THUMBNAIL = 480
"""Longest side of an embedded picture, in pixels: sharp in its card, and 200 of them stay far below 15 MB."""
HEAT = 96
STATUSES = ("scored", "partial", "dead_letter", "failed", "superseded", "withdrawn")
_NAMES = {"dead_letter": "dead letter"}


@dataclass(frozen=True, slots=True)
class Card:
    """One creative: `event` is its enriched event, or the line that says why there is none."""

    status: str
    event: Mapping[str, Any]
    picture: str | None = None
    size: tuple[int, int] = (1, 1)


@dataclass
class Report:
    """Collects creatives, then writes the page."""

    title: str
    subtitle: str = ""
    cards: list[Card] = field(default_factory=list)
    tiles: dict[str, str] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)

    def add(self, event: Mapping[str, Any], image: Image.Image | None, *, status: str | None = None) -> None:
        """Add a creative. image: RGB, upright, any size; None where there is none to show."""
        picture = None if image is None else data_url(_thumbnail(image))
        size = (1, 1) if image is None else image.size
        self.cards.append(Card(status or str(event["status"]), event, picture, size))

    def html(self) -> str:
        """The page."""
        script = _resource("report.js")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        counts = Counter(card.status for card in self.cards)
        return Template(_resource("report.html")).substitute(
            title=escape(self.title),
            subtitle=escape(self.subtitle),
            script=script,
            script_hash=f"sha256-{digest}",
            tiles="".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in self.tiles.items()),
            tables="".join(table.html() for table in self.tables),
            filters=_filters(counts),
            cards="".join(_card(card, order) for order, card in enumerate(self.cards)),
            footer="Heatmaps show where people are expected to look first. Scores are predictions, made before anyone "
            "has clicked; they say nothing about whether an ad is true, fair or allowed.",
        )


@dataclass(frozen=True, slots=True)
class Table:
    """A small table of figures: the first column names its row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def html(self) -> str:
        """The table."""
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in self.columns)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in self.rows
        )
        caption = escape(self.caption)
        return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def data_url(image: Image.Image) -> str:
    """An image inside the page."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=76, method=2)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _resource(name: str) -> str:
    return files("worker").joinpath(name).read_text(encoding="utf-8")


def _thumbnail(image: Image.Image) -> Image.Image:
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return small


def _filters(counts: Counter[str]) -> str:
    choices = [("all", "all", sum(counts.values()))]
    choices += [(status, _NAMES.get(status, status), counts[status]) for status in STATUSES if counts[status]]
    return "".join(
        f'<label class="pill"><input type="radio" name="status" value="{value}"{" checked" if value == "all" else ""}>'
        f"<span>{name}<b>{count}</b></span></label>"
        for value, name, count in choices
    )


def _card(card: Card, order: int) -> str:
    event = card.event
    name = escape(str(event.get("creative_id") or event.get("input") or "without an id"))
    scores = event.get("scores") or {}
    sortable = "".join(
        f' data-{head}="{part["value"]:.6f}"' for head, part in scores.items() if part is not None and "value" in part
    )
    status = escape(_NAMES.get(card.status, card.status))
    return (
        f'<li class="card" data-status="{escape(card.status)}" data-order="{order}"{sortable}>'
        f'<div class="media">{_media(card, name)}</div><div class="body">'
        f'<div class="head"><h3>{name}</h3><span class="status {escape(card.status)}">{status}</span></div>'
        f"{_errors(event)}{_scores(scores)}{_facts(event)}{_read(event)}</div></li>"
    )


def _media(card: Card, name: str) -> str:
    if card.picture is None:
        return '<p class="none">no picture to show</p>'
    width, height = card.size
    part = ((card.event.get("scores") or {}).get("attractiveness") or {}).get("heatmap")
    heat = f'<img class="heat" src="{data_url(heatmap.layer(part, HEAT, HEAT))}" alt="">' if part else ""
    picture = f'<img src="{card.picture}" alt="Creative {name}, {width} × {height}">'
    return f'<div class="frame" style="--r:{width / height:.4f}">{picture}{heat}</div>'


def _errors(event: Mapping[str, Any]) -> str:
    lines = []
    for error in event.get("errors") or []:
        where = error.get("head")
        text = f"{where}: {error['code']}" if where else str(error["code"])
        lines.append(f'<p class="error{" soft" if where else ""}">{escape(text)} – {escape(str(error["message"]))}</p>')
    return "".join(lines)


def _scores(scores: Mapping[str, Any]) -> str:
    rows = []
    for head, draw in (("attractiveness", _attractiveness), ("sentiment", _sentiment), ("ctr", _ctr)):
        if head in scores:
            part = scores[head]
            meter, value = ('<span class="meter"></span>', "–") if part is None else draw(part)
            label = "CTR" if head == "ctr" else head
            rows.append(f"<dt>{label}</dt>{meter}<dd>{value}</dd>")
    return f'<dl class="scores">{"".join(rows)}</dl>' if rows else ""


def _attractiveness(part: Mapping[str, Any]) -> tuple[str, str]:
    return _meter(0, part["value"]), f"{part['value']:.2f}{_bucket(part)}"


def _sentiment(part: Mapping[str, Any]) -> tuple[str, str]:
    low, high = sorted((0.5, 0.5 + part["value"] / 2))
    kind = {"pos": "positive", "neg": "negative"}.get(part["bucket"], "neutral")
    return _meter(low, high, kind, signed=True), f"{part['value']:+.2f}{_bucket(part)}"


def _ctr(part: Mapping[str, Any]) -> tuple[str, str]:
    relative = part.get("relative")
    shown = part["value"] if relative is None else relative / 2
    times = "" if relative is None else f" ×{relative:.2f}"
    return _meter(0, min(1.0, shown)), f"{part['value'] * 100:.2f} %{times}{_bucket(part)}"


def _meter(low: float, high: float, kind: str = "", *, signed: bool = False) -> str:
    style = f"left:{low * 100:.1f}%;width:{max(0.0, high - low) * 100:.1f}%"
    return f'<span class="meter{" signed" if signed else ""}"><i class="{kind}" style="{style}"></i></span>'


def _bucket(part: Mapping[str, Any]) -> str:
    return f'<span class="bucket">{escape(str(part["bucket"]))}</span>' if "bucket" in part else ""


def _facts(event: Mapping[str, Any]) -> str:
    provenance = event.get("provenance") or {}
    facts = []
    language = (event.get("text") or {}).get("language")
    if language:
        facts.append(f"language {language}")
    cache = (provenance.get("cache") or {}).values()
    if cache and all(result == "hit" for result in cache):
        facts.append("from cache")
    total = (provenance.get("latency_ms") or {}).get("total")
    if total is not None:
        facts.append(f"{total:.0f} ms")
    if event.get("input"):
        facts.append(str(event["input"]))
    return f'<p class="facts">{escape(" · ".join(facts))}</p>' if facts else ""


def _read(event: Mapping[str, Any]) -> str:
    text = event.get("text") or {}
    words = text.get("ocr")
    if not words:
        return ""
    confidence = text.get("ocr_confidence")
    sure = "" if confidence is None else f", {confidence:.0%} sure"
    return f"<details><summary>Text in the image{sure}</summary><p>{escape(words)}</p></details>"
