"""Images over http and https: every hop allowed, resolved once, connected to the very address that was checked."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
import zlib
from collections.abc import Callable

from worker.errors import Code, CreativeError, Stage
from worker.intake import http_url, names, pinned
from worker.intake.addresses import Address, is_internal
from worker.intake.hosts import SETTING, AllowList
from worker.intake.http_url import HttpUrl
from worker.intake.inflate import CODINGS, inflate
from worker.intake.pinned import Deadline, PinnedConnection

MAX_REDIRECTS = 3
MAX_ATTEMPTS = 3
_BACKOFF_SECONDS = 0.1
_CHUNK_BYTES = 64 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_HEADERS = {
    "Accept": "image/jpeg, image/png, image/gif, image/webp, image/avif",
    "Accept-Encoding": "identity",
    "User-Agent": "adscore",
    "Connection": "close",
}


class HttpSource:
    """Fetches by URL within the allow-list. Thread-safe: it holds nothing that a fetch changes."""

    def __init__(
        self,
        allowed: AllowList,
        max_bytes: int,
        *,
        tls: ssl.SSLContext | None = None,
        resolve: Callable[[str, float], list[Address]] = names.resolve,
    ) -> None:
        self._allowed, self._max_bytes, self._resolve = allowed, max_bytes, resolve
        self._tls = pinned.tls_context() if tls is None else pinned.keep_deadlines(tls)

    def read(self, url: str, deadline: Deadline) -> bytes:
        """The body behind `url`. Transient failures are tried again while the deadline lasts.

        Raises CreativeError at stage fetch: fetch_refused, fetch_failed, fetch_timeout, too_large.
        """
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                return self._follow(url, deadline)
            except CreativeError as error:
                error.attempts = attempt
                backoff = _BACKOFF_SECONDS * 2**attempt
                last = not error.retryable or error.code is Code.FETCH_TIMEOUT or attempt == MAX_ATTEMPTS
                if last or deadline.at - time.monotonic() <= backoff:
                    raise
                time.sleep(backoff)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _follow(self, url: str, deadline: Deadline) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            try:
                here = http_url.parse(url)
            except ValueError as error:
                raise refused(str(error)) from None
            answer = self._hop(here, deadline)
            if isinstance(answer, bytes):
                return answer
            try:
                url = http_url.redirect(here, answer)
            except ValueError as error:
                raise refused(str(error)) from None
        raise refused(f"more than {MAX_REDIRECTS} redirects")

    def _hop(self, url: HttpUrl, deadline: Deadline) -> bytes | str:
        """The body, or where the answer redirects to."""
        try:
            connection = self._connect(url, self._addresses(url, deadline), deadline)
            try:
                connection.request("GET", url.target, headers=_HEADERS)
                with contextlib.closing(connection.getresponse()) as response:
                    return self._answer(response, url)
            finally:
                connection.close()
        except TimeoutError:
            if not deadline.passed():  # the operating system gave the connection up earlier
                raise failed(f"{url.host} does not answer", retryable=True) from None
            message = f"{url.host} did not deliver within ADSCORE_FETCH__TIMEOUT_SECONDS"
            raise CreativeError(Code.FETCH_TIMEOUT, Stage.FETCH, message, retryable=True) from None
        except ssl.SSLCertVerificationError as error:
            raise failed(f"{url.host}: the certificate is not valid (code {error.verify_code})") from None
        except socket.gaierror as error:
            again = error.errno == socket.EAI_AGAIN
            raise failed(f"{url.host} is not a name that resolves", retryable=again) from None
        except (OSError, ValueError, http.client.HTTPException, zlib.error) as error:
            raise failed(f"{url.host} broke the exchange ({type(error).__name__})", retryable=True) from None

    def _addresses(self, url: HttpUrl, deadline: Deadline) -> list[Address]:
        """The addresses to connect to. Refused where the URL, or any one address, is not allowed."""
        if not self._allowed.permits(url):
            why = "" if self._allowed.permits_network else f" ({SETTING} is empty: nothing is fetched)"
            raise refused(f"{url.scheme} to {url.host} on port {url.port} is not allowed by {SETTING}{why}")
        found = [url.address] if url.address is not None else self._resolve(url.host, deadline.left())
        if any(is_internal(address) and not self._allowed.permits_internal(address, url.port) for address in found):
            raise refused(f"{url.host} is or resolves to an internal address that {SETTING} does not list")
        return found

    def _connect(self, url: HttpUrl, addresses: list[Address], deadline: Deadline) -> PinnedConnection:
        """Connect to the first address that takes the connection; each gets its share of the time left."""
        tls = self._tls if url.scheme == "https" else None
        for index, address in enumerate(addresses):
            others = len(addresses) - index - 1
            share = Deadline(deadline.left() / 2) if others else deadline
            connection = PinnedConnection(url.host, address, url.port, tls, share)
            try:
                connection.connect()
            except OSError as error:
                if not others or isinstance(error, ssl.SSLCertVerificationError):
                    raise
                continue
            connection.hold_to(deadline)
            return connection
        raise socket.gaierror(socket.EAI_NONAME, "no addresses")

    def _answer(self, response: http.client.HTTPResponse, url: HttpUrl) -> bytes | str:
        if response.status in _REDIRECTS:
            location = response.headers.get("Location")
            if location is None:
                raise failed(f"{url.host} redirects without saying where to")
            return location
        if response.status != 200:
            raise failed(f"{url.host} answered {response.status}", retryable=response.status in _TRY_AGAIN)
        if response.length is not None and response.length > self._max_bytes:
            raise self._too_large()
        body = self._body(response)
        encoding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
        if encoding == "identity":
            return body
        if encoding in CODINGS:
            data = inflate(body, self._max_bytes)
            if data is None:
                raise self._too_large()
            return data
        raise failed(f"{url.host} answered with a content encoding that was not asked for")

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        chunks, total = [], 0
        while chunk := response.read(_CHUNK_BYTES):
            total += len(chunk)
            if total > self._max_bytes:
                raise self._too_large()
            chunks.append(chunk)
        if response.length:  # closed before the announced length
            raise http.client.IncompleteRead(b"")
        return b"".join(chunks)

    def _too_large(self) -> CreativeError:
        return CreativeError(Code.TOO_LARGE, Stage.FETCH, f"over {self._max_bytes} bytes (ADSCORE_FETCH__MAX_BYTES)")


def refused(message: str) -> CreativeError:
    """Not allowed, by the URL itself or by the operator's list."""
    return CreativeError(Code.FETCH_REFUSED, Stage.FETCH, message)


def failed(message: str, *, retryable: bool = False) -> CreativeError:
    """The source answered badly."""
    return CreativeError(Code.FETCH_FAILED, Stage.FETCH, message, retryable=retryable)
