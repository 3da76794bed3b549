"""Faces as sentences, most confident first (paper: (2), with LightFace).

The detector's weights come with OpenCV's package (its Viola-Jones cascades; 5.0's wheel no longer has them). It says
where a face is, how large, and whether it smiles; nothing is said of age or gender, which it doesn't see.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from admodels.context import ContextUnavailableError

MAX_FACES = 3
MAX_SIDE = 640
"""Larger images are made smaller first: a face of 4 % of the long side still has 24 pixels."""

_SMALL, _LARGE = 0.01, 0.1
"""Shares of the image's area."""
_PLACES = ("on the left", "in the middle", "on the right")


@dataclass(frozen=True)
class Face:
    """x, y, w, h: fractions of the image. confidence: of the cascade's last stage, any scale."""

    x: float
    y: float
    w: float
    h: float
    confidence: float
    smiling: bool


class Faces:
    """RGB image → one sentence per face, at most `limit`. Raises ContextUnavailableError without the cascades."""

    identity = "opencv-haar-frontalface-1"

    def __init__(self, limit: int = MAX_FACES) -> None:
        self._limit = limit
        self._face = _cascade("haarcascade_frontalface_default.xml")
        self._smile = _cascade("haarcascade_smile.xml")

    def __call__(self, rgb: Image.Image) -> str:
        return " ".join(sentence(face) for face in self.find(rgb))

    def find(self, rgb: Image.Image) -> list[Face]:
        """The faces, most confident first."""
        small = rgb.convert("L")
        small.thumbnail((MAX_SIDE, MAX_SIDE))
        grey = np.asarray(small)
        boxes, _, weights = self._face.detectMultiScale3(grey, 1.1, 5, minSize=(24, 24), outputRejectLevels=True)
        faces = [self._read(grey, [int(v) for v in box], float(w)) for box, w in zip(boxes, weights, strict=True)]
        return sorted(faces, key=lambda face: (-face.confidence, face.x, face.y))[: self._limit]

    def _read(self, grey: NDArray[np.uint8], box: list[int], confidence: float) -> Face:
        x, y, w, h = box
        height, width = grey.shape
        mouth = cv2.resize(grey[y + h // 2 : y + h, x : x + w], (96, 48))
        smiling = len(self._smile.detectMultiScale(mouth, 1.1, 20, minSize=(32, 16))) > 0
        return Face(x / width, y / height, w / width, h / height, confidence, smiling)


def sentence(face: Face) -> str:
    """A face in words: how large, whether it smiles, where."""
    area = face.w * face.h
    size = "small " if area < _SMALL else "large " if area > _LARGE else ""
    place = _PLACES[min(2, max(0, int(3 * (face.x + face.w / 2))))]
    return f"a {size}{'smiling ' if face.smiling else ''}face {place}."


def _cascade(name: str) -> cv2.CascadeClassifier:
    folder = getattr(getattr(cv2, "data", None), "haarcascades", "")
    file = Path(folder) / name
    if not file.is_file():
        raise ContextUnavailableError(
            f"OpenCV {cv2.__version__} has no {name}; install opencv-python-headless 4 (the training extra has it)"
        )
    return cv2.CascadeClassifier(str(file))
