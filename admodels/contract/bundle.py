"""Read a bundle from disk: check everything, then hand out the very bytes that were checked.

Nothing of a bundle is parsed before its sha256 matches the manifest, and no file is opened twice: a file that is
swapped after the check can't reach the engine.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from admodels.contract.consistency import contradiction
from admodels.contract.manifest import MANIFEST_VERSION, Manifest
from admodels.contract.onnx_guard import refuse_external_data
from admodels.contract.signature import SIGNATURE, SIGNATURE_BYTES, Check

MANIFEST = "manifest.json"
MODEL = "model.onnx"
ENGINES = "engines"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 4 << 30


class BundleError(Exception):
    """A bundle can't be trusted or read. The message names the bundle, the file and the reason."""


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. `files` maps each listed path to the bytes that were hashed."""

    manifest: Manifest
    files: dict[str, bytes]
    digest: str

    @property
    def label(self) -> str:
        """`name/version`, as settings and messages write it."""
        return f"{self.manifest.name}/{self.manifest.version}"


def load_bundle(folder: Path, signed: Check | None = None) -> Bundle:
    """Read and check the bundle in `folder`.

    signed: checks the manifest's signature (`signature.checker`) before anything of it is parsed; without one,
    signatures are neither asked for nor looked at.

    Raises:
        BundleError: missing, changed, unlisted or linked file, path that leaves the folder, unreadable manifest,
            a graph that reaches for other files; with `signed`, no signature or one that isn't the key's.
    """
    # Its parent too, for by it the folder is found; what holds all models may be a link, as in a mounted volume.
    if folder.parent.is_symlink() or folder.is_symlink() or not folder.is_dir():
        raise BundleError(f"bundle {_label(folder)}: no such folder; `adscore models list` shows what is there")
    raw = _read_plain(folder, MANIFEST, MAX_MANIFEST_BYTES)
    if signed is not None:
        _require_signature(folder, raw, signed)
    manifest = parse_manifest(raw, _label(folder))
    if (manifest.name, manifest.version) != (folder.parent.name, folder.name):
        raise BundleError(
            f"bundle {_label(folder)}: its manifest says {manifest.name}/{manifest.version}; "
            "the folder must be models/<name>/<version>"
        )
    _refuse_unlisted(folder, manifest)
    files = {path: _read_checked(folder, path, digest) for path, digest in manifest.files.items()}
    if MODEL not in files:
        raise BundleError(f"bundle {_label(folder)}: {MANIFEST} doesn't list {MODEL}; export the bundle again")
    try:
        refuse_external_data(files[MODEL])
    except ValueError as error:
        raise BundleError(f"bundle {_label(folder)}: {MODEL}: {error}; export the bundle again") from error
    return Bundle(manifest, files, bundle_digest(manifest))


def bundle_digest(manifest: Manifest) -> str:
    """sha256 (hex) over what decides this bundle's numbers, and nothing else.

    Covers the ONNX files, tokenizer, preprocessing, calibration, labels, precision and the digests of shared encoders;
    not metrics, notes, tolerances or engines, so that all pods share a cache and a new model card re-scores nothing.
    """
    decisive = manifest.model_dump(
        mode="json",
        include={
            "task", "precision", "inputs", "outputs", "labels", "image", "text", "encoders",
            "calibration", "base_rate", "bucket_edges",
        },
    )  # fmt: skip
    if manifest.chain is not None:
        decisive["chain"] = manifest.chain.model_dump(mode="json")
    decisive["files"] = {path: sha for path, sha in manifest.files.items() if not path.endswith((".md", ".txt"))}
    return hashlib.sha256(canonical_json(decisive)).hexdigest()


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def parse_manifest(raw: bytes, label: str) -> Manifest:
    """Read `manifest.json`. Raises BundleError, which names the bundle as `label` and quotes at most plain names.

    Fields that contradict each other are refused here (`consistency`), so that scoring needn't expect them.
    """
    odd: list[str] = []

    def number(text: str) -> float:
        value = float(text)
        if not math.isfinite(value):
            odd.append(text)
        return value

    try:
        text = raw.decode()
        data = json.loads(text, parse_constant=number, parse_float=number, object_pairs_hook=_without_duplicates)
    except _RefusedError as error:
        raise BundleError(f"bundle {label}: {MANIFEST}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"bundle {label}: {MANIFEST} isn't JSON") from error
    version = data.get("manifest_version") if isinstance(data, dict) else None
    if type(version) is not int or version != MANIFEST_VERSION:
        raise BundleError(
            f"bundle {label}: unknown manifest_version; this build reads version {MANIFEST_VERSION}, "
            "export the bundle again or install the adscore that wrote it"
        )
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"bundle {label}: {MANIFEST}: {where}: {first['msg']}") from error
    if odd:
        raise BundleError(f"bundle {label}: {MANIFEST}: it holds a number that isn't finite")
    if (wrong := contradiction(manifest)) is not None:
        raise BundleError(f"bundle {label}: {MANIFEST}: {wrong}; export the bundle again")
    return manifest


class _RefusedError(ValueError):
    """JSON, but not a manifest's."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ on which of two equal names counts, so none of them is read."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RefusedError("a name stands twice in one object")
    return found


