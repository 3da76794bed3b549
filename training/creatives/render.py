"""Draw one creative: photograph, ground, text, button, badge; and measure how well that was done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training.creatives import colour, typography
from training.creatives.copywriting import Written, pick
from training.creatives.layout import Layout
from training.creatives.values import Box, PhotoPlacement, Region

_CAPS = {"headline": 0.13, "body": 0.055, "cta": 0.06, "brand": 0.055, "price": 0.075}  # of √(width·height)
_IDEAL = {"headline": 0.085, "body": 0.04}


@dataclass(frozen=True)
class Style:
    """A designer's choices. `care` in [0, 1]: how much was taken over contrast, size and alignment."""

    care: float
    panel: colour.Colour
    ink: colour.Colour
    button: colour.Colour
    button_ink: colour.Colour
    face: str
    body_face: str


@dataclass(frozen=True)
class Rendered:
    """The picture, what stands where, and the measured parts of its quality, each in [0, 1]."""

    image: Image.Image
    regions: tuple[Region, ...]
    placement: PhotoPlacement
    quality: dict[str, float]


def style(rng: np.random.Generator, care: float) -> Style:
    """Colours and faces. Little care pulls the inks towards their grounds."""
    hue = rng.random()
    panel = colour.from_hsv(hue, rng.beta(1.3, 2), pick(rng, (0.18, 0.35, 0.75, 0.95, 0.98)))
    ink = colour.readable_on(panel)
    accent = colour.from_hsv(hue + pick(rng, (0.08, 0.33, 0.5, 0.58)), rng.uniform(0.6, 1), rng.uniform(0.6, 1))
    fade = max(0.0, 0.75 * (1 - care) - 0.15)
    button = colour.blend(accent, panel, fade * rng.uniform(0.3, 1))
    button_ink = colour.blend(colour.readable_on(button), button, fade * rng.uniform(0.3, 1))
    face = pick(rng, typography.FACES)
    body_face = face.replace("-Bold", "") if face != "DejaVuSansMono-Bold" else "DejaVuSans"
    return Style(care, panel, colour.blend(ink, panel, fade * rng.uniform(0.4, 1)), button, button_ink, face, body_face)


def render(
    rng: np.random.Generator, photo: Image.Image, name: str, written: Written, size: tuple[int, int], plan: Layout,
    chosen: Style,
) -> Rendered:  # fmt: skip
    """Draw `written` over `photo` (RGB) by the layout and the style, on a canvas of `size` (width, height)."""
    canvas = Image.new("RGB", size, chosen.panel)
    placement = _place(rng, canvas, photo, name, plan.photo)
    _ground(canvas, plan, chosen)
    brush = _Brush(canvas, chosen, plan.panel, rng)
    regions = []
    for label, text in {**written.copy.fields(), "price": written.badge}.items():
        if text and label in plan.slots:
            regions.append(Region(label, brush.put(label, text, plan.slots[label])))  # type: ignore[arg-type]
    pixels = np.asarray(canvas.resize((128, 128), Image.Resampling.BILINEAR))
    quality = brush.quality() | {"colour": min(1.0, colour.colourfulness(pixels) / 70)}
    return Rendered(canvas, tuple(regions), placement, quality)


def _place(
    rng: np.random.Generator, canvas: Image.Image, photo: Image.Image, name: str, box: Box
) -> PhotoPlacement:  # fmt: skip
    """Fill `box` with the photograph, cropped to its shape, never stretched."""
    left, top, right, bottom = box.pixels(*canvas.size)
    wanted = (right - left) / (bottom - top)
    have = photo.width / photo.height
    zoom = rng.uniform(0.82, 1.0)
    w, h = (zoom * min(1.0, wanted / have), zoom * min(1.0, have / wanted))
    x, y = rng.uniform(0, 1, 2) * (1 - w, 1 - h)
    flipped = bool(rng.random() < 0.5)
    region = (x * photo.width, y * photo.height, (x + w) * photo.width, (y + h) * photo.height)
    part = photo.resize((right - left, bottom - top), Image.Resampling.BICUBIC, box=region)
    canvas.paste(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else part, (left, top))
    return PhotoPlacement(name, Box(float(x), float(y), float(w), float(h)), box, flipped)


def _ground(canvas: Image.Image, plan: Layout, chosen: Style) -> None:
    """An overlay's scrim: the panel's colour over the photograph, thinner with less care."""
    if plan.overlay:
        left, top, right, bottom = plan.panel.pixels(*canvas.size)
        under = canvas.crop((left, top, right, bottom))
        scrim = Image.new("RGB", under.size, chosen.panel)
        canvas.paste(Image.blend(under, scrim, 0.15 + 0.75 * chosen.care), (left, top))


