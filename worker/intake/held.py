"""Image bytes that are kept for a while, so that scoring a creative again needs no second download.

Bytes serve an event only where a download for it could have given just these: the event announces their digest; or it
was written before they were downloaded; or it is a creative that is scored again (`adscore rescore`), as it was when
they were downloaded. Whoever puts another image at the same URL and says so in a new event gets it downloaded. By the
same rule a download that is under way serves all who come meanwhile.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import struct
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from worker.types import Asset, Creative, ImageBytes

CLOCKS_MS = 2_000
"""How far the clock of whoever wrote an event may be behind ours."""
_NETWORK = re.compile(r"(https?|s3|gs):", re.IGNORECASE)
_NAME = re.compile(r"[0-9a-f]{64}")
_HEAD = struct.Struct("<Q32s")
"""Before the bytes in a file: when they were asked for, and their sha256."""


@dataclass(frozen=True, slots=True)
class _Held:
    sha256: str
    size: int
    asked_ms: int
    """When the download began, by our clock: the bytes are what was at the URL then or a moment later."""
    data: bytes | None
    """None where a file holds them."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A download that is under way, and what was announced of it: others get its end, whatever that is."""

    asset: Asset
    asked_ms: int
    done: Future[ImageBytes] = field(default_factory=Future)


@dataclass(frozen=True, slots=True)
class Obtained:
    """Bytes, and how: held, downloaded by another at that moment, or downloaded now (`asked_ms`: when that began)."""

    image: ImageBytes
    how: Literal["hit", "shared", "miss"]
    asked_ms: int | None = None


class HeldBytes:
    """By URL, those that a creative was last scored with; at most `max_bytes`, the least recently used go first.

    Thread-safe. What failed anywhere on its way isn't kept: whoever mends an image gets it downloaded again.

    folder: keeps them in files, for the next process and for other workers on the same folder too, of which each
        keeps to `max_bytes` in what it knows of. None: in memory.
    Raises OSError where the folder can't be made or read; later, what can't be written or read counts as not held.
    """

    def __init__(self, max_bytes: int, folder: Path | None = None) -> None:
        self._max, self._folder = max_bytes, folder if max_bytes else None
        self._bytes = 0
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._lock = threading.Lock()
        if self._folder is not None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._folder / "probe.new").touch()
            self._find(self._folder)

    def concerns(self, creative: Creative) -> bool:
        """Whether its image comes over the network, and anything is kept at all."""
        return self._max > 0 and _NETWORK.match(creative.image_url.lstrip()) is not None

    def obtain(self, creative: Creative, download: Callable[[Creative], ImageBytes]) -> Obtained:
        """The bytes that are held or under way, else downloaded ones. Raises what `download` raises, here or there."""
        image = self.get(creative)
        if image is not None:
            return Obtained(image, "hit")
        name, flight = _name(creative), _Flight(creative.asset, int(time.time() * 1000))
        with self._lock:
            other = self._flights.get(name)
            shared = other is not None and other.asset == flight.asset and _before(creative, other.asked_ms)
            if not shared:
                self._flights[name] = flight
        if other is not None and shared:
            # Its deadline began before ours.
            return Obtained(other.done.result(), "shared")
        try:
            flight.done.set_result(download(creative))
        except BaseException as error:
            flight.done.set_exception(error)
            raise
        finally:
            with self._lock:
                if self._flights.get(name) is flight:
                    del self._flights[name]
        return Obtained(flight.done.result(), "miss", flight.asked_ms)

    def get(self, creative: Creative) -> ImageBytes | None:
        """The bytes, where they serve this event."""
        name = _name(creative)
        with self._lock:
            held = self._held.get(name)
            if held is None and self._folder is not None and (held := _peek(self._folder / name)) is not None:
                self._add(name, held)  # another worker's
            if held is None or not _serves(held, creative):
                return None
            if name in self._held:
                self._held.move_to_end(name)
        data = held.data if self._folder is None else _read(self._folder / name, held)
        if data is None:
            with self._lock:
                if self._held.get(name) is held:
                    self._drop(name)
            return None
        return ImageBytes(data, held.sha256)

    def keep(self, creative: Creative, image: ImageBytes, asked_ms: int) -> None:
        """Keep bytes that were downloaded for this creative and scored; a newer download replaces an older one."""
        name, size = _name(creative), len(image.data)
        with self._lock:
            before = self._held.get(name)
            if size > self._max or (before is not None and before.asked_ms >= asked_ms):
                return
        held = _Held(image.sha256, size, asked_ms, image.data if self._folder is None else None)
        if self._folder is not None and not _write(self._folder / name, held, image.data):
            return
        with self._lock:
            self._forget(name)
            self._add(name, held)

    def _find(self, folder: Path) -> None:
        """Take over what an earlier process kept, and remove what one left that was writing."""
        found = []
        for file in folder.iterdir():
            if _NAME.fullmatch(file.name) is None:
                if file.suffix == ".new":
                    file.unlink(missing_ok=True)
                continue
            held = _peek(file)
            if held is not None:
                found.append((file.stat().st_mtime_ns, file.name, held))
        for _, name, held in sorted(found, key=lambda one: one[0]):
            self._add(name, held)

    def _add(self, name: str, held: _Held) -> None:
        self._held[name] = held
        self._bytes += held.size
        while self._bytes > self._max:
            self._drop(next(iter(self._held)))

    def _forget(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            self._bytes -= held.size

    def _drop(self, name: str) -> None:
        self._forget(name)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)


def _serves(held: _Held, creative: Creative) -> bool:
    announced = creative.asset
    if announced.bytes is not None and announced.bytes != held.size:
        return False
    if announced.sha256 is not None:
        return announced.sha256 == held.sha256
    return _before(creative, held.asked_ms)


def _before(creative: Creative, asked_ms: int) -> bool:
    """Whether what the event speaks of was there when a download began."""
    if creative.repeats is not None:
        return creative.lastmod + CLOCKS_MS <= asked_ms
    return creative.written > 0 and creative.written + CLOCKS_MS <= asked_ms


def _name(creative: Creative) -> str:
    """Of the URL: nothing that a sender chose becomes a path."""
    return hashlib.sha256(creative.image_url.strip().encode()).hexdigest()


def _write(file: Path, held: _Held, data: bytes) -> bool:
    """Whole or not at all."""
    new = file.with_name(f"{file.name}.{uuid.uuid4().hex}.new")
    try:
        new.write_bytes(_HEAD.pack(held.asked_ms, bytes.fromhex(held.sha256)) + data)
        new.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        return False
    return True


def _peek(file: Path) -> _Held | None:
    """What a file says of itself."""
    try:
        with file.open("rb") as opened:
            asked_ms, sha256 = _HEAD.unpack(opened.read(_HEAD.size))
            return _Held(sha256.hex(), os.fstat(opened.fileno()).st_size - _HEAD.size, asked_ms, None)
    except (OSError, struct.error):
        return None


def _read(file: Path, held: _Held) -> bytes | None:
    """What the file holds, if its digest says so."""
    try:
        data = file.read_bytes()[_HEAD.size :]
        os.utime(file)  # so that the next process knows the order too
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == held.sha256 else None
