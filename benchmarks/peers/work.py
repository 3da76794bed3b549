"""What every peer does to a creative: the worker's own steps, called in line. Only the glue differs between the peers.

No children, no queues, no cache, no revisions, no dead letters: a creative that fails ends the peer.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pytesseract
from PIL import Image

from admodels.contract.ocr import CONFIG, words_of_table
from worker.commands.backends import Runners
from worker.commands.compose import fetcher_of, load_engines
from worker.intake import decode_child
from worker.intake.events import parse_record
from worker.intake.image_guard import configure
from worker.intake.ocr import reading
from worker.pipeline.job import canonical_copy, content_hash
from worker.scoring import language
from worker.scoring.assemble import enriched_event
from worker.scoring.feeds import Prepared
from worker.settings import load
from worker.types import Creative, OcrResult, Origin, Record, ScoredCreative


@dataclass(frozen=True)
class Job:
    """A creative on its way: everything but its scores."""

    origin: Origin
    creative: Creative
    content: str
    image_sha256: str
    phash: str
    ocr: OcrResult
    prepared: Prepared


class Work:
    """The steps. `prepare` may run on several threads at once, `score` on one.

    runners: makes the engines; the worker's own choice by default.
    """

    def __init__(self, runners: Any = None) -> None:
        os.environ["OMP_THREAD_LIMIT"] = "1"  # Tesseract's threads fight each other
        configure()
        settings = load(None, os.environ).settings
        self._engines = load_engines(settings, runners or Runners(settings), "peer")
        self._fetcher = fetcher_of(settings)
        self._languages = settings.ocr.languages
        self._engines.warm(settings.batch.max_size)
        language.warm()
        self.batch_size = settings.batch.max_size

    def prepare(self, topic: str, partition: int, offset: int, key: bytes, value: bytes) -> Job:
        """Read the event, decode the image, read its text where the event doesn't bring it, tokenise."""
        origin = Origin(topic, partition, offset, time.time_ns() // 1_000_000)
        creative = parse_record(Record(origin, key, value))
        assert isinstance(creative, Creative)
        image = self._fetcher.fetch(creative)
        sizes, given = self._engines.sizes, creative.ocr_text
        head, body = decode_child.decode(memoryview(image.data), sizes, ocr=given is None, pixels=True)
        pixels = {
            size: np.frombuffer(part, np.uint8).reshape(*size, 3) for size, part in zip(sizes, body, strict=False)
        }
        ocr = (
            OcrResult(given)
            if given is not None
            else self._read(np.frombuffer(body[-1], np.uint8).reshape(head["ocr"]))
        )
        texts = canonical_copy(creative.copy)
        return Job(
            origin,
            creative,
            content_hash(image.sha256, texts, given),
            image.sha256,
            head["phash"],
            ocr,
            Prepared(pixels, self._engines.tokens({**texts, "ocr": ocr.text}), frozenset(self._engines.digests)),
        )

    def _read(self, grey: Any) -> OcrResult:
        height, width = grey.shape
        table = pytesseract.image_to_data(
            Image.fromarray(grey), self._languages, CONFIG, output_type=pytesseract.Output.DICT
        )
        return reading(words_of_table(table), height, width)

    def score(self, jobs: Sequence[Job]) -> list[tuple[bytes, bytes]]:
        """Run the engines once on all, and write each enriched event: (key, value)."""
        return [self._event(job, result.parts) for job, result in zip(jobs, self._run(jobs), strict=True)]

    def _run(self, jobs: Sequence[Job]) -> list[Any]:
        return self._engines.score([job.prepared for job in jobs])

    def _event(self, job: Job, parts: Any) -> tuple[bytes, bytes]:
        outcome = ScoredCreative(
            creative=job.creative,
            content_sha256=job.content,
            image_sha256=job.image_sha256,
            phash=job.phash,
            heads=parts,
            cache=dict.fromkeys(parts, "off"),
            models=self._engines.models,
            ocr=job.ocr,
        )
        event = enriched_event(outcome, origin=job.origin, scored_at_ms=time.time_ns() // 1_000_000)
        return job.creative.creative_id.encode(), orjson.dumps(event)


def arguments() -> argparse.Namespace:
    """What the harness tells a peer."""
    parser = argparse.ArgumentParser()
    for name in ("servers", "input", "output", "group"):
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()
