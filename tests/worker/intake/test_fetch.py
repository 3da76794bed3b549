"""From the creative's URL to its bytes: which source reads it, and whether they are the announced ones."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.worker.intake.buckets import ACCESS_KEY, IMAGE, REGION, SECRET, buckets
from worker.errors import Code, CreativeError
from worker.intake.fetch import Fetcher, FetchLimits
from worker.intake.object_source import ObjectAccess
from worker.types import Asset, Creative

DATA = b"hello"
SHA256 = hashlib.sha256(DATA).hexdigest()
URL = "data:image/png;base64," + base64.b64encode(DATA).decode()


def creative(url: str, asset: Asset = Asset()) -> Creative:  # noqa: B008  # frozen
    return Creative("c", 1, url, asset=asset)


def verdict(url: str, asset: Asset = Asset(), **limits: object) -> CreativeError:  # noqa: B008  # frozen
    with pytest.raises(CreativeError) as caught:
        Fetcher(FetchLimits(**limits)).fetch(creative(url, asset))  # type: ignore[arg-type]
    assert "canary" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("asset", [Asset(), Asset(SHA256), Asset(None, 5), Asset(SHA256, 5)])
def test_bytes_and_their_digest(asset: Asset) -> None:
    got = Fetcher(FetchLimits()).fetch(creative(f"  {URL}\n", asset))
    assert (got.data, got.sha256) == (DATA, SHA256)


@pytest.mark.parametrize("asset", [Asset("0" * 64), Asset("canary"), Asset(""), Asset(None, 4), Asset(SHA256, -5)])
def test_other_bytes_than_announced(asset: Asset) -> None:
    assert verdict(URL, asset).code is Code.DIGEST_MISMATCH


def test_too_large_comes_before_the_digest() -> None:
    assert verdict(URL, Asset("0" * 64), max_bytes=4).code is Code.TOO_LARGE


def test_files_are_read_under_the_roots(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    fetcher = Fetcher(FetchLimits(file_roots=[str(tmp_path)]))
    assert fetcher.fetch(creative(f"file://{tmp_path}/a")).data == DATA
    assert verdict(f"file://{tmp_path}/a").code is Code.FETCH_REFUSED


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/?canary",
        "http://cdn.example/",
        "ftp://canary.example/",
        "javascript:canary",
        "canary",
        "/canary.png",
        "//canary.example/",
        "blob:x",
        "s3://canary/key",
        "gs://canary/key",
        "://",
        "1https://x/",
        "jar:https://x/!/canary",
    ],
)
def test_what_nobody_allowed_is_refused(url: str) -> None:
    assert verdict(url).code is Code.FETCH_REFUSED


def test_an_object_is_checked_against_what_was_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with buckets() as store:
        store.objects["ads/a.png"] = IMAGE
        objects = ObjectAccess(s3_endpoint=store.endpoint, s3_region=REGION)
        fetcher = Fetcher(FetchLimits(allowed_hosts=["s3://ads"], objects=objects))
        good = Creative("cr", 1, " S3://ads/a.png ", asset=Asset(bytes=len(IMAGE)))
        assert fetcher.fetch(good).data == IMAGE
        with pytest.raises(CreativeError) as caught:
            fetcher.fetch(replace(good, asset=Asset(sha256="0" * 64)))
        assert caught.value.code is Code.DIGEST_MISMATCH


def test_a_list_that_can_not_be_read_is_told_at_the_start() -> None:
    with pytest.raises(ValueError, match="is no entry"):
        Fetcher(FetchLimits(allowed_hosts=["https://x.example/path"]))
