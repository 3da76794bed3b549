"""Tables as they come: CSV, plain or gzipped, every mistake named by file, row and mend."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.datasets.sample import DataError

Row = Mapping[str, str]
FARTHEST = 1e6
"""Pixels."""


def rows(table: Path, needs: Sequence[str], *, delimiter: str = ",") -> Iterator[tuple[int, Row]]:
    """(number from 0, row) of a CSV with a header. Raises DataError for a table that can't be read or lacks a column
    of `needs`; a row that is too short has empty strings."""
    reader = csv.DictReader(io.StringIO(text(table), newline=""), delimiter=delimiter, restval="")
    for name in needs:
        if name not in (reader.fieldnames or ()):
            raise DataError(f"{table} has no column {name!r}; {_nearest(name, reader.fieldnames or ())}")
    try:
        yield from enumerate(reader)
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: no CSV ({error}); quote the field that holds it") from error


def text(table: Path) -> str:
    """A text file, gunzipped where its name ends in .gz. Raises DataError."""
    try:
        raw = table.read_bytes()
        return (gzip.decompress(raw) if table.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"{table} can't be read ({why}): --root names the set's own folder") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is no UTF-8 (byte {error.start}): convert it") from error


def lines(table: Path) -> list[str]:
    """The lines of a text file. Raises DataError as `text` does.

    Not by str.splitlines: a tweet may hold U+2028 or U+0085, which end a line there and nowhere else.
    """
    found = re.split("\r\n|[\r\n]", text(table))
    return found if found[-1] else found[:-1]


def parsed(where: str, text: str, mend: str) -> Any:
    """JSON. Raises DataError, with the mend: also for nesting that nobody means and characters that are none."""
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: half a character (a lone surrogate); mend it") from error
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", type(error).__name__)
        raise DataError(f"{where}: no JSON ({why}); {mend}") from error
    return found


def first_of(root: Path, *names: str) -> Path:
    """The first of these files that is there; the first name where none is."""
    return next((root / name for name in names if (root / name).is_file()), root / names[0])


def number(table: Path, index: int, row: Row, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]. Raises DataError."""
    try:
        value = float(row[name])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not low <= value <= high or not math.isfinite(value):
        raise DataError(
            f"{table}, row {index}: {name} is {_shown(row, name)}, not a number{_range(low, high)}; mend it"
        )
    return value


def choice(table: Path, index: int, row: Row, name: str, allowed: Sequence[str]) -> int:
    """The place of a value among `allowed`. Raises DataError."""
    if row[name] not in allowed:
        raise DataError(f"{table}, row {index}: {name} is {_shown(row, name)}, not one of {', '.join(allowed)}")
    return allowed.index(row[name])


def clicked(table: Path, index: int, row: Row) -> tuple[float, float]:
    """(impressions, clicks): whole counts, no more clicks than impressions. Raises DataError."""
    impressions, clicks = (number(table, index, row, name, 0) for name in ("impressions", "clicks"))
    for name, value in (("impressions", impressions), ("clicks", clicks)):
        if not value.is_integer():
            raise DataError(f"{table}, row {index}: {name} is {_shown(row, name)}, not a whole number; mend it")
    if clicks > impressions:
        raise DataError(f"{table}, row {index}: {clicks:g} clicks of {impressions:g} impressions; mend the counts")
    return impressions, clicks


def pixel(table: Path, index: int, row: Row, name: str) -> float:
    """A coordinate in pixels; it may lie outside the picture. Raises DataError."""
    return number(table, index, row, name, -FARTHEST, FARTHEST)


def picture(root: Path, table: Path, index: int, name: str) -> Path:
    """A picture named by a table: a relative path inside `root`. Raises DataError for another."""
    path = Path(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{table}, row {index}: the image is {name!r}, no path inside the table's folder; mend it")
    return root / path


def _shown(row: Row, name: str) -> str:
    return repr(row.get(name, ""))[:60]


def _range(low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if math.isfinite(low) else ""


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"rename {close[0]!r}, or add it" if close else "--root names the set's own folder"
