"""`/metrics` of a real worker under odd records: every declared metric, and no label that a sender could make grow."""

from __future__ import annotations

import base64
import io
import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.light_models import write_light_models
from worker.metrics import DECLARATIONS

CANARY = "canary"
EACH = 40


def events(start: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Keys and values: good, broken and withdrawn creatives, each with an id, a host and copy of its own."""
    for number in range(start, start + EACH):
        picture = io.BytesIO()
        Image.new("RGB", (40 + number % 7, 30), (number % 256, 90, 90)).save(picture, "PNG")
        url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
        name = f"{CANARY}-{number}"
        copy = {"headline": f"{CANARY} {number}", "brand": name}
        for suffix, image in (("", url), ("-far", f"https://{name}.example/{name}.png"), ("-odd", f"{name}://x")):
            ad = {"id": name + suffix, "display": {"banner": {"img": image}}}
            yield (name + suffix).encode(), json.dumps({"ad": ad, "copy": copy, "ocr_text": name}).encode()
        yield name.encode(), f"{{{name}".encode()
        yield f"{name}-gone".encode(), None


def send(bootstrap_servers: str, topic: str, start: int) -> int:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap_servers)
    sent = [producer.send(topic, key=key, value=value) for key, value in events(start)]
    for future in sent:
        future.get(20)
    producer.close()
    return len(sent)


def scrape(port: int) -> tuple[str, dict[str, set[tuple[str, ...]]]]:
    """The page, and per family its series as label values."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    series = {
        family.name: {(sample.name, *sorted(sample.labels.values())) for sample in family.samples}
        for family in text_string_to_metric_families(page)
    }
    return page, series


def finished(series_page: str) -> float:
    found = re.findall(r"^adscore_events_processed_total\{.*\} (.*)$", series_page, flags=re.MULTILINE)
    return sum(map(float, found))


@pytest.mark.timeout(120)
def test_no_label_grows_with_what_senders_write(
    stack: Any, topics: Any, start_adscore: Callable[..., Any], tmp_path: Path
) -> None:
    env = topics.env | {"ADSCORE_MODELS__DIR": str(write_light_models(tmp_path / "models"))}
    worker = start_adscore("worker", env=env)
    while "http_port" not in worker.stderr:
        time.sleep(0.1)
    port = int(re.search(r'"http_port":\s*(\d+)', worker.stderr)[1])  # type: ignore[index]
    seen, total = [], 0
    for start in (0, EACH):
        total += send(stack.bootstrap_servers, topics.input, start)
        while finished(page := scrape(port)[0]) < total:
            time.sleep(0.2)
        assert CANARY not in page
        # Lag and commits are told twice a second, so their series may come a moment later.
        series: dict[str, set[tuple[str, ...]]] = {}
        while series != (series := scrape(port)[1]):
            time.sleep(1.5)
        seen.append(series)
    assert seen[0] == seen[1]
    declared = {item.name.removesuffix("_total") if item.kind == "counter" else item.name for item in DECLARATIONS}
    assert {name for name in seen[1] if not name.endswith("_created")} == declared
