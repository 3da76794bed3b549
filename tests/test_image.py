"""The images, as far as they can be tried without building one: lint, locks, install steps, an arbitrary user id."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILES = ["Dockerfile", "Dockerfile.training"]
SOURCES = ["admodels", "export", "training", "worker", "locks", "pyproject.toml", "README.md", "LICENSE", "NOTICE"]
NOBODY = 71_234


@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_finds_nothing(name: str) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", ROOT / name], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_base_is_named_by_its_digest_and_nothing_runs_as_root(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    stages = {line.split()[3] for line in lines if line.startswith("FROM ")} | {"scratch"}
    bases = {line.split()[1] for line in lines if line.startswith("FROM ")}
    assert bases - stages == {"${BASE}@${BASE_DIGEST}"}
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_whatever_it_copies_is_in_the_context(name: str) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / name).read_text(), flags=re.MULTILINE)
    for source in (source for line in copied for source in line.split()):
        assert (ROOT / source).exists(), source
        assert source in let_in or source.split("/")[0] in let_in


def locked(name: str) -> dict[str, str]:
    """Package → its pinned version and its hashes."""
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    return {match[1]: match[2] for match in re.finditer(r"^([\w.-]+)(==(?:.*\\\n)+.*)$", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("name", ["build", "serve", "training", "sbom"])
def test_every_locked_package_has_hashes(name: str) -> None:
    packages = locked(name)
    assert packages
    assert [package for package, rest in packages.items() if "--hash=sha256:" not in rest] == []


@pytest.mark.parametrize(("lock", "extra"), [("serve", None), ("training", "export")])
def test_the_locks_are_what_pyproject_asks_for(lock: str, extra: str | None) -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + (extras["training"] + extras["export"] if extra else [])
    names = {re.match(r"[\w.-]+", wish)[0].lower() for wish in wanted} - {"adscore"}  # type: ignore[index]
    assert names - set(locked(lock)) == set(), "run `make locks`"


def test_serving_can_read_by_every_ocr_engine_and_has_only_the_models_of_one() -> None:
    packages = set(locked("serve"))
    assert {"pytesseract", "tesserocr", "rapidocr"} <= packages
    assert not packages & {"opencv-python-headless", "shapely", "pyclipper", "omegaconf"}


def test_serving_has_no_torch() -> None:
    assert not set(locked("serve")) & {"torch", "timm", "transformers", "torchvision", "triton"}


@pytest.fixture(scope="module")
def installed() -> Iterator[Path]:
    """What the Dockerfile's steps make, in a tree that nobody may write."""
    folder = Path(tempfile.mkdtemp(prefix="adscore-image-"))
    try:
        source = folder / "src"
        (source / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "image.sh", source / "tools")
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
        prefix = folder / "opt"
        for step in (["libraries", prefix, "locks/serve.txt"], ["program", prefix]):
            steps = ["tools/image.sh", *map(str, step)]
            done = subprocess.run(steps, cwd=source, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        shutil.copytree(ROOT / "models", prefix / "models")
        shutil.rmtree(source)
        subprocess.run(["chmod", "-R", "a-w,a+rX", folder], check=True)
        yield prefix
    finally:
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)


# In a mount namespace of its own: the image's tree is read-only even for root, and an interpreter that lies in
# somebody's home is reached without opening that home. Arguments: the tree, a scratch folder, the command.
AS_NOBODY = f"""
set -eu
tree="$1" scratch="$2"; shift 2
mount --bind "$tree" "$tree" && mount -o remount,bind,ro "$tree"
if [ -n "$HIDDEN" ]; then
  mkdir "$scratch/kept" && mount --bind "$REACHED" "$scratch/kept"
  mount -t tmpfs -o mode=755 none "$HIDDEN" && mkdir "$REACHED" && mount --bind "$scratch/kept" "$REACHED"
fi
exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


def as_nobody(prefix: Path, *command: str, seconds: int = 120) -> subprocess.CompletedProcess[str]:
    """Run as a user id that no file belongs to, without any capability, with a /tmp of its own to write to."""
    base = [Path(sys.base_prefix), *Path(sys.base_prefix).parents]
    closed = [place for place in base if not place.stat().st_mode & 0o001]
    hidden, reached = (closed[-1], base[base.index(closed[-1]) - 1]) if closed else ("", "")
    with tempfile.TemporaryDirectory() as scratch:
        os.chown(scratch, NOBODY, NOBODY)
        environment = {"PATH": f"{prefix}/bin:/usr/bin:/bin", "HOME": scratch, "TMPDIR": scratch, "LANG": "C.UTF-8"}
        environment |= {"HIDDEN": str(hidden), "REACHED": str(reached)}
        alone = ["unshare", "--mount", "sh", "-c", AS_NOBODY, "sh", str(prefix), scratch]
        return subprocess.run(
            [*alone, *command], cwd=scratch, env=environment, capture_output=True, text=True, timeout=seconds
        )


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_root
def test_the_image_s_program_runs_for_an_arbitrary_user_on_a_read_only_tree(installed: Path) -> None:
    done = as_nobody(installed, "adscore", "models", "verify")
    assert done.returncode == 0, done.stderr
    assert "minilm/1" in done.stdout
    touched = as_nobody(installed, "touch", str(installed / "models" / "x"))
    assert "Read-only file system" in touched.stderr
    told = json.loads(as_nobody(installed, "adscore", "doctor", "--json").stdout)["checks"]
    failed = {check["name"] for check in told if check["status"] == "fail"}
    assert failed == {"kafka"}, told


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs_root
def test_the_worker_starts_there_and_says_what_is_missing(installed: Path) -> None:
    env = ["env", "ADSCORE_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:1", "ADSCORE_HTTP__PORT=0"]
    done = as_nobody(installed, *env, "adscore", "worker")
    assert done.returncode == 3, done.stderr
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_neither_torch_nor_an_installer_is_in_it(installed: Path) -> None:
    packages = {path.name.split("-")[0].lower() for path in installed.glob("lib/*/site-packages/*.dist-info")}
    assert "adscore" in packages
    assert not packages & {"torch", "timm", "transformers", "pip", "setuptools", "uv"}
