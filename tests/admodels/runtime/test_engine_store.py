"""An engine is loaded only as it was built, for what it was built for."""

import dataclasses
import json
import multiprocessing
import os
import random
import resource
import time
from pathlib import Path
from typing import Any

import pytest

from admodels.runtime import engine_store
from admodels.runtime.engine_store import DIGESTS, PLAN, EngineKey
from admodels.runtime.runner import EngineError

KEY = EngineKey("tensorrt", "11.4.0", "9.0", "fp16", "ab" * 32, ({"batch": (1, 8, 16)},), {"workspace_mib": 0})
BYTES = bytes(range(256)) * 64


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "dbafn" / "1" / "engines" / KEY.folder
    engine_store.save(folder, KEY, BYTES, b"timings")
    return folder


def test_it_comes_back_as_it_was(place: Path) -> None:
    assert place.name == "sm90-trt11.4.0-fp16"
    assert engine_store.load(place, KEY) == BYTES
    assert engine_store.timings(place) == b"timings"
    assert sorted(item.name for item in place.parent.iterdir()) == [KEY.folder]


def test_none_is_there_yet(tmp_path: Path) -> None:
    assert engine_store.load(tmp_path / "nothing", KEY) is None
    assert engine_store.timings(tmp_path / "nothing") == b""


@pytest.mark.parametrize("at", [0, 1, 5_000, len(BYTES) - 1])
def test_a_flipped_bit_is_refused(place: Path, at: int) -> None:
    data = bytearray(BYTES)
    data[at] ^= 1
    (place / PLAN).write_bytes(data)
    with pytest.raises(EngineError, match=r"dbafn/1/sm90.*isn't the file that was built.*models build"):
        engine_store.load(place, KEY)


@pytest.mark.parametrize("name", [PLAN, DIGESTS])
def test_one_bit_anywhere_is_refused(place: Path, name: str) -> None:
    dice, good = random.Random(name), (place / name).read_bytes()
    for _ in range(200):
        data = bytearray(good)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        (place / name).write_bytes(data)
        try:
            loaded = engine_store.load(place, KEY)
        except EngineError:
            continue
        # A space of the digest file became another one, say, or the timings' digest: then it is the engine that was
        # built, without its timings.
        assert name == DIGESTS
        assert decisive(json.loads(data)) == decisive(json.loads(good))
        assert loaded == BYTES
        assert (engine_store.timings(place) == b"timings") == (json.loads(data) == json.loads(good))


def decisive(digests: dict[str, Any]) -> dict[str, Any]:
    """What decides about the engine itself."""
    return {name: digests[name] for name in ("sha256", *KEY.as_json())}


@pytest.mark.parametrize("name", [PLAN, DIGESTS])
def test_a_pipe_in_place_of_a_file_does_not_hang(place: Path, name: str) -> None:
    (place / name).unlink()
    os.mkfifo(place / name)
    with pytest.raises(EngineError, match=f"{name} isn't a plain file"):
        engine_store.load(place, KEY)


@pytest.mark.parametrize("which", ["engine", "engines"])
def test_a_link_in_place_of_a_folder_is_refused(place: Path, tmp_path: Path, which: str) -> None:
    folder = place if which == "engine" else place.parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="it is a link"):
        engine_store.load(place, KEY)


def test_timings_that_changed_are_not_given_to_the_builder(place: Path) -> None:
    (place / engine_store.TIMINGS).write_bytes(b"timingz")
    assert engine_store.timings(place) == b""
    (place / DIGESTS).write_bytes(b"[]")
    assert engine_store.timings(place) == b""


def swap_after(monkeypatch: pytest.MonkeyPatch, place: Path, read: str, data: bytes) -> None:
    """Another engine takes the engine's place as soon as the file `read` has been read."""
    real = engine_store._read_plain

    def swapped(path: Path, *limit: int) -> bytes:
        given = real(path, *limit)
        if path.name == read:
            (place / "other").write_bytes(data)
            (place / "other").replace(place / PLAN)
        return given

    monkeypatch.setattr(engine_store, "_read_plain", swapped)


