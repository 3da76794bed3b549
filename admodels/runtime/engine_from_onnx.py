"""ONNX → TensorRT engine. One code path for `tensorrt` and `tensorrt_rtx`; the latter builds without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from admodels.contract.manifest import TensorSpec
from admodels.runtime import tensorrt_module
from admodels.runtime.runner import EngineError
from admodels.runtime.tensorrt_module import TensorRtUnavailableError

CURRENT = "current"
RTX = "tensorrt_rtx"
MIB = 1024 * 1024
Shape = tuple[int, ...]
Progress = Callable[[str, int, int], bool]
"""Called with (phase, step, steps); False stops the build."""


@dataclass(frozen=True)
class Range:
    """Smallest, usual and largest size of a symbolic dimension; the engine is fastest at the usual one."""

    least: int
    usual: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.usual <= self.most:
            raise ValueError(f"a profile needs 1 ≤ least ≤ usual ≤ most, not {self.least}, {self.usual}, {self.most}")


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    sm: compute capability such as `8.6`, or `current` for this machine's GPU.
    workspace_mib: most scratch memory that a tactic may take; 0 leaves it to TensorRT.
    version_compatible: loads under later minor versions of TensorRT too, for some speed.
    hardware: `same` runs on the target's compute capability alone, `ampere+` on Ampere and what came after it.
    """

    sm: str = CURRENT
    workspace_mib: int = 0
    version_compatible: bool = False
    hardware: Literal["same", "ampere+"] = "same"


@dataclass(frozen=True)
class Engine:
    """A serialised engine, the timings that a next build can start from, and what TensorRT made of the graph.

    types: of inputs and outputs, by TensorRT's names (`HALF`). profiles: input → its shapes (least, usual, most), read
    back from each profile as TensorRT took it.
    """

    plan: bytes
    timing_cache: bytes = b""
    layers: int = 0
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[Mapping[str, tuple[Shape, ...]], ...] = ()


def build_engine(
    trt: ModuleType,
    model: bytes,
    inputs: Sequence[TensorSpec],
    profiles: Sequence[Mapping[str, Range]],
    options: BuildOptions,
    *,
    timing_cache: bytes = b"",
    progress: Progress | None = None,
) -> Engine:
    """Build one engine.

    Args:
        trt: `tensorrt` or `tensorrt_rtx`, from `tensorrt_module.load`.
        model: the bundle's `model.onnx`, weights embedded.
        inputs: the manifest's; each symbolic name in a shape must be in every profile.
        profiles: one or several optimisation profiles: symbolic name (`batch`, `length`) → its range.

    Raises EngineError with TensorRT's own words; TensorRtUnavailableError where the target can't be built for here.
    """
    try:
        # Only who builds needs onnx.
        from admodels.runtime.tensorrt_graph import for_tensorrt
    except ImportError as error:
        raise TensorRtUnavailableError("building engines needs the package onnx: pip install 'adscore[rtx]'") from error
    log = tensorrt_module.logger(trt)
    log.errors.clear()
    builder = _made(trt.Builder(log), "a builder", log)
    network = _made(builder.create_network(0), "a network", log)
    parser = _made(trt.OnnxParser(network, log), "a parser", log)
    if not parser.parse(for_tensorrt(model)):
        told = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise EngineError(f"TensorRT can't read the graph: {told[:500]}")
    config = _made(builder.create_builder_config(), "a configuration", log)
    # The graph says each type, and TF32 is none of them: ten bits of mantissa are coarser than bundles promise.
    config.clear_flag(trt.BuilderFlag.TF32)
    _ask_for_captures(trt, config, network)
    _aim(trt, config, options)
    if options.workspace_mib:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    taken = []
    for ranges in profiles:
        profile = _made(builder.create_optimization_profile(), "a profile", log)
        for spec in inputs:
            least, usual, most = (_shape(spec, ranges, pick) for pick in ("least", "usual", "most"))
            profile.set_shape(spec.name, least, usual, most)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"TensorRT refuses the profile: {_words(log)}")
        taken.append({spec.name: tuple(tuple(shape) for shape in profile.get_shape(spec.name)) for spec in inputs})
    _use_timings(trt, config, timing_cache)
    if progress is not None:
        config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"TensorRT built no engine: {_words(log)}")
    read = [network.get_input(index) for index in range(network.num_inputs)]
    made = [network.get_output(index) for index in range(network.num_outputs)]
    return Engine(
        plan=bytes(plan),
        timing_cache=_timings(trt, config),
        layers=network.num_layers,
        inputs=tuple(tensor.name for tensor in read),
        outputs=tuple(tensor.name for tensor in made),
        types={tensor.name: tensor.dtype.name for tensor in (*read, *made)},
        profiles=tuple(taken),
    )


