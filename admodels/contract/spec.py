"""What a model is, in JSON: enough to build it again. A run's folder holds it beside the weights."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from admodels.contract.manifest import Calibration, EncoderUse, TextSpec

Architecture = Literal["dbafn", "fgmfn", "mvla", "deepm2ad", "adfusion", "baseline"]
Task = Literal["attractiveness", "sentiment", "ctr"]

TASKS: dict[Architecture, Task] = {
    "dbafn": "attractiveness",
    "fgmfn": "sentiment",
    "mvla": "sentiment",
    "deepm2ad": "sentiment",
    "adfusion": "ctr",
}
"""Baselines are measured, not served."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ImageEncoderSpec(_Frozen):
    """A timm network of the model's own: its name, the square it reads and the feature levels it hands on.

    `weights`: a safetensors file under timm's names; `pretrained`: timm's own weights; neither: random.
    """

    name: str
    size: int
    levels: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights: str | None = None
    pretrained: bool = False


class TextEncoderSpec(_Frozen):
    """A transformers encoder of the model's own. `folder` wins over `name`; neither weights nor hub: random."""

    name: str
    folder: str | None = None
    pretrained: bool = False


class ModelSpec(_Frozen):
    """`spec.json`. `encoders` names shared encoder bundles; `image_encoder` and `text_encoder` are the model's own. A
    modality has one or the other, or neither where the model doesn't read it through an encoder.

    options: the keyword arguments of the paper's class. labels: class names per output, in the order of the logits.
    """

    architecture: Architecture
    options: dict[str, JsonValue]
    labels: dict[str, tuple[str, ...]] = {}
    encoders: tuple[EncoderUse, ...] = ()
    image_encoder: ImageEncoderSpec | None = None
    text_encoder: TextEncoderSpec | None = None
    text: TextSpec | None = None

    @property
    def task(self) -> Task:
        """The head that this architecture serves. Raises ValueError for a baseline, which serves none."""
        if self.architecture not in TASKS:
            raise ValueError(f"{self.architecture} is for comparison and serves no head; export a paper's model")
        return TASKS[self.architecture]


class Served(_Frozen):
    """`calibration.json`: what is decided after training, on rows that training has not seen.

    calibration: by output name. base_rate and bucket_edges as in the manifest.
    """

    calibration: dict[str, Calibration] = {}
    base_rate: float | None = None
    bucket_edges: dict[str, tuple[float, ...]] = {}
