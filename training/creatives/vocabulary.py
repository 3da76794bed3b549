"""The words and label sets of the generated creatives, read from vocabulary.toml once."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

TONES = ("negative", "neutral", "positive")
COLOURS = ("black", "grey", "white", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")
TRUST = ("safe", "sensitive", "exaggerated")
MONEY = ("none", "price", "discount", "free")


@cache
def vocabulary() -> dict[str, Any]:
    """The whole file as nested dicts. Callers read, never write."""
    return tomllib.loads(files("training.creatives").joinpath("vocabulary.toml").read_text(encoding="utf-8"))


@cache
def label_sets() -> dict[str, tuple[str, ...]]:
    """Class names of every head, in the order of the models' outputs."""
    words = vocabulary()
    objects = {entry.split("|")[1] for theme in words["themes"].values() for entry in theme["products"]}
    return {
        "theme": tuple(words["themes"]),
        "sentiment": TONES,
        "emotion": tuple(words["emotions"]),
        "audience": tuple(words["audience"]),
        "call_to_action": tuple(words["cta"]),
        "monetary_mention": MONEY,
        "object": tuple(sorted(objects)),
        "dominant_colour": COLOURS,
        "trust": TRUST,
        "keywords": tuple(words["keywords"]),
    }
