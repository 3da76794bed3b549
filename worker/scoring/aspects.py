"""From where an aspect stands in the canonical copy, which the models read, to where it stood as it was received.

Scores are cached by the canonical copy, which many received ones share: hence this is done for each event.
"""

from __future__ import annotations

from typing import Any

from admodels.contract.text import COPY_FIELDS, received_places
from worker.types import Copy

MAX_CHARACTERS = 80


def quoted(aspects: Any, copy: Copy) -> list[dict[str, Any]]:
    """The aspects with `text`, `start` and `end` as the sender wrote them; one that this copy doesn't hold is left out.

    aspects: as `sentiment.part` gives them, or whatever a cache had in their place.
    """
    found = []
    places: dict[str, list[tuple[int, int]]] = {}
    for aspect in aspects if isinstance(aspects, list) else []:
        try:
            field, first, last = aspect["field"], aspect["start"], aspect["end"] - 1
            if field not in COPY_FIELDS or not 0 <= first <= last:
                continue
            received = getattr(copy, field) or ""
            if field not in places:
                places[field] = received_places(received)
            start, end = places[field][first][0], places[field][last][1]
            told = {"field": field, "start": start, "end": end, "polarity": aspect["polarity"], "p": aspect["p"]}
        except (IndexError, KeyError, TypeError):
            continue
        found.append({"text": received[start:end][:MAX_CHARACTERS], **told})
    return found
