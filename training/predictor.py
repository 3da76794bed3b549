"""A trained head ready to score rows: a run's checkpoint through torch, or a bundle through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from admodels.checkpoint import load as load_checkpoint
from admodels.contract.bundle import MANIFEST, BundleError, load_bundle
from admodels.contract.manifest import Calibration, EncoderUse
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from training.batches import Batch
from training.datasets.sample import Record, Sample
from training.encoded import Form, shown
from training.encoders import SharedEncoders
from training.objects import ObjectVectors
from training.subwords import SubwordVectors
from training.tasks import TASKS, Arrays, copy_mask, served_arrays

Run = Callable[[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]], Arrays]
"""Maps and tokens by the head's names; input_ids, attention_mask and what else it reads → raw outputs."""
SHARED = ("mobilenetv2/1", "minilm/1")
"""The encoders that preprocess what a head doesn't read."""


class Predictor:
    """Scores samples. `served` holds the calibration by output name; predictions are raw. `form`: what the head was
    trained to read; `labels`: its class names.

    Raises CheckpointError or BundleError for a folder that is neither a run nor a bundle, BundleError where `models`
    holds other encoders than those that the head was trained on.
    """

    def __init__(self, folder: Path, models: Path) -> None:
        self.form: Form = "both"
        self._words: SubwordVectors | None = None
        if (folder / MANIFEST).exists():
            uses = self._from_bundle(folder)
        else:
            uses = self._from_run(folder)
        image, text = (
            next((use for use in uses if ("tokens" in use.outputs) is wanted), None) for wanted in (False, True)
        )
        self._uses = (image, text)
        names = (_label(use) or name for use, name in zip(self._uses, SHARED, strict=True))
        self._encoders = SharedEncoders(models, *names)
        for use, bundle in zip(self._uses, (self._encoders.image_bundle, self._encoders.text_bundle), strict=True):
            if use is not None and use.digest != bundle.digest:
                raise BundleError(
                    f"{folder} was trained on {bundle.label} with digest {use.digest[:12]}, {models} holds "
                    f"{bundle.digest[:12]}; restore that encoder or train the head again"
                )
        self._objects = ObjectVectors(self._encoders)
        self.side = self._encoders.side
        self._grey: dict[str, NDArray[np.float32]] | None = None

    def sample(self, record: Record) -> Sample:
        """A record as the head reads it. Raises DataError for a picture that can't be read."""
        return shown(record, self.side, self.form)

    def predict(self, samples: Sequence[Sample]) -> Arrays:
        """Raw outputs by ONNX name, one row per sample."""
        texts = [sample.fields for sample in samples]
        image, text = self._uses
        feeds: dict[str, NDArray[Any]] = {}
        if self._words is None:
            ids, mask = self._encoders.words(texts)
        else:
            vectors, mask = self._words.arrays(texts)
            feeds, ids = {"tokens": vectors.astype(np.float32)}, np.zeros_like(mask)
        if image is not None:
            made = self._maps(samples)
            feeds |= {ours: made[theirs] for theirs, ours in image.outputs.items()}
        if text is not None:
            feeds[text.outputs["tokens"]] = self._encoders.tokens(ids, mask)
        more: dict[str, NDArray[Any]] = {}
        if any("objects" in sample.extra for sample in samples):
            more = self._objects.arrays([sample.extra for sample in samples], shown=self.form != "text")
        return self._run(feeds, {"input_ids": ids, "attention_mask": mask, **more})

    def _maps(self, samples: Sequence[Sample]) -> Mapping[str, NDArray[np.float32]]:
        """Rows without a picture are all the same grey, which is encoded once."""
        if any(sample.pictured for sample in samples):
            return self._encoders.maps(np.stack([sample.image for sample in samples]))
        if self._grey is None:
            self._grey = self._encoders.maps(samples[0].image[None])
        return {name: np.repeat(made, len(samples), axis=0) for name, made in self._grey.items()}

    def _from_run(self, folder: Path) -> tuple[EncoderUse, ...]:
        loaded = load_checkpoint(folder)
        spec, model, task = loaded.spec, loaded.model(), TASKS[loaded.spec.architecture]
        self.name: str = spec.architecture
        self.architecture: str = spec.architecture
        self.form = cast(Form, loaded.training.get("form", "both"))
        self.labels: Mapping[str, tuple[str, ...]] = spec.labels
        self.served: dict[str, Calibration] = dict(loaded.served.calibration)
        self._words = None if loaded.words is None else SubwordVectors(loaded.words)

        def run(feeds: Mapping[str, NDArray[Any]], more: Mapping[str, NDArray[Any]]) -> Arrays:
            *maps, tokens = (torch.from_numpy(values) for values in feeds.values())
            rest = {name: torch.from_numpy(values) for name, values in more.items()}
            batch = Batch(tuple(maps), tokens, rest.pop("input_ids"), rest.pop("attention_mask"), {}, rest)
            with torch.no_grad():
                return served_arrays(task.run(model, batch))

        self._run: Run = run
        return spec.encoders

    def _from_bundle(self, folder: Path) -> tuple[EncoderUse, ...]:
        bundle = load_bundle(folder.resolve())
        runner = OnnxRuntimeRunner(bundle.files["model.onnx"])
        self.name, self.architecture = bundle.label, bundle.manifest.architecture
        # A bundle from before a run of one side was refused may be of one side.
        self.form = cast(Form, bundle.manifest.training.get("form", "both"))
        self.labels = bundle.manifest.labels
        self.served = dict(bundle.manifest.calibration)

        def run(feeds: Mapping[str, NDArray[Any]], more: Mapping[str, NDArray[Any]]) -> Arrays:
            copy = copy_mask(torch.from_numpy(more["input_ids"]), torch.from_numpy(more["attention_mask"])).numpy()
            return runner.infer({**feeds, **more, "copy_mask": copy})

        self._run = run
        return bundle.manifest.encoders


def _label(use: EncoderUse | None) -> str | None:
    return None if use is None else f"{use.name}/{use.version}"
