"""The few calls of the CUDA runtime that a TensorRT runner needs, each return value checked."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from admodels.runtime.runner import EngineError, EngineLostError, EngineMemoryError

try:
    from cuda.bindings import runtime as cudart
except ImportError:  # a machine without GPU libraries: nothing below but `compute_capability` is called there
    cudart = None


def compute_capability(device: int = 0) -> str | None:
    """Such as `8.6`, or None where there is no GPU, no driver or no cuda-python."""
    if cudart is None:
        return None
    error, count = cudart.cudaGetDeviceCount()
    if error != cudart.cudaError_t.cudaSuccess or not count:
        return None
    major = checked(cudart.cudaDeviceGetAttribute(cudart.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor, device))
    minor = checked(cudart.cudaDeviceGetAttribute(cudart.cudaDeviceAttr.cudaDevAttrComputeCapabilityMinor, device))
    return f"{major}.{minor}"


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call.

    Raises EngineMemoryError where memory ran out, which harms nothing. Every other error is taken for one that sticks:
    after an illegal address, an ECC error or a time-out each further call of the process fails, and what it would
    give can't be trusted; then EngineLostError.
    """
    error, *values = result
    if error == cudart.cudaError_t.cudaErrorMemoryAllocation:
        cudart.cudaGetLastError()
        raise EngineMemoryError("the GPU has no memory for this batch")
    if error != cudart.cudaError_t.cudaSuccess:
        raise EngineLostError(f"CUDA says {error.name}")
    return values[0] if len(values) == 1 else tuple(values)


@dataclass
class Buffer:
    """Device memory and pinned host memory of one tensor, large enough for the largest shape of its profile."""

    dtype: np.dtype[Any]
    bytes: int
    device: int = field(init=False)
    _host: int = field(init=False)

    def __post_init__(self) -> None:
        self.device = int(checked(cudart.cudaMalloc(self.bytes)))
        try:
            self._host = int(checked(cudart.cudaHostAlloc(self.bytes, cudart.cudaHostAllocDefault)))
        except (EngineMemoryError, EngineLostError):
            cudart.cudaFree(self.device)
            raise
        raw = np.ctypeslib.as_array((ctypes.c_uint8 * self.bytes).from_address(self._host))
        self._whole = raw.view(self.dtype)

    def view(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """The pinned memory as an array of this shape."""
        return self._whole[: int(np.prod(shape, dtype=np.int64))].reshape(shape)

    def to_device(self, count: int, stream: Any) -> None:
        """Queue a copy of the first `count` bytes."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        checked(cudart.cudaMemcpyAsync(self.device, self._host, count, kind, stream))

    def to_host(self, count: int, stream: Any) -> None:
        """Queue a copy of the first `count` bytes."""
        kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        checked(cudart.cudaMemcpyAsync(self._host, self.device, count, kind, stream))

    def free(self) -> None:
        """Give both back; errors don't matter any more."""
        cudart.cudaFree(self.device)
        cudart.cudaFreeHost(self._host)


def malloc(size: int) -> int:
    """Device memory that only kernels touch; its address is a multiple of 256."""
    return int(checked(cudart.cudaMalloc(size)))


def free(address: int) -> None:
    """Give `malloc`'s memory back; errors don't matter any more."""
    cudart.cudaFree(address)


def new_stream() -> Any:
    """A stream that doesn't wait for the default stream."""
    return checked(cudart.cudaStreamCreateWithFlags(cudart.cudaStreamNonBlocking))


def wait(stream: Any) -> None:
    """Until everything queued on the stream is done."""
    checked(cudart.cudaStreamSynchronize(stream))


def capture(stream: Any, work: Any) -> Any:
    """What `work()` queues on the stream, as an executable graph; None where it can't be captured.

    Whatever fails meanwhile is taken for the capture's fault, which harms nothing: an error that sticks is told again
    by the next call.
    """
    mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    if cudart.cudaStreamBeginCapture(stream, mode)[0] != cudart.cudaError_t.cudaSuccess:
        cudart.cudaGetLastError()
        return None
    queued = False
    try:
        queued = bool(work())
    except (EngineError, EngineLostError):
        pass  # an invalidated capture fails the next call on the stream, whichever that is
    finally:
        error, graph = cudart.cudaStreamEndCapture(stream)
    made = None
    if error == cudart.cudaError_t.cudaSuccess:
        if queued:
            error, made = cudart.cudaGraphInstantiate(graph, 0)
        cudart.cudaGraphDestroy(graph)
    if error != cudart.cudaError_t.cudaSuccess:
        cudart.cudaGetLastError()
        return None
    return made


def launch(graph: Any, stream: Any) -> None:
    """Queue a captured graph."""
    checked(cudart.cudaGraphLaunch(graph, stream))


def destroy(stream: Any, graphs: list[Any]) -> None:
    """Give a stream and graphs back; errors don't matter any more."""
    for graph in graphs:
        cudart.cudaGraphExecDestroy(graph)
    cudart.cudaStreamDestroy(stream)
