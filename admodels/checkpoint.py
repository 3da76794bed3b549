"""A trained model as files: `model.safetensors` and JSON beside it. Nothing in it is executable."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import safetensors.torch
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from admodels.build import build
from admodels.contract.spec import ModelSpec, Served

WEIGHTS = "model.safetensors"
SPEC = "spec.json"
SERVED = "calibration.json"
METRICS = "metrics.json"
TRAINING = "training.json"
RECORDED = "recorded.safetensors"
WORDS = "words.safetensors"


class CheckpointError(ValueError):
    """A folder holds no checkpoint, or one that can't be read. The message names the file and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run left behind. recorded: arrays of some creatives, as the model read them (for the parity gate). words:
    the word vectors that it was trained on (`word_vectors.pack`), where no text encoder's."""

    spec: ModelSpec
    state: dict[str, Tensor]
    served: Served
    metrics: dict[str, float]
    training: dict[str, Any]
    recorded: dict[str, NDArray[Any]]
    words: bytes | None = None

    def model(self) -> nn.Module:
        """The module with its weights, in eval mode. Raises CheckpointError when they don't fit the spec."""
        module = build(self.spec)
        try:
            module.load_state_dict(self.state)
        except RuntimeError as error:
            raise CheckpointError(f"{WEIGHTS} doesn't fit {SPEC}: {str(error).splitlines()[-1].strip()}") from error
        return module.eval()


def save(
    folder: Path,
    model: nn.Module,
    spec: ModelSpec,
    *,
    served: Served | None = None,
    metrics: Mapping[str, float] | None = None,
    training: Mapping[str, Any] | None = None,
    recorded: Mapping[str, NDArray[Any]] | None = None,
    words: bytes | None = None,
) -> None:
    """Write a checkpoint into `folder`, whole or not at all; one that is there is replaced.

    Killed at any moment it leaves the old one or the new one: between the two moves the old one lies in `<folder>.old`,
    where `load` finds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    arrays = {name: np.ascontiguousarray(array) for name, array in (recorded or {}).items()}
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        safetensors.torch.save_file(state, new / WEIGHTS)
        safetensors.numpy.save_file(arrays, new / RECORDED)
        if words is not None:
            (new / WORDS).write_bytes(words)
        _write_json(new / SPEC, spec)
        _write_json(new / SERVED, served or Served())
        _write_json(new / METRICS, dict(metrics or {}))
        _write_json(new / TRAINING, dict(training or {}))
        old = _old(folder)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")


def save_served(folder: Path, served: Served) -> None:
    """Replace `calibration.json` of a run or of its `best` folder."""
    folder = _checkpoint_folder(folder)
    new = folder / f".{SERVED}.new"
    _write_json(new, served)
    os.replace(new, folder / SERVED)


def load(folder: Path) -> Checkpoint:
    """Read a run's `best` checkpoint; `folder` is the run or the checkpoint itself. Raises CheckpointError."""
    folder = _checkpoint_folder(folder)
    try:
        return Checkpoint(
            spec=ModelSpec.model_validate_json(_read(folder, SPEC)),
            state=safetensors.torch.load(_read(folder, WEIGHTS)),
            served=Served.model_validate_json(_read(folder, SERVED)),
            metrics=json.loads(_read(folder, METRICS)),
            training=json.loads(_read(folder, TRAINING)),
            recorded=safetensors.numpy.load(_read(folder, RECORDED)),
            words=_read(folder, WORDS) if (folder / WORDS).exists() else None,
        )
    except (ValidationError, ValueError, safetensors.SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder}: the checkpoint can't be read: {error}") from error


def _checkpoint_folder(folder: Path) -> Path:
    for candidate in (folder, folder / "best", _old(folder), _old(folder / "best")):
        if (candidate / SPEC).is_file():
            return candidate
    raise CheckpointError(f"{folder} holds no checkpoint ({SPEC}); `adscore-train fit` writes RUN/best")


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise CheckpointError(f"{folder / name} can't be read: {error.strerror}; run the training again") from error


def _write_json(path: Path, value: BaseModel | dict[str, Any]) -> None:
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    path.write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")
