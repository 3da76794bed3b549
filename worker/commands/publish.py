"""`adscore publish`: creatives onto the input topic, for trying out, load tests and migrations."""

from __future__ import annotations

import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

import click

from worker.commands import edge, kafka
from worker.commands.inputs import Item, items
from worker.commands.topics import described, max_message_bytes
from worker.delivery.dead_letters import fits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kafka import KafkaProducer

    from worker.types import Headers

# The client has no back-pressure of its own: so much may be unacknowledged.
MAX_INFLIGHT = 500
MAX_INFLIGHT_BYTES = 64 * 1024 * 1024


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
def publish(paths: tuple[str, ...]) -> None:
    """Put the creatives of images, folders of images, JSONL files or - (JSONL on standard input) on the input topic.

    Local images travel inside the event. Events that can be keyed are sent as they are: to judge them is the worker's.
    """
    settings = edge.settings()
    creatives = items(paths, copy={}, lang=None, max_bytes=settings.fetch.max_bytes)
    topic = settings.kafka.input_topic
    with kafka.reached(settings.kafka):
        with kafka.admin(settings.kafka) as admin:
            configs = described(admin, [topic])
        if topic not in configs:
            raise kafka.no_topic(topic)
        with kafka.producer(settings.kafka) as client:
            sent, failed = _send(client, topic, creatives, max_message_bytes(configs, topic))
    click.echo(f"published {sent} to {topic}" + (f", {failed} failed" if failed else ""), err=True)
    if failed:
        raise click.exceptions.Exit(edge.FAILED)


def _send(client: KafkaProducer, topic: str, creatives: Iterable[Item], max_bytes: int) -> tuple[int, int]:
    """(acknowledged, failed). Raises KafkaError when the broker is gone.

    max_bytes: what the topic takes. One record too many for it would take its neighbours in the batch along.
    """
    waiting: deque[tuple[int, Any]] = deque()
    held = sent = failed = 0
    for item in creatives:
        key = (item.creative_id or "").encode(errors="replace")
        headers = _headers(item, key)
        if not item.event or not key:
            click.echo(f"{item.label}: {item.error.message if item.error else 'no creative id'}", err=True)
            failed += 1
        elif not fits(key, item.event, headers, max_bytes):
            click.echo(f"{item.label}: larger than the {max_bytes} bytes that {topic} takes", err=True)
            failed += 1
        else:
            size = len(item.event)
            waiting.append((size, client.send(topic, item.event, key=key, headers=list(headers))))
            held += size
        while len(waiting) > MAX_INFLIGHT or held > MAX_INFLIGHT_BYTES:
            size, future = waiting.popleft()
            _acknowledged(future)
            held, sent = held - size, sent + 1
    for _, future in waiting:
        _acknowledged(future)
    return sent + len(waiting), failed


def _acknowledged(future: Any) -> None:
    future.get(timeout=2 * kafka.REQUEST_TIMEOUT_MS / 1000)


def _headers(item: Item, key: bytes) -> Headers:
    """CloudEvents, binary mode; an event in structured mode brings its own envelope."""
    if item.creative is None or item.structured:
        return ()
    return (
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", uuid.uuid4().hex.encode()),
        ("ce_type", b"creative.submitted.v1"),
        ("ce_source", b"adscore publish"),
        ("ce_subject", key),
    )
