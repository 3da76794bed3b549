"""The tables of docs/results/export.md, from what `benchmarks.exports` measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

MARKER = "<!-- What follows is written by `python -m benchmarks.exports tables`. -->"
MIB = 1024 * 1024
SERVED = ("mobilenetv2", "minilm", "small:dbafn", "small:fgmfn", "small:adfusion")
"""What a worker runs for one creative."""


def write_tables(told: dict[str, Any], page: Path) -> None:
    """Put the tables below the page's marker. Raises ValueError for a page without one."""
    text = page.read_text()
    if MARKER not in text:
        raise ValueError(f"{page} has no line {MARKER}")
    page.write_text(text.partition(MARKER)[0] + MARKER + "\n\n" + tables(told))


def tables(told: dict[str, Any]) -> str:
    """All of them, as Markdown."""
    sources = told["sources"]
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    parts = [f"Measured on {told['hardware']}; {versions}.\n"]
    parts += ["## Export and files", *_files(sources), "## Parity", *_parity(sources)]
    parts += ["## Engines", *_engines(sources)]
    if any("latency_ms" in figures for figures in sources.values()):
        parts += ["## Latency on the CPU", *_latency(sources)]
    return "\n".join(parts) + "\n"


def _files(sources: dict[str, Any]) -> Iterable[str]:
    yield "\nSeconds of tracing the fp32 graph, and MiB of the file per precision.\n"
    names = ("fp32", "fp16", "bf16", "int8", "fp8")
    yield from _head(["model", "parameters", "export, s", *(f"{name}, MiB" for name in names)])
    for source, figures in sources.items():
        sizes = [figures["precisions"].get(name, {}).get("bytes") for name in names]
        seconds = figures.get("export_s", {}).get("20")
        cells = ["–" if size is None else f"{size / MIB:.1f}" for size in sizes]
        yield _row([f"`{source}`", f"{figures['parameters'] / 1e6:.1f} M", _or(seconds, ".0f"), *cells])
    yield ""


def _parity(sources: dict[str, Any]) -> Iterable[str]:
    yield (
        "\nLargest and mean difference from torch's fp32 of the output that is nearest to its tolerance, over recorded "
        "creatives, random inputs and extremes; lowest rank correlation of a score, lowest top-1 agreement of class "
        "logits, lowest correlation of one creative's heatmap; `alone`: the largest move of a served number between a "
        "creative alone and in a batch.\n"
    )
    yield from _head(
        ["model", "precision", "runner", "output", "max", "mean", "allowed", "rank", "top-1", "heatmap", "alone", ""]
    )
    for source, figures in sources.items():
        for precision, made in figures["precisions"].items():
            verdict = made.get("parity", {})
            for report in verdict.get("backends", []):
                yield _row([f"`{source}`", precision, report["backend"], *_worst(report)])
            for backend, why in verdict.get("unavailable", {}).items():
                yield _row([f"`{source}`", precision, backend, "–", *["–"] * 7, f"not run: {why}"])
    yield ""


def _worst(report: dict[str, Any]) -> list[str]:
    outputs = report["outputs"]
    worst = max(outputs, key=lambda o: o["max_abs"] / o["tolerance"])
    lowest = {
        key: min((o[key] for o in outputs if o[key] is not None), default=None)
        for key in ("rank_correlation", "top1", "heatmap_correlation")
    }
    return [
        f"`{worst['output']}`", f"{worst['max_abs']:.1e}", f"{worst['mean_abs']:.1e}", f"{worst['tolerance']:.0e}",
        _or(lowest["rank_correlation"], ".4f"), _or(lowest["top1"], ".3f"), _or(lowest["heatmap_correlation"], ".5f"),
        f"{report['invariance']:.1e}", "" if report["ok"] else "**over**",
    ]  # fmt: skip


def _engines(sources: dict[str, Any]) -> Iterable[str]:
    yield "\nBuilt by tensorrt_rtx without a GPU, one profile (batch 1 to 32).\n"
    yield from _head(["model", "precision", "compute capability", "build, s", "engine, MiB", "layers"])
    for source, figures in sources.items():
        for precision, made in figures["precisions"].items():
            for sm, engine in made.get("engines", {}).items():
                if "error" in engine:
                    yield _row([f"`{source}`", precision, sm, engine["error"], "–", "–"])
                    continue
                size = f"{engine['bytes'] / MIB:.1f}"
                yield _row([f"`{source}`", precision, sm, f"{engine['seconds']:.0f}", size, f"{engine['layers']}"])
    yield ""


def _latency(sources: dict[str, Any]) -> Iterable[str]:
    yield (
        "\nTime of one fp32 call over ONNX Runtime's, best of the rounds; in brackets ONNX Runtime's own milliseconds "
        "per creative, for the scale alone. Below 1 is faster than ONNX Runtime.\n"
    )
    batches = ("1", "8", "32")
    yield from _head(["model", *(f"{name}, batch {rows}" for rows in batches for name in ("torch", "OpenVINO"))])
    for source, figures in sources.items():
        if "latency_ms" in figures:
            yield _row([f"`{source}`", *_ratios(figures["latency_ms"], batches)])
    if all("latency_ms" in sources.get(name, {}) for name in SERVED):
        together = {
            rows: {
                name: sum(sources[source]["latency_ms"][rows][name] for source in SERVED)
                for name in ("torch", "onnxruntime", "openvino")
            }
            for rows in batches
        }
        yield _row(["what a worker runs: both encoders, three heads", *_ratios(together, batches)])
    yield ""


def _ratios(told: dict[str, dict[str, float]], batches: Iterable[str]) -> Iterable[str]:
    for rows in batches:
        base = told[rows]["onnxruntime"]
        yield f"{told[rows]['torch'] / base:.2f} ({base / int(rows):.1f} ms)"
        yield f"{told[rows]['openvino'] / base:.2f}"


def _head(names: list[str]) -> Iterable[str]:
    yield _row(names)
    yield "|" + "---|" * len(names)


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _or(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
