"""Engines on disk: `models/<name>/<version>/engines/sm<cc>-trt<version>-<precision>/`, built here, never shipped.

A serialised engine is a program: it is loaded only when its own digest file agrees with it, with the bundle's graph,
and with this GPU and this TensorRT, and the bytes that are loaded are the bytes that were hashed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from admodels.contract.bundle import ENGINES, MODEL, Bundle
from admodels.runtime.runner import EngineError

PLAN, DIGESTS, TIMINGS = "engine.plan", "engine.json", "timing.cache"
FORMAT = 2
"""Counted up when engines are built otherwise from the same graph, so that older ones are built again."""
MAX_DIGESTS_BYTES = 64 * 1024


@dataclass(frozen=True)
class EngineKey:
    """What an engine is for. `sm`: compute capability (`8.6`); `shapes`: the profiles, as `engine.json` keeps them."""

    module: str
    version: str
    sm: str
    precision: str
    onnx_sha256: str
    shapes: tuple[Mapping[str, tuple[int, int, int]], ...]
    options: Mapping[str, object]

    @property
    def folder(self) -> str:
        """The engine's folder under `engines/`."""
        return f"sm{self.sm.replace('.', '')}-trt{self.version}-{self.precision}"

    def as_json(self) -> dict[str, Any]:
        """As it stands in `engine.json`."""
        return {
            "format": FORMAT,
            "module": self.module,
            "version": self.version,
            "sm": self.sm,
            "precision": self.precision,
            "onnx_sha256": self.onnx_sha256,
            "shapes": [{name: list(sizes) for name, sizes in sorted(profile.items())} for profile in self.shapes],
            "options": dict(self.options),
        }


def engine_place(models: Path, bundle: Bundle, key: EngineKey) -> Path:
    """The folder of this engine."""
    return models / bundle.manifest.name / bundle.manifest.version / ENGINES / key.folder


def graph_sha256(bundle: Bundle) -> str:
    """sha256 (hex) of the graph that the bundle's engines are built from."""
    return _sha256(bundle.files[MODEL])


def load(place: Path, key: EngineKey) -> bytes | None:
    """The engine's bytes, checked; None where there is none yet.

    Raises EngineError that names the folder and the reason: a changed or missing file, a link, an engine for another
    GPU, version, graph or shapes.
    """
    where = f"engine {place.parent.parent.parent.name}/{place.parent.parent.name}/{key.folder}"
    if place.is_symlink() or place.parent.is_symlink():
        raise EngineError(f"{where}: it is a link; {_MEND}")
    if not place.exists():
        return None
    try:
        raw = _read_plain(place / DIGESTS, MAX_DIGESTS_BYTES)
        told = json.loads(raw)
        plan = _read_plain(place / PLAN)
    except OSError as error:
        raise EngineError(f"{where}: {error.strerror or type(error).__name__}; {_MEND}") from error
    except (ValueError, RecursionError) as error:
        raise EngineError(f"{where}: {DIGESTS} can't be read; {_MEND}") from error
    wanted = key.as_json()
    if not isinstance(told, dict):
        raise EngineError(f"{where}: {DIGESTS} can't be read; {_MEND}")
    for name, value in wanted.items():
        if told.get(name) != value:
            raise EngineError(f"{where}: built for another {_SAID.get(name, name)}; {_MEND}")
    if told.get("sha256") != _sha256(plan):
        raise EngineError(f"{where}: {PLAN} isn't the file that was built; {_MEND}")
    return plan


_MEND = "remove the folder and run `adscore models build`"
_SAID = {"sm": "compute capability", "version": "TensorRT version", "onnx_sha256": "graph", "format": "adscore"}


def save(place: Path, key: EngineKey, plan: bytes, timing_cache: bytes) -> None:
    """Write the folder whole or not at all. Raises OSError as the disk tells it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=".writing-"))
    try:
        digests = {**key.as_json(), "sha256": _sha256(plan), "timings_sha256": _sha256(timing_cache)}
        for name, data in ((PLAN, plan), (TIMINGS, timing_cache), (DIGESTS, json.dumps(digests, indent=1).encode())):
            with (scratch / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        scratch.chmod(0o755)
        if place.exists():
            place.rename(scratch / "old")
        scratch.rename(place)
        shutil.rmtree(place / "old", ignore_errors=True)
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def timings(place: Path) -> bytes:
    """What the engine that lies there took its tactics from; empty where there is none, or where it has changed."""
    try:
        kept = _read_plain(place / TIMINGS)
        told = json.loads(_read_plain(place / DIGESTS, MAX_DIGESTS_BYTES))
    except (OSError, ValueError, RecursionError):
        return b""
    return kept if isinstance(told, dict) and told.get("timings_sha256") == _sha256(kept) else b""


@contextlib.contextmanager
def one_builder(place: Path) -> Iterator[None]:
    """Only one process builds engines of a bundle; the others wait, and find them built. Raises OSError."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_plain(path: Path, limit: int = 8 << 30) -> bytes:
    # Without O_NONBLOCK a pipe would hold the worker until somebody writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, f"{path.name} isn't a plain file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"{path.name} is too large")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
