"""Which backend runs a bundle here: TensorRT where GPU, module and engine are, else what the settings allow."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import structlog

from admodels.contract.bundle import MODEL, Bundle
from admodels.runtime import cuda, engine_store, tensorrt_module
from admodels.runtime.engine_from_onnx import BuildOptions, Progress, Range, build_engine
from admodels.runtime.engine_store import EngineKey
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from admodels.runtime.runner import EngineError, EngineMemoryError, Runner
from admodels.runtime.tensorrt_module import TensorRtUnavailableError
from worker.errors import FatalError
from worker.settings_schema import Settings

SMALL_BATCH = 4
"""Batches up to here have a profile of their own, tuned for one creative."""
WORDS = Range(1, 32, 64)
ROWS = Range(1, 32, 96)
"""A word of 24 characters, the longest that is read, has 91 rows with n-grams of 3 to 6 characters."""
NO_GPU = "no NVIDIA GPU answers here: check `nvidia-smi` and that the pod was given one, or set ADSCORE_BACKEND=auto"
_log = structlog.get_logger(__name__)


class Runners:
    """Makes runners of bundles; shared encoders first, as `Engines` does: a head's text is as long as its encoder's.

    Raises FatalError (exit status 3) where the backend that the settings demand can't serve.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._known: dict[str, Bundle] = {}
        self._make = self._chosen()

    def make(self, bundle: Bundle, *, threads: int) -> Runner:
        """The bundle's engine. Raises EngineError, or FatalError (exit status 3) with the mend.

        threads: of a CPU engine; 0: one per core.
        """
        self._known[bundle.digest] = bundle
        return self._make(bundle, threads)

    def _chosen(self) -> Callable[[Bundle, int], Runner]:
        backend = self._settings.backend
        if backend == "openvino":
            return _openvino()
        if backend in ("auto", "tensorrt"):
            sm = cuda.compute_capability()
            try:
                if sm is None:
                    raise TensorRtUnavailableError(NO_GPU)
                trt = tensorrt_module.load(self._settings.tensorrt.module)
            except TensorRtUnavailableError as error:
                if backend == "tensorrt":
                    raise FatalError(str(error), exit_code=3) from error
                if sm is not None:
                    _log.warning("engine_fallback", backend="onnxruntime", reason=str(error))
            else:
                return self._tensorrt(trt, sm)
        return _onnxruntime()

    def _tensorrt(self, trt: ModuleType, sm: str) -> Callable[[Bundle, int], Runner]:
        from admodels.runtime.tensorrt import TensorRtRunner

        settings, fallback = self._settings, _onnxruntime()

        def make(bundle: Bundle, threads: int) -> Runner:
            plan = Plan.of(settings, trt, sm, bundle, self._known)
            try:
                return TensorRtRunner(trt, _engine(settings, trt, plan))
            except (EngineError, TensorRtUnavailableError) as error:
                if settings.backend == "tensorrt" or isinstance(error, EngineMemoryError):
                    raise FatalError(f"bundle {bundle.label}: {error}", exit_code=3) from error
                _log.warning("engine_fallback", bundle=bundle.label, backend="onnxruntime", reason=str(error))
                return fallback(bundle, threads)

        return make


def _onnxruntime() -> Callable[[Bundle, int], Runner]:
    on_gpu = cuda.compute_capability() is not None and OnnxRuntimeRunner.can_use_gpu()
    return lambda bundle, threads: OnnxRuntimeRunner(bundle.files[MODEL], threads=threads, gpu=on_gpu)


def _openvino() -> Callable[[Bundle, int], Runner]:
    if importlib.util.find_spec("openvino") is None:
        raise FatalError(
            "ADSCORE_BACKEND=openvino, and OpenVINO isn't installed: pip install 'adscore[openvino]', or set auto",
            exit_code=3,
        )
    from admodels.runtime.openvino import OpenVinoRunner

    return lambda bundle, threads: OpenVinoRunner(bundle.files[MODEL], threads=threads)


