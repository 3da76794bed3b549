"""`adscore score`: creatives in, scores out, with no Kafka and no Redis."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.commands import edge, present

if TYPE_CHECKING:
    from worker.commands.inputs import Item
    from worker.errors import CreativeError
    from worker.pipeline.scoring import ScoringFlow
    from worker.types import ScoredCreative


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--headline", help="Copy of images that come without an event.")
@click.option("--body", help="Likewise.")
@click.option("--cta", help="Likewise: the call to action.")
@click.option("--brand", help="Likewise.")
@click.option("--lang", help="Declared language of such images, ISO 639-1.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per creative instead of a table.")
@click.option(
    "--overlay", type=click.Path(file_okay=False, path_type=Path), help="Write each creative with its heatmap there."
)
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write one HTML page with all creatives."
)
def score(
    paths: tuple[str, ...],
    headline: str | None,
    body: str | None,
    cta: str | None,
    brand: str | None,
    lang: str | None,
    as_json: bool,
    overlay: Path | None,
    report: Path | None,
) -> None:
    """Score images, folders of images, JSONL files of creative events, or - (JSONL on standard input)."""
    import orjson

    from worker.commands.compose import scoring_flow
    from worker.commands.inputs import items
    from worker.commands.showing import Showing
    from worker.delivery.cache import MemoryCache
    from worker.metrics import Metrics

    settings = edge.settings()
    given = {"headline": headline, "body": body, "cta": cta, "brand": brand}
    copy = {name: text for name, text in given.items() if text is not None}
    creatives = items(paths, copy=copy, lang=lang, max_bytes=settings.fetch.max_bytes)
    showing = Showing(settings, overlay, report)
    statuses: Counter[str] = Counter()
    cache = MemoryCache(settings.pipeline.cache_memory_items)
    with scoring_flow(settings, cache=cache, metrics=Metrics()) as flow:
        if not as_json:
            click.echo(present.header())
        for item, outcome in _scored(flow, creatives, settings.pipeline.max_inflight):
            event = line(item, outcome)
            statuses[event["status"]] += 1
            click.echo(orjson.dumps(event) if as_json else present.row(event))
            showing.add(item, event)
    showing.finish()
    if statuses["failed"]:
        raise click.exceptions.Exit(edge.FAILED)


def line(item: Item, outcome: ScoredCreative | CreativeError) -> dict[str, Any]:
    """`score --json`'s line: the enriched event with its input, or why there is none."""
    from worker.errors import CreativeError
    from worker.scoring.assemble import enriched_event

    if isinstance(outcome, CreativeError):
        reason = {"code": str(outcome.code), "message": outcome.message}
        return {"input": item.label, "creative_id": item.creative_id, "status": "failed", "errors": [reason]}
    now_ms = time.time_ns() // 1_000_000
    return {"input": item.label} | enriched_event(outcome, origin=None, scored_at_ms=now_ms)


def _scored(
    flow: ScoringFlow, creatives: Iterable[Item], capacity: int
) -> Iterator[tuple[Item, ScoredCreative | CreativeError]]:
    """Each item with its outcome, in the order given; those that are bad already aren't submitted."""
    from worker.commands.compose import score_all

    waiting: deque[Item] = deque()

    def good() -> Iterator[Item]:
        for item in creatives:
            waiting.append(item)
            if item.creative is not None:
                yield item

    def bad() -> Iterator[tuple[Item, ScoredCreative | CreativeError]]:
        while waiting and waiting[0].error is not None:
            item = waiting.popleft()
            if item.error is not None:
                yield item, item.error

    for _, outcome in score_all(flow, good(), _creative, capacity=capacity):
        yield from bad()
        yield waiting.popleft(), outcome
    yield from bad()


def _creative(item: Item) -> Any:
    return item.creative
