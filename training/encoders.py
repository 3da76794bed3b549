"""The frozen encoders that the heads share, as serving runs them: bundles behind ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from admodels.contract.bundle import MANIFEST, Bundle, BundleError, load_bundle
from admodels.contract.text import TextEncoder, pad
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from training.datasets.entities import EntityLabeller

MODELS = Path(__file__).resolve().parent.parent / "models"


class SharedEncoders:
    """An image and a text encoder bundle, loaded.

    Raises BundleError when one can't be read or is no encoder of its kind.
    """

    def __init__(self, models: Path, image: str, text: str) -> None:
        self.image_bundle, self.text_bundle = load_bundle(models / image), load_bundle(models / text)
        image_spec, text_spec = self.image_bundle.manifest.image, self.text_bundle.manifest.text
        if image_spec is None or text_spec is None:
            raise BundleError(f"{image} and {text} must be an image and a text encoder; see `adscore models list`")
        self.side = image_spec.height
        self.text_spec = text_spec
        tokenizer = self.text_bundle.files[text_spec.tokenizer]
        self.text_encoder = TextEncoder(tokenizer, text_spec)
        self.entities = EntityLabeller(tokenizer, text_spec)
        self._image = OnnxRuntimeRunner(self.image_bundle.files["model.onnx"])
        self._text = OnnxRuntimeRunner(self.text_bundle.files["model.onnx"])

    @property
    def text_width(self) -> int:
        """D of the token vectors."""
        return next(int(out.shape[-1]) for out in self.text_bundle.manifest.outputs if out.name == "tokens")

    def phrases(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The mean token vector of each short text, float32 N×D."""
        ids, mask = self.words([{"ocr": text} for text in texts])
        weights = mask[:, :, None].astype(np.float32)
        mean: NDArray[np.float32] = (self.tokens(ids, mask) * weights).sum(1) / weights.sum(1)
        return mean

    def key(self) -> str:
        """What the features depend on: both bundles' digests."""
        return f"{self.image_bundle.digest}-{self.text_bundle.digest}"

    def uses(self) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        """(name, version, digest) of the image's and the text's encoder."""
        return _use(self.image_bundle), _use(self.text_bundle)

    def maps(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Feature maps by name of uint8 B×H×W×3: float32 B×C×h×w each."""
        return self._image.infer({"image": images})

    def words(self, rows: Sequence[Mapping[str, str]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """input_ids and attention_mask of texts by field, int64 B×L, padded as in serving."""
        encoded = [self.text_encoder.encode(fields) for fields in rows]
        return pad(encoded, self.text_spec.pad_to_multiple, self.text_spec.max_tokens, self.text_encoder.pad_id)

    def tokens(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Token vectors, float32 B×L×D."""
        return self._text.infer({"input_ids": ids, "attention_mask": mask})["tokens"]


def folder_of(model: Path, models: Path) -> Path:
    """A model as people write it: the folder of a run or a bundle, or, as in settings, a bundle's `name/version` or
    `name` (its newest version) in `models`."""
    if model.exists():
        return model
    versions = [manifest.parent for manifest in (models / model).glob(f"*/{MANIFEST}")]
    return max(versions, key=_natural) if versions else models / model if (models / model).is_dir() else model


def _natural(version: Path) -> list[tuple[int, str]]:
    """`10` after `9`, and `1.10` after `1.9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[._-]", version.name)]


def _use(bundle: Bundle) -> tuple[str, str, str]:
    return bundle.manifest.name, bundle.manifest.version, bundle.digest
