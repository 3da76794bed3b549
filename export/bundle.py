"""Write a bundle: a folder that is there whole or not at all, with the sha256 of every file in its manifest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from admodels.contract.bundle import MANIFEST, load_bundle
from admodels.contract.manifest import Manifest


class BundleExistsError(Exception):
    """That name and version is taken. Versions are immutable: caches and events refer to them."""


def write_bundle(models: Path, manifest: Manifest, files: Mapping[str, bytes], *, replace: bool = False) -> str:
    """Write `models/<name>/<version>/` and return the bundle's digest.

    manifest: complete but for `files`, which is filled in here. The folder is written beside its place, synced, read
    back through the worker's own loader, and only then renamed. Raises BundleExistsError when the version exists and
    `replace` is not set, OSError when the disk refuses.
    """
    target = models / manifest.name / manifest.version
    if target.exists() and not replace:
        raise BundleExistsError(f"{target} exists; choose another --version, or --replace it while nobody serves it")
    listed = manifest.model_copy(update={"files": {n: hashlib.sha256(d).hexdigest() for n, d in sorted(files.items())}})
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as scratch:
        # The loader checks that the folder's name is the manifest's.
        folder = Path(scratch) / manifest.name / manifest.version
        folder.mkdir(parents=True)
        for name, data in files.items():
            _write(folder / name, data)
        _write(folder / MANIFEST, listed.model_dump_json(indent=1).encode() + b"\n")
        digest = load_bundle(folder).digest
        if target.exists():
            os.replace(target, Path(scratch) / "old")
        os.replace(folder, target)
    return digest


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of what made the bundle, for its manifest."""
    return {name: importlib.metadata.version(name) for name in packages}


def write_file(path: Path, data: bytes, *, scratch: Path | None = None) -> None:
    """Write one file beside its place (or in `scratch`, on the same disk) and rename it there: whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch or path.parent, prefix=".writing-") as folder:
        _write(Path(folder) / path.name, data)
        os.replace(Path(folder) / path.name, path)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
