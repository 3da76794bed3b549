"""Bundles are written whole or not at all, and the worker's loader reads them back."""

from __future__ import annotations

from pathlib import Path

import pytest

from admodels.contract.bundle import BundleError, load_bundle
from admodels.contract.manifest import Manifest, TensorSpec
from export import bundle
from export.bundle import BundleExistsError, write_bundle

GRAPH, OLD, NEW = b"", b"\x08\x09", b"\x08\x0a"
"""Serialised models of nothing, and of an IR version alone: the loader asks for protobuf."""
MANIFEST = Manifest(
    manifest_version=1,
    name="toy",
    version="1",
    task="encoder",
    architecture="toy",
    precision="fp32",
    inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 3)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 3)),),
    files={},
)


def test_what_is_written_is_what_the_worker_loads(tmp_path: Path) -> None:
    digest = write_bundle(tmp_path, MANIFEST, {"model.onnx": GRAPH, "NOTICE.txt": b"thanks"})
    loaded = load_bundle(tmp_path / "toy" / "1")
    assert loaded.digest == digest
    assert loaded.files == {"model.onnx": GRAPH, "NOTICE.txt": b"thanks"}
    assert [p.name for p in (tmp_path / "toy").iterdir()] == ["1"]


def test_a_version_that_exists_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    write_bundle(tmp_path, MANIFEST, {"model.onnx": OLD})
    with pytest.raises(BundleExistsError, match="choose another --version"):
        write_bundle(tmp_path, MANIFEST, {"model.onnx": NEW})
    assert load_bundle(tmp_path / "toy" / "1").files["model.onnx"] == OLD
    write_bundle(tmp_path, MANIFEST, {"model.onnx": NEW}, replace=True)
    assert load_bundle(tmp_path / "toy" / "1").files == {"model.onnx": NEW}
    assert [p.name for p in (tmp_path / "toy").iterdir()] == ["1"]


def test_a_disk_that_fails_leaves_the_old_bundle_and_no_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path, MANIFEST, {"model.onnx": OLD})
    real = bundle._write

    def full(path: Path, data: bytes) -> None:
        if path.name == "manifest.json":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr(bundle, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(tmp_path, MANIFEST, {"model.onnx": NEW}, replace=True)
    assert load_bundle(tmp_path / "toy" / "1").files["model.onnx"] == OLD
    assert [p.name for p in (tmp_path / "toy").iterdir()] == ["1"]


def test_a_path_out_of_the_bundle_is_refused_before_it_is_in_place(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        write_bundle(tmp_path, MANIFEST, {"model.onnx": GRAPH, "../escaped.txt": b"x"})
    assert not (tmp_path / "toy" / "1").exists()
