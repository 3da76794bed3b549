"""The models at their papers' sizes: graphs, torch modules, inputs of any batch, and timings on the device."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from admodels.contract.manifest import TensorSpec
from admodels.runtime import cuda
from admodels.runtime.engine_from_onnx import BuildOptions, Range, build_engine
from tests.gpu.conftest import MODELS

NAMES = ("dbafn", "fgmfn", "mvla", "deepm2ad", "adfusion")
BATCHES = (1, 8, 32, 64)
ROUNDS = 30
SIZES = {"length": Range(1, 64, 128), "words": Range(1, 32, 64), "rows": Range(1, 32, 96)}
Arrays = dict[str, NDArray[Any]]


class Paper(NamedTuple):
    """A model with random weights: its torch module (fp32, CPU), its graph in one precision, some creatives."""

    module: Any
    model: bytes
    inputs: tuple[TensorSpec, ...]
    recorded: Arrays

    def feeds(self, rows: int) -> Arrays:
        """The recorded creatives over and over; pixels differ a little, so that no row is another."""
        random = np.random.default_rng(rows)
        made = {}
        for name, values in self.recorded.items():
            many = np.resize(values, (rows, *values.shape[1:]))
            if values.dtype == np.uint8:
                many = np.clip(many.astype(np.int16) + random.integers(-9, 10, many.shape), 0, 255).astype(np.uint8)
            made[name] = many
        return made


def paper(name: str, precision: Any) -> Paper:
    """Seeded: the same weights each time."""
    from export.heads import prepare, trace
    from export.onnx_from_torch import tensor_specs
    from export.precision import OPSETS, to_precision
    from export.untrained import untrained

    checkpoint = untrained(f"paper:{name}", MODELS)
    assert checkpoint is not None
    ready = prepare(checkpoint, MODELS)
    graph = trace(ready, OPSETS[precision])
    to_precision(graph, precision, [ready.feeds])
    specs: tuple[TensorSpec, ...] = tensor_specs(graph.graph.input)
    return Paper(ready.module, graph.SerializeToString(), specs, ready.feeds)


def runner(trt: Any, made: Paper) -> Any:
    """The engine of the graph, for all batches, on this GPU."""
    from admodels.runtime.tensorrt import TensorRtRunner

    profiles = [{"batch": Range(1, 1, 4), **SIZES}, {"batch": Range(1, 32, 64), **SIZES}]
    return TensorRtRunner(trt, build_engine(trt, made.model, made.inputs, profiles, BuildOptions()).plan)


def on_device_ms(runner: Any, feeds: Arrays, *, graph: bool) -> float | None:
    """Median milliseconds of the engine alone, by CUDA events, inputs on the device; None where no graph can be had."""
    runner.infer(feeds)
    rows = len(next(iter(feeds.values())))
    profile, shapes = runner._fit(tuple(feeds[name].shape for name in runner.inputs), rows)
    captured = profile.captured.get(shapes)
    context = profile.context if captured is None else captured.context
    runner._set_shapes(context, shapes)

    def plain() -> Any:
        return context.execute_async_v3(int(runner._stream))

    run: Callable[[], Any] = plain
    made = None
    if graph:
        plain()
        cuda.wait(runner._stream)
        made = cuda.capture(runner._stream, plain)
        if made is None:
            return None

        def run() -> Any:
            cuda.launch(made, runner._stream)

    times = [_event_ms(runner._stream, run) for _ in range(ROUNDS + 5)][5:]
    if made is not None:
        cuda.cudart.cudaGraphExecDestroy(made)
    return round(statistics.median(times), 4)


def _event_ms(stream: Any, run: Callable[[], Any]) -> float:
    begin, end = (cuda.checked(cuda.cudart.cudaEventCreate()) for _ in range(2))
    cuda.checked(cuda.cudart.cudaEventRecord(begin, stream))
    run()
    cuda.checked(cuda.cudart.cudaEventRecord(end, stream))
    cuda.checked(cuda.cudart.cudaEventSynchronize(end))
    passed = float(cuda.checked(cuda.cudart.cudaEventElapsedTime(begin, end)))
    for event in (begin, end):
        cuda.checked(cuda.cudart.cudaEventDestroy(event))
    return passed
