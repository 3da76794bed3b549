"""`make soak MINUTES=30`: a worker under load with a fault every 15 s; what it holds must stay flat within 5 %.

    python -m tests.faults.soak [--minutes N] [--seed N] [--delivery exactly-once] [--json FILE]

Two workers share the partitions. One lives through the whole soak and is measured; the other comes and goes. The
faults are those that the measured worker must survive: brokers, Redis, the network, rebalances, its own decoder. The
account of all records is drawn up at the end, as for a cell of the matrix.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import cells
from tests.faults.cluster import BROKERS, Cluster
from tests.faults.fleet import now_ms
from tests.faults.gauge import Sample, family, grown, growth, held
from tests.faults.light_models import write_light_models
from tests.faults.matrix import as_json
from tests.faults.scene import KILLED, SESSION_MS, Result, Scene, Shape, play

EVERY_SECONDS = 15.0
SAMPLE_SECONDS = 1.0
WARM_SHARE = 0.2
"""What the first part of a soak shows is warming up."""


def kill_a_broker(scene: Scene) -> None:
    """A broker crashes and comes back."""
    node = scene.dice.choice(BROKERS)
    scene.cluster.kill(node)
    scene.sleep(2.0)
    scene.cluster.restart(node)


def freeze_a_broker(scene: Scene) -> None:
    """A broker hangs for a while."""
    node = scene.dice.choice(BROKERS)
    scene.cluster.freeze(node)
    scene.sleep(3.0)
    scene.cluster.thaw(node)


def kill_the_other(scene: Scene) -> None:
    """The worker that isn't measured crashes and is replaced."""
    scene.fleet.kill(scene.fleet.workers[-1])
    scene.fleet.start(scene.shape.plan)


def kill_a_child(scene: Scene) -> None:
    """A decoder or OCR process of the measured worker dies."""
    children = family(scene.fleet.workers[0].running.pid)[1:]
    os.kill(scene.dice.choice(children), signal.SIGKILL)


def cut_the_network(scene: Scene) -> None:
    """All connections end, for less than a session."""
    scene.proxy.cut()
    scene.sleep(SESSION_MS / 4000)
    scene.proxy.heal()


def break_redis(scene: Scene) -> None:
    """One of Redis's faults, for a moment."""
    begin = scene.dice.choice([cells.REDIS_FAULTS[kind] for kind in ("dead", "hung", "full", "read-only")])
    mend = begin(scene)
    scene.sleep(2.0)
    mend()


FAULTS: tuple[Callable[[Scene], None], ...] = (
    kill_the_other,
    cells.rebalance_storm,
    kill_a_broker,
    kill_a_child,
    break_redis,
    freeze_a_broker,
    cut_the_network,
)
"""In turn. What Redis forgets or refuses lies between faults that move no partition: the memory of revisions is the
owner's own and Redis's, and a hand-over right after Redis lost it takes both."""


@dataclass
class Soak:
    """The fault of a soak's scene: it goes on for `seconds`, and samples as it goes."""

    seconds: float
    faults: tuple[Callable[[Scene], None], ...] = FAULTS
    every_seconds: float = EVERY_SECONDS
    samples: list[Sample] = field(default_factory=list)
    begun: list[str] = field(default_factory=list)

    def __call__(self, scene: Scene) -> None:
        """The one round."""
        worker = scene.fleet.workers[0].wait_ready()
        until, due = time.monotonic() + self.seconds, time.monotonic() + self.every_seconds
        sampled = 0.0
        while (now := time.monotonic()) < until:
            if now >= sampled + SAMPLE_SECONDS:
                sampled = now
                self.samples.append(held(worker.running.pid, worker.get("/metrics")[1]))
            if self.faults and now >= due:
                due += self.every_seconds
                fault = self.faults[len(self.begun) % len(self.faults)]
                self.begun.append(fault.__name__)
                scene.silences_ms.append(now_ms())
                fault(scene)
            scene.sleep(0.1)

    @property
    def warm(self) -> list[Sample]:
        """The samples that count."""
        return self.samples[round(len(self.samples) * WARM_SHARE) :]


def shape(delivery: str, plan: Mapping[str, Any] | None = None) -> Shape:
    """Two workers, of which one may be killed; few creatives are remembered, so that memory is full when warm."""
    return Shape(
        delivery,
        4,
        rounds=1,
        passing=0,
        exits=frozenset({KILLED}),
        proxied=True,
        # A session longer than any of the faults: the measured worker is never evicted.
        settings={"ADSCORE_REDIS__REVISION_MAX": "2000", "ADSCORE_KAFKA__SESSION_TIMEOUT_MS": "20000"},
        plan=plan,
    )


def told(soak: Soak, result: Result) -> str:
    """What a soak showed, for people."""
    lines = [f"{len(soak.begun)} faults, {result.records} records, {result.account.repeats} repeats"]
    for name, (first, last) in growth(soak.warm).items():
        lines.append(f"{name:12} {first:10.1f} → {last:10.1f}  {100 * (last - first) / max(first, 1e-9):+6.1f} %")
    return "\n".join(lines)


def main() -> int:
    """Soak and print; exit 1 when something grew or the account isn't clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    parser.add_argument("--delivery", choices=["at-least-once", "exactly-once"], default="exactly-once")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.minutes:g} minutes, {options.delivery}", flush=True)
    soak = Soak(options.minutes * 60)
    with tempfile.TemporaryDirectory(prefix="models-") as folder, Cluster() as cluster:
        models = write_light_models(Path(folder))
        result = play(shape(options.delivery), soak, cluster, models, "soak", options.seed, {})
    print(told(soak, result))
    if options.json:
        figures = {"growth": growth(soak.warm), "faults": soak.begun, **as_json(result), "seed": options.seed}
        options.json.write_text(json.dumps(figures, indent=1))
    print(result.account.told() or "every record accounted for")
    wrong = grown(soak.warm)
    for name, (first, last) in wrong.items():
        print(f"grown: {name} from {first:.1f} to {last:.1f}")
    return 1 if wrong or not result.clean else 0


if __name__ == "__main__":
    sys.exit(main())
