"""What exactly-once costs: its rate over at-least-once's, on a real broker and Redis, in one run.

    .venv/bin/python benchmarks/delivery.py --count 4000 --rounds 5

Both guarantees score the same creatives in turn, round by round, each time by a new worker on new topics; the rate is
that between the first and the last output. The bundles cost next to nothing (text given, small images, most of them
equal to an earlier one), so that delivery is what limits: with heavier ones the ratio can only be nearer to 1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # noqa: E402

from tests.faults.light_models import write_light_models  # noqa: E402
from tests.faults.load import IMAGES, picture, with_image  # noqa: E402
from tools.stack import Stack  # noqa: E402

GUARANTEES = ("at-least-once", "exactly-once")
PARTITIONS = 4
WARM = 0.2
"""Share of the outputs, at the beginning, that doesn't count."""


def rate(environment: Mapping[str, str], servers: str, count: int, guarantee: str, name: str) -> float:
    """Creatives per second of one worker under a guarantee."""
    topics = {kind: f"{name}.{kind}" for kind in ("input", "output", "dlq", "shadow")}
    settings = {f"ADSCORE_KAFKA__{kind.upper()}_TOPIC": topic for kind, topic in topics.items()} | {
        "ADSCORE_KAFKA__GROUP_ID": name,
        "ADSCORE_KAFKA__DELIVERY": guarantee,
    }
    env = dict(environment) | settings
    adscore = [sys.executable, "-m", "worker"]
    create = [*adscore, "topics", "create", "--partitions", str(PARTITIONS)]
    subprocess.run(create, env=env, cwd=ROOT, check=True, capture_output=True)
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=5)
    for number in range(count):
        record = with_image(f"cr-{number}", picture(number % IMAGES))
        producer.send(topics["input"], record.value, key=record.key)
    producer.flush()
    producer.close()
    subprocess.run([*adscore, "worker", "--max-messages", str(count)], env=env, cwd=ROOT, check=True, timeout=900)
    moments = sorted(_moments(servers, topics["output"], count))
    begin = round(count * WARM)
    return (count - begin) / ((moments[-1] - moments[begin]) / 1000)


def _moments(servers: str, topic: str, count: int) -> list[int]:
    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
    moments: list[int] = []
    while len(moments) < count:
        polled = consumer.poll(timeout_ms=15_000)
        if not polled:
            raise SystemExit(f"only {len(moments)} of {count} creatives came out")
        moments += [message.timestamp for messages in polled.values() for message in messages]
    consumer.close()
    return moments


def main() -> None:
    """Measure and print; `--json FILE` keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=4_000, help="creatives per worker")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rounds: list[dict[str, float]] = []
    stack = Stack()
    try:
        stack.start()
        with tempfile.TemporaryDirectory(prefix="models-") as folder:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("ADSCORE_")} | {
                **stack.environment,
                "ADSCORE_MODELS__DIR": str(write_light_models(Path(folder))),
                "ADSCORE_DECODE__WORKERS": "1",
                "ADSCORE_OCR__WORKERS": "1",
                "ADSCORE_HTTP__PORT": "0",
                "ADSCORE_LOG__LEVEL": "warning",
            }
            for number in range(options.rounds):
                # The order changes, so that neither is always the one that comes second.
                order = GUARANTEES if number % 2 == 0 else GUARANTEES[::-1]
                found = {
                    guarantee: rate(
                        environment | {"ADSCORE_REDIS__URL": f"{stack.redis_url.rpartition('/')[0]}/{2 * number + at}"},
                        stack.bootstrap_servers,
                        options.count,
                        guarantee,
                        f"bench-{number}-{at}",
                    )
                    for at, guarantee in enumerate(order)
                }
                rounds.append(found)
                rates = ", ".join(f"{guarantee} {found[guarantee]:.0f}/s" for guarantee in GUARANTEES)
                print(
                    f"round {number + 1}: {rates}, ratio {found[GUARANTEES[1]] / found[GUARANTEES[0]]:.2f}", flush=True
                )
    finally:
        stack.stop()
    medians = {guarantee: statistics.median(entry[guarantee] for entry in rounds) for guarantee in GUARANTEES}
    ratio = medians[GUARANTEES[1]] / medians[GUARANTEES[0]]
    rates = ", ".join(f"{guarantee} {median:.0f}/s" for guarantee, median in medians.items())
    print(f"medians of {options.rounds} rounds of {options.count} creatives: {rates}; ratio {ratio:.2f}")
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds, "medians": medians, "ratio": ratio}, indent=1))


if __name__ == "__main__":
    main()