def _aim(trt: ModuleType, config: Any, options: BuildOptions) -> None:
    """Set what the engine has to run on."""
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware == "ampere+":
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.sm == CURRENT:
        return
    capabilities = getattr(trt, "ComputeCapability", None)
    if capabilities is None:
        raise TensorRtUnavailableError(
            f"{trt.__name__} builds for the GPU it finds, not for compute capability {options.sm}: build on such a "
            "GPU, or with tensorrt_rtx (ADSCORE_TENSORRT__MODULE)"
        )
    target = getattr(capabilities, f"SM{options.sm.replace('.', '')}", None)
    if target is None:
        known = ", ".join(sorted(name[2:-1] + "." + name[-1] for name in dir(capabilities) if name.startswith("SM")))
        here = f"{trt.__name__} {tensorrt_module.version(trt)}"
        raise TensorRtUnavailableError(f"{here} knows no compute capability {options.sm}; it builds for {known}")
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(target, 0):
        raise TensorRtUnavailableError(f"{trt.__name__} refuses compute capability {options.sm}")


def _ask_for_captures(trt: ModuleType, config: Any, network: Any) -> None:
    """TensorRT-RTX may allocate as it runs, which no CUDA graph can hold, unless it is told not to; loops (LSTMs) and
    what depends on data can't do without."""
    flag = getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)
    needing = (trt.LayerType.TRIP_LIMIT, trt.LayerType.NON_ZERO)
    if flag is not None and not any(network.get_layer(n).type in needing for n in range(network.num_layers)):
        config.set_flag(flag)


def _use_timings(trt: ModuleType, config: Any, kept: bytes) -> None:
    if trt.__name__ == RTX:
        return  # it times kernels where it runs, and its timing caches are deprecated
    for timings in (kept, b""):  # those of another version or GPU are refused: nothing is lost but time
        cache = config.create_timing_cache(timings)
        if cache is not None and config.set_timing_cache(cache, False):
            return


def _timings(trt: ModuleType, config: Any) -> bytes:
    made = None if trt.__name__ == RTX else config.get_timing_cache()
    return b"" if made is None else bytes(made.serialize())


def _shape(spec: TensorSpec, ranges: Mapping[str, Range], pick: str) -> tuple[int, ...]:
    missing = [size for size in spec.shape if isinstance(size, str) and size not in ranges]
    if missing:
        raise EngineError(f"input {spec.name}: the profile has no range for {', '.join(missing)}")
    return tuple(size if isinstance(size, int) else int(getattr(ranges[size], pick)) for size in spec.shape)


def _monitor(trt: ModuleType, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]  # the base class comes with the module
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            del parent_phase
            self.steps[phase_name] = num_steps

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return progress(phase_name, step, self.steps.get(phase_name, 0))

    return Monitor()


def _made(made: Any, what: str, log: Any) -> Any:
    if made is None:
        raise EngineError(f"TensorRT made no {what.removeprefix('a ')}: {_words(log)}")
    return made


def _words(log: Any) -> str:
    return "; ".join(log.errors)[-500:] or "it gave no reason; ADSCORE_LOG__LEVEL=debug shows its messages"
