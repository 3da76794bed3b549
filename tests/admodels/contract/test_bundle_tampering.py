"""Every planted change of a whole bundle is refused before any of it is parsed or loaded."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from admodels.contract import bundle as reader
from admodels.contract.bundle import MAX_MANIFEST_BYTES, BundleError, load_bundle, parse_manifest

MODELS = Path(__file__).parents[3] / "models"
FLIPS = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a bundle that this repository ships."""
    there = tmp_path / "adfusion" / "1"
    shutil.copytree(MODELS / "adfusion" / "1", there)
    return there


def files() -> list[str]:
    return sorted(path.name for path in (MODELS / "adfusion" / "1").iterdir() if path.is_file())


def test_it_is_sound_before_anything_is_planted(folder: Path) -> None:
    assert load_bundle(folder).label == "adfusion/1"


@pytest.mark.parametrize("name", files())
def test_one_bit_anywhere(folder: Path, name: str) -> None:
    """In the manifest a bit may fall on what is no part of its meaning; then the digest must be the same."""
    dice = random.Random(name)
    digest, good = load_bundle(folder).digest, (folder / name).read_bytes()
    refused = 0
    for _ in range(FLIPS):
        data = bytearray(good)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        (folder / name).write_bytes(data)
        try:
            made = load_bundle(folder)
        except BundleError:
            refused += 1
        else:
            assert name == "manifest.json"
            assert made.files.keys() == {*files()} - {name}, "a listed file can't be dropped from the list unseen"
            if made.manifest.model_copy(update={"training": {}, "metrics": {}, "versions": {}}) == parse_manifest(
                good, ""
            ).model_copy(update={"training": {}, "metrics": {}, "versions": {}}):
                assert made.digest == digest
    assert refused == FLIPS or name == "manifest.json"
    assert refused


@pytest.mark.parametrize("name", files())
def test_cut_off_or_grown(folder: Path, name: str) -> None:
    good = (folder / name).read_bytes()
    for data in (good[:-3], good[: len(good) // 2], b"", good + b"\0"):
        (folder / name).write_bytes(data)
        with pytest.raises(BundleError, match=name.replace(".", r"\.")):
            load_bundle(folder)


def test_a_file_that_is_swapped_between_hashing_and_loading_never_reaches_the_engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is opened once; what is handed out are the hashed bytes, whatever lies there afterwards."""
    opened: list[str] = []
    really = os.open

    def opening(path: str | Path, *rest: int) -> int:
        descriptor = really(path, *rest)
        opened.append(Path(path).name)
        evil = folder / "swapped"
        evil.write_bytes(b"evil")
        evil.replace(path)
        return descriptor

    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(reader.os, "open", opening)
    made = load_bundle(folder)
    assert sorted(opened) == files()
    assert made.files == {name: data for name, data in good.items() if name != "manifest.json"}
    assert {path.read_bytes() for path in folder.iterdir()} == {b"evil"}


def test_a_file_that_grows_while_it_is_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.fstat

    def looked(descriptor: int) -> os.stat_result:
        found = really(descriptor)
        with (folder / "model.onnx").open("ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(reader.os, "fstat", looked)
    with pytest.raises(BundleError, match=r"model\.onnx isn't the file"):
        load_bundle(folder)


@pytest.mark.parametrize("name", files())
def test_a_link_in_place_of_a_file_whatever_it_names(folder: Path, name: str, tmp_path: Path) -> None:
    (folder / name).rename(tmp_path / "outside")
    for target in (tmp_path / "outside", Path("/dev/zero"), Path("/etc/passwd"), Path("nowhere"), folder / name):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
        with pytest.raises(BundleError, match=r"is a link|can't be opened|missing"):
            load_bundle(folder)


def test_a_graph_with_external_data_is_refused_although_its_digest_is_right(folder: Path) -> None:
    import hashlib

    model = onnx.load_from_string((folder / "model.onnx").read_bytes())
    weight = model.graph.initializer[0]
    (folder / "weights.bin").write_bytes(weight.raw_data or np.zeros(4, np.float32).tobytes())
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights.bin")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest = json.loads((folder / "manifest.json").read_text())
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("model.onnx", "weights.bin")}
    manifest["files"] |= digests
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"model\.onnx: a tensor of it lies in another file"):
        load_bundle(folder)


def planted() -> Iterator[tuple[str, Callable[[str], str], str]]:
    """Changes of the manifest's text, and what the refusal says."""
    yield "unknown version", lambda text: text.replace('"manifest_version": 1', '"manifest_version": 2'), "unknown"
    yield "twice", lambda text: text.replace("{", '{"precision": "fp32", ', 1), "stands twice"
    yield "twice inside", lambda text: text.replace('"files": {', '"files": {"a": "0", "a": "1", '), "stands twice"
    for name in ("NaN", "Infinity", "-Infinity", "1e999", "-1e400"):
        yield name, lambda text, name=name: text.replace("{", '{"metrics": {"auc": ' + name + "}, ", 1), "metrics"
        yield (
            f"{name} deep inside",
            lambda text, name=name: text.replace("{", '{"training": {"a": [[{"b": ' + name + "}]]}, ", 1),
            "isn't finite",
        )
    yield "too large", lambda text: text + " " * MAX_MANIFEST_BYTES, "at most"
    yield "deep", lambda text: text.replace("{", '{"training": {"a": ' + "[" * 90_000 + "]" * 90_000 + "}, ", 1), "JSON"
    yield "a long number", lambda text: text.replace("{", '{"base_rate": ' + "9" * 100_000 + ", ", 1), "JSON"
    yield "a byte order mark", lambda text: "\ufeff" + text, "JSON"
    yield "a null name", lambda text: text.replace('"model.onnx"', '"model.onnx\\u0000"'), "adfusion/1"


@pytest.mark.parametrize(("change", "says"), [pytest.param(change, says, id=name) for name, change, says in planted()])
def test_a_manifest_that_was_tampered_with(folder: Path, change: Callable[[str], str], says: str) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("training", "metrics"):
        manifest.pop(name, None)
    path.write_text(json.dumps(manifest))
    load_bundle(folder)
    changed = change(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(BundleError, match=says):
        load_bundle(folder)
