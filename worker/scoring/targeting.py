"""What an ad server targets by: key-values made of the heads' buckets, and the name of the set of models.

Keys have at most 20, values at most 40 characters of `[a-z0-9_.-]`; keys begin with a letter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

KEYS = {"attractiveness": "ads_attr", "sentiment": "ads_sent", "ctr": "ads_ctr"}
MODELS_KEY = "ads_mv"
SHORT = {"attractiveness": "attr", "sentiment": "sent", "ctr": "ctr"}
"""The heads' names under `ortb.bid.ext.adscore`."""

Heads = Mapping[str, Mapping[str, Any] | None]


def buckets(heads: Heads) -> dict[str, str]:
    """Head → bucket, of the heads that gave one."""
    return {head: part["bucket"] for head, part in heads.items() if part is not None and "bucket" in part}


def key_values(heads: Heads, models: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """The event's `targeting`. A head that failed has no key."""
    return {KEYS[head]: bucket for head, bucket in buckets(heads).items()} | {MODELS_KEY: models_version(models)}


def models_version(models: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """8 hex digits that name this set of bundles: the same on every backend, another when any bundle changes."""
    named = [
        [head, [[item["name"], item["version"], item["digest"]] for item in models[head]]] for head in sorted(models)
    ]
    return hashlib.sha256(orjson.dumps(named)).hexdigest()[:8]
