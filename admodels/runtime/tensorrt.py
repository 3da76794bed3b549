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
class _Captured:
    """A graph and the context that it was captured from, whose shapes never change again: a graph holds for the shapes
    of its capture alone. Without a graph yet where TensorRT-RTX still compiles kernels for them."""

    context: Any
    graph: Any = None


@dataclass
class _Profile:
    """An optimisation profile: the context of its runs without graphs, its largest input shapes, and what was captured
    so far; None for shapes that can't be."""

    index: int
    context: Any
    most: Mapping[str, tuple[int, ...]]
    captured: dict[Shapes, _Captured | None] = field(default_factory=dict)


class TensorRtRunner:
    """One engine on the GPU. Thread-safe (runs queue up); outputs are copies that the caller owns.

    A batch is filled up with zero rows to the next bucket (1, 2, 4 … the profile's largest), so that few shapes occur
    and each is one launch of a captured graph: copies in, the engine, copies out. Rows don't see each other, so the
    filling changes nothing. Every captured shape has a context of its own; since runs queue up, all contexts share one
    piece of scratch memory.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`.
        plan: the serialised engine: checked bytes (`engine_store.load`), for this GPU.

    Raises EngineError for an engine that can't be loaded, EngineMemoryError; what it had by then is given back.
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
        self._stream: Any = None
        self._scratch = 0
        self._profiles: list[_Profile] = []
        self._buffers: dict[str, cuda.Buffer] = {}
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        self._stream = cuda.new_stream()
        self._scratch_bytes = max(int(self._engine.device_memory_size_v2), 256)
        self._scratch = cuda.malloc(self._scratch_bytes)
        for index in range(self._engine.num_optimization_profiles):
            context = self._context(index)
            if context is None:
                # The one reason that TensorRT names here is memory.
                raise EngineMemoryError("the GPU has no memory for the engine's context")
            most = {name: tuple(self._engine.get_tensor_profile_shape(name, index)[2]) for name in self.inputs}
            self._profiles.append(_Profile(index, context, most))
        self._profiles.sort(key=lambda profile: _volume(profile.most))
        self._allocate()
        for profile in self._profiles:
            self._address(profile.context)

    def _context(self, index: int) -> Any:
        """A new context on the shared scratch memory, with this profile; None where there is no memory for it."""
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            return None
        if index and not context.set_optimization_profile_async(index, int(self._stream)):
            raise EngineError(f"TensorRT refuses profile {index}: {self._words()}")
        cuda.wait(self._stream)
        context.set_device_memory(self._scratch, self._scratch_bytes)
        return context

    def _allocate(self) -> None:
        """A buffer for the largest shape of each tensor over all profiles, at a fixed address, as graphs want it."""
        for name in (*self.inputs, *self.outputs):
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
            largest = 1
            for profile in self._profiles:
                self._set_shapes(profile.context, tuple(profile.most[given] for given in self.inputs))
                shape = tuple(profile.context.get_tensor_shape(name))
                if min(shape, default=1) < 0:
                    raise EngineError(f"the engine can't say how large its output {name} gets")
                largest = max(largest, int(np.prod(shape, dtype=np.int64)))
            self._buffers[name] = cuda.Buffer(dtype, largest * dtype.itemsize)

    def _address(self, context: Any) -> None:
        for name, buffer in self._buffers.items():
            if not context.set_tensor_address(name, buffer.device):
                raise EngineError(f"TensorRT refuses the address of {name}: {self._words()}")

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
            context = self._run(profile, shapes)
            cuda.wait(self._stream)
            return {name: self._output(context, name)[:rows].copy() for name in self.outputs}

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

    def _run(self, profile: _Profile, shapes: Shapes) -> Any:
        """Queue the batch; the context that knows the shapes of what it gives."""
        if shapes not in profile.captured and len(profile.captured) < MAX_GRAPHS:
            context = self._context(profile.index)
            if context is not None:
                self._address(context)
            profile.captured[shapes] = None if context is None else _Captured(context)
        captured = profile.captured.get(shapes)
        if captured is None:
            return self._plain(profile.context, shapes)
        if captured.graph is None:
            self._first(profile, captured, shapes)
        else:
            cuda.launch(captured.graph, self._stream)
        return captured.context

    def _first(self, profile: _Profile, captured: _Captured, shapes: Shapes) -> None:
        """The first run of these shapes, which does what may not be captured (lazy loading, allocations); then a graph
        of the next ones, or never one where that fails."""
        self._plain(captured.context, shapes)
        cuda.wait(self._stream)
        ask = getattr(captured.context, "is_stream_capturable", None)  # TensorRT-RTX has it, TensorRT hasn't
        if ask is None or ask(int(self._stream)):
            captured.graph = cuda.capture(self._stream, lambda: self._enqueue(captured.context))
            if captured.graph is None:
                profile.captured[shapes] = None

    def _plain(self, context: Any, shapes: Shapes) -> Any:
        self._set_shapes(context, shapes)
        if not self._enqueue(context):
            raise EngineError(f"TensorRT ran nothing: {self._words()}")
        return context

    def _set_shapes(self, context: Any, shapes: Shapes) -> None:
        for name, shape in zip(self.inputs, shapes, strict=True):
            if not context.set_input_shape(name, shape):
                raise EngineError(f"the engine refuses shape {shape} for {name}: {self._words()}")

    def _enqueue(self, context: Any) -> bool:
        """Copies in, the engine, copies out, on the stream; False where TensorRT refuses."""
        for name in self.inputs:
            self._buffers[name].to_device(self._bytes(context, name), self._stream)
        if not context.execute_async_v3(int(self._stream)):
            return False
        for name in self.outputs:
            self._buffers[name].to_host(self._bytes(context, name), self._stream)
        return True

    def _bytes(self, context: Any, name: str) -> int:
        shape = tuple(context.get_tensor_shape(name))
        return int(np.prod(shape, dtype=np.int64)) * self._buffers[name].dtype.itemsize

    def _output(self, context: Any, name: str) -> NDArray[Any]:
        return self._buffers[name].view(tuple(context.get_tensor_shape(name)))

    def _words(self) -> str:
        return "; ".join(self._log.errors)[-300:]

    def close(self) -> None:
        """Give the GPU's memory back; once is enough, and it may follow a failure."""
        with self._lock:
            captured = [item for profile in self._profiles for item in profile.captured.values() if item is not None]
            if self._stream is not None:
                cuda.destroy(self._stream, [item.graph for item in captured if item.graph is not None])
                self._stream = None
            captured.clear()
            self._profiles.clear()  # and with them the contexts, before the memory that they use
            for buffer in self._buffers.values():
                buffer.free()
            self._buffers.clear()
            if self._scratch:
                cuda.free(self._scratch)
                self._scratch = 0


def _holds(most: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(most) == len(shape) and all(size <= limit for size, limit in zip(shape, most, strict=True))


def _volume(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
