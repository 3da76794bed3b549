"""`adscore models`: which bundles are here, and whether every file of them is what its manifest says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from worker.commands import edge
from worker.errors import FatalError
from worker.settings import Settings
from worker.types import HEADS

if TYPE_CHECKING:
    from admodels.contract.bundle import Bundle
    from admodels.contract.signature import Check

MIB = 1024 * 1024


@click.group()
def models() -> None:
    """List the bundles, check every file of them, or build their engines."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per bundle.")
def list_(as_json: bool) -> None:
    """The bundles under ADSCORE_MODELS__DIR: task, digest, size, metrics; * marks those that serve."""
    from admodels.contract.bundle import BundleError, load_bundle
    from worker.commands.bundles import trusted

    settings = edge.settings()
    signed = trusted(settings.models.public_key)
    serving = _serving(settings, signed)
    bad = 0
    if not as_json:
        click.echo(f"  {'bundle':<20}  {'task':<14}  {'digest':<12}  {'precision':<9}  {'MiB':>6}  metrics")
    for folder in _folders(settings.models.dir):
        try:
            told = _told(load_bundle(folder, signed), folder in serving)
        except BundleError as error:
            click.echo(str(error), err=True)
            bad += 1
            continue
        click.echo(orjson.dumps(told) if as_json else _line(told))
    if bad:
        raise click.exceptions.Exit(edge.FAILED)


@models.command()
def verify() -> None:
    """Check every file of every bundle, and load each model once; exit 1 names bundle and file."""
    settings = edge.settings()
    bad = problems(settings)
    for label, problem in bad.items():
        if problem:
            click.echo(problem, err=True)
        else:
            click.echo(f"ok  {label}")
    if any(bad.values()):
        raise click.exceptions.Exit(edge.FAILED)


@models.command()
@click.option(
    "--sm", metavar="X.Y", help="Build for this compute capability, like 8.6, and not for the GPU that is here."
)
def build(sm: str | None) -> None:
    """Build the TensorRT engines of the bundles that serve; what is there already is left."""
    if sm is not None and not re.fullmatch(r"\d{1,2}\.\d", sm, re.ASCII):
        raise click.BadParameter(f"{sm!r} isn't a compute capability like 8.6", param_hint="--sm")
    # Imported here so that `list` and `verify` need nothing of a GPU.
    from worker.commands.building import build_all

    if build_all(edge.settings(), sm):
        raise click.exceptions.Exit(edge.FAILED)


def problems(settings: Settings) -> dict[str, str]:
    """`name/version` of every bundle that is here or configured → what is wrong with it, or "" where nothing is."""
    from admodels.contract.bundle import MODEL, BundleError, load_bundle
    from admodels.runtime.onnxruntime import OnnxRuntimeRunner
    from admodels.runtime.runner import EngineError
    from worker.commands.bundles import find, load_encoders, load_heads, trusted

    found: dict[str, str] = {}
    signed = trusted(settings.models.public_key)
    for folder in _folders(settings.models.dir):
        label = f"{folder.parent.name}/{folder.name}"
        try:
            OnnxRuntimeRunner(load_bundle(folder, signed).files[MODEL], threads=1)
            found[label] = ""
        except (BundleError, EngineError) as error:
            found[label] = str(error) if label in str(error) else f"bundle {label}: {MODEL}: {error}"
    for head in HEADS:
        for name in getattr(settings.models, head):
            try:
                folder = find(settings.models.dir, name)
                label = f"{folder.parent.name}/{folder.name}"
                if not found.get(label):
                    heads = load_heads(settings.models.dir, {head: [name]}, signed)
                    load_encoders(settings.models.dir, heads, signed)
            except BundleError as error:
                found[name] = str(error)
    return found


def _folders(root: Path) -> list[Path]:
    """`<name>/<version>` folders under `root`. Raises FatalError (exit status 3) where there are none."""
    found = sorted(folder for folder in root.glob("*/*") if folder.is_dir()) if root.is_dir() else []
    if not found:
        raise FatalError(f"no bundles under {root}; ADSCORE_MODELS__DIR names the folder", exit_code=edge.UNAVAILABLE)
    return found


def _serving(settings: Settings, signed: Check | None) -> set[Path]:
    """Folders of the configured heads and of the encoders that they name."""
    from admodels.contract.bundle import BundleError, load_bundle
    from worker.commands.bundles import find

    serving: set[Path] = set()
    for name in (name for head in HEADS for name in getattr(settings.models, head)):
        try:
            folder = find(settings.models.dir, name)
            serving |= {folder} | {
                settings.models.dir / use.name / use.version for use in load_bundle(folder, signed).manifest.encoders
            }
        except BundleError:
            continue  # `list` tells it in its own line
    return serving


def _told(bundle: Bundle, serving: bool) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "architecture": manifest.architecture,
        "digest": bundle.digest,
        "precision": manifest.precision,
        "bytes": sum(len(content) for content in bundle.files.values()),
        "serving": serving,
        "metrics": manifest.metrics,
    }


def _line(told: dict[str, Any]) -> str:
    mark = "*" if told["serving"] else " "
    metrics = "  ".join(f"{name} {value:.3f}" for name, value in list(told["metrics"].items())[:4])
    return (
        f"{mark} {told['name'] + '/' + told['version']:<20}  {told['task']:<14}  {told['digest'][:12]}  "
        f"{told['precision']:<9}  {told['bytes'] / MIB:>6.1f}  {metrics}"
    ).rstrip()