def _require_signature(folder: Path, manifest: bytes, signed: Check) -> None:
    try:
        os.stat(folder / SIGNATURE, follow_symlinks=False)
    except FileNotFoundError as error:
        raise BundleError(
            f"bundle {_label(folder)}: it isn't signed, and ADSCORE_MODELS__PUBLIC_KEY asks for it; "
            "`adscore-export sign` signs it"
        ) from error
    signature = _read_plain(folder, SIGNATURE, SIGNATURE_BYTES)
    if not signed(manifest, signature):
        raise BundleError(
            f"bundle {_label(folder)}: {SIGNATURE} isn't the signature of its {MANIFEST} by the key of "
            "ADSCORE_MODELS__PUBLIC_KEY; sign it with that key's private half, or copy the bundle again"
        )


def _refuse_unlisted(folder: Path, manifest: Manifest) -> None:
    for path in manifest.files:
        pure = PurePosixPath(path)
        if (
            not pure.parts
            or pure.is_absolute()
            or ".." in pure.parts
            or str(pure) != path
            or "\\" in path
            or not path.isprintable()
            or pure.parts[0] == ENGINES
            or path == SIGNATURE
        ):
            raise BundleError(f"bundle {_label(folder)}: {MANIFEST} lists a path that is not inside the bundle")
    known = {MANIFEST, SIGNATURE, *manifest.files}
    known |= {parent.as_posix() for path in manifest.files for parent in PurePosixPath(path).parents}
    for root, folders, names in os.walk(folder):
        relative = Path(root).relative_to(folder)
        for name in [*folders, *names]:
            path = (relative / name).as_posix()
            if (Path(root) / name).is_symlink():
                raise BundleError(f"bundle {_label(folder)}: {path} is a link; a bundle holds plain files only")
            if path not in known and not (path == ENGINES and name in folders):
                raise BundleError(f"bundle {_label(folder)}: {path} isn't listed in {MANIFEST}; remove it")
        if relative == Path():
            folders[:] = [name for name in folders if name != ENGINES]


def _read_checked(folder: Path, path: str, expected: str) -> bytes:
    data = _read_plain(folder, path, MAX_FILE_BYTES)
    if hashlib.sha256(data).hexdigest() != expected.lower():
        raise BundleError(
            f"bundle {_label(folder)}: {path} isn't the file that {MANIFEST} names (its sha256 differs); "
            "copy the bundle again"
        )
    return data


def _read_plain(folder: Path, path: str, limit: int) -> bytes:
    """The bytes of a regular file, opened without following a link and read once."""
    try:
        descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise BundleError(f"bundle {_label(folder)}: {path} is missing; copy the bundle again") from error
    except OSError as error:
        raise BundleError(f"bundle {_label(folder)}: {path} can't be opened: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise BundleError(f"bundle {_label(folder)}: {path} isn't a plain file of at most {limit} bytes")
        return file.read(limit + 1)


def _label(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"
