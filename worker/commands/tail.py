"""`adscore tail`: enriched events as they stand on the output topic."""

from __future__ import annotations

from typing import Any

import click
import orjson

from worker.commands import edge, kafka, present
from worker.types import Record


@click.command()
@click.option("--last", "count", type=click.IntRange(min=0), help="So many records over all partitions, oldest first.")
@click.option("--follow", is_flag=True, help="Go on with what comes.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per record.")
def tail(count: int | None, follow: bool, as_json: bool) -> None:
    """Show enriched events from the output topic: the last 10, or --last N, and with --follow what comes."""
    from worker.commands import reading

    settings = edge.settings()
    show = _json_line if as_json else _line
    with kafka.reached(settings.kafka), kafka.consumer(settings.kafka) as client:
        records, behind = reading.last(client, settings.kafka.output_topic, 10 if count is None else count)
        if not as_json:
            click.echo(f"{'published (UTC)':<19}  {present.header()}")
        for record in records:
            click.echo(show(record))
        if follow:
            for record in reading.follow(client, behind):
                click.echo(show(record))


def _json_line(record: Record) -> bytes:
    return orjson.dumps(
        {
            "partition": record.origin.partition,
            "offset": record.origin.offset,
            "key": None if record.key is None else record.key.decode(errors="replace"),
            "headers": kafka.text_headers(record.headers),
            "value": _value(record.value),
        }
    )


def _line(record: Record) -> str:
    value = _value(record.value)
    key = (record.key or b"").decode(errors="replace")
    event = value if isinstance(value, dict) else {"status": "withdrawn" if value is None else "unreadable"}
    return f"{present.moment(record.origin.timestamp_ms):<19}  {present.row({'creative_id': key} | event)}"


def _value(value: bytes | None) -> Any:
    """The record's JSON; what isn't JSON, as text."""
    try:
        return None if value is None else orjson.loads(value)
    except ValueError:
        return (value or b"").decode(errors="replace")
