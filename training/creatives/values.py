"""What a generated creative is made of. Boxes are fractions of the creative, from the top left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Field = Literal["headline", "body", "cta", "brand"]


@dataclass(frozen=True)
class Copy:
    """The words beside the pixels, as an event's `copy` carries them. Absent fields are empty."""

    headline: str
    body: str
    cta: str
    brand: str

    def fields(self) -> dict[str, str]:
        """The fields that say something, in reading order."""
        named = {"headline": self.headline, "body": self.body, "cta": self.cta, "brand": self.brand}
        return {name: text for name, text in named.items() if text}


@dataclass(frozen=True)
class Span:
    """An entity in the copy: code points [start, end) of `field`."""

    field: Field
    start: int
    end: int
    entity: Literal["price", "discount", "brand", "product"]


@dataclass(frozen=True)
class Box:
    """A rectangle in fractions of the creative."""

    x: float
    y: float
    w: float
    h: float

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) on a canvas of that size."""
        return (
            round(self.x * width),
            round(self.y * height),
            round((self.x + self.w) * width),
            round((self.y + self.h) * height),
        )


@dataclass(frozen=True)
class Region:
    """Where something was drawn: a text field, or `price` for the badge."""

    label: Literal["headline", "body", "cta", "brand", "price"]
    box: Box


@dataclass(frozen=True)
class PhotoPlacement:
    """`crop` (fractions of the photograph) fills `box` (fractions of the creative); `flipped` left to right."""

    name: str
    crop: Box
    box: Box
    flipped: bool


@dataclass(frozen=True)
class Response:
    """How a simulated audience answered: drawn from the model in response.py."""

    impressions: int
    clicks: int
    ctr: float
    share_likelihood: float
    attention: float


@dataclass(frozen=True)
class Labels:
    """Everything that is known about a generated creative because it was made here.

    `classes` has AdFusion's heads by name; `sentiment` is one of them. `quality` holds the measured parts that
    attractiveness is a function of, each in [0, 1].
    """

    attractiveness: float
    sentiment: Literal["negative", "neutral", "positive"]
    response: Response
    classes: dict[str, str]
    keywords: tuple[str, ...]
    spans: tuple[Span, ...]
    quality: dict[str, float] = field(default_factory=dict)
