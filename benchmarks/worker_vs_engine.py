"""How much of the bare engines' speed the whole worker keeps, on real parts and in one run.

    .venv/bin/python benchmarks/worker_vs_engine.py --count 400 --rounds 3

Both sides score the same creatives with the same bundles on the same machine, in turn, round by round:
  engine  the prepared batches (pixels and token ids in memory), scored one after the other: nothing else runs
  worker  `adscore worker` as a process, from records on a real broker to acknowledged enriched events, text given
The figure is the ratio of the two rates per round; absolute rates mean little on a shared machine.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # noqa: E402

from tools.stack import Stack  # noqa: E402
from training.synthetic import creatives  # noqa: E402
from worker.commands.backends import Runners  # noqa: E402
from worker.commands.compose import load_engines  # noqa: E402
from worker.intake.decode import DecoderPool  # noqa: E402
from worker.pipeline.job import canonical_copy  # noqa: E402
from worker.scoring.feeds import Prepared  # noqa: E402
from worker.settings import load  # noqa: E402
from worker.types import HEADS, Copy  # noqa: E402


@dataclass(frozen=True)
class Sample:
    """One creative as an event, and as its parts."""

    event: bytes
    key: bytes
    image: bytes
    copy: Copy
    text: str


def samples(count: int) -> list[Sample]:
    """Generated creatives in the usual ad sizes, all different, with the text in the image given."""
    photos = sorted((ROOT / "data" / "osie" / "images").glob("*.webp"))
    made = []
    for item in creatives(photos, count, seed=7):
        fields = item.copy.fields()
        text = " ".join(fields.values())
        image = f"data:{item.mime};base64,{base64.b64encode(item.image_bytes).decode()}"
        event = {
            "ad": {"id": item.id, "lastmod": 1_763_750_000_000, "display": {"banner": {"img": image}}},
            "copy": fields,
            "ocr_text": text,
        }
        copy = Copy(*(fields.get(name) for name in ("headline", "body", "cta", "brand")))
        made.append(Sample(orjson.dumps(event), item.id.encode(), item.image_bytes, copy, text))
    return made


def engine_rate(items: list[Sample], batch_size: int) -> float:
    """Creatives per second of the engines alone."""
    settings = load(None, os.environ).settings
    engines = load_engines(settings, Runners(settings), "benchmark")
    pool = DecoderPool(2, engines.sizes)
    try:
        prepared = [
            Prepared(
                pool.decode(item.image, ocr=False).pixels,
                engines.tokens({**canonical_copy(item.copy), "ocr": item.text}),
                frozenset(HEADS),
            )
            for item in items
        ]
    finally:
        pool.close()
    batches = [prepared[start : start + batch_size] for start in range(0, len(prepared), batch_size)]
    engines.warm(batch_size)
    started = time.perf_counter()
    for batch in batches:
        engines.score(batch)
    return len(items) / (time.perf_counter() - started)


def worker_rate(items: list[Sample], servers: str, redis_url: str, round_number: int) -> float:
    """Creatives per second of the whole worker, between its first and its last output."""
    suffix = f"{os.getpid()}-{round_number}"
    environment = os.environ | {
        "ADSCORE_KAFKA__BOOTSTRAP_SERVERS": servers,
        "ADSCORE_KAFKA__GROUP_ID": f"bench-{suffix}",
        "ADSCORE_KAFKA__INPUT_TOPIC": f"in-{suffix}",
        "ADSCORE_KAFKA__OUTPUT_TOPIC": f"out-{suffix}",
        "ADSCORE_KAFKA__DLQ_TOPIC": f"dlq-{suffix}",
        "ADSCORE_KAFKA__SHADOW_TOPIC": f"shadow-{suffix}",
        "ADSCORE_REDIS__URL": f"{redis_url.rsplit('/', 1)[0]}/{round_number % 16}",
        "ADSCORE_HTTP__PORT": "0",
        "ADSCORE_LOG__LEVEL": "warning",
    }
    adscore = [sys.executable, "-m", "worker"]
    create = [*adscore, "topics", "create", "--partitions", "2"]
    subprocess.run(create, env=environment, check=True, capture_output=True)
    producer = KafkaProducer(bootstrap_servers=servers, max_request_size=16 << 20)
    for item in items:
        producer.send(f"in-{suffix}", item.event, key=item.key)
    producer.flush()
    producer.close()
    subprocess.run([*adscore, "worker", "--max-messages", str(len(items))], env=environment, check=True, timeout=900)
    return _output_rate(servers, f"out-{suffix}", len(items))


def _output_rate(servers: str, topic: str, count: int) -> float:
    consumer = KafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest", enable_auto_commit=False)
    consumer.assign([TopicPartition(topic, partition) for partition in (0, 1)])
    moments: list[int] = []
    while len(moments) < count:
        polled = consumer.poll(timeout_ms=5_000)
        if not polled:
            raise SystemExit(f"only {len(moments)} of {count} creatives came out")
        moments += [message.timestamp for messages in polled.values() for message in messages]
    consumer.close()
    return (count - 1) / ((max(moments) - min(moments)) / 1000)


def main() -> None:
    """Measure and print; `--json FILE` keeps the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=400, help="creatives per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    batch_size = load(None, os.environ).settings.batch.max_size
    items = samples(options.count)
    rounds = []
    stack = Stack()
    try:
        stack.start()
        for number in range(options.rounds):
            engine = engine_rate(items, batch_size)
            worker = worker_rate(items, stack.bootstrap_servers, stack.redis_url, number)
            rounds.append({"engine": engine, "worker": worker, "ratio": worker / engine})
            print(f"round {number + 1}: engine {engine:.1f}/s, worker {worker:.1f}/s, ratio {worker / engine:.2f}")
    finally:
        stack.stop()
    ratio = statistics.median(entry["ratio"] for entry in rounds)
    print(f"median ratio {ratio:.2f} over {options.rounds} rounds of {options.count} creatives, batch {batch_size}")
    if options.json:
        options.json.write_text(json.dumps({"rounds": rounds, "median_ratio": ratio, "batch": batch_size}, indent=1))


if __name__ == "__main__":
    main()
