"""Images on disk: `file:` URLs under the roots that the operator allows."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes

from worker.errors import Code, CreativeError, Stage

SETTING = "ADSCORE_FETCH__FILE_ROOTS"
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class FileRoots:
    """Folders under which files may be read. Links are followed as long as they end under a root."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = tuple(os.path.realpath(root) for root in roots if root)

    def read(self, url: str, max_bytes: int) -> bytes:
        """The bytes of a regular file.

        Raises CreativeError at stage fetch: fetch_refused (outside the roots, not a regular file, malformed),
        missing_image (not there), too_large, fetch_failed (can't be read). A path outside the roots is refused
        whether it exists or not.
        """
        path = os.path.realpath(_path(url))
        if not self._under_root(path):
            mend = f"the file is not under {SETTING}" if self._roots else f"{SETTING} is empty: no file may be read"
            raise _refused(mend)
        try:
            # Not blocking: opening a pipe must not wait for its writer. No link: realpath has followed them all.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
            try:
                return self._content(fd, max_bytes)
            finally:
                os.close(fd)
        except OSError as error:
            raise _failed(error) from None

    def _content(self, fd: int, max_bytes: int) -> bytes:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise _refused("not a regular file")
        if not self._under_root(str(Path(f"/proc/self/fd/{fd}").readlink())):  # a folder was swapped for a link
            raise _refused(f"the file is not under {SETTING}")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise CreativeError(Code.TOO_LARGE, Stage.FETCH, f"over {max_bytes} bytes (ADSCORE_FETCH__MAX_BYTES)")
        return data

    def _under_root(self, path: str) -> bool:
        return any(path.startswith(root.rstrip("/") + "/") for root in self._roots)


def _path(url: str) -> str:
    rest = url[len("file:") :]
    if rest.startswith("//"):
        host, _, rest = rest[2:].partition("/")
        rest = "/" + rest
        if host.lower() not in ("", "localhost"):
            raise _refused("the file: URL names another host")
    if not rest.startswith("/") or _BAD_ESCAPE.search(rest) or "?" in rest or "#" in rest:
        raise _refused("the file: URL is not of the form file:///path, with ?, # and % percent-encoded")
    path = unquote_to_bytes(rest)
    if b"\0" in path:
        raise _refused("the file: URL holds a null character")
    return os.fsdecode(path)


def _refused(message: str) -> CreativeError:
    return CreativeError(Code.FETCH_REFUSED, Stage.FETCH, message)


def _failed(error: OSError) -> CreativeError:
    name = errno.errorcode.get(error.errno or 0, "an error")
    if error.errno in _ABSENT:
        return CreativeError(Code.MISSING_IMAGE, Stage.FETCH, "the file does not exist")
    if error.errno in (errno.ENXIO, errno.ELOOP):  # a socket; a link put there since
        return _refused("not a regular file")
    return CreativeError(Code.FETCH_FAILED, Stage.FETCH, f"the file can't be read ({name})", retryable=True)
