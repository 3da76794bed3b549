"""The worker beside its peers: the same records on the same broker with the same engines, in turn, in one run.

    uv pip install '.[peers]'
    python -m benchmarks.peers --creatives 200 --rounds 3 --text given
    python -m benchmarks.peers --creatives 60 --rounds 3 --text read

Each contender is a process of its own on topics of its own that hold all records before it starts, with no Redis. Its
rate is the slope of outputs over time behind the first fifth. All use the machine's cores as they like. The scores of
each creative must agree between all of them (but for `eager`, PyTorch with random weights in its heads). Beside the
rate stands what a creative costs in CPU time, of the process and its children, from its first output to its last: it
depends less on what else the machine does. (What a contender decoded ahead before its first output isn't in it: 64
creatives at most.)
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from kafka import TopicPartition

from benchmarks.gate import ROOT
from tools.stack import Stack
from worker.commands import bench, kafka
from worker.commands.bench_creatives import samples, tails
from worker.commands.bench_rig import Offer
from worker.commands.bench_runs import WARM, Supply, slope
from worker.settings import Settings, load

CONTENDERS = {
    "adscore": "worker",
    "eager": "benchmarks.peers.eager",
    "naive": "benchmarks.peers.naive",
    "quix": "benchmarks.peers.quix",
    "fast": "benchmarks.peers.fast",
}
SCORES_ITSELF = "eager"
"""Has weights of its own, so its scores aren't compared."""
PARTITIONS = 4
SILENCE_SECONDS = 180.0
TOLERANCE = 1e-3


