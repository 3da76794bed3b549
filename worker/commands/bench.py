"""`adscore bench`: how fast the worker is here, and how late its events are, by one's own models and creatives."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from worker.commands import bench_tables, edge
from worker.errors import FatalError

if TYPE_CHECKING:
    from worker.commands.bench_runs import Rigs, Supply
    from worker.settings import Settings

DEFAULT_SHARES = (0.25, 0.5, 0.75, 0.9)
"""Of the saturated rate: the arrival rates where none are given."""


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """What both verbs take."""
    for option in reversed(
        (
            click.argument("paths", nargs=-1, metavar="[PATH]..."),
            click.option("--broker", is_flag=True, help="Through the configured Kafka and Redis instead of memory."),
            click.option(
                "--text",
                type=click.Choice(["as-is", "given", "read"]),
                default="as-is",
                show_default=True,
                help="given: no OCR, an event without ocr_text gets an empty one. read: OCR reads every image.",
            ),
            click.option("--json", "as_json", is_flag=True, help="One JSON object."),
        )
    ):
        command = option(command)
    return command


@click.group()
def bench() -> None:
    """How late events are at fixed rates, and how fast the worker is when it has all it can take."""


@bench.command()
@_shared
@click.option("--creatives", type=click.IntRange(min=10), default=200, show_default=True, help="In each round.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Worker and engine in turn.")
@click.option("--cached", is_flag=True, help="Creatives whose scores the cache holds: no decoder, OCR or engine runs.")
def throughput(
    paths: tuple[str, ...], broker: bool, text: Any, as_json: bool, creatives: int, rounds: int, cached: bool
) -> int:
    """Saturate the worker, and run the bare engines beside it.

    PATH: images, folders of images, or JSONL of events, as for `adscore score`; none: creatives made here. Each is
    submitted as new content. The worker runs inside this process with a source and an outbox in memory, or with
    --broker as a process of its own, on topics and a group that are made for it and deleted.

    The ratio of a round says how much of the engines' speed the whole worker keeps; absolute rates are the machine's.
    """
    import orjson

    from worker.commands.backends import Runners
    from worker.commands.bench_rig import bottleneck
    from worker.commands.bench_runs import engine_input, engine_rate, saturated
    from worker.commands.compose import load_engines

    settings = edge.settings()
    if cached and broker and not settings.redis.url.get_secret_value():
        raise click.UsageError(
            "--cached --broker needs ADSCORE_REDIS__URL: without Redis a worker's cache ends with it"
        )
    rigs, supply, bad = _prepared(settings, paths, text, broker)
    began, found, engines, prepared = time.time(), [], None, None
    for _ in range(rounds):
        run = saturated(rigs, settings, supply, creatives, cached=cached)
        entry: dict[str, Any] = {
            "worker": round(run.rate, 3),
            "outcomes": run.outcomes,
            "from_cache": run.from_cache,
            "stages": run.stages,
        }
        _refuse_none(run.outcomes)
        if not cached:
            if engines is None or prepared is None:
                engines = load_engines(settings, Runners(settings), "bench")
                prepared = engine_input(settings, engines, supply.samples, run.texts)
                engines.warm(settings.batch.max_size)
            engine = engine_rate(engines, prepared, creatives, settings.batch.max_size)
            entry |= {"engine": round(engine, 3), "ratio": round(run.rate / engine, 4)}
        found.append(entry)
    told = {
        **facts("throughput", settings, supply, broker, text, began),
        "creatives_per_round": creatives,
        "cached": cached,
        "models": engines.models if engines else None,
        "rounds": found,
        "median": {
            name: round(statistics.median(entry[name] for entry in found), 4)
            for name in ("worker", "engine", "ratio")
            if name in found[0]
        },
        "bottleneck": bottleneck(found[-1]["stages"]),
    }
    click.echo(orjson.dumps(told) if as_json else bench_tables.throughput(told))
    return _status(bad, [entry["outcomes"] for entry in found])


@bench.command()
@_shared
@click.option(
    "--rate",
    "rates",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    metavar="R",
    help="Creatives per second that arrive; may be repeated.  [default: shares of the saturated rate]",
)
@click.option("--seconds", type=click.FloatRange(min=1), default=15.0, show_default=True, help="At each rate.")
@click.option(
    "--p99-ms",
    type=click.FloatRange(min=1),
    default=1_000.0,
    show_default=True,
    help="The age that 99 of 100 events may have.",
)
@click.option(
    "--refine",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Rates to try between the best that holds it and the first that doesn't.",
)
def latency(
    paths: tuple[str, ...],
    broker: bool,
    text: Any,
    as_json: bool,
    rates: tuple[float, ...],
    seconds: float,
    p99_ms: float,
    refine: int,
) -> int:
    """Have creatives arrive at fixed rates, whatever the worker does, and tell how old their events are.

    An age runs from the moment a creative is to arrive until its event is delivered (with --broker: read again). PATH
    and --broker are as for `adscore bench throughput`.
    """
    import orjson

    from worker.commands.bench_runs import best, gather_rate, narrowed, open_loop

    settings = edge.settings()
    rigs, supply, bad = _prepared(settings, paths, text, broker)
    began, found, capacity = time.time(), [], None
    with rigs() as rig:
        rig.start()
        # Also warms up what the first creatives would wait for.
        capacity = gather_rate(rig, supply, 4 * settings.batch.max_size)
        wanted = sorted(rates) or [round(share * capacity, 2) for share in DEFAULT_SHARES]
        found = [open_loop(rig, supply, rate, seconds, p99_ms / 1000) for rate in wanted]
        for _ in range(refine):
            following = narrowed(found, p99_ms)
            if following is None:
                break
            found.append(open_loop(rig, supply, following, seconds, p99_ms / 1000))
    found.sort(key=lambda ages: ages.rate)
    _refuse_none(found[0].outcomes)
    told = {
        **facts("latency", settings, supply, broker, text, began),
        "seconds": seconds,
        "p99_limit_ms": p99_ms,
        "saturated": round(capacity, 3),
        "rates": [asdict(ages) for ages in found],
        "best_rate": best(found, p99_ms),
    }
    click.echo(orjson.dumps(told) if as_json else bench_tables.latency(told))
    return _status(bad, [ages.outcomes for ages in found])


def _prepared(settings: Settings, paths: tuple[str, ...], text: Any, broker: bool) -> tuple[Rigs, Supply, list[Any]]:
    from worker.commands.bench_creatives import samples, tails
    from worker.commands.bench_runs import Supply

    good, bad = samples(paths, text, settings.fetch.max_bytes)
    for item in bad:
        click.echo(f"{item.label}: {item.error.message if item.error else 'not a creative'}", err=True)
    if broker:
        from worker.commands.bench_broker import broker_rig

        config = click.get_current_context().find_root().obj.config
        return lambda: broker_rig(settings, config), Supply(good, tails()), bad
    from worker.commands.bench_process import process_rig
    from worker.delivery.cache import MemoryCache

    cache = MemoryCache(settings.pipeline.cache_memory_items)
    return lambda: process_rig(settings, cache), Supply(good, tails()), bad


def facts(bench: str, settings: Settings, supply: Supply, broker: bool, text: str, began: float) -> dict[str, Any]:
    """What a figure means nothing without."""
    from importlib.metadata import version

    from worker.commands.present import moment

    used = ("adscore", "onnxruntime", "numpy", "pillow", "kafka-python")
    return {
        "bench": bench,
        "where": "broker" if broker else "process",
        "started": moment(round(began * 1000)),
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "load": [round(load, 2) for load in os.getloadavg()],
            "platform": platform.platform(),
        },
        "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in used},
        "settings": {
            "backend": settings.backend,
            "batch.max_size": settings.batch.max_size,
            "batch.max_delay_ms": settings.batch.max_delay_ms,
            "pipeline.max_inflight": settings.pipeline.max_inflight,
            "ocr.engine": settings.ocr.engine,
            "kafka.delivery": settings.kafka.delivery if broker else None,
        },
        "creatives": {
            "distinct": len(supply.samples),
            "text": text,
            "without_ocr": sum(sample.creative.ocr_text is not None for sample in supply.samples),
            "mean_event_bytes": round(statistics.mean(sum(map(len, sample.parts)) for sample in supply.samples)),
        },
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def _refuse_none(outcomes: Mapping[str, int]) -> None:
    """Raises FatalError where nothing could be scored."""
    if not {"scored", "partial"} & outcomes.keys():
        raise FatalError(f"no creative was scored: {', '.join(outcomes)}; `adscore score PATH` says more", exit_code=1)


def _status(bad: list[Any], outcomes: list[Mapping[str, int]]) -> int:
    """Exit status 1 where something couldn't be scored."""
    refused: Counter[str] = Counter()
    for one in outcomes:
        refused.update({name: count for name, count in one.items() if name not in ("scored", "partial")})
    for name, count in refused.items():
        click.echo(f"{count} creatives ended as {name}: the worker's figures count them, the engines' don't", err=True)
    return edge.FAILED if bad or refused else 0
