"""A signed bundle, every way in which it can stop being one, and the worker's verbs that then refuse it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from admodels.contract.bundle import BundleError, load_bundle
from admodels.contract.signature import KeyUnusableError, checker
from export.__main__ import cli
from export.__main__ import run as run_cli
from worker.__main__ import main as worker_main

MODELS = Path(__file__).parents[2] / "models"


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs of keys, `mine` and `other`, made as the documentation says, and one of another kind."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "other"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / f"{name}.pem")
        openssl("pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", folder / f"{name}.pub")
    openssl("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", folder / "ec.pem")
    openssl("pkey", "-in", folder / "ec.pem", "-pubout", "-out", folder / "ec.pub")
    return folder


Sign = Callable[..., int]


@pytest.fixture
def sign(keys: Path, monkeypatch: pytest.MonkeyPatch) -> Sign:
    def signing(folder: Path, key: str = "mine.pem") -> int:
        monkeypatch.setattr("sys.argv", ["adscore-export", "sign", str(folder), "--key", str(keys / key)])
        return run_cli(cli)

    return signing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(MODELS / "dbafn" / "1", tmp_path / "dbafn" / "1")
    return tmp_path / "dbafn" / "1"


def test_a_signed_bundle_loads_with_the_key_and_without_and_keeps_its_digest(
    folder: Path, keys: Path, sign: Sign
) -> None:
    digest = load_bundle(folder).digest
    assert sign(folder) == 0
    assert load_bundle(folder, checker(keys / "mine.pub")).digest == load_bundle(folder).digest == digest
    assert sorted(path.name for path in folder.parent.iterdir()) == ["1"]
    openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", keys / "mine.pub",
            "-in", folder / "manifest.json", "-sigfile", folder / "manifest.sig")  # fmt: skip


def test_openssl_signs_too(folder: Path, keys: Path) -> None:
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", keys / "mine.pem",
            "-in", folder / "manifest.json", "-out", folder / "manifest.sig")  # fmt: skip
    load_bundle(folder, checker(keys / "mine.pub"))


def test_without_a_signature_nothing_of_the_manifest_is_parsed(folder: Path, keys: Path) -> None:
    (folder / "manifest.json").write_text("no manifest at all")
    with pytest.raises(BundleError, match=r"dbafn/1: it isn't signed, and ADSCORE_MODELS__PUBLIC_KEY asks for it"):
        load_bundle(folder, checker(keys / "mine.pub"))


def _other_key(folder: Path, sign: Sign) -> None:
    sign(folder, "other.pem")


def _changed_manifest(folder: Path, _: Sign) -> None:
    """A manifest that is sound by itself: a score that is calibrated otherwise."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["calibration"]["score"] = {"kind": "platt", "a": 9.0}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _changed_space(folder: Path, _: Sign) -> None:
    with (folder / "manifest.json").open("a") as file:
        file.write(" ")


def _anothers_signature(folder: Path, sign: Sign) -> None:
    """A good signature of the same key, of another bundle."""
    other = folder.parents[1] / "fgmfn" / "1"
    shutil.copytree(MODELS / "fgmfn" / "1", other)
    sign(other)
    shutil.copy(other / "manifest.sig", folder / "manifest.sig")


def _flipped(folder: Path, _: Sign) -> None:
    data = bytearray((folder / "manifest.sig").read_bytes())
    data[17] ^= 4
    (folder / "manifest.sig").write_bytes(data)


def _short(folder: Path, _: Sign) -> None:
    (folder / "manifest.sig").write_bytes((folder / "manifest.sig").read_bytes()[:63])


def _empty(folder: Path, _: Sign) -> None:
    (folder / "manifest.sig").write_bytes(b"")


def _long(folder: Path, _: Sign) -> None:
    with (folder / "manifest.sig").open("ab") as file:
        file.write(b"\0")


def _removed(folder: Path, _: Sign) -> None:
    (folder / "manifest.sig").unlink()


def _linked(folder: Path, _: Sign) -> None:
    (folder / "manifest.sig").rename(folder.parents[1] / "elsewhere")
    (folder / "manifest.sig").symlink_to(folder.parents[1] / "elsewhere")


