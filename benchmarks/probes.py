"""One unit of work for each part of the pipeline, on the same material each time.

`PROBES[name]()` gives a function that does the unit once. `python benchmarks/probes.py` serves them to the gate: a line
`NAME COUNT` on standard input is answered by the CPU seconds that COUNT units took, or by why there are none. The
packages may be another tree's than this file (PYTHONPATH): what a probe imports is imported when it is made.
"""

from __future__ import annotations

import base64
import functools
import io
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from PIL import Image, ImageDraw, ImageFont

Unit = Callable[[], object]
SIZES = {"300x250": (300, 250), "1200x628": (1200, 628)}
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF")
BATCHES = (1, 8, 32)
ENCODERS = ("mobilenetv2", "minilm")
HEADS = {"attractiveness": "dbafn", "sentiment": "fgmfn", "ctr": "adfusion"}
COPY = {
    "headline": "Summer sale ends Sunday",
    "body": "Up to 40 % off on all garden furniture, two years of guarantee, delivered to your door",
    "cta": "Shop now",
    "brand": "Oakline",
}
TEXT = " ".join(COPY.values())
FLOW_SECONDS = 60


@functools.cache
def picture(size: str = "1200x628", kind: str = "JPEG") -> bytes:
    """An ad: a soft background with grain, a headline, a body, a button."""
    width, height = SIZES[size]
    random = np.random.default_rng(7)
    soft = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    grain = random.normal(0.0, 6.0, (height, width, 1))
    image = Image.fromarray(np.clip(np.asarray(soft) + grain, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for row, text in enumerate((COPY["headline"], COPY["body"][:38], COPY["cta"])):
        draw.text((width // 20, height // 8 * (1 + 2 * row)), text, "white", ImageFont.load_default(height // 12))
    encoded = io.BytesIO()
    image.save(encoded, kind)
    return encoded.getvalue()


@functools.cache
def event() -> bytes:
    """A whole input event with its image inside."""
    url = f"data:image/jpeg;base64,{base64.b64encode(picture()).decode()}"
    ad = {"id": "cr-1", "lastmod": 1_763_750_000_000, "lang": "en", "display": {"banner": {"img": url}}}
    return orjson.dumps({"ad": ad, "copy": COPY, "ocr_text": TEXT})


def record() -> Any:
    """The event as it is received."""
    from worker.types import Origin, Record

    return Record(Origin("creatives", 0, 1, 1_763_750_000_000), b"cr-1", event())


@functools.cache
def creative() -> Any:
    """The event as it is read."""
    from worker.intake.events import parse_record

    return parse_record(record())


def settings(**values: str) -> Any:
    """The worker's settings, one thread for the engine: more would spin."""
    from worker.settings import load

    return load(None, {"ADSCORE_PIPELINE__ENGINE_THREADS": "1", "ADSCORE_BACKEND": "onnxruntime"} | values).settings


@functools.cache
def engines() -> Any:
    """The three heads on their encoders."""
    from worker.commands.backends import Runners
    from worker.commands.compose import load_engines

    return load_engines(settings(), Runners(settings()), "probe")


@functools.cache
def prepared() -> Any:
    """One creative as the engines read it."""
    from worker.intake import decode_child
    from worker.scoring.feeds import Prepared

    sizes = engines().sizes
    _, body = decode_child.decode(memoryview(picture()), sizes, ocr=False, pixels=True)
    pixels = {size: np.frombuffer(part, np.uint8).reshape(*size, 3) for size, part in zip(sizes, body, strict=True)}
    return Prepared(pixels, engines().tokens({**COPY, "ocr": TEXT}), frozenset(HEADS))


@functools.cache
def scored() -> Any:
    """A scored creative, as the delivery half gets it."""
    from worker.types import OcrBox, OcrResult, ScoredCreative

    parts = engines().score([prepared()])[0].parts
    boxes = tuple(OcrBox(word, 0.1, 0.2, 0.1, 0.05) for word in TEXT.split())
    return ScoredCreative(
        creative=creative(),
        content_sha256="c" * 64,
        image_sha256="a" * 64,
        phash="0" * 16,
        heads=parts,
        cache=dict.fromkeys(parts, "miss"),
        models=engines().models,
        ocr=OcrResult(TEXT, 0.9, boxes),
        latency_ms={"fetch": 1.0, "decode": 2.0, "infer": 3.0, "total": 6.0},
    )


def event_decode() -> Unit:
    """A record's bytes become a creative."""
    from worker.intake.events import parse_record

    received = record()
    return lambda: parse_record(received)


def fetch_memory() -> Unit:
    """The image's bytes out of the event, and their digest."""
    from worker.commands.compose import fetcher_of

    fetcher, asked = fetcher_of(settings()), creative()
    return lambda: fetcher.fetch(asked)


def image_decode(kind: str, size: str, *, ocr: bool = False) -> Unit:
    """What a decoder's child does with an image: pixels for every model, a perceptual hash, maybe a picture for OCR."""
    from worker.intake import decode_child

    data, sizes = memoryview(picture(size, kind)), engines().sizes
    return lambda: decode_child.decode(data, sizes, ocr=ocr, pixels=True)


def preprocess() -> Unit:
    """A decoded image stretched to a model's rectangle."""
    from admodels.contract.preprocess import stretch

    image = Image.open(io.BytesIO(picture())).convert("RGB")
    height, width = engines().sizes[0]
    return lambda: stretch(image, height, width)


def tokenise() -> Unit:
    """Copy and OCR text become token ids, for every bundle that reads text."""
    made = engines()
    return lambda: made.tokens({**COPY, "ocr": TEXT})


def batcher() -> Unit:
    """A thousand creatives through the batcher, sixteen at a time."""
    from worker.scoring.batch import Batcher

    def unit() -> None:
        batches: Batcher[int] = Batcher(16, 1.0)
        for number in range(1_000):
            batches.add(number, 0.0)
            batches.take(0.0)

    return unit


def memory_cache() -> Unit:
    """Three heads of a hundred creatives, written and read, in the in-process cache."""
    from worker.delivery.cache import MemoryCache

    cache, parts = MemoryCache(1_000), scored().heads
    digests = dict.fromkeys(parts, "d" * 64)

    def unit() -> None:
        for number in range(100):
            cache.put(f"{number:064d}", digests, parts)
            cache.get(f"{number:064d}", digests)

    return unit


def engine(name: str, batch: int) -> Unit:
    """One bundle's engine on a batch: an encoder from pixels or tokens, a head from what its encoders give."""
    from worker.scoring.feeds import Encoded, own_inputs

    made, rows = engines(), [prepared()] * batch
    if name in ENCODERS:
        loaded = next(item for item in made.encoders.values() if item.manifest.name == name)
        feeds = own_inputs(loaded, rows, range(batch))
    else:
        head = next(head for head, bundle in HEADS.items() if bundle == name)
        loaded = made._heads[head][0]
        feeds = Encoded(rows, made.encoders).feeds(loaded, list(range(batch)))
    return lambda: loaded.runner.infer(feeds)


def all_engines(batch: int) -> Unit:
    """Encoders and heads on a batch, with what is made of their outputs."""
    made, rows = engines(), [prepared()] * batch
    return lambda: made.score(rows)


def assemble() -> Unit:
    """A scored creative becomes the enriched event's bytes and headers."""
    from worker.pipeline.messages import Delivery, scored_message

    how = Delivery("out", "dlq", 1 << 20, 1 << 20, "adscore", "probe")
    outcome, origin = scored(), record().origin
    return lambda: scored_message(outcome, origin, how)


def pipeline(*, cached: bool) -> Unit:
    """One creative through the warm scoring flow, alone: from `submit` to its outcome. cached: its scores are known."""
    import atexit
    from contextlib import ExitStack
    from dataclasses import replace
    from queue import SimpleQueue

    from worker.commands.compose import scoring_flow
    from worker.delivery.cache import MemoryCache, NoCache
    from worker.metrics import Metrics

    stack = ExitStack()
    atexit.register(stack.close)
    cache = MemoryCache(100) if cached else NoCache()
    # A batch is not waited for: the creative is alone.
    values = {"ADSCORE_BATCH__MAX_DELAY_MS": "0", "ADSCORE_DECODE__WORKERS": "1", "ADSCORE_OCR__WORKERS": "1"}
    flow = stack.enter_context(scoring_flow(settings(**values), cache=cache, metrics=Metrics()))
    done: SimpleQueue[Any] = SimpleQueue()
    asked = replace(creative(), ocr_text=TEXT)

    def unit() -> object:
        flow.submit(asked, done.put)
        return done.get(timeout=FLOW_SECONDS)

    outcome: Any = unit()
    if not hasattr(outcome, "heads"):
        raise RuntimeError(f"the creative isn't scored: {outcome}")
    while cached and set(unit().cache.values()) != {"hit"}:  # type: ignore[attr-defined]
        time.sleep(0.01)  # the cache is written behind the outcome
    return unit


PROBES: dict[str, Callable[[], Unit]] = {
    "event decode": event_decode,
    "fetch from memory": fetch_memory,
    **{
        f"image decode {kind} {size}": functools.partial(image_decode, kind, size) for kind in FORMATS for size in SIZES
    },
    "image decode JPEG 1200x628, for OCR too": functools.partial(image_decode, "JPEG", "1200x628", ocr=True),
    "preprocess": preprocess,
    "tokenise": tokenise,
    "batcher, 1000 creatives": batcher,
    "cache in memory, 100 creatives": memory_cache,
    **{
        f"engine {name} at {batch}": functools.partial(engine, name, batch)
        for name in (*ENCODERS, *HEADS.values())
        for batch in BATCHES
    },
    **{f"all engines at {batch}": functools.partial(all_engines, batch) for batch in BATCHES},
    "assemble": assemble,
    "pipeline, one creative": functools.partial(pipeline, cached=False),
    "pipeline, one creative known to the cache": functools.partial(pipeline, cached=True),
}


def serve() -> None:
    """Answer the gate until it hangs up. ADSCORE_BENCH_PLANT=0.3 makes every unit 30 % slower, to prove the gate."""
    import worker

    planted = float(os.environ.get("ADSCORE_BENCH_PLANT", "0"))
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    print(worker.__file__, file=out, flush=True)
    made: dict[str, Unit] = {}
    for line in sys.stdin:
        name, _, count = line.strip().rpartition(" ")
        try:
            unit = made.get(name) or made.setdefault(name, PROBES[name]())
            began = time.process_time()
            for _ in range(int(count)):
                unit()
            took = time.process_time() - began
            while time.process_time() - began < took * (1 + planted):
                pass
            print(time.process_time() - began, file=out, flush=True)
        except Exception as error:  # noqa: BLE001  another tree may lack what a probe needs
            print(f"no {type(error).__name__}: {str(error)[:200]!r}", file=out, flush=True)


if __name__ == "__main__":
    serve()
