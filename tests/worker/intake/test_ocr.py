"""OCR through the real engines in their children, and what is kept of their words."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from admodels.contract.ocr import PREPROCESSING
from worker.errors import FatalError
from worker.intake import ocr, tessdata
from worker.intake.ocr import OcrError, OcrPool, reading

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None and not os.environ.get("CI"), reason="tesseract is not installed"
)
EXTRAS = {"pytesseract": "pytesseract", "tesserocr": "tesserocr", "rapidocr": "rapidocr"}


def engine(name: str) -> Any:
    """An engine to test with; one that isn't installed skips on a developer's machine and fails in CI."""
    absent = importlib.util.find_spec(EXTRAS[name]) is None or (
        name != "rapidocr" and shutil.which("tesseract") is None
    )
    return pytest.param(
        name, marks=pytest.mark.skipif(absent and not os.environ.get("CI"), reason=f"{name} is not installed")
    )


each_engine = pytest.mark.parametrize("pool", [engine(name) for name in EXTRAS], indirect=True)
each_name = pytest.mark.parametrize("name", [engine(name) for name in EXTRAS])


def sign(*lines: str, size: tuple[int, int] = (600, 300)) -> NDArray[np.uint8]:
    image = Image.new("L", size, 250)
    for number, line in enumerate(lines):
        ImageDraw.Draw(image).text((30, 30 + 90 * number), line, font=ImageFont.truetype(FONT, 48), fill=10)
    return np.asarray(image)


@pytest.fixture(scope="module")
def pool(request: pytest.FixtureRequest) -> Iterator[OcrPool]:
    pool = OcrPool(1, request.param)
    yield pool
    pool.close()


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the pools of this test put their files; others' lie elsewhere."""
    place = tmp_path / "memory"
    place.mkdir()
    monkeypatch.setattr(ocr, "_MEMORY_FOLDER", str(place))
    return place


def group_gone(group: int) -> bool:
    """Whether the process group ends within seconds; a killed process needs a moment, a zombie its reaper."""
    for _ in range(100):
        found = subprocess.run(["pgrep", "-g", str(group), "-r", "R,S,D,T"], capture_output=True).stdout
        if not found:
            return True
        time.sleep(0.05)
    return False


@each_engine
def test_words_lines_confidence_and_boxes(pool: OcrPool) -> None:
    got = pool.read(sign("Summer sale", "Shop now"))
    assert got.text == "Summer sale\nShop now"
    assert got.confidence is not None
    assert 0.8 < got.confidence <= 1
    assert [box.text for box in got.boxes] == ["Summer", "sale", "Shop", "now"]
    shop = got.boxes[2]
    assert shop.x == pytest.approx(30 / 600, abs=0.03)
    assert shop.y == pytest.approx(130 / 300, abs=0.05)
    assert 0.1 < shop.w < 0.3
    assert 0.08 < shop.h < 0.25


@each_engine
def test_an_image_without_text(pool: OcrPool) -> None:
    got = pool.read(np.full((200, 300), 128, np.uint8))
    assert (got.text, got.confidence, got.boxes) == ("", None, ())


@each_engine
@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (2, 2)])
def test_tiny_images_are_read_or_fail_by_name(pool: OcrPool, shape: tuple[int, int]) -> None:
    try:
        assert pool.read(np.zeros(shape, np.uint8)).text == ""
    except OcrError as error:
        if error.code != "ocr_failed":
            raise


@each_engine
def test_a_view_that_is_not_contiguous_is_read_too(pool: OcrPool) -> None:
    doubled = np.repeat(sign("Hello"), 2, axis=1)
    assert pool.read(doubled[:, ::2]).text == "Hello"


@each_engine
def test_an_image_is_read_the_same_whatever_was_read_before(pool: OcrPool) -> None:
    first, other = sign("Free trial", "Start today"), sign("Frce triol", "Stort todoy")
    alone = pool.read(first)
    for _ in range(3):
        pool.read(other)
    assert pool.read(first) == alone


@each_engine
def test_identity_names_all_that_changes_a_reading(pool: OcrPool) -> None:
    parts = {
        "pytesseract": ("pytesseract tesseract-", " eng-", "--psm 11"),
        "tesserocr": ("tesserocr tesseract-", " eng-", "--psm 11"),
        "rapidocr": ("rapidocr PP-OCRv6_det_small-", " PP-OCRv6_rec_small-", " db-", " ctc-"),
    }
    found = next(wanted for name, wanted in parts.items() if pool.identity.startswith(name))
    for part in (*found, PREPROCESSING):
        assert part in pool.identity


@needs_tesseract
def test_other_trained_data_under_the_same_name_is_another_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (tessdata.folder() / "eng.traineddata").read_bytes()
    before = tessdata.digest(tessdata.folder(), "eng")
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    (tmp_path / "eng.traineddata").write_bytes(data)
    assert (tessdata.folder(), tessdata.digest(tmp_path, "eng")) == (tmp_path, before)
    (tmp_path / "eng.traineddata").write_bytes(data + b"\0")
    assert tessdata.digest(tmp_path, "eng") != before


