"""What every data set becomes before it is encoded: records of a table first, then pixels, words, labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from admodels.contract import preprocess
from training.creatives.values import Span

Label = float | int | NDArray[Any]
GREY = 128
"""What stands for a picture that a row doesn't have."""


class DataError(ValueError):
    """A data set can't be read as it should be. The message names the file, the row and the mend."""


@dataclass(frozen=True)
class Sample:
    """One row.

    image: uint8 H×W×3 RGB, already stretched to the encoder's size by `admodels.contract.preprocess`.
    fields: text by field name; empty for a picture without words.
    labels: what is known of this row, by name; what is absent is unlabelled.
    spans: entities in `fields`; None where nobody marked any.
    """

    id: str
    image: NDArray[np.uint8]
    fields: Mapping[str, str]
    labels: Mapping[str, Label]
    spans: tuple[Span, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What metrics need beside labels: `fixations` (N×2, fractions of the picture), `name`."""
    pictured: bool = True
    """False where `image` is the grey that stands for none."""


@dataclass(frozen=True)
class Record:
    """A row of a data set's table before its picture is opened.

    row: 0-based in the table, rows that were skipped counted. picture: None where the set has none.
    groups: names of what no split may part (the creative, an A/B test); pictures of equal bytes are added by splits.
    """

    row: int
    id: str
    picture: Path | None
    fields: Mapping[str, str]
    labels: Mapping[str, Label]
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    mirrored: bool = False
    """Whether the picture is read mirrored (its labels are given so)."""

    def sample(self, side: int) -> Sample:
        """With its pixels, side×side. Raises DataError for a picture that can't be read."""
        if self.picture is None:
            pixels = np.full((side, side, 3), GREY, np.uint8)
        else:
            pixels = preprocess.stretch(open_rgb(self.picture, self.row), side, side)
        if self.mirrored:
            pixels = pixels[:, ::-1].copy()
        return Sample(self.id, pixels, self.fields, self.labels, extra=self.extra, pictured=self.picture is not None)


class BadRows:
    """What becomes of a row that can't be read: an error, or with `skip` a line of `report` and a count."""

    def __init__(self, *, skip: bool = False, report: Callable[[str], None] = lambda _: None) -> None:
        self._skip, self._report = skip, report
        self.count = 0

    @contextmanager
    def row(self) -> Iterator[None]:
        """Guards the reading of one row."""
        try:
            yield
        except DataError as error:
            if not self._skip:
                raise
            self.count += 1
            self._report(f"skipped: {error}")


def open_rgb(path: Path, row: int | None = None) -> Image.Image:
    """A picture of a data set, upright RGB. Raises DataError with the file's name and its row."""
    try:
        with Image.open(path) as opened:
            return preprocess.to_rgb(opened)
    # Pillow's plugins raise what their parsers raise, a bomb by its header Pillow's own.
    except Exception as error:
        where = "" if row is None else f" (row {row})"
        raise DataError(
            f"{path}{where} can't be read as an image ({type(error).__name__}): replace it or --skip-bad"
        ) from error
