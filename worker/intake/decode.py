"""Image bytes become pixels, in child processes that a bad image may bring down."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.errors import Code, CreativeError, Stage
from worker.intake import decode_child
from worker.intake.child import ChildDiedError, ChildHungError
from worker.intake.children import ChildPool
from worker.intake.frames import Reply
from worker.types import DecodedImage

ATTEMPTS = 2
WALL_SECONDS = 30.0
"""Of one attempt, above its 2 s of CPU: a machine under load, or a child that hangs without computing."""

# Large buffers go back to the kernel when they are freed: left in the heap, they would be room beyond the bound.
_STEADY_HEAP = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}
_CODES = {"unsupported_format": Code.UNSUPPORTED_FORMAT, "bad_image": Code.BAD_IMAGE, "image_bomb": Code.IMAGE_BOMB}
_OUT_OF_CPU = (signal.SIGPROF, signal.SIGXCPU)


class DecoderPool:
    """Decodes in `workers` child processes. Thread-safe; `decode` blocks for a free child.

    sizes: the (height, width) that the models read; each decoded image carries the pixels of all of them.
    Raises FatalError (exit 3) where child processes can't be started.
    """

    def __init__(
        self,
        workers: int,
        sizes: Sequence[tuple[int, int]],
        *,
        wall_seconds: float = WALL_SECONDS,
        recycle_after: int = 2000,
    ) -> None:
        if not sizes:
            raise ValueError("no sizes: name at least one (height, width) to decode to")
        self._sizes = tuple(sizes)
        self._wall_seconds = wall_seconds
        text = ",".join(f"{height}x{width}" for height, width in sizes)
        self._children = ChildPool(
            "worker.intake.decode_child",
            workers,
            arguments=[text],
            environment=_STEADY_HEAP,
            recycle_after=recycle_after,
        )

    def decode(self, data: bytes, *, ocr: bool, pixels: bool = True) -> DecodedImage:
        """Decode the first frame of `data`.

        Raises CreativeError at stage decode: unsupported_format, bad_image, image_bomb (by the header, the CPU or the
        memory it takes), or decode_crashed after the second child died of it (retryable where the children hung).
        """
        flags = (decode_child.OCR if ocr else 0) | (decode_child.PIXELS if pixels else 0)
        request = (bytes((flags,)), data)
        hung = False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                reply = self._children.ask(request, self._wall_seconds)
            except ChildHungError:
                hung = True
            except ChildDiedError as death:
                if death.signal in _OUT_OF_CPU:
                    message = f"decoding takes over {decode_child.CPU_SECONDS:g} s of CPU"
                    raise _refused("image_bomb", message, attempt) from None
                hung = False
            else:
                if "code" in reply.head:
                    raise _refused(reply.head["code"], reply.head["message"], attempt)
                return self._image(reply, ocr=ocr, pixels=pixels)
        how = f"gave no answer within {self._wall_seconds:g} s" if hung else "died"
        message = f"the decoder's process {how}, {ATTEMPTS} times"
        raise CreativeError(Code.DECODE_CRASHED, Stage.DECODE, message, retryable=hung, attempts=ATTEMPTS)

    def pids(self) -> list[int]:
        """The decoders' process ids."""
        return self._children.pids()

    def close(self) -> None:
        """End the children; decoding under way fails."""
        self._children.close()

    def _image(self, reply: Reply, *, ocr: bool, pixels: bool) -> DecodedImage:
        head = reply.head
        shapes = [(height, width, 3) for height, width in self._sizes] if pixels else []
        if ocr:
            shapes.append(tuple(head["ocr"]))
        arrays = _split(reply.body, shapes)
        grey = arrays.pop() if ocr else None
        return DecodedImage(
            width=head["width"],
            height=head["height"],
            format=head["format"],
            phash=head["phash"],
            pixels=dict(zip(self._sizes, arrays, strict=False)),
            ocr=grey,
        )


def _split(body: memoryview, shapes: Sequence[tuple[Any, ...]]) -> list[NDArray[np.uint8]]:
    """Views of `body`, one after the other, without copying."""
    arrays, at = [], 0
    for shape in shapes:
        size = math.prod(shape)
        arrays.append(np.frombuffer(body, np.uint8, size, at).reshape(shape))
        at += size
    return arrays


def _refused(code: str, message: str, attempts: int) -> CreativeError:
    return CreativeError(_CODES[code], Stage.DECODE, message, attempts=attempts)
