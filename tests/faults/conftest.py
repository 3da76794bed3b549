"""A worker on light bundles, as a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.faults.light_models import write_light_models
from tests.faults.process import WorkerProcess


@pytest.fixture(scope="session")
def light_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three bundles that cost next to nothing."""
    return write_light_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def light(light_models: Path) -> Mapping[str, str]:
    """Settings of a worker that starts fast and leaves the cores to others."""
    return {
        "ADSCORE_MODELS__DIR": str(light_models),
        "ADSCORE_DECODE__WORKERS": "1",
        "ADSCORE_OCR__WORKERS": "1",
        "ADSCORE_PIPELINE__ENGINE_THREADS": "1",
        "ADSCORE_HTTP__HOST": "127.0.0.1",
        "ADSCORE_KAFKA__SESSION_TIMEOUT_MS": "6000",
    }


@pytest.fixture
def start_worker(start_adscore: Callable, light: Mapping[str, str]) -> Callable[..., WorkerProcess]:
    """`start_worker(topics, "--until-idle", "1", ADSCORE_…="…")` starts a worker and returns at once.

    module: what to run in the place of `worker`, with faults that it plants.
    """

    def start(topics, *arguments: str, module: str = "worker", **settings: str) -> WorkerProcess:
        env = topics.env | dict(light) | settings
        return WorkerProcess(start_adscore("worker", *arguments, env=env, module=module))

    return start
