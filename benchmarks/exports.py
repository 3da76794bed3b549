"""What exporting gives: times, sizes, parity per backend and precision, engines, and latencies on this CPU.

    .venv/bin/python -m benchmarks.exports run benchmarks/results/export.json
    .venv/bin/python -m benchmarks.exports tables benchmarks/results/export.json docs/results/export.md

`run` takes sources by name (default: all of them at the small size, the two shipped encoders, then the papers' sizes)
and adds what it measures to the file, source by source, so that it can be stopped and taken up again. `--parts` chooses
what is measured. `tables` writes the page's tables, below its marker.

Engines are built by tensorrt_rtx, which needs no GPU. Latencies are the best of several rounds, in which the backends
take turns, so that what else runs on the machine weighs on all alike; they are told as ratios.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from admodels.contract.bundle import MODEL, load_bundle
from admodels.contract.spec import TASKS
from admodels.runtime.runner import EngineError, Runner
from admodels.runtime.tensorrt_module import TensorRtUnavailableError
from benchmarks.export_tables import write_tables
from export.cases import cases
from export.encoders import ENCODERS, as_function, encoder_tolerances
from export.engines import engine_of
from export.heads import prepare, trace
from export.precision import OPSETS, PRECISIONS, Precision, to_precision, tolerance
from export.runners import RunnerUnavailableError, runner
from export.untrained import untrained
from export.verify import Arrays, Case, ParityError, check_parity

MODELS = Path(__file__).resolve().parent.parent / "models"
SOURCES = (*(f"small:{name}" for name in TASKS), *ENCODERS, *(f"paper:{name}" for name in TASKS))
PARTS = ("parity", "engines", "latency")
BATCHES = (1, 8, 32)
BACKENDS = ("onnxruntime", "openvino")
TARGETS: dict[Precision, tuple[str, ...]] = {"fp16": ("8.0", "8.6"), "int8": ("8.6",), "fp8": ("8.9",)}
LONGEST_S = 20.0
"""Of all backends' rounds at one batch size; there are two rounds in any case, and twelve at most."""
PACKAGES = ("torch", "onnx", "onnxruntime", "openvino", "tensorrt-rtx", "timm", "transformers")


def measure(source: str, parts: list[str], precisions: list[Precision]) -> dict[str, Any]:
    """The figures of one source."""
    if source in ENCODERS:
        return _encoder(source)
    began = time.monotonic()
    checkpoint = untrained(source, MODELS)
    assert checkpoint is not None
    ready = prepare(checkpoint, MODELS)
    told: dict[str, Any] = {"prepare_s": _since(began), "parameters": _parameters(ready.module)}
    recorded, reference = cases(ready.feeds), as_function(ready.module, ready.module.outputs)
    traced: dict[int, onnx.ModelProto] = {}
    for precision in precisions:
        opset = OPSETS[precision]
        if opset not in traced:
            traced.clear()  # one graph at a time: the large ones weigh hundreds of MB
            began = time.monotonic()
            traced[opset] = trace(ready, opset)
            told.setdefault("export_s", {})[str(opset)] = _since(began)
        began = time.monotonic()
        graph = onnx.ModelProto()
        graph.CopyFrom(traced[opset])
        to_precision(graph, precision, [ready.feeds])
        model = graph.SerializeToString(deterministic=True)
        del graph
        figures: dict[str, Any] = {"convert_s": _since(began), "bytes": len(model)}
        if "parity" in parts:
            allowed = {name: tolerance(name, precision) for name in ready.module.outputs}
            figures["parity"] = _parity(model, reference, recorded, allowed, narrow=precision != "fp32")
        if "engines" in parts and precision in TARGETS:
            figures["engines"] = {sm: _engine(model, sm) for sm in TARGETS[precision]}
        if "latency" in parts and precision == "fp32":
            told["latency_ms"] = _latency(model, reference, ready.feeds)
        told.setdefault("precisions", {})[precision] = figures
        gc.collect()
    return told


