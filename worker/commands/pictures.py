"""Pictures for people, of creatives that were scored: the image itself, and overlays on disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from admodels.contract.preprocess import to_rgb
from worker.commands.compose import fetcher_of
from worker.errors import CreativeError, FatalError
from worker.intake import image_guard
from worker.scoring import heatmap
from worker.settings import Settings
from worker.types import Creative

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Pictures:
    """Gets a creative's image again, by the same rules as the worker's."""

    def __init__(self, settings: Settings) -> None:
        self._fetcher = fetcher_of(settings)

    def of(self, creative: Creative | None) -> Image.Image | None:
        """The image, upright RGB; None where it can't be fetched. Only for what the decoder's child has accepted."""
        if creative is None:
            return None
        try:
            return upright(self._fetcher.fetch(creative).data)
        except CreativeError:
            return None


def upright(data: bytes) -> Image.Image | None:
    """Image bytes as upright RGB; None where they don't decode."""
    try:
        return to_rgb(image_guard.open_checked(data, image_guard.sniff(data)))
    except Exception:  # noqa: BLE001  eight kinds come out of decoding; without its picture a report is still one
        return None


class Overlays:
    """Writes each creative with its heatmap over it into a folder, named after the creative, never twice the same."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FatalError(f"--overlay {folder}: {error.strerror}", exit_code=2) from None

    def write(self, event: Mapping[str, Any], image: Image.Image | None) -> None:
        """Write the overlay of an enriched event; nothing where it has no heatmap."""
        part = (event["scores"].get("attractiveness") or {}).get("heatmap")
        if part is None or image is None:
            return
        path = self._folder / self._name(event["creative_id"])
        try:
            heatmap.overlay(image, part).save(path)
        except OSError as error:
            raise FatalError(f"{path}: {error.strerror or error}", exit_code=1) from None

    def _name(self, creative_id: str) -> str:
        stem = _UNSAFE.sub("-", Path(creative_id).stem).strip(".-")[:80] or "creative"
        name, number = stem, 1
        while name.lower() in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.lower())
        return f"{name}.png"