def _engine(settings: Settings, trt: ModuleType, plan: Plan) -> bytes:
    """The engine's bytes: those that lie here, else built; one for other shapes, say, counts as none where it may be
    built. Raises EngineError, TensorRtUnavailableError."""
    refuse = settings.tensorrt.missing_engine == "refuse"
    try:
        found = engine_store.load(plan.place, plan.key)
    except EngineError:
        if refuse:
            raise
        found = None  # `build` looks again under its lock, and logs why
    if found is not None:
        return found
    if refuse:
        raise EngineError(f"it has no engine {plan.key.folder}: `adscore models build` makes it")
    _log.info("engine_building", bundle=plan.bundle.label, engine=plan.key.folder)
    try:
        return build(trt, plan).plan
    except OSError as error:
        _log.warning("engine_not_kept", bundle=plan.bundle.label, reason=error.strerror or type(error).__name__)
        return _built(trt, plan, b"", None)[0]


@dataclass(frozen=True)
class Plan:
    """An engine that could be there: for which bundle, where it lies, and all that decides it."""

    bundle: Bundle
    place: Path
    key: EngineKey
    profiles: tuple[Mapping[str, Range], ...]
    options: BuildOptions

    @classmethod
    def of(cls, settings: Settings, trt: ModuleType, sm: str, bundle: Bundle, encoders: Mapping[str, Bundle]) -> Plan:
        """The engine of this bundle under these settings, for this compute capability."""
        wanted = settings.tensorrt
        current = cuda.compute_capability()
        options = BuildOptions(
            sm="current" if sm == current else sm,
            workspace_mib=wanted.workspace_mib,
            version_compatible=wanted.versions == "later",
            hardware=wanted.hardware,
        )
        profiles = profiles_of(bundle, encoders, settings.batch.max_size)
        key = EngineKey(
            module=trt.__name__,
            version=tensorrt_module.version(trt),
            sm=sm,
            precision=bundle.manifest.precision,
            onnx_sha256=engine_store.graph_sha256(bundle),
            shapes=tuple({name: (r.least, r.usual, r.most) for name, r in profile.items()} for profile in profiles),
            options={name: value for name, value in asdict(options).items() if name != "sm"},
        )
        return cls(bundle, engine_store.engine_place(settings.models.dir, bundle, key), key, profiles, options)


@dataclass(frozen=True)
class Built:
    """What `build` did; `seconds` is 0 where the engine was there already."""

    plan: bytes
    seconds: float


def build(trt: ModuleType, plan: Plan, progress: Progress | None = None) -> Built:
    """The engine, from disk where a good one lies, else built and saved; one process at a time.

    Raises EngineError, TensorRtUnavailableError, or OSError as the disk tells it.
    """
    with engine_store.one_builder(plan.place):
        try:
            found = engine_store.load(plan.place, plan.key)
        except EngineError as error:
            _log.warning("engine_replaced", reason=str(error))
            found = None
        if found is not None:
            return Built(found, 0.0)
        started = time.monotonic()
        made, timings = _built(trt, plan, engine_store.timings(plan.place), progress)
        engine_store.save(plan.place, plan.key, made, timings)
        return Built(made, time.monotonic() - started)


def _built(trt: ModuleType, plan: Plan, timings: bytes, progress: Progress | None) -> tuple[bytes, bytes]:
    manifest, model = plan.bundle.manifest, plan.bundle.files[MODEL]
    made = build_engine(
        trt, model, manifest.inputs, plan.profiles, plan.options, timing_cache=timings, progress=progress
    )
    return made.plan, made.timing_cache


def profiles_of(bundle: Bundle, encoders: Mapping[str, Bundle], max_batch: int) -> tuple[Mapping[str, Range], ...]:
    """The profiles: one up to SMALL_BATCH creatives, tuned for one, and one up to `max_batch`, tuned for it.

    `length` is from one token (or the padding's step) to the longest text that this bundle, or its text encoder, reads;
    `words` and `rows` (of one word) are for models that read words.
    """
    batches = [Range(1, max_batch, max_batch)]
    if max_batch > SMALL_BATCH:
        batches.insert(0, Range(1, 1, SMALL_BATCH))
    used = [encoders[use.digest] for use in bundle.manifest.encoders if use.digest in encoders]
    texts = [item.manifest.text for item in (bundle, *used) if item.manifest.text]
    longest = max((text.max_tokens for text in texts), default=1)
    sizes = {"length": Range(1, longest, longest), "words": WORDS, "rows": ROWS}
    read = {size for item in bundle.manifest.inputs for size in item.shape}
    text = {name: size for name, size in sizes.items() if name in read}
    return tuple({"batch": batch, **text} for batch in batches)
