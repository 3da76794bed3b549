"""From prepared creatives to engine inputs: stacking, padding, and shared encoders that run once per batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from admodels.contract.bundle import Bundle, BundleError
from admodels.contract.manifest import Manifest
from admodels.contract.text import Piece, TextEncoder, copy_mask, pad
from admodels.runtime.runner import EngineError, EngineMemoryError, Runner

Arrays = dict[str, NDArray[Any]]
Result = TypeVar("Result")
OutOfMemory = Callable[[int], None]


@dataclass(frozen=True)
class Tokens:
    """A creative's texts as one bundle reads them. pieces: where each token comes from, in canonical copy."""

    ids: list[int]
    pieces: list[Piece | None]


@dataclass(frozen=True)
class Prepared:
    """One creative as the engines read it.

    pixels: (height, width) → uint8 H×W×3. tokens: by the digest of the bundle that tokenises.
    wanted: the heads to score.
    """

    pixels: Mapping[tuple[int, int], NDArray[np.uint8]]
    tokens: Mapping[str, Tokens]
    wanted: frozenset[str]


@dataclass(frozen=True)
class Loaded:
    """A checked bundle and its engine."""

    bundle: Bundle
    runner: Runner
    text: TextEncoder | None

    @classmethod
    def load(cls, bundle: Bundle, make_runner: Callable[[Bundle], Runner]) -> Loaded:
        """Build the engine, and the tokenizer where the bundle reads text itself."""
        spec = bundle.manifest.text
        return cls(bundle, make_runner(bundle), TextEncoder(bundle.files[spec.tokenizer], spec) if spec else None)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    def infer(self, feeds: Arrays, rows: int) -> Arrays:
        """Run the engine on `rows` creatives. Raises EngineError where its outputs aren't those of the manifest."""
        outputs = self.runner.infer(feeds)
        for spec in self.manifest.outputs:
            made = outputs.get(spec.name)
            if made is None or not _has_shape(made.shape, (rows, *spec.shape[1:])):
                told = "is missing" if made is None else f"has the shape {made.shape}"
                raise EngineError(f"the engine's output {spec.name} {told}, its manifest says {spec.shape}")
        return outputs


class Encoded:
    """The shared encoders' outputs for one batch, made when a head first asks for them."""

    def __init__(
        self, batch: Sequence[Prepared], encoders: Mapping[str, Loaded], out_of_memory: OutOfMemory = lambda _: None
    ) -> None:
        self.batch = batch
        self.out_of_memory = out_of_memory
        self._encoders = encoders
        self._chunks: dict[str, list[tuple[list[int], Arrays]]] = {digest: [] for digest in encoders}
        self._failed: dict[str, dict[int, EngineError]] = {digest: {} for digest in encoders}

    def feeds(self, head: Loaded, rows: list[int]) -> Arrays:
        """The head's inputs that come from encoders, for `rows`. Raises EngineError where an encoder failed."""
        feeds: Arrays = {}
        listed = {spec.name for spec in head.manifest.inputs}
        for use in head.manifest.encoders:
            encoder = self._encoders[use.digest]
            self._run(use.digest, encoder, rows)
            outputs = self._gather(use.digest, rows, tuple(use.outputs))
            feeds.update({target: outputs[source] for source, target in use.outputs.items()})
            direct = _own_names(encoder.manifest) & listed
            if direct:
                inputs = own_inputs(encoder, self.batch, rows)
                feeds.update({name: inputs[name] for name in direct})
        return feeds

    def pieces(self, head: Loaded, row: int) -> Sequence[Piece | None]:
        """Where the tokens that the head reads come from; none where it reads no text."""
        tokens = self.batch[row].tokens
        sources = (head.bundle.digest, *(use.digest for use in head.manifest.encoders))
        return next((tokens[digest].pieces for digest in sources if digest in tokens), ())

    def _run(self, digest: str, encoder: Loaded, rows: list[int]) -> None:
        done = {row for chunk_rows, _ in self._chunks[digest] for row in chunk_rows} | self._failed[digest].keys()
        if done.issuperset(rows):
            return
        # Every row that any head wants, not only this head's: one run for all heads.
        missing = [row for row in range(len(self.batch)) if row not in done and self.batch[row].wanted]

        def run(part: list[int]) -> list[None]:
            self._chunks[digest].append((part, encoder.infer(own_inputs(encoder, self.batch, part), len(part))))
            return [None] * len(part)

        outcomes = isolated(run, missing, self.out_of_memory)
        self._failed[digest].update({row: why for row, why in outcomes.items() if isinstance(why, EngineError)})

    def _gather(self, digest: str, rows: list[int], names: tuple[str, ...]) -> Arrays:
        for row in rows:
            if row in self._failed[digest]:
                raise self._failed[digest][row]
        for chunk_rows, arrays in self._chunks[digest]:
            if chunk_rows == rows:
                return arrays
        places = {
            row: (arrays, place) for chunk_rows, arrays in self._chunks[digest] for place, row in enumerate(chunk_rows)
        }
        return {name: np.stack([places[row][0][name][places[row][1]] for row in rows]) for name in names}


