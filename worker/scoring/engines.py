"""The configured heads as engines: shared encoders run once per batch, then each head on the creatives that want it.

A failure costs as little as it can: a batch that fails is split until the record that fails stands alone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from admodels.contract.bundle import Bundle, BundleError, canonical_json
from admodels.runtime.runner import EngineError, Runner
from worker.scoring.feeds import Encoded, Loaded, OutOfMemory, Prepared, Tokens, check_fed, isolated, own_inputs
from worker.scoring.parts import Part, parts


@dataclass
class Scored:
    """Per wanted head a part of the event's `scores`, or the reason why there is none."""

    parts: dict[str, Part] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


class Engines:
    """All bundles behind the heads. `score` is called by one thread at a time; everything else is read-only.

    Args:
        heads: head → its bundles, in the order of the setting; their parts are merged.
        encoders: digest → shared encoder bundle; every encoder that a head's manifest names must be there.
        make_runner: builds the engine of a checked bundle.
        ocr_identity: OCR engine, languages and version; part of each head's digest.
        loaded: encoders that are loaded already, by digest; the others are loaded here.
    """

    def __init__(
        self,
        heads: Mapping[str, Sequence[Bundle]],
        encoders: Mapping[str, Bundle],
        make_runner: Callable[[Bundle], Runner],
        ocr_identity: str,
        loaded: Mapping[str, Loaded] = MappingProxyType({}),
    ) -> None:
        self._encoders = {
            digest: loaded.get(digest) or Loaded.load(bundle, make_runner) for digest, bundle in encoders.items()
        }
        self._heads = {
            head: [Loaded.load(bundle, make_runner) for bundle in bundles] for head, bundles in heads.items()
        }
        for head, bundles in heads.items():
            if head == "sentiment" and not any("sentiment" in bundle.manifest.labels for bundle in bundles):
                raise BundleError(
                    f"bundle {bundles[0].label} tells no polarity, which every event's sentiment has: name one that "
                    "does (fgmfn, mvla) beside it in ADSCORE_MODELS__SENTIMENT"
                )
        loaded_heads = [item for items in self._heads.values() for item in items]
        for item in loaded_heads:
            check_fed(item.bundle, {digest: encoder.bundle for digest, encoder in self._encoders.items()})
        everything = [*self._encoders.values(), *loaded_heads]
        self._texts = {item.bundle.digest: item.text for item in everything if item.text}
        self.sizes: list[tuple[int, int]] = sorted(
            {(item.manifest.image.height, item.manifest.image.width) for item in everything if item.manifest.image}
        )
        self.digests = {head: _head_digest(items, ocr_identity) for head, items in self._heads.items()}
        self.models = {head: [_provenance(item) for item in items] for head, items in self._heads.items()}

    @property
    def encoders(self) -> Mapping[str, Loaded]:
        """The shared encoders, by digest."""
        return self._encoders

    def tokens(self, fields: Mapping[str, str]) -> dict[str, Tokens]:
        """Tokens for every bundle that reads text, by its digest; `fields` are canonical copy and OCR text."""
        return {digest: Tokens(*encoder.encode_marked(fields)) for digest, encoder in self._texts.items()}

    def score(self, batch: Sequence[Prepared], out_of_memory: OutOfMemory = lambda _: None) -> list[Scored]:
        """Score a batch; row i of the result belongs to `batch[i]`. Raises EngineLostError only.

        out_of_memory: told how many rows didn't fit, each time that some didn't; they are scored in smaller parts.
        """
        results = [Scored() for _ in batch]
        encoded = Encoded(batch, self._encoders, out_of_memory)
        for head, items in self._heads.items():
            rows = [index for index, item in enumerate(batch) if head in item.wanted]
            for item in items:
                for row, outcome in isolated(_runner(item, encoded), rows, out_of_memory).items():
                    if isinstance(outcome, EngineError):
                        results[row].errors[head] = str(outcome)
                    else:
                        results[row].parts.setdefault(head, {}).update(outcome)
        for result in results:
            for head in result.errors:
                result.parts.pop(head, None)
        return results

    def warm(self, batch_size: int) -> float:
        """Run every engine at batch 1, then twice at `batch_size`; returns the seconds of the last run.

        Raises EngineError when an engine can't score even a blank creative.
        """
        seconds = 0.0
        blank = {size: np.zeros((*size, 3), dtype=np.uint8) for size in self.sizes}
        sample = Prepared(blank, self.tokens({"headline": "warm"}), frozenset(self._heads))
        for size in (1, batch_size, batch_size):
            started = time.monotonic()
            for scored in self.score([sample] * size):
                for head, why in scored.errors.items():
                    raise EngineError(f"{head}: {why}")
            seconds = time.monotonic() - started
        return seconds


def _runner(item: Loaded, encoded: Encoded) -> Callable[[list[int]], list[Part]]:
    def run(rows: list[int]) -> list[Part]:
        feeds = encoded.feeds(item, rows)
        if item.manifest.image or item.manifest.text:
            feeds.update(own_inputs(item, encoded.batch, rows))
        pieces = [encoded.pieces(item, row) for row in rows]
        made = parts(item.manifest, item.infer(feeds, len(rows)), len(rows), pieces)
        if any(part is None for part in made):
            raise EngineError("the engine gave what isn't a finite number in its range")
        return [part for part in made if part is not None]

    return run


def _head_digest(items: Sequence[Loaded], ocr_identity: str) -> str:
    """sha256 (hex) over all that decides a head's numbers: its bundles (which cover their encoders) and the OCR."""
    return hashlib.sha256(canonical_json([[item.bundle.digest for item in items], ocr_identity])).hexdigest()


def _provenance(item: Loaded) -> dict[str, Any]:
    manifest = item.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": item.bundle.digest[:12],
        "backend": item.runner.backend,
        "precision": manifest.precision,
    }
