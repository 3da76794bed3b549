"""From a configuration to the parts of a run: its task, its spec, its rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from admodels.build import encoder_uses, small_spec
from admodels.contract.spec import ModelSpec
from admodels.papers import adfusion, baselines, dbafn, deepm2ad, fgmfn, mvla
from training import tasks
from training.config import GENERATED, Config, ConfigError, nearest
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
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        seed = found.pop("run_seed", 0)
        return Config.model_validate(found), seed
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{file} is no configuration of this version; remove {out} and fit again") from error


def require_same(out: Path, config: Config, seed: int) -> None:
    """Raises ConfigError where the run in `out` is of another configuration or seed.

    A key that came after the run was made has its default there: the run is what it was.
    """
    theirs, own = saved(out)
    if own != seed or theirs.model_dump(mode="json") != config.model_dump(mode="json"):
        raise ConfigError(f"{out} holds a run of another configuration or seed: choose another --out, or remove it")


def task_of(config: Config) -> Task:
    """What the configured model learns on the configured data set. Raises ConfigError for weights of no term."""
    task = TASKS[config.model]
    if config.dataset != GENERATED:
        task = tasks.for_dataset(config.model, DATASETS[config.dataset], config.fit.monitor or "")
    _check_weights(config, task)
    return task


def _check_weights(config: Config, task: Task) -> None:
    plain: dict[str, Any] = _WEIGHTS[config.model]()._asdict()
    if config.model == "adfusion":
        plain |= dict.fromkeys((*task.values, "within"), 1.0)
    for name, value in config.weights.items():
        if name not in plain:
            raise ConfigError(f"weights.{name}: unknown key; {nearest(name, list(plain))}")
        if isinstance(value, str) != isinstance(plain[name], str):
            kind = "a name" if isinstance(plain[name], str) else "a number"
            raise ConfigError(f"weights.{name} is {value!r}, not {kind} such as {plain[name]!r}")


_WEIGHTS: dict[str, Callable[[], Any]] = {
    "dbafn": dbafn.Weights, "fgmfn": fgmfn.Weights, "mvla": mvla.Weights, "deepm2ad": deepm2ad.Weights,
    "adfusion": adfusion.Weights, "baseline": baselines.Weights,
}  # fmt: skip


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
    names = maps_of(spec)
    sizes: list[int] = list(options["map_sizes"]) if names else []
    keep = sizes
    if spec.architecture == "dbafn":
        keep = [options.get("grid") or sizes[-1]] * len(sizes)
    elif spec.architecture == "baseline" and not options.get("heatmap_size"):
        keep = [1] * len(sizes)
    elif spec.architecture == "fgmfn":
        # The upper two stay: the model reads its grids off their sizes.
        keep = [sizes[options["high_level"] - 2]] * 3 + sizes[3:]
    return {name: side if side < size else None for name, side, size in zip(names, keep, sizes, strict=True)}


def built_spec(config: Config, spec: ModelSpec) -> ModelSpec:
    """The spec as training builds it: over the maps as the stores keep them. The weights fit both."""
    if config.dataset == GENERATED or not maps_of(spec):
        return spec
    sizes: Any = spec.options["map_sizes"]
    kept = [side or size for side, size in zip(grids(spec).values(), sizes, strict=True)]
    return spec.model_copy(update={"options": {**spec.options, "map_sizes": kept}})


def spec_of(config: Config, encoders: SharedEncoders, task: Task) -> ModelSpec:
    """The configured model at the small size over the shared encoders."""
    image, text = encoders.uses()
    options: dict[str, object] = {"values": list(task.values)} if config.model == "adfusion" else {}
    labels: dict[str, tuple[str, ...]] = dict(task.labels)
    uses = encoder_uses("baseline" if config.model == "deepm2ad" else config.model, image, text, maps=config.maps)
    pictured = config.dataset == GENERATED or "objects" not in DATASETS[config.dataset].text
    if config.model == "baseline":
        options |= _heads(config)
    spec = small_spec(
        config.model, encoders=uses if pictured else (), labels=labels, options={**options, **config.options}
    )  # fmt: skip
    if not pictured:
        width, own = encoders.text_width, config.subwords.dim
        sizes: dict[str, object] = {"object_dim": width, "word_dim": own or width, "modalities": ["objects", "words"]}
        if config.model == "baseline":
            sizes = {"map_channels": [width], "map_sizes": [1], "text_dim": own or width, "normalise_maps": True}
        read = () if own else uses[1:]
        spec = spec.model_copy(update={"encoders": read, "options": {**spec.options, **sizes, **config.options}})
    return spec.model_copy(update={"text": encoders.text_spec})


def _heads(config: Config) -> dict[str, object]:
    """A baseline's heads for what the data set has labels for."""
    dataset = DATASETS[config.dataset]
    sizes = {name: len(names) for name, names in dataset.classes.items()}
    single = {name: count for name, count in sizes.items() if name == "sentiment"}
    several = {name: count for name, count in sizes.items() if name in ("keywords", "topics", "emotions")}
    values = [*dataset.values, *(name for name in dataset.needs if name == "score")]
    return {
        "classes": single, "labels": several, "values": values, "heatmap_size": 64 if "heatmap" in dataset.needs else 0,
    }  # fmt: skip


def maps_of(spec: ModelSpec) -> tuple[str, ...]:
    """The encoder's names of the feature maps that the head takes, in the head's order; none without pixels."""
    return next((tuple(use.outputs) for use in spec.encoders if "tokens" not in use.outputs), ())
