"""From a configuration to the parts of a run: its task, its spec, its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from admodels.build import encoder_uses, small_spec
from admodels.contract.spec import ModelSpec
from training import tasks
from training.config import GENERATED, Config, ConfigError
from training.datasets.catalogue import DATASETS
from training.datasets.sample import BadRows
from training.encoders import SharedEncoders
from training.stores import Stores
from training.tablestores import TableStores
from training.tasks import TASKS, Task


def saved(out: Path) -> tuple[Config, int]:
    """The configuration and the seed of the run in `out`. Raises ConfigError where there is none."""
    file = out / "config.json"
    if not file.exists():
        raise ConfigError(f"{out} is no run: config.json is missing; `adscore-train fit` makes one")
    found = json.loads(file.read_text(encoding="utf-8"))
    seed = found.pop("run_seed", 0)
    return Config.model_validate(found), seed


def task_of(config: Config) -> Task:
    """What the configured model learns on the configured data set."""
    if config.dataset == GENERATED:
        return TASKS[config.model]
    return tasks.for_dataset(config.model, DATASETS[config.dataset], config.fit.monitor or "")


def stores_of(
    config: Config, spec: ModelSpec, encoders: SharedEncoders, root: Path, folder: Path, seed: int, bad: BadRows,
    report: Callable[[str], None],
) -> Stores | TableStores:  # fmt: skip
    """The rows of a configuration."""
    if config.dataset == GENERATED:
        return Stores(config, root, folder, encoders, maps_of(spec), report)
    return TableStores(config, root, folder, encoders, grids(spec), seed, bad, report)


def grids(spec: ModelSpec) -> dict[str, int | None]:
    """The maps that a head reads, each with the side that it resamples it to first; None: as the encoder gives it.

    What a head makes smaller before anything else is kept that small: a hundredth of the bytes, the same numbers.
    """
    options: dict[str, Any] = dict(spec.options)
    sizes: list[int] = list(options["map_sizes"])
    keep = sizes
    if spec.architecture == "dbafn":
        keep = [options.get("grid") or sizes[-1]] * len(sizes)
    elif spec.architecture == "fgmfn":
        high = options["high_level"]
        keep = [sizes[high - 2]] * 3 + [sizes[high - 1]] * 2
    names = maps_of(spec)
    return {name: side if side < size else None for name, side, size in zip(names, keep, sizes, strict=True)}


def built_spec(config: Config, spec: ModelSpec) -> ModelSpec:
    """The spec as training builds it: over the maps as the stores keep them. The weights fit both."""
    if config.dataset == GENERATED:
        return spec
    sizes: Any = spec.options["map_sizes"]
    kept = [side or size for side, size in zip(grids(spec).values(), sizes, strict=True)]
    return spec.model_copy(update={"options": {**spec.options, "map_sizes": kept}})


def spec_of(config: Config, encoders: SharedEncoders, task: Task) -> ModelSpec:
    """The configured model at the small size over the shared encoders."""
    image, text = encoders.uses()
    uses = encoder_uses(config.model, image, text)
    options: dict[str, object] = {"values": list(task.values)} if config.model == "adfusion" else {}
    spec = small_spec(config.model, encoders=uses, labels=task.labels, options={**options, **config.options})
    return spec.model_copy(update={"text": encoders.text_spec})


def maps_of(spec: ModelSpec) -> tuple[str, ...]:
    """The encoder's names of the feature maps that the head takes, in the head's order."""
    return next(tuple(use.outputs) for use in spec.encoders if "tokens" not in use.outputs)
