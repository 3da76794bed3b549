"""Which models `compare` and `ablate` put beside a configured one: literal tables of what they change in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.config import Config
from training.datasets.catalogue import DATASETS

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """What a variant sets: `options` and `weights` over the configuration's own, `fields` of the configuration."""

    options: Values = field(default_factory=dict)
    weights: Values = field(default_factory=dict)
    fields: Values = field(default_factory=dict)


ABLATIONS: dict[str, dict[str, Change]] = {
    "dbafn": {
        "without modulation": Change({"modulation": False}),
        "without local branch": Change({"local_branch": False}),
        "without gate": Change({"gate": False}),
        "without sparsity": Change(weights={"sparse": 0.0}),
        "without contrast": Change(weights={"contrast": 0.0}),
        "text mean over padding": Change({"text_pool": "padded"}),
        "gamma from 0": Change({"gamma_bias": 0.0}),
        "one-token attention": Change({"global_attention": "single"}),
    },
    "fgmfn": {
        "without multi-scale": Change({"multi_scale": False}),
        "without cross-attention": Change({"cross_attention": False}),
        "without ITC": Change(weights={"itc": 0.0}),
        "without MI": Change(weights={"mi": 0.0}),
        "tanh on the logits": Change({"classifier": "tanh_logits"}),
    },
    "mvla": {
        "without prefix": Change({"prefix": False}),
        "without regions": Change({"regions": False}),
        "without KL": Change(weights={"kl": 0.0}),
        "without the label loss on S+N": Change(weights={"visual_label": 0.0}),
    },
    "deepm2ad": {
        "without autoencoder": Change({"autoencoder": False}),
        "without hierarchical attention": Change({"hierarchical": False}),
        "topics alone": Change({"tasks": ["topic"]}),
        "sentiments alone": Change({"tasks": ["sentiment"]}),
        "own word vectors": Change(fields={"subwords": {"dim": 128}}),
    },
    "adfusion": {
        "without multi-scale": Change({"multi_scale": False}),
        "without cross-attention": Change({"cross_attention": False}),
        "without ITC": Change(weights={"itc": 0.0}),
        "without MI": Change(weights={"mi": 0.0}),
    },
}
"""The papers' own, and the forms of theirs that this project replaced (DeepM2AD's words as fastText reads them)."""
_TASK_ALONE = {"topics alone": "topic/", "sentiments alone": "sentiment/"}
"""Whose metrics the models of one task have."""

FUSIONS = ("early", "late", "mlp")


def ablated(config: Config) -> dict[str, Config]:
    """The configuration by its model's name, then with each of the model's ablations.

    A model of one task alone has no place where the other task's metric is watched.
    """
    watched = config.fit.monitor or ""
    changes = {
        name: change
        for name, change in ABLATIONS.get(config.model, {}).items()
        if watched.startswith(_TASK_ALONE.get(name, watched))
        and ("subwords" not in change.fields or "objects" in DATASETS[config.dataset].text)
    }
    return {config.model: config} | {name: _changed(config, change) for name, change in changes.items()}


def compared(config: Config) -> dict[str, Config]:
    """The configuration, its image-only and text-only forms, and the baselines on the same encoders and recipe.

    A data set of pictures alone, or of words alone, has no other form.
    """
    found: dict[str, Config] = {config.model: config}
    two = _two_sided(config)
    if two:
        found |= {f"{config.model}, {form} only": _changed(config, Change(fields={"form": form})) for form in _SIDES}
    forms = ("image", "text", *FUSIONS) if two else (("text",) if not _seen(config) else ("image",))
    return found | {f"{form} baseline": baseline(config, form) for form in forms}


def baseline(config: Config, form: str) -> Config:
    """A baseline in the configuration's place: the same rows, encoders and recipe."""
    kept = {name: value for name, value in config.options.items() if name == "dropout"}
    weights = {name: value for name, value in config.weights.items() if name in ("smoothing", "saliency")}
    update = {"model": "baseline", "options": {**kept, "form": form}, "weights": weights}
    return Config.model_validate({**config.model_dump(), **update})


_SIDES = ("image", "text")


def _seen(config: Config) -> bool:
    """Whether the set shows anything: pictures, or objects that stand for them."""
    dataset = DATASETS[config.dataset]
    return dataset.pictures or "objects" in dataset.text


def _two_sided(config: Config) -> bool:
    return bool(DATASETS[config.dataset].text) and _seen(config)


def _changed(config: Config, change: Change) -> Config:
    plain = config.model_dump()
    plain["options"] |= change.options
    plain["weights"] |= change.weights
    return Config.model_validate({**plain, **change.fields})
