"""A trained head ready to score rows: a run's checkpoint through torch, or a bundle through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from admodels.checkpoint import load as load_checkpoint
from admodels.contract.bundle import MANIFEST, load_bundle
from admodels.contract.manifest import Calibration, EncoderUse
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from training.datasets.sample import Sample
from training.encoders import SharedEncoders
from training.tasks import Arrays, served_arrays

Run = Callable[[Mapping[str, NDArray], NDArray[np.int64]], Arrays]


class Predictor:
    """Scores samples. `served` holds the calibration by output name; predictions are raw.

    Raises CheckpointError or BundleError for a folder that is neither a run nor a bundle.
    """

    def __init__(self, folder: Path, models: Path) -> None:
        if (folder / MANIFEST).exists():
            uses = self._from_bundle(folder)
        else:
            uses = self._from_run(folder)
        image, text = (next(use for use in uses if ("tokens" in use.outputs) is wanted) for wanted in (False, True))
        self._uses = (image, text)
        self._encoders = SharedEncoders(models, f"{image.name}/{image.version}", f"{text.name}/{text.version}")
        self.side = self._encoders.side

    def predict(self, samples: Sequence[Sample]) -> Arrays:
        """Raw outputs by ONNX name, one row per sample."""
        ids, mask = self._encoders.words([sample.fields for sample in samples])
        made = self._encoders.maps(np.stack([sample.image for sample in samples]))
        image, text = self._uses
        feeds = {ours: made[theirs] for theirs, ours in image.outputs.items()}
        feeds[text.outputs["tokens"]] = self._encoders.tokens(ids, mask)
        return self._run(feeds, mask)

    def _from_run(self, folder: Path) -> tuple[EncoderUse, ...]:
        loaded = load_checkpoint(folder)
        spec, model = loaded.spec, loaded.model()
        self.name: str = spec.architecture
        self.architecture: str = spec.architecture
        self.served: dict[str, Calibration] = dict(loaded.served.calibration)
        self.outputs = set(_OUTPUTS[spec.architecture])

        def run(feeds: Mapping[str, NDArray], mask: NDArray[np.int64]) -> Arrays:
            *maps, tokens = (torch.from_numpy(values) for values in feeds.values())
            with torch.no_grad():
                return served_arrays(model(tuple(maps), tokens, torch.from_numpy(mask)))

        self._run: Run = run
        return spec.encoders

    def _from_bundle(self, folder: Path) -> tuple[EncoderUse, ...]:
        bundle = load_bundle(folder.resolve())
        runner = OnnxRuntimeRunner(bundle.files["model.onnx"])
        self.name, self.architecture = bundle.label, bundle.manifest.architecture
        self.served = dict(bundle.manifest.calibration)
        self.outputs = {output.name for output in bundle.manifest.outputs}
        self._run = lambda feeds, mask: runner.infer({**feeds, "attention_mask": mask})
        return bundle.manifest.encoders


_OUTPUTS = {
    "dbafn": ("score", "heatmap"),
    "fgmfn": ("sentiment_logits",),
    "adfusion": ("ctr", "share_likelihood", "attention"),
}
