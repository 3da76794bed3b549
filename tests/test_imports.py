"""The worker runs where torch isn't installed, and nobody imports against the arrows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TRAINING_ONLY = ("torch", "torchvision", "timm", "transformers", "onnx", "safetensors", "sklearn", "matplotlib")
WITH_ENGINES = ("admodels.runtime.tensorrt_graph",)
"""Needs onnx, which the extras that build engines bring; whoever builds none never imports it."""
# A module set to None in sys.modules can't be imported: as if it weren't installed.
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({TRAINING_ONLY!r}))\n"


def run_without_torch(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BLOCK + script], capture_output=True, text=True, cwd=ROOT)


def modules(package: str) -> list[str]:
    files = sorted((ROOT / package).rglob("*.py"))
    return [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]


def test_the_block_works() -> None:
    done = run_without_torch("import torch")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("package", ["worker", "admodels/contract", "admodels/runtime"])
def test_no_module_of_the_worker_needs_torch(package: str) -> None:
    names = [name for name in modules(package) if not name.endswith("__main__") and name not in WITH_ENGINES]
    assert names
    done = run_without_torch(f"import importlib\nfor name in {names!r}: importlib.import_module(name)")
    assert done.returncode == 0, done.stderr


def test_importing_the_pipeline_does_not_import_torch() -> None:
    script = f"import sys, worker.pipeline.worker; print(sorted(set({TRAINING_ONLY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


def test_help_needs_no_torch_and_none_of_what_only_a_verb_needs() -> None:
    heavy = ("numpy", "onnxruntime", "kafka", "pydantic", "redis")
    script = (
        "import sys; from worker.__main__ import main; sys.argv = ['adscore', '--help']\n"
        "try: main()\n"
        f"finally: print(sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = run_without_torch(script)
    assert done.returncode == 0
    assert "worker" in done.stdout
    assert done.stderr == "[]\n"


def test_the_import_contracts_hold() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    # Colour codes between the words would hide them.
    environment = os.environ | {"NO_COLOR": "1"}
    done = subprocess.run([lint_imports], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
