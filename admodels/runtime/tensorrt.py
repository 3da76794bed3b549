"""TensorRT on the GPU: own stream, own buffers, pinned host memory, one CUDA graph per batch bucket and length."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels.runtime import cuda, tensorrt_module
from admodels.runtime.runner import EngineError, EngineMemoryError

Shapes = tuple[tuple[int, ...], ...]
MAX_GRAPHS = 64
"""Captured graphs kept per profile; shapes beyond run without one."""


@dataclass
class _Profile:
    """An optimisation profile: its own context, its largest input shapes, and the graphs captured so far."""

    context: Any
    most: Mapping[str, tuple[int, ...]]
    graphs: dict[Shapes, Any] = field(default_factory=dict)


class TensorRtRunner:
    """One engine on the GPU. Thread-safe (runs queue up); outputs are copies that the caller owns.

    A batch is filled up with zero rows to the next bucket (1, 2, 4 … the profile's largest), so that few shapes occur
    and each is one launch of a captured graph: copies in, the engine, copies out. Rows don't see each other, so the
    filling changes nothing.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        plan: the serialised engine: checked bytes (`engine_store.load`), for this GPU.
    """

    backend = "tensorrt"
    thread_safe = True

    def __init__(self, trt: ModuleType, plan: bytes) -> None:
        self._trt, self._log = trt, tensorrt_module.logger(trt)
        self._log.errors.clear()
        self._runtime = trt.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"TensorRT can't load the engine: {self._words()}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        modes = {name: self._engine.get_tensor_mode(name) for name in names}
        self.inputs = tuple(name for name in names if modes[name] == trt.TensorIOMode.INPUT)
        self.outputs = tuple(name for name in names if modes[name] == trt.TensorIOMode.OUTPUT)
        self._lock = threading.Lock()
        self._stream = cuda.new_stream()
        self._profiles = [self._profile(index) for index in range(self._engine.num_optimization_profiles)]
        self._profiles.sort(key=lambda profile: _volume(profile.most))
        self._buffers = self._allocate(self._profiles[-1])

    def _profile(self, index: int) -> _Profile:
        context = self._engine.create_execution_context()
        if context is None:
            # The one reason that TensorRT names here is memory.
            raise EngineMemoryError("the GPU has no memory for the engine's context")
        if index and not context.set_optimization_profile_async(index, int(self._stream)):
            raise EngineError(f"TensorRT refuses profile {index}: {self._words()}")
        cuda.wait(self._stream)
        most = {name: tuple(self._engine.get_tensor_profile_shape(name, index)[2]) for name in self.inputs}
        return _Profile(context, most)

    def _allocate(self, largest: _Profile) -> dict[str, cuda.Buffer]:
        """Buffers for the largest shapes of all profiles, at fixed addresses, as captured graphs want them."""
        self._set_shapes(largest, tuple(largest.most[name] for name in self.inputs))
        buffers: dict[str, cuda.Buffer] = {}
        for name in (*self.inputs, *self.outputs):
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
            shape = tuple(largest.context.get_tensor_shape(name))
            if min(shape, default=1) < 0:
                raise EngineError(f"the engine can't say how large its output {name} gets")
            buffers[name] = cuda.Buffer(dtype, max(1, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize))
            for profile in self._profiles:
                if not profile.context.set_tensor_address(name, buffers[name].device):
                    raise EngineError(f"TensorRT refuses the address of {name}: {self._words()}")
        return buffers

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the engine once.

        Raises EngineError for inputs that it doesn't take, EngineMemoryError, or EngineLostError when CUDA has failed:
        then the process has to end.
        """
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            raise EngineError(f"the engine needs an input named {missing[0]!r}")
        rows = len(feeds[self.inputs[0]])
        with self._lock:
            profile, shapes = self._fit(tuple(feeds[name].shape for name in self.inputs), rows)
            self._fill(feeds, shapes, rows)
            self._set_shapes(profile, shapes)
            self._run(profile, shapes)
            cuda.wait(self._stream)
            return {name: self._output(profile, name)[:rows].copy() for name in self.outputs}

    def _fit(self, shapes: Shapes, rows: int) -> tuple[_Profile, Shapes]:
        """The smallest profile that holds the batch, and its shapes with the batch's bucket."""
        for profile in self._profiles:
            limits = [profile.most[name] for name in self.inputs]
            bucket = min(1 << max(0, rows - 1).bit_length(), limits[0][0])
            fitted = tuple((bucket, *shape[1:]) for shape in shapes)
            if rows <= bucket and all(_holds(most, shape) for most, shape in zip(limits, fitted, strict=True)):
                return profile, fitted
        most = self._profiles[-1].most
        raise EngineError(f"the engine takes shapes up to {most}, not {dict(zip(self.inputs, shapes, strict=True))}")

    def _fill(self, feeds: Mapping[str, NDArray[Any]], shapes: Shapes, rows: int) -> None:
        for name, shape in zip(self.inputs, shapes, strict=True):
            pinned = self._buffers[name].view(shape)
            np.copyto(pinned[:rows], feeds[name], casting="same_kind")
            pinned[rows:] = 0

    def _run(self, profile: _Profile, shapes: Shapes) -> None:
        graph = profile.graphs.get(shapes)
        if graph is not None:
            cuda.launch(graph, self._stream)
            return
        if not self._enqueue(profile):
            raise EngineError(f"TensorRT ran nothing: {self._words()}")
        cuda.wait(self._stream)
        # The first run has done what may not be captured (lazy loading, allocations): from now on, a graph.
        if len(profile.graphs) < MAX_GRAPHS:
            graph = cuda.capture(self._stream, lambda: self._enqueue(profile))
            if graph is not None:
                profile.graphs[shapes] = graph

    def _set_shapes(self, profile: _Profile, shapes: Shapes) -> None:
        for name, shape in zip(self.inputs, shapes, strict=True):
            if not profile.context.set_input_shape(name, shape):
                raise EngineError(f"the engine refuses shape {shape} for {name}: {self._words()}")

    def _enqueue(self, profile: _Profile) -> bool:
        """Copies in, the engine, copies out, on the stream; False where TensorRT refuses."""
        for name in self.inputs:
            self._buffers[name].to_device(self._bytes(profile, name), self._stream)
        if not profile.context.execute_async_v3(int(self._stream)):
            return False
        for name in self.outputs:
            self._buffers[name].to_host(self._bytes(profile, name), self._stream)
        return True

    def _bytes(self, profile: _Profile, name: str) -> int:
        shape = tuple(profile.context.get_tensor_shape(name))
        return int(np.prod(shape, dtype=np.int64)) * self._buffers[name].dtype.itemsize

    def _output(self, profile: _Profile, name: str) -> NDArray[Any]:
        return self._buffers[name].view(tuple(profile.context.get_tensor_shape(name)))

    def _words(self) -> str:
        return "; ".join(self._log.errors)[-300:]

    def close(self) -> None:
        """Give the GPU's memory back."""
        with self._lock:
            cuda.destroy(self._stream, [graph for profile in self._profiles for graph in profile.graphs.values()])
            for buffer in self._buffers.values():
                buffer.free()
            self._profiles.clear()
            self._buffers.clear()


def _holds(most: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(most) == len(shape) and all(size <= limit for size, limit in zip(shape, most, strict=True))


def _volume(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
