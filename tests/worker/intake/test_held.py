"""Which held bytes serve which event, and how many are held, in memory and in files."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import eventually
from worker.errors import Code, CreativeError, Stage
from worker.intake.held import CLOCKS_MS, HeldBytes
from worker.types import Asset, Creative, ImageBytes, Place

URL = "https://cdn.example/a.jpg?size=1"
ASKED = 1_000_000
AD = Creative("cr", 5, URL, written=ASKED - CLOCKS_MS)


def image(data: bytes = b"first") -> ImageBytes:
    return ImageBytes(data, hashlib.sha256(data).hexdigest())


@pytest.fixture(params=["memory", "files"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "held" if request.param == "files" else None


def held(folder: Path | None, max_bytes: int = 1000) -> HeldBytes:
    made = HeldBytes(max_bytes, folder)
    made.keep(AD, image(), ASKED)
    return made


@pytest.mark.parametrize(
    ("change", "serves"),
    [
        ({}, True),
        ({"creative_id": "other", "image_url": f"  {URL} "}, True),
        ({"image_url": URL + "2"}, False),
        # Written later, or so little earlier that its writer's clock may be behind: the image may be another by now.
        ({"written": ASKED - CLOCKS_MS + 1}, False),
        ({"written": ASKED + 60_000}, False),
        ({"written": 0}, False),
        # An announced digest says it, whenever.
        ({"written": ASKED + 60_000, "asset": Asset(image().sha256, 5)}, True),
        ({"written": ASKED + 60_000, "asset": Asset(image().sha256, None)}, True),
        ({"written": ASKED + 60_000, "asset": Asset(image().sha256, 6)}, False),
        ({"asset": Asset(image(b"second").sha256)}, False),
        ({"asset": Asset(None, 6)}, False),
        ({"asset": Asset(None, 5)}, True),
        ({"written": ASKED + 60_000, "asset": Asset(None, 5)}, False),
        # Scored again: the revision counts, not when the copy was written.
        ({"written": ASKED + 60_000, "repeats": Place("creatives", 0, 1)}, True),
        ({"written": ASKED + 60_000, "repeats": Place("creatives", 0, 1), "lastmod": ASKED}, False),
    ],
)
def test_bytes_serve_only_whom_a_download_could_have_given_them(folder, change: dict, serves: bool) -> None:
    assert held(folder).get(replace(AD, **change)) == (image() if serves else None)


@pytest.mark.parametrize("url", ["data:image/png;base64,AA==", "file:///srv/a.jpg", " data:,"])
def test_only_what_comes_over_the_network_is_held(url: str) -> None:
    assert not HeldBytes(1000).concerns(replace(AD, image_url=url))
    for scheme in ("http", "https", "s3", "GS", " https"):
        assert HeldBytes(1000).concerns(replace(AD, image_url=f"{scheme}://host/a"))
    assert not HeldBytes(0).concerns(AD)


class Slow:
    """A download that ends when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked = 0
        self.go = threading.Event()
        self._error = error

    def __call__(self, creative: Creative) -> ImageBytes:
        self.asked += 1
        self.go.wait(10)
        if self._error:
            raise self._error
        return image(creative.creative_id.encode())


EARLIER = replace(AD, written=1)


@pytest.mark.parametrize(
    ("change", "shares"),
    [
        ({}, True),
        ({"repeats": Place("creatives", 0, 1), "lastmod": 1, "written": 2**50}, True),
        ({"written": 2**50}, False),
        ({"image_url": URL + "2"}, False),
        ({"asset": Asset(None, 5)}, False),
    ],
)
def test_a_download_under_way_serves_whom_it_could_have_been_for(folder, change: dict, shares: bool) -> None:
    made, slow = HeldBytes(1000, folder), Slow()
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(made.obtain, replace(EARLIER, creative_id="first"), slow)
        eventually(lambda: slow.asked == 1)
        second = threads.submit(made.obtain, replace(EARLIER, creative_id="second", **change), slow)
        if not shares:
            eventually(lambda: slow.asked == 2)
        else:
            time.sleep(0.05)
        slow.go.set()
    assert (first.result().how, second.result().how) == ("miss", "shared" if shares else "miss")
    assert slow.asked == 2 - shares
    assert second.result().image.data == (b"first" if shares else b"second")
    assert first.result().asked_ms
    assert (second.result().asked_ms is None) == shares
    assert made.obtain(EARLIER, slow).how == "miss", "only what was scored is held"