def test_an_engine_that_is_swapped_after_hashing_is_never_the_one_that_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap_after(monkeypatch, place, PLAN, b"another program")
    assert engine_store.load(place, KEY) == BYTES, "the bytes that were hashed"
    with pytest.raises(EngineError, match="isn't the file that was built"):
        engine_store.load(place, KEY)


def test_an_engine_that_is_swapped_before_hashing_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap_after(monkeypatch, place, DIGESTS, b"another program")
    with pytest.raises(EngineError, match="isn't the file that was built"):
        engine_store.load(place, KEY)


@pytest.mark.parametrize("cut", [0, 1, len(BYTES) - 1])
def test_a_truncated_engine_is_refused(place: Path, cut: int) -> None:
    (place / PLAN).write_bytes(BYTES[:cut])
    with pytest.raises(EngineError, match="isn't the file"):
        engine_store.load(place, KEY)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sm": "8.6"}, "another compute capability"),
        ({"version": "11.3.0"}, "another TensorRT version"),
        ({"module": "tensorrt_rtx"}, "another module"),
        ({"onnx_sha256": "cd" * 32}, "another graph"),
        ({"precision": "fp32"}, "another precision"),
        ({"shapes": ({"batch": (1, 8, 32)},)}, "another shapes"),
        ({"options": {"workspace_mib": 1}}, "another options"),
    ],
)
def test_an_engine_for_something_else_is_refused(place: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineError, match=said):
        engine_store.load(place, dataclasses.replace(KEY, **change))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_odd_digests_are_refused(place: Path, text: bytes) -> None:
    (place / DIGESTS).write_bytes(text)
    with pytest.raises(EngineError, match=r"engine\.json"):
        engine_store.load(place, KEY)


@pytest.mark.parametrize("name", [PLAN, DIGESTS])
def test_a_missing_file_and_a_link_are_refused(place: Path, name: str) -> None:
    kept = (place / name).read_bytes()
    (place / name).unlink()
    with pytest.raises(EngineError, match="No such file"):
        engine_store.load(place, KEY)
    (place.parent / "elsewhere").write_bytes(kept)
    (place / name).symlink_to(place.parent / "elsewhere")
    with pytest.raises(EngineError, match="models build"):
        engine_store.load(place, KEY)


def test_a_new_engine_takes_the_old_ones_place(place: Path) -> None:
    engine_store.save(place, KEY, b"newer", b"")
    assert engine_store.load(place, KEY) == b"newer"
    assert sorted(item.name for item in place.iterdir()) == sorted([PLAN, DIGESTS, engine_store.TIMINGS])


def _save_on_a_full_disk(place: Path, answers: Any) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
    try:
        engine_store.save(place, KEY, BYTES, b"")
    except OSError as error:
        answers.put(error.strerror)


def test_a_full_disk_leaves_what_was_there(place: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_save_on_a_full_disk, args=(place, answers))
    child.start()
    assert answers.get(timeout=20) == "File too large"
    child.join(20)
    assert engine_store.load(place, KEY) == BYTES
    assert [item.name for item in place.parent.iterdir()] == [KEY.folder]


def _build(place: Path, answers: Any) -> None:
    with engine_store.one_builder(place):
        if engine_store.load(place, KEY) is None:
            time.sleep(0.2)
            engine_store.save(place, KEY, BYTES, b"")
            answers.put("built")
        else:
            answers.put("found")


def test_of_two_builders_one_builds_and_the_other_finds(tmp_path: Path) -> None:
    place = tmp_path / "dbafn" / "1" / "engines" / KEY.folder
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=_build, args=(place, answers)) for _ in range(3)]
    for child in children:
        child.start()
    told = sorted(answers.get(timeout=20) for _ in children)
    for child in children:
        child.join(20)
    assert told == ["built", "found", "found"]


def test_the_digests_say_all_that_decides(place: Path) -> None:
    told = json.loads((place / DIGESTS).read_text())
    assert told.keys() == {
        "format",
        "sha256",
        "timings_sha256",
        *(field.name for field in dataclasses.fields(EngineKey)),
    }