def _encoder(name: str) -> dict[str, Any]:
    """The shipped bundle of a shared encoder."""
    source, bundle = ENCODERS[name](), load_bundle(MODELS / name / "1")
    model, reference = bundle.files[MODEL], as_function(source.reference, source.outputs)
    parity = _parity(model, reference, source.cases, encoder_tolerances(source, "fp32"))
    feeds = source.cases[0].feeds
    figures = {"bytes": len(model), "parity": parity}
    return {
        "parameters": _parameters(source.reference),
        "precisions": {"fp32": figures},
        "latency_ms": _latency(model, reference, feeds),
    }


def _parity(
    model: bytes,
    reference: Callable[[Arrays], Arrays],
    recorded: tuple[Case, ...],
    allowed: dict[str, float],
    *,
    narrow: bool = False,
) -> dict[str, Any]:
    try:
        return check_parity(model, reference, recorded, allowed, backends=BACKENDS, narrow=narrow).as_json()
    except ParityError as error:
        return error.verdict.as_json()


def _engine(model: bytes, sm: str) -> dict[str, Any]:
    began = time.monotonic()
    try:
        engine = engine_of(model, sm=sm, most=32, module="tensorrt_rtx")
    except (EngineError, TensorRtUnavailableError) as error:
        return {"error": str(error)}
    return {"seconds": _since(began), "bytes": len(engine.plan), "layers": engine.layers}


def _latency(
    model: bytes, reference: Callable[[Arrays], Arrays], feeds: dict[str, Any] | Arrays
) -> dict[str, dict[str, float]]:
    """Milliseconds by batch and backend."""
    torch.set_num_threads(os.cpu_count() or 1)
    runs: dict[str, Callable[[Arrays], Any]] = {"torch": reference}
    for backend in BACKENDS:
        try:
            made: Runner = runner(backend, model)
        except RunnerUnavailableError as error:
            sys.stderr.write(f"{backend}: {error}\n")
            continue
        runs[backend] = made.infer
    told: dict[str, dict[str, float]] = {}
    for rows in BATCHES:
        batch = {
            name: np.ascontiguousarray(np.resize(array, (rows, *array.shape[1:]))) for name, array in feeds.items()
        }
        best = {name: float("inf") for name in runs}
        began = time.monotonic()
        for number in range(12):
            if number > 1 and time.monotonic() - began > LONGEST_S:
                break
            for name, run in runs.items():
                started = time.perf_counter()
                run(batch)
                best[name] = min(best[name], (time.perf_counter() - started) * 1000)
        told[str(rows)] = {name: round(value, 3) for name, value in best.items()}
    return told


def _parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _since(began: float) -> float:
    return round(time.monotonic() - began, 2)


def run(file: Path, sources: list[str], parts: list[str], precisions: list[Precision]) -> None:
    """Measure and add to the file."""
    known = json.loads(file.read_text()) if file.exists() else {"sources": {}}
    known["hardware"] = f"{os.cpu_count()} cores, {platform.machine()}, no GPU"
    known["versions"] = {name: importlib.metadata.version(name) for name in PACKAGES}
    for source in sources:
        sys.stderr.write(f"{source}\n")
        made = measure(source, parts, precisions)
        old = known["sources"].setdefault(source, {})
        for name, figures in made.pop("precisions", {}).items():
            old.setdefault("precisions", {}).setdefault(name, {}).update(figures)
        old.setdefault("export_s", {}).update(made.pop("export_s", {}))
        old.update(made)
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(json.dumps(known, indent=1) + "\n")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("file", type=Path)
    running.add_argument("sources", nargs="*", choices=[*SOURCES, []], default=[])
    running.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    running.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    showing = verbs.add_parser("tables")
    showing.add_argument("file", type=Path)
    showing.add_argument("page", type=Path)
    given = parser.parse_args()
    if given.verb == "run":
        run(given.file, given.sources or list(SOURCES), given.parts, given.precisions)
    else:
        write_tables(json.loads(given.file.read_text()), given.page)


if __name__ == "__main__":
    main()