class Ran(NamedTuple):
    """When each output came, the scores by key, and the CPU seconds of a creative."""

    moments: list[float]
    scores: dict[bytes, Any]
    cpu: float


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its descendants, ended ones included."""
    parents: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        ticks[int(stat.parent.name)] = sum(map(int, fields[11:15]))
    found, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        found += ticks.get(one, 0)
        waiting += parents.get(one, [])
    return found / os.sysconf("SC_CLK_TCK")


class Contest:
    """A broker, and what each contender made of the records."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("ADSCORE_REDIS")}
        self._environment |= {"ADSCORE_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers, "ADSCORE_HTTP__PORT": "0"}
        self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._folder, self._turn = folder, 0

    def settings(self, **names: str) -> tuple[Settings, dict[str, str]]:
        """The settings with these topics, and the environment that says so."""
        environment = self._environment | {f"ADSCORE_KAFKA__{name.upper()}": value for name, value in names.items()}
        return load(None, environment).settings, environment

    def run(self, contender: str, offers: Sequence[Offer]) -> Ran:
        """One contender, from the start of its process to the last output."""
        self._turn += 1
        name = f"peers-{self._turn}"
        topics = {kind: f"{name}.{kind}" for kind in ("input", "output", "dlq", "shadow")}
        settings, environment = self.settings(
            group_id=name, **{f"{kind}_topic": topic for kind, topic in topics.items()}
        )
        with kafka.admin(settings.kafka) as admin:
            admin.create_topics(
                {
                    topic: {
                        "num_partitions": PARTITIONS,
                        "configs": {"max.message.bytes": str(16 << 20)},
                        "replication_factor": 1,
                    }
                    for topic in topics.values()
                }
            )
            admin.wait_for_topics(list(topics.values()))
            with kafka.producer(settings.kafka) as producer:
                for offer in offers:
                    producer.send(topics["input"], offer.value, key=offer.key)
                producer.flush()
            try:
                return self._outputs(contender, settings, environment, len(offers))
            finally:
                admin.delete_topics(list(topics.values()))

    def _outputs(self, contender: str, settings: Settings, environment: dict[str, str], count: int) -> Any:
        told = settings.kafka
        peer = [
            f"--{name}={value}"
            for name, value in zip(
                ("servers", "input", "output", "group"),
                (told.bootstrap_servers[0], told.input_topic, told.output_topic, told.group_id),
                strict=True,
            )
        ]
        command = [sys.executable, "-m", CONTENDERS[contender], *(["worker"] if contender == "adscore" else peer)]
        log = self._folder / f"{contender}.log"
        with log.open("wb") as out, kafka.consumer(told) as consumer:
            consumer.assign([TopicPartition(told.output_topic, number) for number in range(PARTITIONS)])
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
            try:
                return self._gathered(consumer, process, contender, count, log)
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    @staticmethod
    def _gathered(consumer: Any, process: subprocess.Popen[bytes], contender: str, count: int, log: Path) -> Any:
        moments: list[float] = []
        scores: dict[bytes, Any] = {}
        heard = time.monotonic()
        begin: tuple[int, float] | None = None
        while len(scores) < count:
            for messages in consumer.poll(timeout_ms=200).values():
                for message in messages:
                    heard = time.monotonic()
                    moments.append(heard)
                    scores[message.key] = orjson.loads(message.value)["scores"]
            if scores and begin is None:
                begin = len(scores), cpu_seconds(process.pid)
            if process.poll() is not None or time.monotonic() - heard > SILENCE_SECONDS:
                raise SystemExit(f"{contender} gave {len(scores)} of {count}:\n{log.read_text()[-3000:]}")
        known, spent = begin or (0, 0.0)
        return Ran(moments, scores, (cpu_seconds(process.pid) - spent) / max(1, len(scores) - known))


def disagreements(first: Mapping[bytes, Any], second: Mapping[bytes, Any]) -> int:
    """Creatives whose values differ by more than the tolerance of batches."""
    return sum(
        abs(first[key][head]["value"] - second[key][head]["value"]) > TOLERANCE for key in first for head in first[key]
    )


def table(rounds: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    """Medians, and the worker's over each in the same round."""
    lines = [f"{'':<10}{'rate/s':>10}{'adscore ÷ it':>14}{'CPU ms':>10}{'it ÷ adscore':>14}"]
    for name in rounds[0]:
        rates, costs = ([entry[name][key] for entry in rounds] for key in ("rate", "cpu_ms"))
        faster = statistics.median(entry["adscore"]["rate"] / entry[name]["rate"] for entry in rounds)
        cheaper = statistics.median(entry[name]["cpu_ms"] / entry["adscore"]["cpu_ms"] for entry in rounds)
        middle = (statistics.median(rates), faster, statistics.median(costs), cheaper)
        lines.append("{:<10}{:>10.2f}{:>14.2f}{:>10.1f}{:>14.2f}".format(name, *middle))
    return "\n".join(lines)


def _round(contest: Contest, offers: Sequence[Offer], names: Sequence[str], number: int) -> dict[str, dict[str, float]]:
    """All contenders once. Raises SystemExit where one scores otherwise than the worker."""
    found: dict[str, Ran] = {}
    told: dict[str, dict[str, float]] = {}
    # Everyone is first once: what the machine does meanwhile falls on all.
    for name in [*names[number % len(names) :], *names[: number % len(names)]]:
        ran = found[name] = contest.run(name, offers)
        rate = slope(ran.moments[round(len(offers) * WARM) :])
        told[name] = {"rate": rate, "cpu_ms": ran.cpu * 1000}
        print(f"round {number + 1}: {name} {rate:.2f}/s, {told[name]['cpu_ms']:.1f} ms of CPU each", flush=True)
    for name in names[1:]:
        if name != SCORES_ITSELF and (bad := disagreements(found["adscore"].scores, found[name].scores)):
            raise SystemExit(f"{name} scores {bad} creatives otherwise than adscore")
    return {name: told[name] for name in names}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="as for adscore bench; none: creatives made here")
    parser.add_argument("--creatives", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--text", choices=["as-is", "given", "read"], default="given")
    parser.add_argument("--only", action="append", choices=list(CONTENDERS), help="adscore and these; may be repeated")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    good, _ = samples(options.paths, options.text, 8 << 20)
    supply = Supply(good, tails())
    names = [name for name in CONTENDERS if not options.only or name in ("adscore", *options.only)]
    rounds: list[dict[str, dict[str, float]]] = []
    stack = Stack()
    try:
        stack.start()
        with tempfile.TemporaryDirectory(prefix="peers-") as folder:
            contest = Contest(stack, Path(folder))
            for number in range(options.rounds):
                rounds.append(_round(contest, supply.take([0.0] * options.creatives), names, number))
    finally:
        stack.stop()
    print(table(rounds))
    if options.json:
        facts = bench.facts("peers", load(None, os.environ).settings, supply, True, options.text, time.time())
        options.json.write_text(
            json.dumps(facts | {"creatives_per_round": options.creatives, "rounds": rounds}, indent=1)
        )


if __name__ == "__main__":
    main()
