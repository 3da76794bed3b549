"""Rigs for the loop's and the delivery's scenarios."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.worker.pipeline.rig import Rig


@pytest.fixture
def make() -> Iterator[Any]:
    rigs: list[Rig] = []

    def build(**limits: Any) -> Rig:
        rigs.append(Rig(**limits))
        return rigs[-1]

    yield build
    for rig in rigs:
        rig.close()
