"""A table's pictures and words behind the frozen encoders, computed once and kept on disk.

Two stores, since runs share them in any combination: `pictures-<key>/<map>.npy` fp16 N×C×h×w and `words-<key>/`
`tokens.npy` fp16 N×L×D, `input_ids.npy`, `mask.npy` N×L. A key names everything that the contents depend on. Labels
are no part of them. A form without one side reads what the encoders make of a grey picture, or of no words.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from admodels.layers.multiscale import Resize
from training.datasets.sample import GREY, BadRows, DataError, Record, Sample
from training.encoders import SharedEncoders
from training.features import key_of

Form = Literal["both", "image", "text"]
"""What a run reads: an image-only form sees no words, a text-only form a grey picture."""
_BATCH = 16


@dataclass(frozen=True)
class Encoded:
    """N rows. A side that the form leaves out is one row repeated without memory. `usable`: rows whose picture could
    be read."""

    maps: dict[str, NDArray[np.float16]]
    tokens: NDArray[np.float16]
    input_ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    usable: NDArray[np.bool_]


def encoded(
    folder: Path, records: Sequence[Record], pictures: Sequence[str], encoders: SharedEncoders,
    grids: Mapping[str, int | None], form: Form, bad: BadRows, report: Callable[[str], None],
) -> Encoded:  # fmt: skip
    """Open the stores in `folder`, computed first where they are missing.

    pictures: digests of the pictures' bytes. grids: the maps to keep, each with the side to resample it to,
    antialiased; None keeps it.
    """
    count = len(records)
    without = form == "text" or all(record.picture is None for record in records)
    usable = np.ones(count, bool)
    if without:
        maps = {name: np.broadcast_to(made, (count, *made.shape[1:])) for name, made in _grey(encoders, grids).items()}
    else:
        place = folder / f"pictures-{_picture_key(records, pictures, encoders, grids)}"
        new = _once(place, report, f"{count} pictures", lambda new: _write_maps(new, records, encoders, grids, bad))
        maps = {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in grids}
        unreadable: list[int] = json.loads((place / "bad.json").read_text(encoding="utf-8"))
        usable[unreadable] = False
        if not new:
            _say_again([records[index] for index in unreadable], encoders.side, place, bad)
    texts = [{} if form == "image" else dict(record.fields) for record in records]
    if not any(texts):
        ids, mask = encoders.words([{}])
        tokens = encoders.tokens(ids, mask).astype(np.float16)

        def repeated(row: NDArray[Any]) -> NDArray[Any]:
            return np.broadcast_to(row, (count, *row.shape[1:]))

        return Encoded(maps, repeated(tokens), repeated(ids), repeated(mask), usable)
    place = folder / f"words-{key_of(texts=texts, encoder=encoders.key())}"
    _once(place, report, f"{count} texts", lambda new: _write_words(new, texts, encoders))
    tokens, ids, mask = (np.load(place / f"{name}.npy", mmap_mode="r") for name in ("tokens", "input_ids", "mask"))
    return Encoded(maps, tokens, np.asarray(ids), np.asarray(mask), usable)


def shown(record: Record, side: int, form: Form) -> Sample:
    """A record as a form sees it."""
    fields = {} if form == "image" else record.fields
    if form == "text" or record.picture is None:
        pixels = np.full((side, side, 3), GREY, np.uint8)
        return Sample(record.id, pixels, fields, record.labels, extra=record.extra, pictured=False)
    return dataclasses.replace(record.sample(side), fields=fields)


def resampled(maps: NDArray[np.float32], side: int | None) -> NDArray[np.float32]:
    """B×C×S×S → B×C×side×side, with the layer that the models resample with; to one cell: the mean."""
    if side is None or side == maps.shape[2]:
        return maps
    if side == 1:
        return np.asarray(maps.mean((2, 3), keepdims=True))
    with torch.no_grad():
        return np.asarray(Resize(maps.shape[2], side)(torch.from_numpy(maps)).numpy())


def _grey(encoders: SharedEncoders, grids: Mapping[str, int | None]) -> dict[str, NDArray[np.float16]]:
    made = encoders.maps(np.full((1, encoders.side, encoders.side, 3), GREY, np.uint8))
    return {name: resampled(made[name], side).astype(np.float16) for name, side in grids.items()}


def _picture_key(
    records: Sequence[Record], pictures: Sequence[str], encoders: SharedEncoders, grids: Mapping[str, int | None]
) -> str:  # fmt: skip
    mirrored = [record.mirrored for record in records]
    return key_of(pictures=list(pictures), mirrored=mirrored, encoder=encoders.key(), grids=dict(grids))


def _say_again(records: Sequence[Record], side: int, store: Path, bad: BadRows) -> None:
    """Rows that were skipped when the store was made are errors, or counted, in every run that opens it."""
    for record in records:
        with bad.row():
            record.sample(side)
            raise DataError(f"{record.picture} (row {record.row}) couldn't be read once and can now: remove {store}")


def _once(folder: Path, report: Callable[[str], None], what: str, write: Callable[[Path], None]) -> bool:
    """Make a store that isn't there, whole or not at all; whether it was made now."""
    if (folder / "done").exists():
        return False
    report(f"encoding {what} → {folder}")
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    (partial / "done").touch()
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return True


def _write_maps(
    folder: Path, records: Sequence[Record], encoders: SharedEncoders, grids: Mapping[str, int | None], bad: BadRows
) -> None:  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {}
    unreadable: list[int] = []
    for batch in _batches(range(len(records))):
        images = np.full((len(batch), encoders.side, encoders.side, 3), GREY, np.uint8)
        for place, index in enumerate(batch):
            unreadable.append(index)
            with bad.row():
                images[place] = records[index].sample(encoders.side).image
                unreadable.pop()
        made = encoders.maps(images)
        for name, side in grids.items():
            kept = resampled(made[name], side)
            if name not in arrays:
                shape = (len(records), *kept.shape[1:])
                arrays[name] = open_memmap(folder / f"{name}.npy", "w+", np.float16, shape)
            arrays[name][batch] = kept
    (folder / "bad.json").write_text(json.dumps(unreadable), encoding="utf-8")


def _write_words(folder: Path, texts: Sequence[Mapping[str, str]], encoders: SharedEncoders) -> None:
    lengths = [sum(map(len, fields.values())) for fields in texts]
    width = encoders.text_spec.max_tokens
    shape = (len(texts), width)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    tokens: NDArray[Any] | None = None
    # Texts of like length together: a batch is as wide as its longest.
    for batch in _batches(np.argsort(lengths, kind="stable").tolist()):
        some, some_mask = encoders.words([texts[index] for index in batch])
        made = encoders.tokens(some, some_mask)
        if tokens is None:
            tokens = open_memmap(folder / "tokens.npy", "w+", np.float16, (*shape, made.shape[2]))
        ids[batch, : some.shape[1]], mask[batch, : some.shape[1]] = some, some_mask
        tokens[batch, : some.shape[1]] = made
    np.save(folder / "input_ids.npy", ids)
    np.save(folder / "mask.npy", mask)


def _batches(items: Sequence[int]) -> Iterator[list[int]]:
    stream = iter(items)
    while batch := list(islice(stream, _BATCH)):
        yield batch
