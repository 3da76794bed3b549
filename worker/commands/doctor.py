"""`adscore doctor`: what works here, what doesn't, and how to mend it. Each check is a function of its own."""

from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import click
import orjson

from worker.commands import edge, kafka
from worker.errors import FatalError
from worker.settings import Settings

MIN_OPEN_FILES = 1_024
NEVER_EVICTS = "noeviction"
MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `mend` says what to do; empty where nothing is to be done."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all checks.")
def doctor(as_json: bool) -> None:
    """GPU, engines, Kafka and topics, Redis, OCR, limits: what works, what doesn't, how to mend it."""
    settings = edge.settings()
    checks: list[Check] = []
    for examine in EXAMINATIONS:
        for check in examine(settings):
            checks.append(check)
            if not as_json:
                click.echo(f"{MARKS[check.status]}  {check.name:<10}  {check.detail}")
                if check.mend:
                    click.echo(f"{'':>18}→ {check.mend}")
    if as_json:
        click.echo(orjson.dumps({"checks": [asdict(check) for check in checks]}))
    if any(check.status == "fail" for check in checks):
        raise click.exceptions.Exit(edge.FAILED)


def _gpu(settings: Settings) -> Iterator[Check]:
    found = _output(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    if found:
        yield Check("gpu", "ok", "; ".join(found.splitlines()))
    elif settings.backend == "tensorrt":
        yield Check("gpu", "fail", "no NVIDIA GPU answers", "set ADSCORE_BACKEND to auto, or give this machine a GPU")
    else:
        yield Check("gpu", "ok", "none; the models run on the CPU")


def _output(command: list[str]) -> str:
    """What a program prints, or "" where there is none or it fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _engines(settings: Settings) -> Iterator[Check]:
    from worker.commands.models import problems

    try:
        found = problems(settings)
    except FatalError as error:
        yield Check("models", "fail", str(error), "point ADSCORE_MODELS__DIR at the folder of bundles")
        return
    bad = {label: problem for label, problem in found.items() if problem}
    for problem in bad.values():
        yield Check("models", "fail", problem, "copy the bundle again; `adscore models verify` checks them all")
    if not bad:
        yield Check("models", "ok", f"{', '.join(found)}: every file checked, every model loaded")


def _tensorrt(settings: Settings) -> Iterator[Check]:
    """Which backend will serve; on a GPU, whether each engine is there and good."""
    from admodels.contract.bundle import BundleError
    from admodels.runtime import cuda, engine_store, tensorrt_module
    from admodels.runtime.runner import EngineError
    from worker.commands import backends, building

    sm = cuda.compute_capability()
    if settings.backend in ("onnxruntime", "openvino") or (sm is None and settings.backend == "auto"):
        served = "onnxruntime" if settings.backend == "auto" else settings.backend
        yield Check("engines", "ok", f"{served} serves")
        return
    try:
        if sm is None:
            raise tensorrt_module.TensorRtUnavailableError(backends.NO_GPU)
        trt = tensorrt_module.load(settings.tensorrt.module)
        bundles, encoders = building.serving(settings)
    except tensorrt_module.TensorRtUnavailableError as error:
        status: Literal["warn", "fail"] = "fail" if settings.backend == "tensorrt" else "warn"
        yield Check("engines", status, "TensorRT can't serve here", str(error))
        return
    except (BundleError, FatalError):
        return  # told under `models`
    lacking = []
    for bundle in bundles:
        plan = backends.Plan.of(settings, trt, sm, bundle, encoders)
        try:
            if engine_store.load(plan.place, plan.key) is None:
                lacking.append(bundle.label)
        except EngineError as error:
            yield Check("engines", "warn", str(error), "`adscore models build` builds it again")
    if lacking:
        yield Check("engines", "warn", f"no engine yet: {', '.join(lacking)}", "`adscore models build` makes them")
    else:
        yield Check("engines", "ok", f"{trt.__name__} {tensorrt_module.version(trt)} on compute capability {sm}")


def _kafka(settings: Settings) -> Iterator[Check]:
    from worker.commands.topics import described, differences, policies

    wanted = policies(settings)
    try:
        with kafka.reached(settings.kafka), kafka.admin(settings.kafka) as client:
            found = described(client, [policy.name for policy in wanted])
    except FatalError as error:
        yield Check("kafka", "fail", str(error), "start the broker (`make up` for a local one) or mend the settings")
        return
    yield Check("kafka", "ok", f"{', '.join(settings.kafka.bootstrap_servers)} answers")
    wrong = differences(wanted, found)
    for difference in wrong:
        yield Check("topics", "fail", difference, "`adscore topics create` makes missing ones; others: kafka-configs")
    if not wrong:
        yield Check("topics", "ok", f"{', '.join(policy.name for policy in wanted)} are as they should be")


def _redis(settings: Settings) -> Iterator[Check]:
    from worker.commands import redis

    if not settings.redis.url.get_secret_value():
        mend = "set ADSCORE_REDIS__URL, so that workers share their scores and remember revisions"
        yield Check("redis", "warn", "not configured: the cache lives in the process and ends with it", mend)
        return
    try:
        with redis.connected(settings, "") as client:
            memory, server = client.info("memory"), client.info("server")
    except FatalError as error:
        mend = "start Redis or mend the setting; until then work is repeated, but nothing is lost"
        yield Check("redis", "fail", str(error), mend)
        return
    policy, limit = str(memory["maxmemory_policy"]), int(memory["maxmemory"])
    if limit and policy.startswith("allkeys"):
        detail = f"maxmemory-policy {policy} may evict the memory of revisions"
        yield Check("redis", "fail", detail, f"set maxmemory-policy to {NEVER_EVICTS}: scores expire by themselves")
    elif policy != NEVER_EVICTS:
        detail = f"maxmemory-policy {policy} would evict the memory of revisions when memory is full"
        yield Check("redis", "warn", detail, f"set maxmemory-policy to {NEVER_EVICTS}: scores expire by themselves")
    else:
        yield Check("redis", "ok", f"version {server['redis_version']} answers, policy {policy}")


def _ocr(settings: Settings) -> Iterator[Check]:
    from worker.intake.ocr import OcrPool

    try:
        pool = OcrPool(1, settings.ocr.engine, settings.ocr.languages)
    except FatalError as error:
        detail, _, mend = str(error).removeprefix("OCR: ").partition("; ")
        yield Check("ocr", "fail", detail, f"{mend}, or send ocr_text with every event")
        return
    yield Check("ocr", "ok", pool.identity)
    pool.close()


def _limits(_settings: Settings) -> Iterator[Check]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < MIN_OPEN_FILES:
        yield Check("limits", "warn", f"at most {files} open files", f"raise it: ulimit -n {MIN_OPEN_FILES}")
    try:
        with tempfile.TemporaryFile():
            pass
    except OSError as error:
        mend = "mount a writable /tmp: OCR needs it"
        yield Check("limits", "fail", f"{tempfile.gettempdir()}: {error.strerror}", mend)
        return
    cores = len(os.sched_getaffinity(0))
    yield Check("limits", "ok", f"{cores} cores, {files} open files, {tempfile.gettempdir()} is writable")


def _tracing(settings: Settings) -> Iterator[Check]:
    from urllib.parse import urlsplit

    endpoint = settings.tracing.endpoint
    if not endpoint:
        yield Check("tracing", "ok", "off")
        return
    if importlib.util.find_spec("opentelemetry") is None:
        mend = "pip install 'adscore[tracing]', or unset ADSCORE_TRACING__ENDPOINT"
        yield Check("tracing", "fail", "the OpenTelemetry libraries are not installed", mend)
        return
    url = urlsplit(endpoint)
    try:
        socket.create_connection((url.hostname, url.port or (443 if url.scheme == "https" else 80)), 5).close()
    except OSError as error:
        mend = "start the collector or mend ADSCORE_TRACING__ENDPOINT; until then traces are dropped, nothing else"
        yield Check("tracing", "warn", f"{endpoint}: {error.strerror or type(error).__name__}", mend)
    else:
        yield Check("tracing", "ok", f"{endpoint} answers")


EXAMINATIONS: tuple[Callable[[Settings], Iterator[Check]], ...] = (
    _gpu,
    _engines,
    _tensorrt,
    _kafka,
    _redis,
    _ocr,
    _tracing,
    _limits,
)