def _changed_model(folder: Path, _: Sign) -> None:
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (_other_key, "isn't the signature of its manifest.json by the key"),
        (_changed_manifest, "isn't the signature of its manifest.json by the key"),
        (_changed_space, "isn't the signature of its manifest.json by the key"),
        (_anothers_signature, "isn't the signature of its manifest.json by the key"),
        (_flipped, "isn't the signature of its manifest.json by the key"),
        (_short, "isn't the signature of its manifest.json by the key"),
        (_empty, "isn't the signature of its manifest.json by the key"),
        (_long, "isn't a plain file of at most 64 bytes"),
        (_removed, "isn't signed"),
        (_linked, "can't be opened"),
        (_changed_model, "model.onnx isn't the file that manifest.json names"),
    ],
)
def test_what_is_planted_is_refused_and_the_reason_told(
    folder: Path, keys: Path, sign: Sign, plant: Callable[[Path, Sign], None], reason: str
) -> None:
    assert sign(folder) == 0
    plant(folder, sign)
    with pytest.raises(BundleError, match=reason) as raised:
        load_bundle(folder, checker(keys / "mine.pub"))
    assert "dbafn/1" in str(raised.value)


def test_an_older_signed_bundle_in_the_place_of_a_newer_one_is_refused(
    folder: Path, keys: Path, sign: Sign, capsys: pytest.CaptureFixture[str]
) -> None:
    """Downgrade: the signature is good, but it is version 1's."""
    assert sign(folder) == 0
    newer = folder.with_name("2")
    shutil.copytree(folder, newer)
    with pytest.raises(BundleError, match="its manifest says dbafn/1"):
        load_bundle(newer, checker(keys / "mine.pub"))
    assert sign(newer) == 1
    assert "its manifest says dbafn/1" in capsys.readouterr().err


def test_a_bundle_that_would_not_load_is_not_signed(
    folder: Path, sign: Sign, capsys: pytest.CaptureFixture[str]
) -> None:
    _changed_model(folder, sign)
    assert sign(folder) == 1
    assert "model.onnx isn't the file" in capsys.readouterr().err
    assert not (folder / "manifest.sig").exists()


def test_a_listed_signature_is_refused(folder: Path) -> None:
    """The signature can't be part of what it signs."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["manifest.sig"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="lists a path that is not inside the bundle"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("none.pub", "can't be read: No such file"),
        ("mine.pem", "holds no public key in PEM form"),
        ("ec.pub", "isn't Ed25519"),
        (".", "can't be read: Is a directory"),
    ],
)
def test_a_key_that_cannot_be_used_is_an_error_not_an_open_door(keys: Path, key: str, reason: str) -> None:
    with pytest.raises(KeyUnusableError, match=reason):
        checker(keys / key)


def test_a_private_key_of_another_kind_is_told(folder: Path, sign: Sign, capsys: pytest.CaptureFixture[str]) -> None:
    assert sign(folder, "ec.pem") == 3
    assert "isn't Ed25519" in capsys.readouterr().err
    assert sign(folder, "mine.pub") == 3
    assert "holds no private key" in capsys.readouterr().err


def _worker(monkeypatch: pytest.MonkeyPatch, models: Path, key: Path, *arguments: str) -> int:
    monkeypatch.setenv("ADSCORE_MODELS__DIR", str(models))
    monkeypatch.setenv("ADSCORE_MODELS__PUBLIC_KEY", str(key))
    monkeypatch.setattr("sys.argv", ["adscore", *arguments])
    with pytest.raises(SystemExit) as ended:
        worker_main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("verb", "status"),
    [
        (["score", "none.jpg"], 3),
        (["buckets"], 3),
        (["rescore", "--stale"], 3),
        (["models", "list"], 1),
        (["models", "verify"], 1),
        (["models", "build", "--sm", "8.6"], 3),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_with_a_key_set_no_verb_takes_an_unsigned_bundle(
    verb: list[str],
    status: int,
    keys: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _worker(monkeypatch, MODELS, keys / "mine.pub", *verb) == status
    error = capsys.readouterr().err
    assert "isn't signed, and ADSCORE_MODELS__PUBLIC_KEY asks for it" in error
    assert "Traceback" not in error


def test_signed_heads_with_an_unsigned_encoder_are_refused_and_all_signed_are_served(
    tmp_path: Path, keys: Path, sign: Sign, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(MODELS, tmp_path / "models")
    for name in ("dbafn", "fgmfn", "adfusion", "minilm"):
        assert sign(tmp_path / "models" / name / "1") == 0
    assert _worker(monkeypatch, tmp_path / "models", keys / "mine.pub", "score", "none.jpg") == 3
    assert "bundle mobilenetv2/1: it isn't signed" in capsys.readouterr().err
    assert sign(tmp_path / "models" / "mobilenetv2" / "1") == 0
    assert _worker(monkeypatch, tmp_path / "models", keys / "mine.pub", "models", "verify") == 0
    assert capsys.readouterr().out.count("ok  ") == 5


def test_a_key_that_cannot_be_read_ends_the_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _worker(monkeypatch, MODELS, tmp_path / "none.pem", "models", "list") == 3
    assert "ADSCORE_MODELS__PUBLIC_KEY: the key" in capsys.readouterr().err
