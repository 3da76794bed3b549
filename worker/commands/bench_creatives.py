"""What the benchmarks submit: creatives of one's own or made here, each time with content that no cache has seen."""

from __future__ import annotations

import base64
import io
import itertools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import orjson
from PIL import Image, ImageDraw, ImageFont

from worker.commands.inputs import Item, items, with_image_url
from worker.errors import FatalError
from worker.intake.cloudevents import data_of
from worker.intake.events import parse_record
from worker.types import Creative, Origin, Record

Text = Literal["as-is", "given", "read"]
MAX_DISTINCT = 256
"""So many different creatives are enough; of more, the first."""
_TAIL = 24
"""Characters of base64 behind an image: bytes that decoders ignore and that make its digest another one."""
_SIZES = ((1200, 628), (300, 250), (728, 90), (160, 600), (1080, 1080), (336, 280), (970, 250), (640, 360))
_LINES = (
    ("Summer sale ends Sunday", "Up to 40 % off on all garden furniture", "Shop now", "Oakline"),
    ("Learn Spanish in 12 weeks", "Short lessons that fit into your day", "Start for free", "Parlo"),
    ("New: oat bars without sugar", "Now in your supermarket", "Find a shop", "Haferhof"),
    ("Fly to Lisbon from 49 euros", "Every day, two bags included", "Book today", "Ventair"),
    ("Your tax return in an hour", "We check it before you send it", "Try it", "Fiscalo"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One creative to submit again and again: its event cut where the creative's id and a unique tail go."""

    creative: Creative
    parts: tuple[bytes, bytes, bytes]

    def event(self, creative_id: str, tail: str) -> bytes:
        """The event under this id. Another tail makes it other content; an equal one is known to a cache."""
        first, second, third = self.parts
        return b"".join((first, creative_id.encode(), second, tail.encode(), third))


def samples(paths: Sequence[str], text: Text, max_bytes: int) -> tuple[list[Sample], list[Item]]:
    """(samples, what can't be used) of `paths` as `adscore score` takes them; of made creatives without any.

    text: `given` adds an empty `ocr_text` where an event has none, `read` takes what it has away.
    Raises FatalError (exit status 1) where nothing can be used.
    """
    found = items(paths, copy={}, lang=None, max_bytes=max_bytes) if paths else _made()
    good: list[Sample] = []
    bad: list[Item] = []
    for item in found:
        if item.creative is None:
            bad.append(item)
        elif len(good) < MAX_DISTINCT:
            good.append(_sample(item, item.creative, text))
    if not good:
        why = f": {bad[0].label}: {bad[0].error.message}" if bad and bad[0].error else ""
        raise FatalError(f"none of the creatives can be used{why}", exit_code=1)
    return good, bad


def tails() -> Iterator[str]:
    """Tails that never came before and never come again."""
    run = uuid.uuid4().hex[: _TAIL - 10]
    return (f"{run}{number:010d}" for number in itertools.count())


def _sample(item: Item, creative: Creative, text: Text) -> Sample:
    event = orjson.loads(item.event)
    event = data_of(event) if item.structured else event
    # Two marks where something else will stand; a mark is base64 too.
    name, tail = uuid.uuid4().hex, uuid.uuid4().hex[:_TAIL]
    # The id stands before the image and the copy.
    event = {"ad": {"id": name} | {key: value for key, value in event["ad"].items() if key != "id"}} | {
        key: value
        for key, value in event.items()
        if key not in ("ad", "asset")  # asset announces other bytes
    }
    if text == "given":
        event["ocr_text"] = event.get("ocr_text") or ""
    elif text == "read":
        event.pop("ocr_text", None)
    url = _with_tail(creative.image_url, tail)
    if url is not None:
        event = with_image_url(event, creative.image_url, url)
    else:
        # Bytes from elsewhere are what they are: a word more in the copy makes the content another one.
        copy = event.get("copy") or {}
        event["copy"] = copy | {"brand": f"{copy.get('brand') or creative.copy.brand or ''} {tail}".strip()}
    first, _, rest = orjson.dumps(event).partition(name.encode())
    second, _, third = rest.partition(tail.encode())
    given = event.get("ocr_text")
    return Sample(replace(creative, ocr_text=given), (first, second, third))


def _with_tail(url: str, tail: str) -> str | None:
    """A base64 `data:` URL with `tail` behind the image's bytes; None for any other URL."""
    head, comma, body = url.partition(",")
    if not (head.startswith("data:") and head.endswith(";base64") and comma):
        return None
    try:
        data = base64.b64decode(body, validate=True)
    except ValueError:
        return None
    # Padded to whole groups of three, so that what follows continues the same base64.
    padded = data + b"\0" * (-len(data) % 3)
    return f"{head},{base64.b64encode(padded).decode()}{tail}"


def _made(count: int = 24) -> Iterator[Item]:
    """Creatives in usual sizes, their text given: soft backgrounds, a headline, a body, a button."""
    for number in range(count):
        headline, body, cta, brand = _LINES[number % len(_LINES)]
        copy = {"headline": headline, "body": body, "cta": cta, "brand": brand}
        value = orjson.dumps(_event(f"made-{number}", _picture(number, copy), copy))
        creative = parse_record(Record(Origin("made", 0, number, 0), None, value))
        yield Item(f"made:{number}", value, creative.creative_id, cast(Creative, creative))


def _event(name: str, image: bytes, copy: Mapping[str, str]) -> dict[str, Any]:
    url = f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"
    ad = {"id": name, "lastmod": 1_763_750_000_000, "lang": "en", "display": {"banner": {"img": url}}}
    return {"ad": ad, "copy": dict(copy), "ocr_text": " ".join(copy.values())}


def _picture(number: int, copy: Mapping[str, str]) -> bytes:
    """A JPEG of a size that such ads have: noise at two scales stands for a photograph."""
    random = np.random.default_rng(number)
    width, height = _SIZES[number % len(_SIZES)]
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    soft = coarse.resize((width, height), Image.Resampling.BICUBIC)
    grain = random.normal(0.0, 6.0, (height, width, 1))
    image = Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    size = max(12, min(height // 6, width // 14))
    for row, text in enumerate((copy["headline"], copy["body"], copy["cta"])):
        place = (width // 20, height // 10 + row * round(1.5 * size))
        font = ImageFont.load_default(size)
        draw.text(place, text, "white", font, stroke_width=max(1, size // 12), stroke_fill="black")
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=85)
    return encoded.getvalue()
