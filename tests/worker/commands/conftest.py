"""`adscore` inside the test's own process, faster than a process each; and small bundles to score by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.light_models import write_light_models
from worker.__main__ import cli
from worker.commands import edge


@dataclass(frozen=True)
class Ran:
    """What a verb left: exit status, standard output, standard error."""

    status: int
    out: str
    err: str


@pytest.fixture
def adscore(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """`adscore("config", "show", env={…})`."""

    def run(*arguments: str, env: Mapping[str, str] | None = None) -> Ran:
        with monkeypatch.context() as patch:
            for name, value in (env or {}).items():
                if name.startswith("ADSCORE_"):
                    patch.setenv(name, value)
            capfd.readouterr()
            status = edge.run(cli(), list(arguments))
        told = capfd.readouterr()
        assert "Traceback" not in told.err
        return Ran(status, told.out, told.err)

    return run


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heads as whole bundles, seconds less than the real ones."""
    return write_light_models(tmp_path_factory.mktemp("models"))