def test_a_download_that_fails_fails_for_all_who_wait_and_for_nobody_after(folder) -> None:
    made, slow = HeldBytes(1000, folder), Slow(CreativeError(Code.FETCH_FAILED, Stage.FETCH, "gone"))
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(made.obtain, EARLIER, slow)
        eventually(lambda: slow.asked == 1)
        second = threads.submit(made.obtain, EARLIER, slow)
        time.sleep(0.05)
        slow.go.set()
    for one in (first, second):
        with pytest.raises(CreativeError, match="gone"):
            one.result()
    assert slow.asked == 1
    assert made.obtain(EARLIER, lambda _: image()).image == image()


def test_the_newest_download_stays(folder) -> None:
    made = held(folder)
    made.keep(AD, image(b"older"), ASKED - 1)
    assert made.get(AD) == image()
    made.keep(AD, image(b"newer"), ASKED + 1)
    assert made.get(AD) == image(b"newer")


def test_the_least_recently_used_go_when_there_is_no_room(folder) -> None:
    made = HeldBytes(100, folder)
    ads = [replace(AD, image_url=f"{URL}{number}") for number in range(4)]
    for ad in ads[:3]:
        made.keep(ad, image(b"x" * 33), ASKED)
    assert made.get(ads[0])
    made.keep(ads[3], image(b"y" * 33), ASKED)
    assert [made.get(ad) is not None for ad in ads] == [True, False, True, True]
    made.keep(ads[1], image(b"z" * 101), ASKED)  # larger than all the room
    assert [made.get(ad) is not None for ad in ads] == [True, False, True, True]
    made.keep(ads[1], image(b"z" * 100), ASKED)
    assert [made.get(ad) is not None for ad in ads] == [False, True, False, False]
    if folder:
        assert len(list(folder.iterdir())) == 1


def test_files_outlive_the_process_and_keep_their_order(tmp_path: Path) -> None:
    made = HeldBytes(1000, tmp_path)
    ads = [replace(AD, image_url=f"{URL}{number}") for number in range(3)]
    for number, ad in enumerate(ads):
        made.keep(ad, image(b"x" * 300), ASKED)
        (file,) = (file for file in tmp_path.iterdir() if file.stat().st_mtime > 1e9)
        os.utime(file, (number, number))  # as if long ago
    assert made.get(ads[0])
    (tmp_path / "half.new").write_bytes(b"what a killed process left")
    again = HeldBytes(600, tmp_path)
    assert [again.get(ad) is not None for ad in ads] == [True, False, True]
    assert len(list(tmp_path.iterdir())) == 2
    assert URL not in "".join(file.name for file in tmp_path.iterdir())


def test_workers_on_one_folder_find_each_others(tmp_path: Path) -> None:
    one, other = HeldBytes(1000, tmp_path), HeldBytes(1000, tmp_path)
    one.keep(AD, image(), ASKED)
    assert other.get(AD) == image()
    for file in tmp_path.iterdir():
        file.unlink()
    assert one.get(AD) is None
    assert one.get(AD) is None


def test_a_file_that_was_changed_is_not_believed(tmp_path: Path) -> None:
    made = held(tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert made.get(AD) is None
    assert not list(tmp_path.iterdir())
    file.write_bytes(b"short")
    assert HeldBytes(1000, tmp_path).get(AD) is None


def test_a_folder_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="exists"):
        HeldBytes(1000, tmp_path / "file")


def test_a_folder_that_cannot_be_written_holds_nothing(tmp_path: Path) -> None:
    made = HeldBytes(1000, tmp_path / "held")
    (tmp_path / "held").rmdir()
    made.keep(AD, image(), ASKED)
    assert made.get(AD) is None