class _Brush:
    """Puts text on the canvas and remembers how readable it came out."""

    def __init__(self, canvas: Image.Image, chosen: Style, panel: Box, rng: np.random.Generator) -> None:
        self._canvas = canvas
        self._draw = ImageDraw.Draw(canvas)
        self._style = chosen
        self._panel = panel
        self._rng = rng
        self._scale = float(np.sqrt(canvas.width * canvas.height))
        self._contrast: dict[str, float] = {}
        self._legible: dict[str, float] = {}
        self._drift: list[float] = []

    def put(self, label: str, text: str, slot: Box) -> Box:
        """Draw one field in its slot; returns the box that it takes."""
        style, (left, top, right, bottom) = self._style, self._shifted(slot)
        face = style.face if label in ("headline", "price", "cta") else style.body_face
        boxed = label in ("cta", "price")
        margin = max(2, (bottom - top) // 6) if boxed else 0
        largest = round(_CAPS[label] * self._scale * (0.45 + 0.55 * style.care if label in _IDEAL else 1))
        if label == "price":
            margin = side = min(right - left, bottom - top) // 7
            room = (5 * side, 5 * side)
        else:
            room = (right - left - 2 * margin, bottom - top - 2 * margin)
        setting = typography.fit(text, face, *room, largest)
        at = (left, top)
        if boxed:
            left, top, right, bottom = self._ground(label, left, top, right, bottom, setting, margin)
            at = ((left + right - setting.width) // 2, (top + bottom - setting.height) // 2)
            ink = style.button_ink
        else:
            right, bottom = left + setting.width, top + setting.height
            ink = self._ink(slot, (left, top, right, bottom))
        self._measure(label, (left, top, right, bottom), ink, setting.size_px)
        typography.draw(self._draw, at, setting, face, ink)
        width, height = self._canvas.size
        return Box(left / width, top / height, (right - left) / width, (bottom - top) / height)

    def quality(self) -> dict[str, float]:
        """contrast, legibility and order of what was drawn."""
        weights = {"headline": 0.5, "body": 0.2, "cta": 0.2, "brand": 0.1}
        seen = {label: share for label, share in weights.items() if label in self._contrast}
        total = sum(seen.values())
        contrast = sum(self._contrast[label] * share for label, share in seen.items()) / total
        order = 1 - min(1.0, float(np.mean(self._drift)) / 0.04)
        return {"contrast": contrast, "legibility": float(np.mean(list(self._legible.values()))), "order": order}

    def _shifted(self, slot: Box) -> tuple[int, int, int, int]:
        """The slot in pixels, off its place by up to 6 % of the ad with no care at all."""
        slack = 0.06 * max(0.0, 0.8 - self._style.care)
        dx, dy = self._rng.uniform(-slack, slack, 2)
        self._drift.append(float(np.hypot(dx, dy)))
        x = min(max(slot.x + dx, 0.0), 1 - slot.w)
        y = min(max(slot.y + dy, 0.0), 1 - slot.h)
        return Box(x, y, slot.w, slot.h).pixels(*self._canvas.size)

    def _ink(self, slot: Box, at: tuple[int, int, int, int]) -> colour.Colour:
        """The style's ink on the panel; on the photograph the one that shows there."""
        x, y, panel = slot.x + slot.w / 2, slot.y + slot.h / 2, self._panel
        if panel.x <= x <= panel.x + panel.w and panel.y <= y <= panel.y + panel.h:
            return self._style.ink
        return colour.readable_on(_mean(self._under(at)))

    def _under(self, at: tuple[int, int, int, int]) -> NDArray[np.float32]:
        return np.asarray(self._canvas.crop(at).resize((24, 24)), np.float32).reshape(-1, 3)

    def _ground(
        self, label: str, left: int, top: int, right: int, bottom: int, setting: typography.Setting, margin: int
    ) -> tuple[int, int, int, int]:
        """A button as wide as its text, or a round badge; returns its rectangle."""
        if label == "price":
            side = min(right - left, bottom - top)
            left = (left + right - side) // 2
            self._draw.ellipse((left, top, left + side, top + side), fill=self._style.button)
            return left, top, left + side, top + side
        right = min(right, left + setting.width + 4 * margin)
        self._draw.rounded_rectangle((left, top, right, bottom), (bottom - top) // 4, fill=self._style.button)
        return left, top, right, bottom

    def _measure(self, label: str, at: tuple[int, int, int, int], ink: colour.Colour, size_px: int) -> None:
        """Contrast of the ink to what lies under it now, less where that is busy; size against the ideal."""
        under = self._under(at)
        busy = min(1.0, float(under.std(0).mean()) / 60) if label not in ("cta", "price") else 0.0
        self._contrast[label] = colour.contrast_quality(colour.contrast(ink, _mean(under))) * (1 - 0.6 * busy)
        if label in _IDEAL:
            self._legible[label] = min(1.0, size_px / (_IDEAL[label] * self._scale))


def _mean(pixels: NDArray[np.float32]) -> colour.Colour:
    r, g, b = (round(float(c)) for c in pixels.mean(0))
    return (r, g, b)
