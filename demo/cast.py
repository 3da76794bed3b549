"""What the demonstration publishes: generated creatives on real photographs, and all that goes wrong with some."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from demo.broken import Event, broken, event
from training.synthetic import GeneratedCreative, creative

ROOT = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = ROOT / "data" / "osie"
SEED = 20_261_122
LASTMOD_MS = 1_763_750_000_000
HOUR_MS = 3_600_000
DUPLICATES = 8
FROM_THE_WEB = 6
WITH_TEXT_EVERY = 4
"""Every so many-th creative brings its text along, as a sender does who rendered it: no OCR is needed."""


@dataclass(frozen=True)
class Cast:
    """jsonl: events for `adscore publish`. raw: records (key, value) to send after them, which no event can express."""

    jsonl: Path
    raw: Sequence[tuple[bytes, bytes | None]]
    expected_codes: dict[str, str]


def write_cast(folder: Path, web: str, *, count: int, max_bytes: int) -> Cast:
    """Write `count` creatives and the others into `folder`, images as files of their own. web: serves that folder."""
    made = _generated(count)
    for item in made:
        (folder / _file(item)).write_bytes(item.image_bytes)
    events = [_event(item, number, web) for number, item in enumerate(made)]
    again = zip(made[:DUPLICATES], events[:DUPLICATES], strict=True)
    events += [first | {"ad": _ad(f"again-{item.id}", _file(item))} for item, first in again]
    events += _revisions(made[0], made[1])
    events.append(event("withdrawn", _file(made[2])))
    refused = list(broken(made[0].image_bytes, web, max_bytes))
    events += [bad for _, bad in refused]
    jsonl = folder / "creatives.jsonl"
    jsonl.write_bytes(b"".join(orjson.dumps(item) + b"\n" for item in events))
    raw = [(b"withdrawn", None), (b"bad-event-json", b'{"ad": {"id": "bad-event-json", ')]
    codes = {bad["ad"]["id"]: str(code) for code, bad in refused} | {"bad-event-json": "bad_event"}
    return Cast(jsonl, raw, codes)


def _generated(count: int) -> list[GeneratedCreative]:
    """On photographs that no model has seen in training."""
    names = (PHOTOGRAPHS / "validation.txt").read_text().split()
    photographs = [PHOTOGRAPHS / "images" / f"{Path(name).stem}.webp" for name in names]
    # Spawned, for a server's thread runs here already; deaf to Ctrl-C, which is for the one that waits for them.
    context, deaf = multiprocessing.get_context("spawn"), (signal.SIGINT, signal.SIG_IGN)
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, context, initializer=signal.signal, initargs=deaf) as pool:
        return list(pool.map(partial(_creative, photographs), range(count), chunksize=4))


def _creative(photographs: list[Path], index: int) -> GeneratedCreative:
    return creative(photographs, index, SEED)


def _file(item: GeneratedCreative) -> str:
    return f"{item.id}{item.suffix}"


def _ad(creative_id: str, image: str, lastmod: int = LASTMOD_MS) -> Event:
    return {"id": creative_id, "lastmod": lastmod, "lang": "en", "display": {"banner": {"img": image}}}


def _event(item: GeneratedCreative, number: int, web: str) -> Event:
    """The generated creative as a sender would submit it; the first few leave their image on a web server."""
    image = f"{web}/{_file(item)}" if number % 20 == 19 and number < 20 * FROM_THE_WEB else _file(item)
    made: Event = {"ad": _ad(item.id, image), "copy": item.copy.fields()}
    if number % WITH_TEXT_EVERY == 0:
        made["ocr_text"] = " ".join(item.copy.fields().values())
    return made


def _revisions(first: GeneratedCreative, second: GeneratedCreative) -> list[Event]:
    """One creative that is updated, and one whose older revision arrives late: that one must not win."""
    later = LASTMOD_MS + HOUR_MS
    return [
        {"ad": _ad("updated", _file(first), LASTMOD_MS)},
        {"ad": _ad("updated", _file(second), later)},
        {"ad": _ad("late", _file(second), later)},
        {"ad": _ad("late", _file(first), LASTMOD_MS)},
    ]
