"""`adscore bench` for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def throughput(told: Mapping[str, Any]) -> str:
    """Rounds, their medians, and the stages of the last one."""
    lines = [_line("round", "worker/s", "engine/s", "ratio", "outcomes")]
    for number, entry in enumerate(told["rounds"], start=1):
        counts = ", ".join(f"{count} {name}" for name, count in entry["outcomes"].items())
        counts += f" ({entry['from_cache']} from the cache)" if told["cached"] else ""
        lines.append(_line(str(number), *_rates(entry), counts))
    lines += [_line("median", *_rates(told["median"])), "", _line("stage", "workers", "busy", "mean ms", "count")]
    for name, stage in told["rounds"][-1]["stages"].items():
        busy = "–" if stage.busy is None else f"{stage.busy:.0%}"
        workers = "–" if stage.workers is None else str(stage.workers)
        lines.append(_line(name, workers, busy, f"{stage.mean_ms:.1f}", str(stage.count)))
    return "\n".join([*lines, "", *_footer(told), f"bottleneck: {told['bottleneck']}"])


def _rates(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    engine, ratio = entry.get("engine"), entry.get("ratio")
    return (
        f"{entry['worker']:.1f}",
        "–" if engine is None else f"{engine:.1f}",
        "–" if ratio is None else f"{ratio:.2f}",
    )


def latency(told: Mapping[str, Any]) -> str:
    """A line per rate, and the best."""
    lines = [_line("rate/s", "arrived/s", "counted", "p50 ms", "p95 ms", "p99 ms", "max ms")]
    for ages in told["rates"]:
        values = [ages[name] for name in ("rate", "offered", "creatives", "p50", "p95", "p99", "max")]
        note = "overloaded, given up" if ages["overloaded"] else ""
        lines.append(_line(*(f"{value:g}" for value in values), note))
    best = told["best_rate"]
    held = "at none of these rates" if best is None else f"up to {best:g} creatives per second"
    return "\n".join([*lines, "", *_footer(told), f"p99 of {told['p99_limit_ms']:g} ms or less: {held}"])


def _footer(told: Mapping[str, Any]) -> list[str]:
    creatives, machine = told["creatives"], told["machine"]
    return [
        f"{creatives['distinct']} creatives of {creatives['mean_event_bytes'] / 1024:.0f} KiB on average, "
        f"{creatives['without_ocr']} of them without OCR; {told['where']}, batches of "
        f"{told['settings']['batch.max_size']}",
        f"{machine['cores']} cores, {machine['cpu']}, load {machine['load'][0]:g} at the end",
    ]


def _line(*cells: str) -> str:
    return "  ".join(f"{cell:<10}" for cell in cells).rstrip()
