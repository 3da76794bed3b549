"""`data:` URLs: base64 as browsers read it, capped by what it decodes to."""

from __future__ import annotations

import base64
import time

import pytest

from worker.errors import Code, CreativeError, Stage
from worker.intake import data_url


def verdict(url: str, max_bytes: int = 1000) -> Code:
    with pytest.raises(CreativeError) as caught:
        data_url.read(url, max_bytes)
    assert caught.value.stage is Stage.FETCH
    return caught.value.code


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,aGVsbG8=",
        "DATA:;BASE64,aGVsbG8",
        "data:image/png;charset=x;base64,aGVs\n bG8=\t",
        "data:image/png;base64,aGVsbG8%3D",
        "data:image/png;base64,%61GVsbG8%3d",
        "data:text/html;base64 ,aGVsbG8==",
        "data:image/png;base64,aGVsbG9=",
    ],
)
def test_good(url: str) -> None:
    assert data_url.read(url, 5) == b"hello"


def test_empty_is_no_error_here() -> None:
    assert data_url.read("data:image/png;base64,", 5) == b""


@pytest.mark.parametrize(
    "url",
    [
        "data:",
        "data:image/png;base64",
        "data:image/png,aGVsbG8=",
        "data:image/png;base64x,aGVsbG8=",
        "data:image/png;base64,aGVs*bG8",
        "data:image/png;base64,aGVsb",
        "data:image/png;base64,aG=VsbG8",
        "data:image/png;base64,-_-_",
        "data:image/png;base64,日本",
        "data:image/png;base64,%zz",
    ],
)
def test_what_is_not_base64_is_a_bad_image(url: str) -> None:
    assert verdict(url) is Code.BAD_IMAGE


@pytest.mark.parametrize("extra", range(4))
def test_the_cap_is_on_the_decoded_bytes(extra: int) -> None:
    size = 96 + extra
    encoded = "data:image/png;base64," + base64.b64encode(bytes(size)).decode()
    assert len(data_url.read(encoded, size)) == size
    assert verdict(encoded, size - 1) is Code.TOO_LARGE


def test_a_large_one_is_quick() -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(bytes(8 << 20)).decode()
    started = time.process_time()
    assert len(data_url.read(url, 8 << 20)) == 8 << 20
    assert verdict(url * 5) is Code.TOO_LARGE
    assert time.process_time() - started < 0.5
