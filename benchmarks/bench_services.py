"""What other processes have a part in: decoders' and OCR's children, Redis, the broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from benchmarks import probes
from tools.stack import Stack
from worker.commands import kafka
from worker.commands.compose import redis_link
from worker.delivery.cache import RedisCache
from worker.intake import decode_child
from worker.intake.decode import DecoderPool
from worker.intake.ocr import ENGINES, OcrPool
from worker.metrics import Metrics

EVENTS = 100


@pytest.mark.parametrize("size", probes.SIZES)
@pytest.mark.parametrize("kind", probes.FORMATS)
def test_image_decode_in_a_child(benchmark: Any, kind: str, size: str) -> None:
    data = probes.picture(size, kind)
    with closing(DecoderPool(1, probes.engines().sizes)) as pool:
        assert pool.decode(data, ocr=False).format == kind
        benchmark(lambda: pool.decode(data, ocr=False))


@pytest.mark.parametrize("engine", ENGINES)
def test_ocr(benchmark: Any, engine: str) -> None:
    head, body = decode_child.decode(memoryview(probes.picture()), [(32, 32)], ocr=True, pixels=False)
    grey = np.frombuffer(body[0], np.uint8).reshape(head["ocr"])
    with closing(OcrPool(1, engine)) as pool:
        assert "Shop now" in pool.read(grey).text
        benchmark.pedantic(lambda: pool.read(grey), rounds=5, warmup_rounds=1)


@pytest.fixture
def cache(stack: Stack) -> Iterator[RedisCache]:
    # A loaded machine may well take longer than the worker would wait.
    settings = probes.settings(ADSCORE_REDIS__URL=stack.redis_url, ADSCORE_REDIS__TIMEOUT_MS="5000")
    with redis_link(settings, Metrics()) as link:
        assert link is not None
        yield RedisCache(link, ttl_seconds=60, ttl_jitter=0)


def test_cache_write(benchmark: Any, cache: RedisCache) -> None:
    parts = probes.scored().heads
    digests = dict.fromkeys(parts, "d" * 64)
    benchmark(lambda: cache.put("c" * 64, digests, parts))
    assert set(cache.get("c" * 64, digests).results.values()) == {"hit"}


def test_cache_read(benchmark: Any, cache: RedisCache) -> None:
    parts = probes.scored().heads
    digests = dict.fromkeys(parts, "d" * 64)
    cache.put("e" * 64, digests, parts)
    found = benchmark(lambda: cache.get("e" * 64, digests))
    assert set(found.results.values()) == {"hit"}


@pytest.mark.parametrize("events", [1, EVENTS])
def test_publish(benchmark: Any, stack: Stack, events: int) -> None:
    """From `send` to the last acknowledgement by all replicas."""
    settings = probes.settings(ADSCORE_KAFKA__BOOTSTRAP_SERVERS=stack.bootstrap_servers)
    topic = f"benchmark-{events}"
    message = probes.assemble()()[0]  # type: ignore[index]
    with kafka.admin(settings.kafka) as admin:
        admin.create_topics({topic: {"num_partitions": 4, "replication_factor": 1}})
        admin.wait_for_topics([topic])
    with kafka.producer(settings.kafka) as producer:

        def publish() -> None:
            sent = [kafka.send(producer, topic, b"%d" % n, message.value, message.headers) for n in range(events)]
            for future in sent:
                future.get(timeout=30)

        publish()
        benchmark(publish)
