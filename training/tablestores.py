"""The rows of a data set that is read from a table: split, encoded once, labelled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.batches import Rows
from training.config import Config
from training.datasets.catalogue import DATASETS
from training.datasets.sample import BadRows, Record
from training.datasets.splits import Split, digests, groups, some, split
from training.datasets.viewed import mirrored
from training.encoded import Encoded, encoded, shown
from training.encoders import SharedEncoders
from training.features import RECORDED, Features, columns
from training.objects import ObjectVectors
from training.subwords import learned


class TableStores:
    """One data set in one root for one seed. grids: the maps that the model reads, each with the side to keep it at.

    Raises DataError as the data set's reader does.
    """

    def __init__(
        self, config: Config, root: Path, folder: Path, encoders: SharedEncoders, grids: Mapping[str, int | None],
        seed: int, bad: BadRows, report: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._config, self._root, self._folder, self._encoders = config, root, folder, encoders
        self._grids, self._seed, self._bad, self._report = grids, seed, bad, report
        self._readable = np.zeros(0, bool)

    def training(self) -> Rows:
        return self._rows(self._split.train)

    def tuning(self) -> Rows:
        return self._rows(self._split.tune)

    def validation(self) -> Rows:
        return self._rows(self._split.validation)

    def validation_groups(self) -> list[str]:
        """The group of every validation row: what is drawn together."""
        owners = groups(self._records, self._pictures)
        places = self._split.validation
        return [owners[place] for place in places[self._readable[places]]]

    def validation_records(self) -> list[Record]:
        """The validation rows before their pictures are opened."""
        places = self._split.validation
        return [self._records[place] for place in places[self._readable[places]]]

    def contrast(self) -> None:
        """Only generated creatives have variants."""
        return

    def recorded(self) -> Features:
        """The first readable rows, which an export is checked on."""
        features, first = self._features, np.flatnonzero(self._readable)[:RECORDED]
        return dataclasses.replace(features, input_ids=features.input_ids[first], mask=features.mask[first])

    @cached_property
    def _records(self) -> list[Record]:
        records = list(DATASETS[self._config.dataset].records(self._root, self._bad))
        if (limit := self._config.data.limit) is not None:
            records = some(records, groups(records, digests(records)), limit)
        if self._config.data.mirrored:
            records += [_mirror(record) for record in records if record.picture is not None]
        return records

    @cached_property
    def _pictures(self) -> list[str]:
        return digests(self._records)

    @cached_property
    def _split(self) -> Split:
        return split(self._records, self._pictures, self._seed)

    @cached_property
    def _features(self) -> Features:
        form, own = self._config.form, self._config.subwords.dim > 0
        made = encoded(
            self._folder, self._records, self._pictures, self._encoders, self._grids, "image" if own else form,
            self._bad, self._report,
        )  # fmt: skip
        made, words = self._own_words(made) if own else (made, None)
        self._readable = made.usable
        extras = [record.extra for record in self._records]
        named = any("objects" in extra for extra in extras)
        first = [self._records[index] for index in np.flatnonzero(made.usable)[:RECORDED]]
        return Features(
            ids=[record.id for record in self._records],
            maps=made.maps,
            tokens=made.tokens,
            input_ids=made.input_ids,
            mask=made.mask,
            labels=columns([dict(record.labels) for record in self._records]),
            images=np.stack([shown(record, self._encoders.side, form).image for record in first]),
            extras=extras,
            more=ObjectVectors(self._encoders).arrays(extras, shown=form != "text") if named else {},
            words=words,
        )

    def _own_words(self, made: Encoded) -> tuple[Encoded, bytes]:
        """With vectors that the training rows' words taught in the place of the text encoder's; and their file."""
        training = [self._records[place] for place in self._split.train]
        vectors = learned(self._folder, training, self._config.subwords, self._report)
        read = self._config.form != "image"
        tokens, mask = vectors.arrays([record.fields if read else {} for record in self._records])
        return dataclasses.replace(made, tokens=tokens, mask=mask, input_ids=np.zeros_like(mask)), vectors.packed

    def _rows(self, places: NDArray[np.int64]) -> Rows:
        features = self._features
        return Rows([features], places[self._readable[places]])


def _mirror(record: Record) -> Record:
    if "saliency" in record.labels:
        return mirrored(record)
    return dataclasses.replace(record, id=f"{record.id}-flipped", mirrored=True)
