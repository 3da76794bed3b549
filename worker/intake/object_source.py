"""Images in object stores: `s3://bucket/key` and `gs://bucket/key`, by obstore (Rust's object_store).

Only listed buckets and prefixes are read. A key is taken as it is written (as the clouds' own programs do), never
percent-decoded. Credentials come the clouds' own ways (environment, web identity, the pod's or the machine's role).
"""

from __future__ import annotations

import asyncio
import http.client
import re
import threading
import zlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from worker.errors import Code, CreativeError, Stage
from worker.intake.hosts import SETTING, AllowList
from worker.intake.http_source import failed, refused
from worker.intake.inflate import CODINGS, inflate
from worker.intake.pinned import Deadline

MAX_RETRIES = 2
_CHUNK_BYTES = 256 * 1024
_MAX_KEY_BYTES = 1024
_BUCKET = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
# The library follows redirects and reads the environment's proxies, and neither can be turned off. So every host but
# the store's own, and those that hand out its credentials, is sent to a proxy whose name can't exist (RFC 2606).
_NOWHERE = "http://proxy.invalid"
_CLOUD = {
    "s3": (".amazonaws.com", ".amazonaws.com.cn", "169.254.169.254/32", "169.254.170.2/32", "169.254.170.23/32"),
    "gs": (".googleapis.com", "metadata.google.internal", "169.254.169.254/32"),
}
ENVIRONMENT = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_METADATA_ENDPOINT",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "GOOGLE_BASE_URL",
)
"""Variables by which the clouds' environments name servers of their own."""


@dataclass(frozen=True, slots=True)
class ObjectAccess:
    """How the stores are reached. Empty endpoints and region: the cloud's own, or what its environment says."""

    s3_endpoint: str = ""
    s3_region: str = ""
    s3_anonymous: bool = False
    gs_endpoint: str = ""
    gs_anonymous: bool = False
    environment: tuple[str, ...] = ()
    """URLs that the environment gives for the stores and for those that hand out credentials."""


class ObjectSource:
    """Thread-safe; holds one client per listed bucket that was asked for."""

    def __init__(self, allowed: AllowList, max_bytes: int, access: ObjectAccess, timeout_seconds: float) -> None:
        self._allowed, self._max_bytes, self._access = allowed, max_bytes, access
        self._timeout = timedelta(seconds=timeout_seconds)
        self._stores: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def read(self, scheme: str, url: str, deadline: Deadline) -> bytes:
        """The object's bytes.

        Raises CreativeError at stage fetch: fetch_refused (not listed, malformed), missing_image, fetch_failed (the
        store denies it, or answers badly), fetch_timeout, too_large.
        """
        bucket, key = _parse(scheme, url)
        if not self._allowed.permits_object(scheme, bucket, key):
            why = "" if self._allowed.permits_network else f" ({SETTING} is empty: nothing is fetched)"
            raise refused(f"the {scheme}: object is not allowed by {SETTING}{why}")
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            return asyncio.run(self._within(deadline, scheme, bucket, key))
        except FileNotFoundError:
            raise CreativeError(Code.MISSING_IMAGE, Stage.FETCH, f"the {scheme}: object does not exist") from None
        except TimeoutError:
            message = f"the {scheme}: store did not deliver within ADSCORE_FETCH__TIMEOUT_SECONDS"
            raise CreativeError(Code.FETCH_TIMEOUT, Stage.FETCH, message, retryable=True) from None
        except (PermissionDeniedError, UnauthenticatedError):
            raise failed(f"the {scheme}: store denies the object to this worker's credentials") from None
        except (BaseError, OSError, http.client.HTTPException, zlib.error) as error:
            # The class alone: the library's texts quote URLs, and a store's answer whole.
            raise failed(f"the {scheme}: store broke the exchange ({type(error).__name__})", retryable=True) from None

    async def _within(self, deadline: Deadline, scheme: str, bucket: str, key: str) -> bytes:
        return await asyncio.wait_for(self._get(scheme, bucket, key), deadline.left())

    async def _get(self, scheme: str, bucket: str, key: str) -> bytes:
        import obstore

        result = await obstore.get_async(self._store(scheme, bucket), key)
        if result.meta["size"] > self._max_bytes:
            raise self._too_large()
        chunks, total = [], 0
        async for chunk in result.stream(min_chunk_size=_CHUNK_BYTES):
            total += len(chunk)
            if total > self._max_bytes:
                raise self._too_large()
            chunks.append(bytes(chunk))
        body = b"".join(chunks)
        encoding = str(result.attributes.get("Content-Encoding") or "identity").strip().lower()
        if encoding not in CODINGS:
            return body
        data = inflate(body, self._max_bytes)
        if data is None:
            raise self._too_large()
        return data

    def _store(self, scheme: str, bucket: str) -> Any:
        with self._lock:
            if (scheme, bucket) not in self._stores:
                self._stores[scheme, bucket] = self._open(scheme, bucket)
            return self._stores[scheme, bucket]

    def _open(self, scheme: str, bucket: str) -> Any:
        from obstore.store import GCSStore, S3Store

        access = self._access
        kind: Any = S3Store if scheme == "s3" else GCSStore
        config: dict[str, Any] = {}
        endpoint = access.s3_endpoint if scheme == "s3" else access.gs_endpoint
        if endpoint:
            config["endpoint" if scheme == "s3" else "base_url"] = endpoint
        if scheme == "s3" and access.s3_region:
            config["region"] = access.s3_region
        if access.s3_anonymous if scheme == "s3" else access.gs_anonymous:
            config["skip_signature"] = True
        servers = [url for url in (endpoint, *access.environment) if url]
        named = {urlsplit(url).hostname or "" for url in servers} - {""}
        hosts = [*_CLOUD[scheme], *(_exclusion(host) for host in sorted(named))]
        options = {
            "allow_http": any(url.startswith("http://") for url in servers),
            "proxy_url": _NOWHERE,
            "proxy_excludes": ",".join(hosts),
            "timeout": self._timeout,
            "connect_timeout": self._timeout,
            "user_agent": "adscore",
        }
        retries = {"max_retries": MAX_RETRIES, "retry_timeout": self._timeout}
        return kind(bucket, config=config, client_options=options, retry_config=retries)

    def _too_large(self) -> CreativeError:
        return CreativeError(Code.TOO_LARGE, Stage.FETCH, f"over {self._max_bytes} bytes (ADSCORE_FETCH__MAX_BYTES)")


def _parse(scheme: str, url: str) -> tuple[str, str]:
    """Bucket and key. Raises CreativeError `fetch_refused`, which quotes nothing of them."""
    rest = url[len(scheme) + 1 :]
    bucket, slash, key = rest[2:].partition("/")
    if not rest.startswith("//") or not slash or not key or not _BUCKET.fullmatch(bucket):
        raise refused(f"the image's URL is not of the form {scheme}://bucket/key")
    if _FORBIDDEN.search(key) or len(key.encode()) > _MAX_KEY_BYTES:
        raise refused(f"the key holds a control character or a backslash, or is over {_MAX_KEY_BYTES} bytes")
    # Some gateway in between may decode what the store itself takes as it is.
    if any(part in ("", ".", "..") for text in (key, unquote(key), unquote(unquote(key))) for part in text.split("/")):
        raise refused("the key holds an empty part, or one of dots")
    return bucket, key


def _exclusion(host: str) -> str:
    """A host as the list of exceptions wants it: addresses as networks."""
    if ":" in host:
        return f"{host}/128"
    return f"{host}/32" if re.fullmatch(r"[0-9.]+", host) else host
