"""`file:` URLs: only regular files under the roots, whatever the path looks like."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from worker.errors import Code, CreativeError, Stage
from worker.intake.file_url import FileRoots

CAP = 100


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"inside")
    (folder / "sub" / "ü %?#.png").write_bytes(b"odd name")
    (tmp_path / "secret.png").write_bytes(b"outside")
    (tmp_path / "root-sibling").mkdir()
    (tmp_path / "root-sibling" / "a.png").write_bytes(b"outside")
    return folder


def verdict(root: Path, url: str) -> Code:
    with pytest.raises(CreativeError) as caught:
        FileRoots([str(root)]).read(url, CAP)
    assert caught.value.stage is Stage.FETCH
    assert "root" not in caught.value.message.replace("FILE_ROOTS", "")
    return caught.value.code


def test_good_forms(root: Path) -> None:
    roots = FileRoots([str(root)])
    for url in (f"file://{root}/a.png", f"file:{root}/a.png", f"FILE://localhost{root}/sub/../a.png"):
        assert roots.read(url, CAP) == b"inside"
    assert roots.read((root / "sub" / "ü %?#.png").as_uri(), CAP) == b"odd name"


def test_a_link_inside_the_root_is_followed_and_one_that_leads_out_is_not(root: Path) -> None:
    (root / "in").symlink_to(root / "a.png")
    (root / "out").symlink_to(root.parent / "secret.png")
    (root / "folder").symlink_to(root.parent)
    (root / "dangling").symlink_to(root.parent / "nothing")
    (root / "loop").symlink_to(root / "loop")
    assert FileRoots([str(root)]).read(f"file://{root}/in", CAP) == b"inside"
    for name in ("out", "folder/secret.png", "dangling", "loop"):
        assert verdict(root, f"file://{root}/{name}") is Code.FETCH_REFUSED


def test_a_root_may_itself_be_a_link(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    assert FileRoots([str(link)]).read(f"file://{link}/a.png", CAP) == b"inside"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.png",
        "/%2e%2e/secret.png",
        "/sub/..%2f..%2fsecret.png",
        "/sub/%2E./../../secret.png",
        "/../root-sibling/a.png",
        "-sibling/a.png",
        "",
        "/",
        "/sub",
        "/a.png%00.jpg",
        "/a.png%",
        "/a.png%zz",
        "/a.png?x",
        "/a.png#x",
        "/%252e%252e/../../secret.png",
    ],
)
def test_refused(root: Path, path: str) -> None:
    assert verdict(root, f"file://{root}{path}") is Code.FETCH_REFUSED


@pytest.mark.parametrize(
    "url", ["file:", "file:a.png", "file://host/a.png", "file://", "file:////etc/passwd", "file:///"]
)
def test_refused_forms(root: Path, url: str) -> None:
    assert verdict(root, url) is Code.FETCH_REFUSED


@pytest.mark.parametrize("path", ["/none.png", "/sub/none/none.png", "/a.png/x", "/" + "n" * 300, "/%252e%252e"])
def test_missing_inside_the_root(root: Path, path: str) -> None:
    assert verdict(root, f"file://{root}{path}") is Code.MISSING_IMAGE


def test_what_is_outside_is_refused_whether_it_exists_or_not(root: Path) -> None:
    assert verdict(root, "file:///etc/passwd") is verdict(root, "file:///etc/no-such-file") is Code.FETCH_REFUSED


def test_no_pipe_socket_or_device_is_opened_for_reading(root: Path) -> None:
    os.mkfifo(root / "fifo")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "socket"))
    codes: list[Code] = []
    reader = threading.Thread(
        target=lambda: codes.extend(verdict(root, f"file://{root}/{name}") for name in ("fifo", "socket"))
    )
    reader.start()
    reader.join(5)
    listener.close()
    assert codes == [Code.FETCH_REFUSED, Code.FETCH_REFUSED]
    with pytest.raises(CreativeError) as caught:
        FileRoots(["/"]).read("file:///dev/zero", CAP)
    assert caught.value.code is Code.FETCH_REFUSED


def test_too_large_and_exactly_large_enough(root: Path) -> None:
    (root / "big").write_bytes(bytes(CAP + 1))
    (root / "fits").write_bytes(bytes(CAP))
    assert verdict(root, f"file://{root}/big") is Code.TOO_LARGE
    assert len(FileRoots([str(root)]).read(f"file://{root}/fits", CAP)) == CAP


def test_a_file_that_may_not_be_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(CreativeError) as caught:
        FileRoots([str(root)]).read(f"file://{root}/a.png", CAP)
    assert (caught.value.code, caught.value.retryable) == (Code.FETCH_FAILED, True)


def test_without_roots_the_refusal_names_the_setting(root: Path) -> None:
    with pytest.raises(CreativeError, match="ADSCORE_FETCH__FILE_ROOTS is empty"):
        FileRoots([]).read(f"file://{root}/a.png", CAP)