@each_name
def test_over_its_time_is_a_timeout_soon_after_it(name: str) -> None:
    pool = OcrPool(1, name, timeout_seconds=0.05)
    pids = pool.pids()
    began = time.monotonic()
    noise = np.random.default_rng(0).integers(0, 255, (1200, 1600), dtype=np.uint8)
    with pytest.raises(OcrError) as caught:
        pool.read(noise)
    assert caught.value.code == "ocr_timeout"
    assert time.monotonic() - began < 4
    if name == "pytesseract":
        assert pool.pids() == pids, "the program alone is ended"
    pool.close()


@each_name
def test_a_child_that_dies_or_hangs_fails_its_image_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ocr, "_GRACE_SECONDS", 0.5)
    pool = OcrPool(1, name, timeout_seconds=2.0)
    for number, code in ((9, "ocr_failed"), (19, "ocr_timeout")):
        with ThreadPoolExecutor(1) as thread:
            noise = np.random.default_rng(0).integers(0, 255, (1500, 1500), dtype=np.uint8)
            read = thread.submit(pool.read, noise)
            time.sleep(0.15)
            killed = pool.pids()[0]
            os.kill(killed, number)
            with pytest.raises(OcrError) as caught:
                read.result()
        assert caught.value.code == code
        assert group_gone(killed)  # Tesseract too
        assert pool.read(sign("Hi there")).text == "Hi there"
    pool.close()


@each_name
def test_closing_leaves_no_files_and_no_process(name: str, folders: Path) -> None:
    pool = OcrPool(2, name)
    assert len(list(folders.iterdir())) == 1
    pids = pool.pids()
    pool.close()
    assert not list(folders.iterdir())
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@each_name
def test_a_killed_worker_leaves_no_files_and_no_process(name: str, folders: Path) -> None:
    script = f"""
        import threading, time
        import numpy as np
        from worker.intake import ocr
        ocr._MEMORY_FOLDER = {str(folders)!r}
        pool = ocr.OcrPool(1, {name!r})
        noise = np.random.default_rng(0).integers(0, 255, (1500, 1500), dtype=np.uint8)
        threading.Thread(target=pool.read, args=(noise,), daemon=True).start()
        time.sleep(0.3)
        print(*pool.pids(), flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as worker:
        assert worker.stdout is not None
        (pid,) = (int(text) for text in worker.stdout.readline().split())
        worker.kill()
    assert group_gone(pid)
    assert not list(folders.iterdir())


def test_tesseract_that_is_not_there_is_fatal_and_says_how_to_get_it(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FatalError, match="apt-get install tesseract-ocr") as caught:
        OcrPool(1)
    assert caught.value.exit_code == 3
    assert not list(folders.iterdir())


@needs_tesseract
def test_a_language_that_is_not_there_is_fatal_and_says_how_to_get_it() -> None:
    with pytest.raises(FatalError, match="tesseract-ocr-tlh"):
        OcrPool(1, languages="eng+tlh")


@pytest.mark.parametrize("name", ["tesserocr", "rapidocr"])
def test_a_package_that_is_not_installed_is_fatal_and_says_how_to_get_it(
    name: str, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.py").write_text("raise ImportError")  # before any installed one
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FatalError, match=rf"^OCR: {name} .*; pip install 'adscore\[{name}\]'") as caught:
        OcrPool(1, name)
    assert caught.value.exit_code == 3
    assert not list(folders.iterdir())


def test_a_package_without_the_models_is_fatal_and_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rapidocr").mkdir()
    (tmp_path / "rapidocr" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(FatalError, match="has no model PP-OCRv6_det_small") as caught:
        OcrPool(1, "rapidocr")
    assert caught.value.exit_code == 3


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="choose one of pytesseract, tesserocr, rapidocr"):
        OcrPool(1, engine="guess")


def word(text: str, line: int = 0, *, confidence: float = 90, left: int = 0, top: int = 0) -> list[Any]:
    return [text, confidence, left, top, 10, 5, line]


def test_lines_are_ordered_from_the_top_whatever_order_they_were_found_in() -> None:
    words = [word("low", 0, top=80), word("right", 1, top=10, left=50), word("left", 2, top=10, left=5)]
    assert reading([*words, word("er", 0, top=81, left=20)], 100, 100).text == "left\nright\nlow er"


def test_uncertain_and_empty_words_are_dropped() -> None:
    got = reading([word("sure"), word("unsure", confidence=49), word("  ", confidence=95), word("")], 100, 100)
    assert (got.text, got.confidence, len(got.boxes)) == ("sure", 0.9, 1)


def test_text_boxes_and_words_are_cut() -> None:
    got = reading([word("日" * 100, line, top=line) for line in range(150)], 1000, 1000)
    assert len(got.boxes) == 100
    assert len(got.boxes[0].text) == 64
    assert 8189 < len(got.text.encode()) <= 8192


def test_boxes_stay_inside_the_image() -> None:
    (box,) = reading([["x", 90.0, 95, -3, 20, 200, 0]], 100, 100).boxes
    assert (box.x, box.y, box.w, box.h) == (0.95, 0.0, 0.05, 1.0)
