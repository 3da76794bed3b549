"""What every data set becomes before it is encoded: pixels, words, labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.creatives.values import Span

Label = float | int | NDArray[Any]


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
