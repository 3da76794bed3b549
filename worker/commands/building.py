"""`adscore models build`: the engines of the bundles that serve, for this GPU or for one that is named."""

from __future__ import annotations

from collections.abc import Callable

import click

from admodels.contract.bundle import Bundle, BundleError
from admodels.runtime import cuda, tensorrt_module
from admodels.runtime.runner import EngineError
from admodels.runtime.tensorrt_module import TensorRtUnavailableError
from worker.commands import backends, edge
from worker.commands.bundles import load_encoders, load_heads, trusted
from worker.commands.progress import Progress
from worker.errors import FatalError
from worker.settings_schema import Settings
from worker.types import HEADS

MIB = 1024 * 1024


def build_all(settings: Settings, sm: str | None) -> int:
    """Build what isn't there yet, a line for each on standard output; how many bundles failed.

    sm: a compute capability such as `8.6`; None: this machine's GPU.
    Raises FatalError: without GPU or TensorRT, a bundle that can't be loaded, a disk that refuses.
    """
    target = sm or cuda.compute_capability()
    if target is None:
        raise FatalError(
            f"{backends.NO_GPU.partition(', or')[0]}; or name what to build for: --sm 8.6", exit_code=edge.UNAVAILABLE
        )
    try:
        trt = tensorrt_module.load(settings.tensorrt.module)
        bundles, encoders = serving(settings)
    except (TensorRtUnavailableError, BundleError) as error:
        raise FatalError(str(error), exit_code=edge.UNAVAILABLE) from error
    failed, progress = 0, Progress()
    for bundle in bundles:
        plan = backends.Plan.of(settings, trt, target, bundle, encoders)
        try:
            built = backends.build(trt, plan, _shown(progress, bundle.label))
        except TensorRtUnavailableError as error:
            raise FatalError(str(error), exit_code=edge.UNAVAILABLE) from error
        except OSError as error:
            raise FatalError(
                f"can't write {plan.place}: {error.strerror or type(error).__name__}; ADSCORE_MODELS__DIR must be a "
                "writable folder with room for the engines (the chart: engineCache.enabled)",
                exit_code=edge.UNAVAILABLE,
            ) from error
        except EngineError as error:
            progress.note(f"{bundle.label}: {error}")
            failed += 1
            continue
        progress.end()
        how = f"built in {built.seconds:.0f} s" if built.seconds else "is there"
        click.echo(f"{bundle.label:<20}  {plan.key.folder:<32}  {len(built.plan) / MIB:>8.1f} MiB  {how}")
    return failed


def serving(settings: Settings) -> tuple[list[Bundle], dict[str, Bundle]]:
    """The bundles that the settings name, each once, encoders first; and the encoders by digest. Raises BundleError."""
    signed = trusted(settings.models.public_key)
    heads = load_heads(settings.models.dir, {head: getattr(settings.models, head) for head in HEADS}, signed)
    encoders = load_encoders(settings.models.dir, heads, signed)
    every = [*encoders.values(), *(bundle for bundles in heads.values() for bundle in bundles)]
    return list({bundle.digest: bundle for bundle in every}.values()), encoders


def _shown(progress: Progress, label: str) -> Callable[[str, int, int], bool]:
    def step(phase: str, number: int, steps: int) -> bool:
        progress.show(f"{label}: {phase} {number + 1}/{steps}" if steps else f"{label}: {phase}")
        return True

    return step
