"""The rows of generated creatives that a configuration asks for, computed where they are missing.

Stores lie beside the run (`<run's parent>/features`), named by everything they depend on: runs of other heads on the
same rows share them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

from admodels.contract.preprocess import PREPROCESSING
from training.batches import Contrast, Rows
from training.config import Config
from training.datasets import generated, osie
from training.datasets.generated import View
from training.encoders import SharedEncoders
from training.features import Features, cached, key_of

_HERE = Path(__file__).parent
MAPS = ("c1", "c2", "c3", "c4", "c5")
_VARIANTS: tuple[View, View] = ("enhanced", "degraded")


class Stores:
    """The stores of one root folder and one pair of encoders. `maps`: the feature maps that the head reads."""

    def __init__(
        self, config: Config, root: Path, folder: Path, encoders: SharedEncoders, maps: tuple[str, ...],
        report: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._config, self._root, self._folder, self._encoders = config, root, folder, encoders
        self._maps, self._report = maps, report

    def training(self) -> Rows:
        """Generated creatives on the training photographs; with `photographs` these themselves, mirrored too."""
        stores = [self._generated("train", self._config.data.rows, self._config.data.seed)]
        if self._config.data.photographs:
            stores.append(self._photographs("train", flips=True))
        return Rows(stores)

    def tuning(self) -> Rows:
        """Held-out rows for early stopping and calibration."""
        stores = [self._generated("tune", self._config.data.tune_rows, self._config.data.seed)]
        if self._config.data.photographs:
            stores.append(self._photographs("tune", flips=False))
        return Rows(stores)

    def validation(self) -> Rows:
        """Generated creatives on the validation photographs: what is reported."""
        return Rows([self._generated("validation", self._config.data.validation_rows, self._config.data.seed)])

    def contrast(self) -> Contrast | None:
        """The first `contrast_rows` training creatives, enhanced and degraded."""
        count = self._config.data.contrast_rows
        if count == 0:
            return None
        enhanced, degraded = (
            Rows([self._generated("train", count, self._config.data.seed, view)]) for view in _VARIANTS
        )
        return Contrast(enhanced, degraded)

    def recorded(self) -> Features:
        """The store whose first rows an export is checked on."""
        return self._generated("tune", self._config.data.tune_rows, self._config.data.seed)

    def _generated(self, split: osie.Split, count: int, seed: int, view: View = "plain") -> Features:
        make = functools.partial(
            generated.samples, self._root, split, count, seed, self._encoders.side, view
        )  # fmt: skip
        return self._cached("generated", make, count, split=split, seed=seed, view=view)

    def _photographs(self, split: osie.Split, *, flips: bool) -> Features:
        count = len(osie.photographs(self._root, split)) * (2 if flips else 1)
        make = functools.partial(osie.samples, self._root, split, self._encoders.side, flips=flips)
        return self._cached("photographs", make, count, split=split, flips=flips)

    @functools.cached_property
    def _contents(self) -> str:
        """The digest of everything that is read of the root."""
        beside = [self._root / name for name in ("fixations.csv.gz", "validation.txt")]
        return _digest([*osie.photographs(self._root), *(path for path in beside if path.exists())])

    def _cached(self, name: str, make: Callable, count: int, **parts: object) -> Features:
        # Views serve the contrastive loss alone, which reads the head's own maps; plain rows are shared by all heads.
        maps = MAPS if parts.get("view") == "plain" else self._maps
        key = key_of(
            name=name, encoders=self._encoders.key(), root=self._contents, code=_code(), maps=maps, rows=count, **parts
        )
        folder = self._folder / f"{name}-{parts['split']}-{key}"
        if not (folder / "done").exists():
            self._report(f"features of {count} {name} rows ({parts['split']}) → {folder}")
        store = cached(folder, make, count, self._encoders, maps)
        return Features(
            store.ids, {name: store.maps[name] for name in self._maps}, store.tokens, store.input_ids, store.mask,
            store.labels, store.images,
        )  # fmt: skip


@functools.cache
def _code() -> str:
    """What generates the creatives: rows of another generator are other rows. A changed comment costs minutes, a
    forgotten version number costs a wrong measurement."""
    drawn = [path for path in sorted((_HERE / "creatives").iterdir()) if path.suffix in (".py", ".toml")]
    others = ("synthetic.py", "saliency.py", "datasets/generated.py", "datasets/osie.py")
    return f"{PREPROCESSING} {_digest([*drawn, *(_HERE / name for name in others)])}"


def _digest(files: Iterable[Path]) -> str:
    """Over names and contents."""
    return key_of(files={path.name: sha256(path.read_bytes()).hexdigest() for path in files})