def own_inputs(item: Loaded, batch: Sequence[Prepared], rows: Sequence[int]) -> Arrays:
    """`image` (uint8 B×H×W×3) and/or `input_ids`, `attention_mask` and `copy_mask` (int64 B×L) of the rows.

    Text is padded to the longest of the whole batch, so that encoder outputs of different rows always stack.
    """
    feeds: Arrays = {}
    image, text = item.manifest.image, item.manifest.text
    if image:
        feeds["image"] = np.stack([batch[row].pixels[image.height, image.width] for row in rows])
    if text and item.text:
        digest = item.bundle.digest
        longest = max(len(prepared.tokens[digest].ids) for prepared in batch)
        length = min(text.max_tokens, -(-longest // text.pad_to_multiple) * text.pad_to_multiple)
        read = [batch[row].tokens[digest] for row in rows]
        feeds["input_ids"], feeds["attention_mask"] = pad(
            [one.ids for one in read], length, text.max_tokens, item.text.pad_id
        )
        feeds["copy_mask"], _ = pad([copy_mask(one.pieces) for one in read], length, text.max_tokens)
    return feeds


def check_fed(head: Bundle, encoders: Mapping[str, Bundle]) -> None:
    """Whether every input of a head is fed, by itself or by encoders (by digest) that are there and give what it takes.

    Raises BundleError: else every creative would fail, one by one.
    """
    where, manifest = f"bundle {head.label}", head.manifest
    wanted = {spec.name: spec for spec in manifest.inputs}
    fed = _own_names(manifest)
    for use in manifest.encoders:
        label = f"encoder {use.name}/{use.version}"
        if use.digest not in encoders:
            raise BundleError(f"{where}: {label} isn't loaded")
        encoder = encoders[use.digest].manifest
        made = {spec.name: spec for spec in encoder.outputs}
        for source, target in use.outputs.items():
            if source not in made:
                raise BundleError(f"{where}: {label} has no output {source}; export the head again")
            given, taken = made[source], wanted[target]
            if given.dtype != taken.dtype or not _has_shape(given.shape, taken.shape):
                raise BundleError(
                    f"{where}: {label} gives {source} as {given.dtype} {given.shape}, the head takes {target} as "
                    f"{taken.dtype} {taken.shape}; export the head again"
                )
        fed |= {*use.outputs.values(), *_own_names(encoder)}
    for name in wanted:
        if name not in fed:
            raise BundleError(f"{where}: nothing feeds its input {name}; export the bundle again")


def _own_names(manifest: Manifest) -> set[str]:
    """The inputs that `own_inputs` makes."""
    read = ("input_ids", "attention_mask", "copy_mask") if manifest.text else ()
    return {*(("image",) if manifest.image else ()), *read}


def _has_shape(shape: Sequence[int | str], said: Sequence[int | str]) -> bool:
    """Names stand for any size."""
    same = zip(shape, said, strict=False)
    return len(shape) == len(said) and all(a == b or isinstance(a, str) or isinstance(b, str) for a, b in same)


def isolated(
    run: Callable[[list[int]], list[Result]], rows: list[int], out_of_memory: OutOfMemory = lambda _: None
) -> dict[int, Result | EngineError]:
    """Run `rows` as one batch; on failure halve it until the rows that fail stand alone with their error.

    out_of_memory: told how many rows the engine, or the process, had no memory for.
    """
    if not rows:
        return {}
    try:
        return dict(zip(rows, run(rows), strict=True))
    except (EngineError, MemoryError) as error:
        lacked = isinstance(error, EngineMemoryError | MemoryError)
        failure = error if isinstance(error, EngineError) else EngineMemoryError("no memory for the engine's inputs")
    if lacked:
        out_of_memory(len(rows))
    if len(rows) == 1:
        return {rows[0]: failure}
    middle = len(rows) // 2
    return isolated(run, rows[:middle], out_of_memory) | isolated(run, rows[middle:], out_of_memory)
