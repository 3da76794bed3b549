"""Regions of an image: the objects that a detector finds, by name of a model, or a fixed multi-scale grid.

The paper's MVLA takes the C most confident of YOLOv5x6, DeepM2AD those of Faster R-CNN. A detector is optional; what is
used says so in `identity`, which belongs in a run's record and its manifest.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection
from transformers.utils.logging import disable_progress_bar

from admodels.context import ContextUnavailableError
from admodels.layers.regions import GRID_SCALES, grid_boxes


class Regions(NamedTuple):
    """boxes: float32 R×4, x0 y0 x1 y1 in [0, 1], most confident first; names: what each is, "" where nobody says."""

    boxes: NDArray[np.float32]
    names: tuple[str, ...]


class RegionFinder(Protocol):
    """RGB image → its regions."""

    identity: str

    def __call__(self, rgb: Image.Image) -> Regions: ...


class Grid:
    """The same boxes for every image: its quarters and ninths."""

    identity = "grid " + "+".join(f"{s}x{s}" for s in GRID_SCALES)

    def __call__(self, rgb: Image.Image) -> Regions:  # noqa: ARG002
        boxes = grid_boxes().numpy()
        return Regions(boxes, ("",) * len(boxes))


class Detector:
    """The `limit` most confident objects over `threshold`. name_or_folder: a transformers detector (DETR, YOLOS …).

    Raises ContextUnavailableError when it can't be loaded.
    """

    def __init__(self, name_or_folder: str | Path, *, limit: int = 10, threshold: float = 0.3) -> None:
        disable_progress_bar()
        local = isinstance(name_or_folder, Path)
        try:
            self._processor = AutoImageProcessor.from_pretrained(name_or_folder, local_files_only=local)
            self._model = AutoModelForObjectDetection.from_pretrained(name_or_folder, local_files_only=local).eval()
        except (OSError, ValueError) as error:
            raise ContextUnavailableError(
                f"the detector {name_or_folder} can't be had ({type(error).__name__}): the model hub can't be reached "
                "from here and its cache doesn't hold it, or it is no detector; pass a local folder, or none for a "
                "fixed grid of regions"
            ) from error
        self.identity = f"detector {name_or_folder} {limit} {threshold}"
        self._limit, self._threshold = limit, threshold

    def __call__(self, rgb: Image.Image) -> Regions:
        pixels = self._processor(images=rgb, return_tensors="pt")
        with torch.no_grad():
            output = self._model(**pixels)
        sizes = torch.tensor([[rgb.height, rgb.width]])
        (found,) = self._processor.post_process_object_detection(output, threshold=self._threshold, target_sizes=sizes)
        order = found["scores"].argsort(descending=True)[: self._limit]
        scale = torch.tensor([rgb.width, rgb.height, rgb.width, rgb.height])
        boxes = (found["boxes"][order] / scale).clamp(0.0, 1.0).numpy().astype(np.float32)
        names = tuple(str(self._model.config.id2label[int(label)]) for label in found["labels"][order])
        return Regions(boxes, names)


def region_finder(detector: str | Path | None = None) -> RegionFinder:
    """The detector by that name or folder, or the grid where none is named."""
    return Grid() if detector is None else Detector(detector)
