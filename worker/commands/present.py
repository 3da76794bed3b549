"""What people see on a terminal: a line per creative, without anything that a sender could steer the terminal with."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

COLUMNS = ("creative", "status", "attractiveness", "sentiment", "CTR", "language")
_WIDTHS = (32, 10, 14, 16, 20, 8)


def plain(text: str) -> str:
    """`text` on one line, what doesn't print replaced."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def header() -> str:
    """The table's first line."""
    return _line(COLUMNS)


def row(event: Mapping[str, Any]) -> str:
    """An enriched event, or `score`'s failed line, as one line of the table."""
    name = str(event.get("creative_id") or event.get("input") or "")
    errors = event.get("errors") or []
    if event.get("status") in ("failed", "withdrawn"):
        reason = "; ".join(f"{error['code']}: {error['message']}" for error in errors)
        return _line((name, str(event["status"]), plain(reason))).rstrip()
    scores = event.get("scores") or {}
    cells = (_attractiveness(scores), _sentiment(scores), _ctr(scores))
    language = (event.get("text") or {}).get("language") or ""
    notes = "  " + "; ".join(f"{error['head']}: {error['code']}" for error in errors) if errors else ""
    return (_line((name, str(event.get("status", "")), *cells, language)) + plain(notes)).rstrip()


def moment(milliseconds: int) -> str:
    """A record's time, UTC."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(sep=" ", timespec="seconds")[:19]
    except (OverflowError, ValueError, OSError):
        return str(milliseconds)


def _attractiveness(scores: Mapping[str, Any]) -> str:
    part = scores.get("attractiveness")
    return f"{part['value']:.3f} {part['bucket']}" if part else "–"


def _sentiment(scores: Mapping[str, Any]) -> str:
    part = scores.get("sentiment")
    return f"{part['value']:+.3f} {part['label']}" if part else "–"


def _ctr(scores: Mapping[str, Any]) -> str:
    part = scores.get("ctr")
    if not part:
        return "–"
    relative = f" ×{part['relative']:.2f}" if "relative" in part else ""
    return f"{part['value']:.4f}{relative} {part.get('bucket', '')}"


def _line(cells: tuple[str, ...]) -> str:
    shown = [plain(cell) for cell in cells]
    return "  ".join(
        f"{cell if len(cell) <= width or last else cell[: width - 1] + '…':<{width}}"
        for cell, width, last in zip(shown, _WIDTHS, [*[False] * (len(shown) - 1), True], strict=False)
    )
