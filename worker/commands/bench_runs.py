"""The two measurements: how fast a worker is when it has all it can take, and how late events are at fixed rates."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import Empty

import numpy as np
import orjson

from worker.commands.bench_creatives import Sample
from worker.commands.bench_rig import Offer, Result, Rig, Stage, between, gather, stage_workers
from worker.commands.compose import fetcher_of
from worker.commands.figures import from_cache, percentile
from worker.errors import CreativeError, FatalError
from worker.intake.decode import DecoderPool
from worker.pipeline.job import canonical_copy
from worker.scoring.engines import Engines
from worker.scoring.feeds import Prepared
from worker.settings_schema import Settings

Rigs = Callable[[], AbstractContextManager[Rig]]
WARM = 0.2
"""Share of the creatives, at the beginning, that doesn't count."""
KNOWN = 256
"""Different contents, at least, of creatives that the cache knows: more than are in flight, so that few wait for an
equal one instead of asking the cache."""


@dataclass(frozen=True, slots=True)
class Saturated:
    """rate: creatives per second behind the first fifth. stages: from start to end. texts: OCR text by sample."""

    rate: float
    stages: dict[str, Stage]
    outcomes: dict[str, int]
    from_cache: int
    texts: dict[int, str]


@dataclass(frozen=True, slots=True)
class Ages:
    """Event ages at one arrival rate, ms. overloaded: given up, since events grew older and older."""

    rate: float
    offered: float
    creatives: int
    p50: float
    p95: float
    p99: float
    max: float
    overloaded: bool
    outcomes: dict[str, int]


@dataclass
class Supply:
    """Records of the samples in turn, each under an id and with a tail of its own."""

    samples: Sequence[Sample]
    tails: Iterator[str]
    made: int = 0

    def take(self, dues: Sequence[float], tails: Sequence[str] | None = None) -> list[Offer]:
        """A record for each moment; `tails` of before make content that a cache knows."""
        offers = []
        for index, due in enumerate(dues):
            name = f"bench-{self.made}-{index % len(self.samples)}"
            tail = next(self.tails) if tails is None else tails[index]
            offers.append(Offer(name.encode(), self.samples[index % len(self.samples)].event(name, tail), due))
            self.made += 1
        return offers


