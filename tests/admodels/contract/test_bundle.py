"""A bundle is read only when every byte of it is the one its manifest names."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from admodels.contract.bundle import BundleError, load_bundle


def manifest(files: dict[str, bytes], /, **changes: Any) -> dict[str, Any]:
    return {
        "manifest_version": 1,
        "name": "toy",
        "version": "1",
        "task": "ctr",
        "architecture": "toy",
        "precision": "fp32",
        "inputs": [{"name": "image", "dtype": "uint8", "shape": ["batch", 2, 2, 3]}],
        "outputs": [{"name": "ctr", "dtype": "float32", "shape": ["batch"]}],
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    } | changes


FILES = {"model.onnx": b"\x08\x09\x12\x05graph", "tokenizer.json": b"{}"}  # ir_version 9, producer_name "graph"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    def build(**changes: Any) -> Path:
        folder = tmp_path / "models" / "toy" / "1"
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in FILES.items():
            (folder / name).write_bytes(data)
        (folder / "manifest.json").write_text(json.dumps(manifest(FILES, **changes)))
        return folder

    return build


def test_the_bytes_that_were_checked_are_handed_out(make: Callable[..., Path]) -> None:
    bundle = load_bundle(make())
    assert bundle.files == FILES
    assert bundle.label == "toy/1"


def test_the_digest_covers_what_decides_the_numbers_and_nothing_else(make: Callable[..., Path]) -> None:
    digest = load_bundle(make()).digest
    assert load_bundle(make(metrics={"auc": 0.7}, training={"data": "x"})).digest == digest
    assert load_bundle(make(tolerances={"ctr": {"max_abs": 0.1}})).digest == digest
    edges = {"ctr": [0.8, 1.2]}
    assert load_bundle(make(bucket_edges=edges)).digest != digest
    assert load_bundle(make(bucket_edges=edges, base_rate=0.02)).digest != load_bundle(make(bucket_edges=edges)).digest
    assert load_bundle(make(calibration={"ctr": {"kind": "platt", "a": 1.1}})).digest != digest
    assert load_bundle(make(precision="fp16")).digest != digest


def test_engines_lie_beside_the_bundle_and_are_not_part_of_it(make: Callable[..., Path]) -> None:
    folder = make()
    digest = load_bundle(folder).digest
    (folder / "engines" / "sm90").mkdir(parents=True)
    (folder / "engines" / "sm90" / "x.engine").write_bytes(b"x")
    assert load_bundle(folder).digest == digest


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_refused_by_name(make: Callable[..., Path], name: str) -> None:
    folder = make()
    data = bytearray(FILES[name])
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=rf"toy/1: {name} isn't the file"):
        load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(make: Callable[..., Path], name: str) -> None:
    folder = make()
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing"):
        load_bundle(folder)


def test_a_file_that_is_not_listed_is_refused(make: Callable[..., Path]) -> None:
    folder = make()
    (folder / "weights.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"weights.bin isn't listed"):
        load_bundle(folder)


@pytest.mark.parametrize("filled", [True, False])
def test_a_folder_that_is_not_listed_is_refused(make: Callable[..., Path], filled: bool) -> None:
    folder = make()
    (folder / "extra").mkdir()
    if filled:
        (folder / "extra" / "weights.bin").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"extra isn't listed"):
        load_bundle(folder)


def test_a_listed_file_may_lie_in_a_folder(make: Callable[..., Path]) -> None:
    folder = make(files=manifest(FILES | {"a/b/x.json": b"{}"})["files"])
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "x.json").write_bytes(b"{}")
    assert set(load_bundle(folder).files) == {*FILES, "a/b/x.json"}


def test_links_are_refused_even_to_the_right_bytes(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make()
    (tmp_path / "outside.onnx").write_bytes(FILES["model.onnx"])
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(BundleError, match="is a link"):
        load_bundle(folder)


def test_a_linked_folder_is_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    link = tmp_path / "models" / "toy" / "2"
    link.symlink_to(make())
    with pytest.raises(BundleError, match="no such folder"):
        load_bundle(link)


def test_a_link_in_place_of_the_models_name_is_refused(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make()
    folder.parent.rename(tmp_path / "elsewhere")
    folder.parent.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="no such folder"):
        load_bundle(folder)


def test_all_models_may_lie_behind_a_link(make: Callable[..., Path], tmp_path: Path) -> None:
    make()
    (tmp_path / "linked").symlink_to(tmp_path / "models")
    assert load_bundle(tmp_path / "linked" / "toy" / "1").label == "toy/1"


@pytest.mark.parametrize("kind", ["link", "file"])
def test_engines_are_a_folder_or_nothing(make: Callable[..., Path], tmp_path: Path, kind: str) -> None:
    folder = make()
    if kind == "link":
        (tmp_path / "engines").mkdir()
        (folder / "engines").symlink_to(tmp_path / "engines")
    else:
        (folder / "engines").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"engines is a link|engines isn't listed"):
        load_bundle(folder)


def test_a_pipe_in_place_of_a_file_does_not_hang(make: Callable[..., Path]) -> None:
    folder = make()
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    with pytest.raises(BundleError, match="isn't a plain file"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "path", ["../model.onnx", "/etc/passwd", "a/../model.onnx", "./model.onnx", "a\\b", "engines/x", "", "a\0b"]
)
def test_paths_that_leave_the_bundle_are_refused(make: Callable[..., Path], path: str) -> None:
    files = manifest(FILES)["files"] | {path: "0" * 64}
    with pytest.raises(BundleError, match="not inside the bundle"):
        load_bundle(make(files=files))


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0])
def test_an_unknown_manifest_version_says_what_to_do(make: Callable[..., Path], version: Any) -> None:
    with pytest.raises(BundleError, match="unknown manifest_version"):
        load_bundle(make(manifest_version=version))


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"task": "weather"}, "task"),
        ({"unknown_field": 1}, "unknown_field"),
        ({"base_rate": float("nan")}, "base_rate"),
        ({"calibration": {"ctr": {"kind": "platt", "a": float("inf")}}}, "calibration"),
        ({"name": "../toy"}, "name"),
    ],
)
def test_a_manifest_that_does_not_fit_names_the_field(
    make: Callable[..., Path], changes: dict[str, Any], where: str
) -> None:
    with pytest.raises(BundleError, match=where):
        load_bundle(make(**changes))


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"[" * 5_000, b"\xff"])
def test_a_manifest_that_is_no_json_object_is_refused(make: Callable[..., Path], raw: bytes) -> None:
    folder = make()
    (folder / "manifest.json").write_bytes(raw)
    with pytest.raises(BundleError, match=r"isn't JSON|unknown manifest_version"):
        load_bundle(folder)


def test_a_bundle_in_another_folder_than_its_name_is_refused(make: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match="its manifest says other/1"):
        load_bundle(make(name="other"))
