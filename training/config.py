"""The configuration files: TOML, checked whole before anything runs."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.datasets.catalogue import DATASETS

GENERATED = "generated"


class ConfigError(ValueError):
    """A configuration can't be used. The message names the file, the key and the nearest right one."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(_Strict):
    """Which rows. Counts are of generated creatives; photographs, and every other data set, come whole."""

    rows: int = Field(default=0, ge=0)
    tune_rows: int = Field(default=0, ge=0)
    validation_rows: int = Field(default=0, ge=0)
    contrast_rows: int = Field(default=0, ge=0)
    """How many of the training rows also get an enhanced and a degraded variant."""
    photographs: bool = False
    """Whether the photographs themselves, with their true fixations, are rows too (of generated creatives)."""
    mirrored: bool = False
    """Whether every training picture is also read mirrored (of data sets with pictures)."""
    limit: int | None = Field(default=None, ge=1)
    """Read about so many rows, whole groups of them, always the same ones: for a quick look."""
    seed: int = Field(default=1, ge=0)


class SubwordsConfig(_Strict):
    """Word vectors in the text encoder's place, learned from the training rows' own words (fastText's method)."""

    dim: int = Field(default=0, ge=0)
    """Their width; 0 leaves words to the text encoder."""
    buckets: int = Field(default=20_000, ge=1)
    """What the n-grams' hashes fall into."""
    epochs: int = Field(default=10, ge=1)


class EncodersConfig(_Strict):
    """Shared encoder bundles, `name/version`."""

    image: str = "mobilenetv2/1"
    text: str = "minilm/1"


class FitConfig(_Strict):
    """The recipe. The learning rate warms up linearly, then falls by ten at each milestone (an epoch)."""

    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    milestones: tuple[int, ...] = ()
    clip: float = Field(default=1.0, gt=0)
    patience: int = Field(ge=1)
    monitor: str | None = None
    """The metric of `evaluate` that early stopping watches; required but for generated creatives."""
    optimiser: Literal["adamw", "adamax"] = "adamw"
    mixed_precision: bool = False
    """bf16 or fp16 where there is a GPU; weights, and a CPU's run, stay fp32."""
    balanced: bool = False
    """Whether every class is drawn as often as any other, however many rows it has (sentiment)."""
    together: str | None = None
    """A label whose equal rows come in one batch: `test`, for a loss over a test's packages."""
    like_lengths: bool = False
    """Whether a batch's texts are of about one length: where most are short, half the padding and half the time."""
    contrast_every: int = Field(default=4, ge=1)
    """Every how many steps a batch with variants is taken, where there are any."""


class Config(_Strict):
    """One run. `form`: image and text, or one of them. `options` go to the paper's class, `weights` to its loss."""

    model: Literal["dbafn", "fgmfn", "mvla", "deepm2ad", "adfusion", "baseline"]
    dataset: str
    form: Literal["both", "image", "text"] = "both"
    data: DataConfig = DataConfig()
    fit: FitConfig
    encoders: EncodersConfig = EncodersConfig()
    subwords: SubwordsConfig = SubwordsConfig()
    maps: tuple[Literal["c1", "c2", "c3", "c4", "c5"], ...] | None = None
    """Which of the image encoder's maps, finest first, where that isn't the model's own choice."""
    options: dict[str, int | float | str | bool | list[str]] = {}
    weights: dict[str, float | str] = {}

    @model_validator(mode="after")
    def _complete(self) -> Config:
        if self.dataset != GENERATED and self.dataset not in DATASETS:
            raise ValueError(f"dataset {self.dataset!r} is unknown; {nearest(self.dataset, [GENERATED, *DATASETS])}")
        counts = (self.data.rows, self.data.tune_rows, self.data.validation_rows)
        if self.dataset == GENERATED and min(counts) < 1:
            raise ValueError("data.rows, data.tune_rows and data.validation_rows say how many creatives to make")
        if self.data.contrast_rows and not 2 <= self.data.contrast_rows <= self.data.rows:
            raise ValueError("data.contrast_rows are of the first data.rows creatives: 0, or from 2 to data.rows")
        if self.dataset != GENERATED and self.fit.monitor is None:
            raise ValueError("fit.monitor names the metric of `evaluate` that early stopping watches")
        if self.subwords.dim and (self.dataset == GENERATED or "objects" not in DATASETS[self.dataset].text):
            raise ValueError("subwords.dim is for ads that are words and objects' names (pitt_ads_text)")
        return self


def load(path: Path) -> Config:
    """Read and check a configuration. Raises ConfigError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; the configurations are in training/configs") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no TOML: {error}") from error
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: " + "; ".join(_explain(item) for item in error.errors())) from error


def nearest(name: str, names: list[str]) -> str:
    """A clause for messages: the nearest right name, or all of them where none is near."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"the nearest right one is {close[0]!r}" if close else f"there are {', '.join(sorted(names))}"


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']}"
    section: type[BaseModel] = Config
    for part in error["loc"][:-1]:
        section = section.model_fields[str(part)].annotation  # type: ignore[assignment]
    return f"{where}: unknown key; {nearest(str(error['loc'][-1]), list(section.model_fields))}"