def saturated(rigs: Rigs, settings: Settings, supply: Supply, count: int, *, cached: bool) -> Saturated:
    """The whole worker with `count` creatives waiting from the start. cached: it has scored their content before."""
    tails = [next(supply.tails) for _ in range(count)]
    if cached:
        different = min(count, len(supply.samples) * -(-KNOWN // len(supply.samples)))
        with rigs() as rig:
            rig.offer(supply.take([time.monotonic()] * different, tails[:different]))
            rig.start()
            gather(rig, different)
        tails = [tails[index % different] for index in range(count)]
    with rigs() as rig:
        rig.offer(supply.take([time.monotonic()] * count, tails))
        rig.start()
        before = rig.stages()
        results = gather(rig, count)
        after = rig.stages()
    return Saturated(
        slope([result.moment for result in results[round(count * WARM) :]]),
        between(before, after, stage_workers(settings)),
        outcomes(results),
        sum(from_cache(orjson.loads(result.value)) for result in results if result.value is not None),
        _texts(results),
    )


def gather_rate(rig: Rig, supply: Supply, count: int) -> float:
    """Creatives per second of a started worker that gets `count` at once."""
    rig.offer(supply.take([time.monotonic()] * count))
    return slope([result.moment for result in gather(rig, count)][round(count * WARM) :])


def slope(moments: Sequence[float]) -> float:
    """Results per second: the least-squares line through their count over time, since they come in batches."""
    ordered = np.sort(np.asarray(moments))
    if len(ordered) < 2 or ordered[-1] == ordered[0]:
        raise FatalError("too few creatives to tell a rate: raise --creatives", exit_code=2)
    return float(np.polyfit(ordered - ordered[0], np.arange(len(ordered)), 1)[0])


def engine_input(
    settings: Settings, engines: Engines, samples: Sequence[Sample], texts: Mapping[int, str]
) -> list[Prepared]:
    """The samples as the engines read them, with the OCR texts that the worker found; without those it refused."""
    fetcher = fetcher_of(settings)
    workers = stage_workers(settings)["decode"]
    pool = DecoderPool(workers, engines.sizes)
    heads = frozenset(engines.digests)

    def prepared(index: int) -> Prepared | None:
        creative = samples[index].creative
        try:
            pixels = pool.decode(fetcher.fetch(creative).data, ocr=False).pixels
        except CreativeError:
            return None
        seen = creative.ocr_text if creative.ocr_text is not None else texts.get(index, "")
        return Prepared(pixels, engines.tokens({**canonical_copy(creative.copy), "ocr": seen}), heads)

    try:
        with ThreadPoolExecutor(workers) as threads:
            return [one for one in threads.map(prepared, range(len(samples))) if one is not None]
    finally:
        pool.close()


def engine_rate(engines: Engines, prepared: Sequence[Prepared], count: int, batch_size: int) -> float:
    """Creatives per second of the engines alone, on batches that lie ready."""
    rows = [prepared[index % len(prepared)] for index in range(count)]
    batches = [rows[start : start + batch_size] for start in range(0, count, batch_size)]
    engines.score(batches[0])
    started = time.perf_counter()
    for batch in batches:
        engines.score(batch)
    return count / (time.perf_counter() - started)


def open_loop(rig: Rig, supply: Supply, rate: float, seconds: float, limit_seconds: float) -> Ages:
    """Creatives that arrive by chance (Poisson) at `rate` per second, whatever the worker does, for `seconds`.

    An age runs from the moment a creative was to arrive. Given up once the oldest is three times older than the limit.
    """
    dues = list(_arrivals(rate, seconds))
    if not dues:
        raise FatalError(f"no creative arrives in {seconds:g} s at {rate:g} per second: raise --seconds", exit_code=2)
    begin = time.monotonic() + 0.2
    offers = supply.take([begin + due for due in dues])
    due_of = {offer.key: offer.due for offer in offers}
    give_up = max(3.0, 3 * limit_seconds)
    rig.offer(offers)
    results: list[Result] = []
    waiting, overloaded = dict(due_of), False
    while waiting:
        try:
            result = rig.results.get(timeout=0.2)
            results.append(result)
            waiting.pop(result.key, None)
        except Empty:
            rig.check()
        oldest = next(iter(waiting.values()), time.monotonic())
        if not overloaded and time.monotonic() - oldest > give_up:
            overloaded = True
            dropped = rig.withdraw()
            for key in list(due_of)[len(due_of) - dropped :]:
                waiting.pop(key, None)
    known = [result for result in results if due_of[result.key] >= begin + WARM * seconds] or results
    ages = [(result.moment - due_of[result.key]) * 1000 for result in known]
    found = {f"p{percent}": round(percentile(ages, percent), 1) for percent in (50, 95, 99)}
    return Ages(
        rate,
        round(len(dues) / seconds, 2),
        len(ages),
        **found,
        max=round(max(ages), 1),
        overloaded=overloaded,
        outcomes=outcomes(results),
    )


def holds(ages: Ages, limit_ms: float) -> bool:
    """Whether the events kept the age limit in 99 of 100 cases."""
    return not ages.overloaded and ages.p99 <= limit_ms


def best(found: Sequence[Ages], limit_ms: float) -> float | None:
    """The highest rate that holds the limit as all lower ones do; None where the lowest doesn't."""
    kept = None
    for ages in sorted(found, key=lambda ages: ages.rate):
        if not holds(ages, limit_ms):
            break
        kept = ages.rate
    return kept


def narrowed(found: Sequence[Ages], limit_ms: float) -> float | None:
    """The rate to try next: between the best and the lowest that is too high; None where that says nothing new."""
    kept, above = best(found, limit_ms), [ages.rate for ages in found if not holds(ages, limit_ms)]
    if not above:
        return None
    low, high = kept or 0.0, min(above)
    return round((low + high) / 2, 2) if high > 1.1 * low else None


def outcomes(results: Sequence[Result]) -> dict[str, int]:
    """How many were scored, scored in part, or refused by which code."""
    return dict(sorted(Counter(_outcome(result) for result in results).items()))


def _outcome(result: Result) -> str:
    return result.code or str(orjson.loads(result.value or b"{}").get("status"))


def _texts(results: Sequence[Result]) -> dict[int, str]:
    """Sample → the OCR text in its event."""
    found: dict[int, str] = {}
    for result in results:
        index = int(result.key.rpartition(b"-")[2])
        if result.value is not None and index not in found:
            found[index] = ((orjson.loads(result.value).get("text") or {}).get("ocr")) or ""
    return found


def _arrivals(rate: float, seconds: float) -> Iterator[float]:
    chance = random.Random(round(rate * 1000))  # noqa: S311  the same arrivals each time
    at = chance.expovariate(rate)
    while at < seconds:
        yield at
        at += chance.expovariate(rate)
