"""A record that `adscore rescore` has put back on the input topic: which record it repeats, and what orders it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from worker.intake.event_fields import MAX_WHOLE
from worker.types import Headers, Place

OF = "adscore_rescore_of"
LASTMOD = "adscore_rescore_lastmod"
NAMES = frozenset({OF, LASTMOD})

_OF = re.compile(rb"([A-Za-z0-9._-]{1,249}):(\d{1,9}):(\d{1,18})")
_LASTMOD = re.compile(rb"\d{1,16}")


@dataclass(frozen=True, slots=True)
class Rescored:
    """The place of the record that this one repeats, and the `lastmod` that one was ordered by."""

    of: Place
    lastmod: int


def headers_of(original: Headers, place: Place, lastmod: int) -> Headers:
    """The original's headers, and those that name it; a record that was put back before is named anew."""
    kept = tuple((name, value) for name, value in original if name not in NAMES)
    return (*kept, (OF, str(place).encode()), (LASTMOD, str(lastmod).encode()))


def read(of: bytes | None, lastmod: bytes | None) -> Rescored | None:
    """What the two headers say; None where they don't say it whole. Nothing odd in them refuses a record."""
    place = _OF.fullmatch(of or b"")
    if place is None or _LASTMOD.fullmatch(lastmod or b"") is None or int(lastmod or b"") > MAX_WHOLE:
        return None
    return Rescored(Place(place[1].decode(), int(place[2]), int(place[3])), int(lastmod or b""))
