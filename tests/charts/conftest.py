"""The chart as Helm renders it. Without Helm: a skip for a developer, a failure in CI."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tools.helm import CHART, HelmUnavailableError, Rendered, helm, render

SHAPES = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))


@pytest.fixture(scope="session", autouse=True)
def _helm() -> None:
    try:
        helm()
    except HelmUnavailableError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def chart() -> Callable[..., Rendered]:
    """`chart("keda", sets=["…"], release="…")`: a value file of charts/adscore/ci by name, or none."""
    made: dict[Any, Rendered] = {}

    def rendered(shape: str = "", *, sets: Iterable[str] = (), release: str = "adscore") -> Rendered:
        key = (shape, tuple(sets), release)
        if key not in made:
            files = [CHART / "ci" / f"{shape}.yaml"] if shape else []
            made[key] = render(*files, sets=key[1], release=release)
        return made[key]

    return rendered


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `every_shape` runs on every value file."""
    if "every_shape" in metafunc.fixturenames:
        metafunc.parametrize("every_shape", ["", *SHAPES], ids=lambda shape: shape or "default")
