"""A CUDA runtime and a TensorRT that keep NVIDIA's rules, in host memory: what `TensorRtRunner` may not do fails here.

The engine gives `y` = 2·`x` over B×L rows, and `s`, their sums B. Device memory is host memory; a stream does at once
what is queued on it, unless it captures. A captured graph belongs to the shapes that its context had: launched when it
has others, or when a buffer is gone, it gives an illegal address, as on a GPU.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

Work = Callable[[], None]


Error = enum.Enum(
    "Error",
    {
        "cudaSuccess": 0,
        "cudaErrorMemoryAllocation": 2,
        "cudaErrorIllegalAddress": 700,
        "cudaErrorStreamCaptureInvalidated": 901,
    },
)
"""Of `cudaError_t`."""


class Gpu:
    """One device. `runtime` stands for cuda.bindings.runtime; `live` counts what is held.

    capturable: False makes every capture fail as one does that met an allocation. room: bytes that can be had.
    """

    def __init__(self) -> None:
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.graphs: dict[int, list[Work]] = {}
        self.capturing: list[Work] | None = None
        self.capturable, self.room, self.captures = True, 1 << 30, 0
        self._next = 1
        self.runtime = SimpleNamespace(
            cudaError_t=Error,
            cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
            cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
            cudaStreamNonBlocking=1,
            cudaHostAllocDefault=0,
            cudaMalloc=self._malloc,
            cudaHostAlloc=lambda size, _: self._malloc(size),
            cudaFree=self._free,
            cudaFreeHost=self._free,
            cudaMemcpyAsync=self._copy,
            cudaStreamCreateWithFlags=self._stream,
            cudaStreamDestroy=lambda stream: (self.streams.discard(stream), (Error.cudaSuccess,))[1],
            cudaStreamSynchronize=lambda _: (Error.cudaSuccess,),
            cudaStreamBeginCapture=self._begin,
            cudaStreamEndCapture=self._end,
            cudaGraphInstantiate=lambda graph, _: (Error.cudaSuccess, graph),
            cudaGraphDestroy=lambda _: (Error.cudaSuccess,),
            cudaGraphExecDestroy=lambda graph: (self.graphs.pop(graph), (Error.cudaSuccess,))[1],
            cudaGraphLaunch=self._launch,
            cudaGetLastError=lambda: (Error.cudaSuccess,),
        )

    @property
    def live(self) -> int:
        """Allocations, streams and graphs that nobody gave back."""
        return len(self.memory) + len(self.streams) + len(self.graphs)

    def at(self, address: int, count: int) -> Any:
        """The first bytes of an allocation. Raises KeyError for one that is gone."""
        return np.frombuffer(self.memory[address], np.uint8)[:count]

    def queue(self, work: Work) -> Error:
        """Do it now, or keep it where a stream captures."""
        if self.capturing is None:
            work()
        elif not self.capturable:
            return Error.cudaErrorStreamCaptureInvalidated
        else:
            self.capturing.append(work)
        return Error.cudaSuccess

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _malloc(self, size: int) -> tuple[Any, ...]:
        if size > self.room:
            return (Error.cudaErrorMemoryAllocation, 0)
        self.room -= size
        made = (ctypes.c_uint8 * size)()
        self.memory[ctypes.addressof(made)] = made
        return (Error.cudaSuccess, ctypes.addressof(made))

    def _free(self, address: int) -> tuple[Error]:
        self.room += len(self.memory.pop(address))
        return (Error.cudaSuccess,)

    def _copy(self, target: int, source: int, count: int, _kind: int, _stream: int) -> tuple[Error]:
        def work() -> None:
            self.at(target, count)[:] = self.at(source, count)

        return (self.queue(work),)

    def _stream(self, _: int) -> tuple[Any, ...]:
        self.streams.add(stream := self._number())
        return (Error.cudaSuccess, stream)

    def _begin(self, *_: Any) -> tuple[Error]:
        self.capturing, self.captures = [], self.captures + 1
        return (Error.cudaSuccess,)

    def _end(self, _: int) -> tuple[Any, ...]:
        kept, self.capturing = self.capturing, None
        if not self.capturable:
            return (Error.cudaErrorStreamCaptureInvalidated, 0)
        self.graphs[graph := self._number()] = kept or []
        return (Error.cudaSuccess, graph)

    def _launch(self, graph: int, _: int) -> tuple[Error]:
        try:
            for work in self.graphs[graph]:
                work()
        except (KeyError, StaleGraphError):
            return (Error.cudaErrorIllegalAddress,)
        return (Error.cudaSuccess,)


class StaleGraphError(Exception):
    """A graph was launched whose context has other shapes by now."""


class Context:
    """An execution context of the engine above; its memory is the user's."""

    def __init__(self, gpu: Gpu, profiles: int) -> None:
        self.gpu, self.profiles = gpu, profiles
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}
        self.scratch = 0

    def set_optimization_profile_async(self, index: int, _: int) -> bool:
        return index < self.profiles

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= SCRATCH
        self.scratch = address

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def set_input_shape(self, _: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape[:1] if name == "s" else self.shape

    def execute_async_v3(self, _: int) -> bool:
        shape, x, y, s, scratch = self.shape, *(self.addresses[name] for name in "xys"), self.scratch

        def work() -> None:
            if self.shape != shape:
                raise StaleGraphError
            count = int(np.prod(shape)) * 4
            self.gpu.at(scratch, SCRATCH)[:] = 7
            values = self.gpu.at(x, count).view(np.float32)
            self.gpu.at(y, count).view(np.float32)[:] = 2 * values
            self.gpu.at(s, shape[0] * 4).view(np.float32)[:] = values.reshape(shape).sum(1)

        # As TensorRT does it, an invalidated capture is told by the next call of CUDA alone.
        self.gpu.queue(work)
        return True


SCRATCH = 512


class Engine:
    """profiles: for each the largest shape of `x`."""

    def __init__(self, gpu: Gpu, profiles: tuple[tuple[int, int], ...]) -> None:
        self._gpu, self._profiles = gpu, profiles
        self.num_io_tensors, self.num_optimization_profiles = 3, len(profiles)
        self.device_memory_size_v2 = SCRATCH
        self.contexts = 0
        self.most_contexts = 1000

    def get_tensor_name(self, index: int) -> str:
        return "xys"[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "x" else "out"

    def get_tensor_dtype(self, _: str) -> type[np.float32]:
        return np.float32

    def get_tensor_profile_shape(self, _: str, index: int) -> list[tuple[int, int]]:
        return [(1, 1), (1, 1), self._profiles[index]]

    def create_execution_context(self, strategy: str) -> Context | None:
        assert strategy == "user"
        self.contexts += 1
        return None if self.contexts > self.most_contexts else Context(self._gpu, len(self._profiles))


def tensorrt(engine: Engine) -> Any:
    """What stands for the module."""
    return SimpleNamespace(
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="user"),
        nptype=lambda dtype: dtype,
        Runtime=lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: engine),
    )


def batches(random: np.random.Generator, count: int, rows: int, length: int) -> Iterator[np.ndarray[Any, Any]]:
    """Inputs of all sizes up to these."""
    for _ in range(count):
        yield random.normal(size=(random.integers(1, rows + 1), random.integers(1, length + 1))).astype(np.float32)
