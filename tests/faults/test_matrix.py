"""A quick selection of the matrix on a real cluster, and planted defects of the worker, which must not go unseen.

`make faults` plays all cells.
"""

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.cells import CELLS
from tests.faults.cluster import Cluster
from tests.faults.gauge import grown
from tests.faults.scene import Scene, Shape, play
from tests.faults.soak import Soak, shape
from tools.server import StackUnavailableError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
QUICK = ("worker-kill-eos-4", "broker-kill-alo-4")


@pytest.fixture(scope="module")
def cluster():
    """One controller and three brokers. Without Java and Maven: a skip for a developer, a failure in CI."""
    try:
        with Cluster() as running:
            yield running
    except StackUnavailableError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def seed() -> str:
    """Printed, so that a failure can be played again."""
    drawn = str(random.SystemRandom().randrange(10**6))
    print(f"seed {drawn}")
    return drawn


@pytest.mark.parametrize("name", QUICK)
def test_quick_cells(cluster: Cluster, light_models: Path, seed: str, name: str) -> None:
    cell = CELLS[name]
    quick = replace(cell.shape, rounds=1, passing=150)
    result = play(quick, cell.fault, cluster, light_models, name, seed, {})
    assert result.clean, f"seed {seed}\n{result.account.told()}"


def nothing(scene: Scene) -> None:
    """No fault but the worker's own."""
    scene.flows(100)


@pytest.mark.parametrize(
    ("defect", "check"),
    [("commits_early", "committed past unfinished"), ("repeats", "duplicated"), ("drops", "lost")],
)
def test_a_broken_worker_is_seen(cluster: Cluster, light_models: Path, seed: str, defect: str, check: str) -> None:
    broken = Shape("at-least-once", 2, workers=1, passing=150, rounds=1, plan={"defect": defect}, patience_seconds=8.0)
    result = play(broken, nothing, cluster, light_models, defect, seed, {})
    assert result.account.counts[check] > 0, result.account.counts


def test_a_leak_is_caught(cluster: Cluster, light_models: Path, seed: str) -> None:
    soak = Soak(seconds=20.0, faults=())
    play(replace(shape("at-least-once", {"defect": "leaks"}), workers=1), soak, cluster, light_models, "leak", seed, {})
    assert grown(soak.warm).keys() >= {"memory_mib", "descriptors", "threads"}, soak.warm
