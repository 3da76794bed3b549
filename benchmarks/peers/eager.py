"""The naive loop on PyTorch, eager: what one has who serves a model as it was trained. Needs the extra `training`.

The same graphs as modules: the encoders with their weights, the heads (whose weights a bundle has as ONNX alone) with
random ones. So it costs what it would cost, and its scores mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import nn

from admodels.contract.bundle import Bundle
from admodels.contract.spec import Architecture
from admodels.runtime.runner import Runner
from admodels.specs import small_spec
from benchmarks.peers import naive
from benchmarks.peers.work import Work
from export.encoders import ENCODERS
from export.served import served


class EagerRunner:
    """`infer` of a module whose forward takes tensors by name."""

    backend = "torch"

    def __init__(self, module: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        self._module, self._inputs, self._outputs = module.eval(), inputs, outputs

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One forward pass, without gradients."""
        with torch.inference_mode():
            values = self._module(**{name: torch.from_numpy(feeds[name]) for name in self._inputs})
        values = values if isinstance(values, tuple) else (values,)
        return dict(zip(self._outputs, (value.numpy() for value in values), strict=True))


class EagerRunners:
    """In the place of the worker's own choice of a backend."""

    def make(self, bundle: Bundle, *, threads: int) -> Runner:
        """The bundle's module; torch takes its threads from the environment."""
        del threads
        manifest = bundle.manifest
        inputs, outputs = (tuple(tensor.name for tensor in side) for side in (manifest.inputs, manifest.outputs))
        if manifest.name in ENCODERS:
            return EagerRunner(ENCODERS[manifest.name]().reference, inputs, outputs)
        spec = small_spec(cast(Architecture, manifest.architecture), encoders=manifest.encoders, labels=manifest.labels)
        return EagerRunner(served(spec), inputs, outputs)


if __name__ == "__main__":
    naive.main(Work(EagerRunners()))
