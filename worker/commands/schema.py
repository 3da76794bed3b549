"""`adscore schema`: the events' schemas as files, and events checked against them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import IO, Any

import click

from worker import schemas
from worker.errors import CreativeError, FatalError
from worker.intake import json_text
from worker.intake.cloudevents import SPEC_VERSION, SUBMITTED, data_of, in_envelope

MAX_REASON_CHARACTERS = 200
_TYPES = {
    schemas.SUBMITTED_SCHEMA_ID: (SUBMITTED,),
    schemas.ENRICHED_SCHEMA_ID: ("creative.enriched.v1", "creative.shadow.v1"),
}


@click.group()
def schema() -> None:
    """Export the events' schemas, or check events against them."""


@schema.command()
@click.argument("folder", metavar="[DIR]", default="schemas", type=click.Path(file_okay=False, path_type=Path))
def export(folder: Path) -> None:
    """Write the JSON Schemas and the AsyncAPI document into DIR (default: schemas) and print their paths."""
    for name in (*schemas.FILES.values(), schemas.ASYNCAPI):
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(_text(name), encoding="utf-8")
        except OSError as error:
            message = f"{path}: {error.strerror}; name a folder that can be written"
            raise FatalError(message, exit_code=3) from None
        click.echo(str(path))


@schema.command()
@click.argument("file", type=click.File("rb"))
def check(file: IO[bytes]) -> int:
    """Check the events in FILE (JSON or JSONL; - is standard input) against their schemas.

    An event's kind is told by its fields. A structured CloudEvent is checked by its data, a line of `tail --json` by
    its value. Each bad event is named with its line and the reason; then the exit status is 1.
    """
    name = getattr(file, "name", "-")
    label = "-" if name == "<stdin>" else name
    good = bad = 0
    for line, event in _events(file.read()):
        reason = event if isinstance(event, str) else problem(event)
        if reason is None:
            good += 1
        else:
            bad += 1
            click.echo(f"{label}:{line}: {reason}")
    click.echo(f"{good} good, {bad} bad", err=True)
    return 1 if bad or not good else 0


def problem(event: Any) -> str | None:
    """Why `event` is no event by its schema, or None."""
    from jsonschema import Draft202012Validator  # imported here: no other verb needs it
    from jsonschema.exceptions import best_match

    enveloped = isinstance(event, dict) and in_envelope(event)
    try:
        body = data_of(event) if enveloped else _body(event)
    except CreativeError as refused:
        return refused.message
    if body is None:
        return None
    kind = _kind(body)
    if kind is None:
        return "neither a submitted event (`ad`) nor an enriched one (`creative_id`, `scores`)"
    error = best_match(Draft202012Validator(json.loads(_text(schemas.FILES[kind]))).iter_errors(body))
    if error is None:
        return _of_envelope(event, kind) if enveloped else None
    message = error.message if len(error.message) <= MAX_REASON_CHARACTERS else f"does not fit `{error.validator}`"
    return f"{kind.rpartition(':')[2]}: {error.json_path.removeprefix('$').lstrip('.') or 'the event'}: {message}"


def _of_envelope(event: dict[str, Any], kind: str) -> str | None:
    """Why a structured CloudEvent with good data is none, or None."""
    if event.get("specversion") != SPEC_VERSION:
        return f"specversion must be {SPEC_VERSION}"
    types = _TYPES[kind]
    return None if event.get("type") in types else f"type must be {' or '.join(types)}"


def _body(event: Any) -> Any:
    """A line of `tail --json` without its wrapping; None for a withdrawal."""
    if isinstance(event, dict) and {"partition", "offset", "headers", "value"} <= event.keys():
        return event["value"]
    return event


def _kind(event: Any) -> str | None:
    if isinstance(event, dict):
        if "creative_id" in event or "scores" in event:
            return schemas.ENRICHED_SCHEMA_ID
        if "ad" in event:
            return schemas.SUBMITTED_SCHEMA_ID
    return None


def _events(text: bytes) -> Iterator[tuple[int, Any]]:
    """(line, event), or (line, reason) for what is not JSON. One JSON value over several lines is one event."""
    try:
        whole = json_text.loads(text)
    except ValueError:
        whole = None
    if isinstance(whole, list):
        yield from ((1, event) for event in whole)
        return
    if whole is not None:
        yield 1, whole
        return
    for number, line in enumerate(text.split(b"\n"), start=1):
        if line.strip():
            try:
                event = json_text.loads(line)
            except ValueError as error:
                yield number, str(error)
            else:
                yield number, "not an object" if isinstance(event, str) else event


def _text(name: str) -> str:
    return resources.files(schemas).joinpath(name).read_text(encoding="utf-8")
