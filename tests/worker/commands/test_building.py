"""`adscore models build` on real TensorRT-RTX, without a GPU."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from admodels.runtime import cuda, tensorrt_module
from tests.faults.light_models import write_light_models

pytestmark = pytest.mark.skipif(cuda.compute_capability() is not None, reason="what a machine without a GPU says")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return write_light_models(tmp_path / "models")


@pytest.fixture(autouse=True)
def _rtx() -> None:
    tensorrt_module.load("tensorrt_rtx")


def build(adscore: Any, models: Path, *arguments: str, **settings: str) -> Any:
    env = {"ADSCORE_MODELS__DIR": str(models), "ADSCORE_TENSORRT__MODULE": "tensorrt_rtx"} | settings
    return adscore("models", "build", *arguments, env=env)


def test_it_builds_each_engine_once_and_the_bundles_stay_good(adscore: Any, models: Path) -> None:
    first, second = (build(adscore, models, "--sm", "8.6") for _ in range(2))
    assert first.status == second.status == 0, first.err
    assert [line.split()[0] for line in first.out.splitlines()] == ["dbafn/1", "fgmfn/1", "adfusion/1"]
    assert first.out.count("built in") == second.out.count("is there") == 3
    folders = {place.parent.name for place in models.glob("*/1/engines/*/engine.plan")}
    assert folders == {f"sm86-trt{tensorrt_module.version(tensorrt_module.load('tensorrt_rtx'))}-fp32"}
    assert adscore("models", "verify", env={"ADSCORE_MODELS__DIR": str(models)}).status == 0


def test_a_changed_engine_is_built_again(adscore: Any, models: Path) -> None:
    build(adscore, models, "--sm", "8.6")
    (plan,) = models.glob("dbafn/1/engines/*/engine.plan")
    plan.write_bytes(b"x" + plan.read_bytes()[1:])
    again = build(adscore, models, "--sm", "8.6")
    assert again.status == 0
    assert again.out.count("built in") == 1
    assert "isn't the file that was built" in again.err


def test_another_batch_size_is_another_engine(adscore: Any, models: Path) -> None:
    build(adscore, models, "--sm", "8.6")
    again = build(adscore, models, "--sm", "8.6", ADSCORE_BATCH__MAX_SIZE="32")
    assert again.out.count("built in") == 3, again.err


def test_without_a_gpu_it_says_how_to_name_one(adscore: Any, models: Path) -> None:
    done = build(adscore, models)
    assert done.status == 3
    assert "--sm 8.6" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(("sm", "status", "said"), [("9.9", 3, "it builds for"), ("sm86", 2, "like 8.6")])
def test_a_target_that_is_none(adscore: Any, models: Path, sm: str, status: int, said: str) -> None:
    done = build(adscore, models, "--sm", sm)
    assert (done.status, done.out) == (status, "")
    assert said in done.err


def test_a_disk_that_refuses_is_told_with_the_mend(adscore: Any, models: Path) -> None:
    (models / "dbafn" / "1" / "engines" / ".lock").mkdir(parents=True)
    done = build(adscore, models, "--sm", "8.6")
    assert done.status == 3
    assert "ADSCORE_MODELS__DIR must be a writable folder" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        # TensorRT-RTX's engines of these light models weigh more than 8 KiB; its lock file nothing.
        pytest.param("size=8k", "No space left on device", id="full"),
        pytest.param("ro", "Read-only file system", id="read-only"),
    ],
)
def test_a_disk_that_is_full_or_read_only_is_told_with_the_mend(models: Path, options: str, reason: str) -> None:
    """A real one, mounted where the engines go in a namespace of its own."""
    engines = models / "dbafn" / "1" / "engines"
    engines.mkdir()
    command = [sys.executable, "-m", "worker", "models", "build", "--sm", "8.6"]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ADSCORE_MODELS__DIR": str(models)}
    env["ADSCORE_TENSORRT__MODULE"] = "tensorrt_rtx"
    script = 'mount -t tmpfs -o "$1" tmpfs "$2" || exit 99; shift 2; exec "$@"'
    for namespace in (["--user", "--map-root-user"], []):
        done = subprocess.run(
            ["unshare", "--mount", *namespace, "sh", "-c", script, "sh", options, engines, *command],
            env=env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode not in (1, 99):
            break
    else:
        if os.environ.get("CI"):
            pytest.fail(done.stderr)
        pytest.skip("this user may make no mount namespace here")
    assert done.returncode == 3, done.stderr
    assert f"can't write {engines}" in done.stderr
    assert reason in done.stderr
    assert "ADSCORE_MODELS__DIR must be a writable folder with room" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(engines.iterdir()) == []


def test_two_at_once_dont_clash(models: Path) -> None:
    command = [sys.executable, "-m", "worker", "models", "build", "--sm", "8.6"]
    env = {"PATH": "/usr/bin:/bin", "ADSCORE_MODELS__DIR": str(models), "ADSCORE_TENSORRT__MODULE": "tensorrt_rtx"}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(told).count("built in") == 3
    assert "".join(told).count("is there") == 3


def test_a_model_that_tensorrt_cant_read_fails_alone(adscore: Any, models: Path) -> None:
    import hashlib
    import json

    import onnx
    from onnx import helper

    folder = models / "fgmfn" / "1"
    model = onnx.load(folder / "model.onnx")
    model.graph.node.append(helper.make_node("Unique", ["colour"], ["odd"]))
    data = model.SerializeToString()
    (folder / "model.onnx").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = build(adscore, models, "--sm", "8.6")
    assert done.status == 1
    assert "fgmfn/1: TensorRT can't read the graph" in done.err
    assert [line.split()[0] for line in done.out.splitlines()] == ["dbafn/1", "adfusion/1"]
