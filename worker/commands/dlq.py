"""`adscore dlq`: look at dead letters and put them back on the topic they came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import click
import orjson

from worker.commands import edge, kafka, present
from worker.delivery.dead_letters import PREFIX
from worker.errors import Code, FatalError
from worker.types import Record

_DATA_URL = re.compile(r'"data:([^",]{0,80}),[^"]{100,}"')


@click.group()
def dlq() -> None:
    """Look at dead letters and put them back."""


@dlq.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per record.")
def list_(as_json: bool) -> None:
    """List the dead letters, those of each partition oldest first."""
    from worker.commands import reading

    settings = edge.settings()
    if not as_json:
        click.echo(f"{'PARTITION:OFFSET':<18}  {'received (UTC)':<19}  {'code':<18}  {'creative':<32}  reason")
    with kafka.reached(settings.kafka), kafka.consumer(settings.kafka) as client:
        for record in reading.read(client, *reading.span(client, settings.kafka.dlq_topic)):
            click.echo(orjson.dumps(summary(record)) if as_json else _line(record))


@dlq.command()
@click.argument("place", metavar="PARTITION:OFFSET")
@click.option("--raw", is_flag=True, help="The value alone, byte by byte as received.")
def show(place: str, raw: bool) -> None:
    """Show one dead letter: its headers and its value. Long data: URLs in it are shortened."""
    partition, offset = _parsed(place)
    settings = edge.settings()
    with kafka.reached(settings.kafka), kafka.consumer(settings.kafka) as client:
        record = _at(client, settings.kafka.dlq_topic, partition, offset)
    if record is None:
        raise FatalError(f"{settings.kafka.dlq_topic} holds no record at {place}", exit_code=edge.FAILED)
    if raw:
        click.echo(record.value or b"", nl=False)
        return
    click.echo(f"key: {_text(record.key)}")
    for name, value in record.headers:
        click.echo(f"{present.plain(name)}: {_text(value)}")
    click.echo()
    click.echo(_value(record.value))


@dlq.command()
@click.option(
    "--code", metavar="CODE", type=click.Choice([str(code) for code in Code]), help="Only dead letters of this code."
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most so many per second.")
@click.option("--again", is_flag=True, help="Also those that were sent before.")
@click.option("--dry-run", is_flag=True, help="List what would be sent, and send nothing.")
def replay(code: str | None, limit: int | None, rate: float | None, again: bool, dry_run: bool) -> None:
    """Put dead letters back on the topic they came from, each once; nothing is deleted."""
    from worker.commands import replaying

    settings = edge.settings()
    with kafka.reached(settings.kafka):
        done = replaying.replay(settings, replaying.Wanted(code, limit, rate, again), dry_run=dry_run)
    verb = "would be sent" if dry_run else "sent"
    told = f"{done.sent} {verb}, {done.before} sent before, {done.truncated} truncated, {done.failed} failed"
    click.echo(told, err=True)
    if done.truncated or done.failed:
        raise click.exceptions.Exit(edge.FAILED)


def summary(record: Record) -> dict[str, Any]:
    """`dlq list --json`'s object. What didn't come from a worker has null where a worker writes a header."""
    headers = kafka.text_headers(record.headers)
    retryable = headers.get(PREFIX + "retryable")
    return {
        "partition": record.origin.partition,
        "offset": record.origin.offset,
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "code": headers.get(PREFIX + "code"),
        "stage": headers.get(PREFIX + "stage"),
        "topic": headers.get(PREFIX + "topic"),
        "timestamp": received_ms(headers),
        "retryable": None if retryable is None else retryable == "true",
    }


def received_ms(headers: Mapping[str, str]) -> int | None:
    """When the original record was written, by its dead letter's headers."""
    text = headers.get(PREFIX + "timestamp", "")
    return int(text) if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else None


def _line(record: Record) -> str:
    told = summary(record)
    reason = kafka.text_headers(record.headers).get(PREFIX + "message", "")
    place = f"{told['partition']}:{told['offset']}"
    when = present.moment(record.origin.timestamp_ms if told["timestamp"] is None else told["timestamp"])
    key = present.plain(told["key"] or "–")
    shown = key if len(key) <= 32 else key[:31] + "…"
    code = present.plain(told["code"] or "–")
    return f"{place:<18}  {when:<19}  {code:<18}  {shown:<32}  {present.plain(reason)}".rstrip()


def _parsed(place: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9}):(\d{1,18})", place, re.ASCII)
    if not match:
        raise click.BadParameter(f"{place!r} isn't PARTITION:OFFSET, like 3:981", param_hint="PARTITION:OFFSET")
    return int(match[1]), int(match[2])


def _at(client: Any, topic: str, partition: int, offset: int) -> Record | None:
    from worker.commands import reading

    first, end = reading.span(client, topic)
    part = next((part for part in end if part.partition == partition), None)
    if part is None or not first[part] <= offset < end[part]:
        return None
    found = next(reading.read(client, {part: offset}, {part: offset + 1}), None)
    return found if found is not None and found.origin.offset == offset else None


def _text(value: bytes | None) -> str:
    return "null" if value is None else present.plain(value.decode(errors="replace"))


def _value(value: bytes | None) -> str:
    if value is None:
        return "null"
    try:
        text = orjson.dumps(orjson.loads(value), option=orjson.OPT_INDENT_2).decode()
    except ValueError:
        text = value.decode(errors="replace")
    text = _DATA_URL.sub(lambda match: f'"data:{match[1]},… ({len(match[0])} characters)"', text)
    return "\n".join(present.plain(line) for line in text.split("\n"))
