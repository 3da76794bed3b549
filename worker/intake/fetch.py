"""From a creative to the bytes of its image, wherever the event says they are, and nowhere else."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from worker.errors import Code, CreativeError, Stage
from worker.intake import data_url, names
from worker.intake.addresses import Address
from worker.intake.file_url import FileRoots
from worker.intake.hosts import OBJECT_SCHEMES, AllowList
from worker.intake.http_source import HttpSource, refused
from worker.intake.object_source import ObjectAccess, ObjectSource
from worker.intake.pinned import Deadline
from worker.types import Asset, Creative, ImageBytes

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """The operator's bounds. `allowed_hosts` by the grammar of `hosts.AllowList`; empty: no network at all."""

    allowed_hosts: Sequence[str] = ()
    max_bytes: int = 8 * 1024 * 1024
    timeout_seconds: float = 10.0
    file_roots: Sequence[str] = ()
    objects: ObjectAccess = field(default_factory=ObjectAccess)


class Fetcher:
    """Thread-safe; `fetch` blocks for at most the deadline. Raises ValueError on an allow-list that can't be read."""

    def __init__(
        self,
        limits: FetchLimits,
        *,
        tls: ssl.SSLContext | None = None,
        resolve: Callable[[str, float], list[Address]] = names.resolve,
    ) -> None:
        self._limits = limits
        self._allowed = AllowList(limits.allowed_hosts)
        self._files = FileRoots(limits.file_roots)
        self._http = HttpSource(self._allowed, limits.max_bytes, tls=tls, resolve=resolve)
        self._objects = ObjectSource(self._allowed, limits.max_bytes, limits.objects, limits.timeout_seconds)

    def fetch(self, creative: Creative) -> ImageBytes:
        """The image's bytes, checked against what the sender announced.

        Raises CreativeError at stage fetch: fetch_refused, fetch_failed, fetch_timeout, missing_image, too_large,
        bad_image (a `data:` that isn't base64), digest_mismatch.
        """
        data = self._read(creative.image_url.strip())
        sha256 = hashlib.sha256(data).hexdigest()
        _check_announced(creative.asset, data, sha256)
        return ImageBytes(data, sha256)

    def _read(self, url: str) -> bytes:
        found = _SCHEME.match(url)
        scheme = found[1].lower() if found else ""
        if scheme == "data":
            return data_url.read(url, self._limits.max_bytes)
        if scheme == "file":
            return self._files.read(url, self._limits.max_bytes)
        if scheme in ("http", "https"):
            return self._http.read(url, Deadline(self._limits.timeout_seconds))
        if scheme in OBJECT_SCHEMES:
            return self._objects.read(scheme, url, Deadline(self._limits.timeout_seconds))
        raise refused("the image's URL is not https:, http:, data:, file:, s3: or gs:")


def _check_announced(asset: Asset, data: bytes, sha256: str) -> None:
    if asset.bytes is not None and asset.bytes != len(data):
        message = f"asset.bytes announces another size than the image's {len(data)} bytes"
        raise CreativeError(Code.DIGEST_MISMATCH, Stage.FETCH, message)
    if asset.sha256 is not None and asset.sha256 != sha256:
        raise CreativeError(Code.DIGEST_MISMATCH, Stage.FETCH, "asset.sha256 is not the image's")
