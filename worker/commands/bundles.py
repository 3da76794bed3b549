"""Which bundles the settings name, found on disk and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from admodels.contract.bundle import Bundle, BundleError, load_bundle
from admodels.contract.signature import Check, KeyUnusableError, checker
from worker.errors import FatalError
from worker.scoring.feeds import check_fed
from worker.scoring.targeting import models_version


def trusted(public_key: str) -> Check | None:
    """What checks signatures by ADSCORE_MODELS__PUBLIC_KEY; None where it is empty.

    Raises FatalError (exit status 3) for a key that can't be used: nothing is loaded unchecked then.
    """
    if not public_key:
        return None
    try:
        return checker(Path(public_key))
    except KeyUnusableError as error:
        raise FatalError(f"ADSCORE_MODELS__PUBLIC_KEY: {error}", exit_code=3) from error


def load_heads(models_dir: Path, models: Mapping[str, Sequence[str]], signed: Check | None) -> dict[str, list[Bundle]]:
    """Per head its bundles, checked. Heads without a bundle are left out.

    models: head → `name` (its newest version) or `name/version`. signed: as `trusted` gives it. Raises BundleError.
    """
    heads = {
        head: [load_bundle(find(models_dir, name), signed) for name in names] for head, names in models.items() if names
    }
    for head, bundles in heads.items():
        for bundle in bundles:
            if bundle.manifest.task != head:
                raise BundleError(f"bundle {bundle.label} serves {bundle.manifest.task}, it can't serve {head}")
    return heads


def load_encoders(models_dir: Path, heads: Mapping[str, Sequence[Bundle]], signed: Check | None) -> dict[str, Bundle]:
    """The shared encoders that the heads' manifests name, by digest. Raises BundleError, also for a head that they, and
    what it reads by itself, leave without an input."""
    encoders: dict[str, Bundle] = {}
    for bundle in (bundle for bundles in heads.values() for bundle in bundles):
        for use in bundle.manifest.encoders:
            if use.digest in encoders:
                continue
            encoder = load_bundle(models_dir / use.name / use.version, signed)
            if encoder.digest != use.digest:
                raise BundleError(
                    f"bundle {bundle.label}: encoder {encoder.label} isn't the one it was made with "
                    "(its digest differs); copy both from the same place"
                )
            encoders[use.digest] = encoder
        check_fed(bundle, encoders)
    return encoders


def version_of(heads: Mapping[str, Sequence[Bundle]]) -> str:
    """The name of this set of bundles, as events that they score tell it in `targeting.ads_mv`."""
    return models_version(
        {
            head: [
                {"name": bundle.manifest.name, "version": bundle.manifest.version, "digest": bundle.digest[:12]}
                for bundle in bundles
            ]
            for head, bundles in heads.items()
        }
    )


def find(models_dir: Path, name: str) -> Path:
    """The folder of `name` or `name/version`; without a version the newest. Raises BundleError."""
    base, _, version = name.partition("/")
    if version:
        return models_dir / base / version
    folder = models_dir / base
    versions = [item.name for item in folder.iterdir() if item.is_dir()] if folder.is_dir() else []
    if not versions:
        raise BundleError(f"bundle {name}: not under ADSCORE_MODELS__DIR; `adscore models list` shows what is there")
    return folder / max(versions, key=_natural)


def _natural(version: str) -> list[tuple[int, str]]:
    """`10` after `9`, and `1.10` after `1.9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[._-]", version)]
