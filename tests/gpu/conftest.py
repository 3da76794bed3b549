"""What the checks on a GPU share, and where their figures go.

    python -m pytest -c tests/gpu/pytest.ini --confcutdir tests/gpu tests/gpu

runs them all, in the order of their files' names, and writes `benchmarks/results/gpu-<date>-<GPU>.json`. It needs
torch, timm, transformers, onnx, onnxscript, onnxruntime, cuda-bindings, pytest and a TensorRT, and no plugin. Nothing
here runs without a GPU: everything is marked `gpu` and skipped.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import platform
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from admodels.contract.bundle import Bundle, load_bundle
from admodels.runtime import cuda, tensorrt_module
from admodels.runtime.tensorrt_module import TensorRtUnavailableError

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
SHIPPED = ("mobilenetv2", "minilm", "dbafn", "fgmfn", "adfusion")
PACKAGES = ("torch", "onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx", "cuda-bindings", "numpy")
Arrays = dict[str, NDArray[Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Here too, since a run with `pytest.ini` reads no conftest above this one."""
    if cuda.compute_capability() is None:
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


class Results:
    """Figures by check, with what they were measured on."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}

    def note(self, check: str, **figures: Any) -> None:
        """Keep figures under a check's name."""
        self.figures.setdefault(check, {}).update(figures)

    def write(self) -> None:
        """benchmarks/results/gpu-<date>-<GPU>.json"""
        gpu = output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
        name = re.sub(r"[^a-z0-9]+", "-", gpu.partition(",")[0].lower()).strip("-")
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        told = {
            "date": today,
            "command": "python -m pytest -c tests/gpu/pytest.ini --confcutdir tests/gpu tests/gpu",
            "gpu": gpu,
            "compute_capability": cuda.compute_capability(),
            "python": platform.python_version(),
            "versions": {name: version for name in PACKAGES if (version := installed(name))},
            "checks": self.figures,
        }
        folder = ROOT / "benchmarks" / "results"
        folder.mkdir(exist_ok=True)
        (folder / f"gpu-{today}-{name}.json").write_text(json.dumps(told, indent=1) + "\n")


def output(*command: str) -> str:
    """What a program prints; empty where there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    except OSError:
        return ""


def installed(name: str) -> str:
    """A package's version, or empty."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


@pytest.fixture(scope="session")
def results() -> Iterator[Results]:
    """The run's figures; written at the end, whatever failed."""
    kept = Results()
    yield kept
    kept.write()


@pytest.fixture(scope="session")
def trt() -> Any:
    """TensorRT, whichever is here."""
    try:
        return tensorrt_module.load()
    except TensorRtUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    """The shipped bundles."""
    return {name: load_bundle(MODELS / name / "1") for name in SHIPPED}


@pytest.fixture(scope="session")
def feeds_for() -> Callable[..., Arrays]:
    """`feeds_for(bundle, rows, length)`: random inputs as the manifest wants them, texts of unequal length."""

    def make(bundle: Bundle, rows: int, length: int = 64) -> Arrays:
        random = np.random.default_rng(rows)
        made: Arrays = {}
        for spec in bundle.manifest.inputs:
            sizes = [rows if size == "batch" else length if isinstance(size, str) else size for size in spec.shape]
            if spec.name == "attention_mask":
                lengths = random.integers(1, length + 1, rows)
                made[spec.name] = (np.arange(length) < lengths[:, None]).astype(np.int64)
            elif spec.dtype == "uint8":
                made[spec.name] = random.integers(0, 256, sizes).astype(np.uint8)
            elif spec.dtype == "int64":
                made[spec.name] = random.integers(1000, 20000, sizes)
            else:
                made[spec.name] = random.normal(size=sizes).astype(np.float32)
        return made

    return make
