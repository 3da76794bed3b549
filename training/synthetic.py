"""Ad creatives with known labels, made from photographs. Needs Pillow and numpy alone: the demo uses it too.

    for creative in creatives(photos, count=200, seed=7):
        creative.image_bytes, creative.mime, creative.size, creative.copy, creative.labels

Each creative depends on the seed, its index and the photographs alone, never on `count`: the first hundred of a
thousand are the hundred. The same bytes come out wherever Pillow, its codecs and the DejaVu fonts are the same.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.creatives import colour, grading, layout, render, response
from training.creatives.copywriting import Written, pick, write
from training.creatives.values import Copy, Labels, PhotoPlacement, Region

_FORMATS = (("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/webp", "WEBP"))
_FORMAT_SHARES = (0.75, 0.1, 0.15)


@dataclass(frozen=True)
class GeneratedCreative:
    """One creative. `size` is (width, height) in pixels, `id` is unique for a seed; boxes are fractions of the ad."""

    id: str
    image_bytes: bytes
    mime: str
    size: tuple[int, int]
    copy: Copy
    labels: Labels
    regions: tuple[Region, ...]
    placement: PhotoPlacement

    @property
    def suffix(self) -> str:
        """File name suffix of the format."""
        return {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp"}[self.mime]

    def image(self) -> Image.Image:
        """The decoded picture, RGB."""
        with Image.open(io.BytesIO(self.image_bytes)) as opened:
            return opened.convert("RGB")


def creatives(photos: Sequence[Path], count: int, seed: int) -> Iterator[GeneratedCreative]:
    """Make `count` creatives of `photos`, all photographs about equally often.

    Raises ValueError without photographs or for a negative count; OSError for a photograph that can't be read.
    """
    if not photos:
        raise ValueError("no photographs: creatives are made of at least one; data/osie/images holds 700")
    if count < 0:
        raise ValueError(f"count is {count}: ask for 0 creatives or more")
    for index in range(count):
        yield creative(photos, index, seed)


def creative(photos: Sequence[Path], index: int, seed: int) -> GeneratedCreative:
    """Make the creative number `index` of a seed."""
    deal, position = divmod(index, len(photos))
    order = np.random.default_rng(np.random.SeedSequence([seed, deal, 1])).permutation(len(photos))
    path = photos[int(order[position])]
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, 0]))
    with Image.open(path) as opened:
        photo = opened.convert("RGB")
    written = write(rng)
    drawn, labels = _draw(rng, photo, path.stem, written)
    mime, name = _FORMATS[int(rng.choice(len(_FORMATS), p=_FORMAT_SHARES))]
    return GeneratedCreative(
        id=f"gen-{seed}-{index:06d}",
        image_bytes=_encode(drawn.image, name, int(rng.integers(78, 93))),
        mime=mime,
        size=drawn.image.size,
        copy=written.copy,
        labels=labels,
        regions=drawn.regions,
        placement=drawn.placement,
    )


def _draw(
    rng: np.random.Generator, photo: Image.Image, name: str, written: Written
) -> tuple[render.Rendered, Labels]:  # fmt: skip
    """Grade, lay out, draw, perhaps spoil; then label what came out."""
    tone = {"negative": -1, "neutral": 0, "positive": 1}[written.tone]
    mood = float(np.clip(rng.normal(0.35 * tone, 0.5), -1, 1))
    size = layout.size(rng)
    care = float(rng.beta(1.6, 1.1))
    chosen = render.style(rng, care)
    drawn = render.render(rng, grading.mood(photo, mood), name, written, size, layout.plan(rng, *size), chosen)
    spoilt = float(rng.uniform(0.25, 1.0)) if rng.random() < 0.3 else 0.0
    image = grading.degraded(drawn.image, rng, spoilt) if spoilt else drawn.image
    quality = drawn.quality | {"sharpness": 1 - spoilt}
    attractive = response.attractiveness(quality, rng)
    small = np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))
    sentiment = response.sentiment(written.tone, mood)
    classes = written.classes | {"sentiment": sentiment, "dominant_colour": colour.dominant(small)}
    answered = response.respond(written, quality, attractive, rng)
    labels = Labels(attractive, sentiment, answered, classes, written.keywords, written.spans, quality)
    return render.Rendered(image, drawn.regions, drawn.placement, quality), labels


def variants(creative: GeneratedCreative, seed: int) -> tuple[Image.Image, Image.Image]:
    """(enhanced, degraded) pictures of a creative for the contrastive loss, RGB, its size; the copy stays."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, int(creative.id.rsplit("-", 1)[1]), 2]))
    image = creative.image()
    return grading.enhanced(image, rng), grading.degraded(image, rng, float(pick(rng, (0.6, 0.8, 1.0))))


def as_event(creative: GeneratedCreative, image: str) -> dict[str, Any]:
    """The creative as a `creative.submitted.v1` event whose picture is at `image` (a URL or a path beside the file).

    `ext.labels` has the labels; the worker ignores them.
    """
    width, height = creative.size
    display = {"mime": creative.mime, "w": width, "h": height, "banner": {"img": image}}
    return {
        "ad": {"id": creative.id, "display": display},
        "copy": creative.copy.fields(),
        "ext": {"labels": asdict(creative.labels)},
    }


def _encode(image: Image.Image, name: str, quality: int) -> bytes:
    packed = io.BytesIO()
    image.save(packed, name, **({} if name == "PNG" else {"quality": quality}))
    return packed.getvalue()
