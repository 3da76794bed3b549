"""What fuzzing has found once, and where it begins: every input has its verdict."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fuzz import targets
from worker.intake import image_guard

SECONDS = 1.0
"""CPU for one input; a fuzzer's inputs are small, and the slowest here takes a tenth of it."""


@pytest.fixture(autouse=True)
def _strict_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the decoder's child, which sets Pillow up for its whole process."""
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", image_guard.MAX_PIXELS)


def check(target: str, data: bytes) -> None:
    began = time.process_time()
    targets.TARGETS[target](data)
    assert time.process_time() - began < SECONDS


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param(name, path, id=f"{name}-{path.name[:24]}")
        for name in targets.TARGETS
        for path in targets.found(name)
    ],
)
def test_what_was_found_stays_mended(target: str, path: Path) -> None:
    check(target, path.read_bytes())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("target", targets.TARGETS)
def test_where_the_fuzzer_begins(target: str, data_root: Path) -> None:
    """Without the data sets only the seeds of our own."""
    count = 0
    for data in targets.seeds(target, data_root):
        check(target, data)
        count += 1
    assert count >= 2


def test_the_targets_fail_on_a_planted_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "parse_record", lambda record: record.missing)
    with pytest.raises(AttributeError):
        targets.events(b"\0" + targets.EVENT)
    monkeypatch.setattr(image_guard, "MAX_SIDES", 1)
    monkeypatch.setattr(image_guard, "check_size", lambda *_: None)
    with pytest.raises(AssertionError):
        targets.images(next(targets.seeds("images", Path("/nowhere"))))
