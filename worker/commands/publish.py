"""`adscore publish`: creatives onto the input topic, for trying out, load tests and migrations."""

from __future__ import annotations

import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

import click

from worker.commands import edge, kafka
from worker.commands.inputs import Item, items

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
        kafka.require_topic(settings.kafka, topic)
        with kafka.producer(settings.kafka) as client:
            sent, failed = _send(client, topic, creatives)
    click.echo(f"published {sent} to {topic}" + (f", {failed} failed" if failed else ""), err=True)
    if failed:
        raise click.exceptions.Exit(edge.FAILED)


def _send(client: KafkaProducer, topic: str, creatives: Iterable[Item]) -> tuple[int, int]:
    """(acknowledged, failed). Raises KafkaError when the broker is gone."""
    waiting: deque[tuple[Item, Any]] = deque()
    held = sent = failed = 0
    for item in creatives:
        if not item.event or not item.creative_id:
            _tell(item, item.error.message if item.error else "no creative id")
            failed += 1
            continue
        key = item.creative_id.encode(errors="replace")
        waiting.append((item, client.send(topic, item.event, key=key, headers=list(_headers(item, key)))))
        held += len(item.event)
        while len(waiting) > MAX_INFLIGHT or held > MAX_INFLIGHT_BYTES:
            held -= len(waiting[0][0].event)
            good = _acknowledged(*waiting.popleft())
            sent, failed = sent + good, failed + (not good)
    for item, future in waiting:
        good = _acknowledged(item, future)
        sent, failed = sent + good, failed + (not good)
    return sent, failed


def _acknowledged(item: Item, future: Any) -> bool:
    from kafka.errors import MessageSizeTooLargeError, RecordListTooLargeError

    try:
        future.get(timeout=2 * kafka.REQUEST_TIMEOUT_MS / 1000)
    except (MessageSizeTooLargeError, RecordListTooLargeError):
        _tell(item, "larger than the topic takes; `adscore topics check` tells its limit")
        return False
    return True


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


def _tell(item: Item, reason: str) -> None:
    click.echo(f"{item.label}: {reason}", err=True)
