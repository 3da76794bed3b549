"""A dated result file as a picture: where the time goes, ages by arrival rate, peers, and what growth costs.

    python -m benchmarks.plots benchmarks/results/2026-11-22-xeon-2-cores.json docs/performance.png

What the file lacks is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

OURS, OTHERS = "#1f5fa8", "#b0b7bf"
PEERS = {
    "adscore": "adscore",
    "fast": "fastest loop",
    "quix": "Quix Streams",
    "naive": "naive",
    "eager": "naive, torch",
}


def busy(axes: Axes, told: Mapping[str, Any]) -> None:
    """Share of their time that each stage's workers are at work, saturated: text given, and read by OCR."""
    both = {"text given": "throughput", "text read": "throughput_read"}
    shown = {label: told[name]["result"]["rounds"][-1]["stages"] for label, name in both.items() if name in told}
    stages = [name for name in ("fetch", "decode", "ocr", "infer") if any(name in found for found in shown.values())]
    height = 0.8 / len(shown)
    for place, (label, found) in enumerate(shown.items()):
        values = [100 * (found.get(name, {}).get("busy") or 0.0) for name in stages]
        rows = [row + place * height for row in range(len(stages))]
        bars = axes.barh(rows, values, height, label=label, color=(OURS, OTHERS)[place])
        axes.bar_label(bars, fmt="%.0f", fontsize=7, padding=2)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(stages))], stages)
    axes.invert_yaxis()
    axes.set(title="Where a saturated worker works", xlabel="% of the stage's time", xlim=(0, 112))
    axes.legend(fontsize=7)


def ages(axes: Axes, told: Mapping[str, Any]) -> None:
    """Event age against arrival rate."""
    found = told["latency"]["result"]
    rates = sorted((rate for rate in found["rates"] if not rate["overloaded"]), key=lambda rate: rate["offered"])
    for name, style in (("p50", ":"), ("p95", "--"), ("p99", "-")):
        axes.plot([rate["offered"] for rate in rates], [rate[name] for rate in rates], style, color=OURS, label=name)
    axes.axhline(found["p99_limit_ms"], color=OTHERS, linewidth=1)
    axes.axvline(found["saturated"], color=OTHERS, linewidth=1)
    axes.set(title="Age of events, Poisson arrivals", xlabel="creatives/s (line: saturated)", ylabel="ms", yscale="log")
    axes.legend(fontsize=7)


def peers(axes: Axes, told: Mapping[str, Any]) -> None:
    """Rate of the worker and of what one would write instead."""
    rounds = told["peers_given"]["result"]["rounds"]
    names = [name for name in PEERS if name in rounds[0]]
    values = [median(one[name]["rate"] for one in rounds) for name in names]
    bars = axes.barh(
        [PEERS[name] for name in names], values, color=[OURS if name == "adscore" else OTHERS for name in names]
    )
    axes.bar_label(bars, fmt="%.1f", fontsize=7, padding=2)
    axes.invert_yaxis()
    axes.set(title="Beside others, text given", xlabel="creatives/s, median of rounds", xlim=(0, 1.15 * max(values)))


def growth(axes: Axes, told: Mapping[str, Any]) -> None:
    """Memory and CPU time of a creative against the number of creatives so far."""
    cost = axes.twinx()
    for name, label, style in (("growth_new", "new content", "-"), ("growth_known", "known to the cache", "--")):
        if name in told:
            points = told[name]["result"]["points"]
            counts = [point["creatives"] for point in points]
            axes.plot(counts, [point["resident_mib"] for point in points], style, color=OURS, label=label)
            cost.plot(counts, [point["cpu_ms"] for point in points], style, color=OTHERS)
    axes.set(title="As creatives go by", xlabel="creatives", ylabel="MiB", xscale="log", ylim=(0, None))
    axes.yaxis.label.set_color(OURS)
    cost.set(ylabel="CPU ms of a creative", yscale="log", ylim=(0.1, 1000))
    axes.legend(fontsize=7, loc="lower left")


PANELS: dict[str, Callable[[Axes, Mapping[str, Any]], None]] = {
    "throughput": busy,
    "latency": ages,
    "peers_given": peers,
    "growth_known": growth,
}


def draw(told: Mapping[str, Any], picture: Path) -> None:
    """A panel for each kind of result that is there. Raises ValueError where none is."""
    panels = [panel for name, panel in PANELS.items() if name in told]
    if not panels:
        raise ValueError(
            f"nothing to draw: none of {', '.join(PANELS)} is there; python -m benchmarks.record makes them"
        )
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(9.5, 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = list(figure.subplots(rows, 2, squeeze=False).flat)
    for panel, axes in zip(panels, grid, strict=False):
        axes.spines[["top", "right"]].set_visible(False)
        panel(axes, told)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    machine = told["machine"]
    figure.suptitle(f"{machine['cpu']}, {machine['cores']} cores, {told['date']}", fontsize=9)
    figure.savefig(picture, dpi=100)


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    draw(json.loads(options.results.read_text(encoding="utf-8")), options.picture)


if __name__ == "__main__":
    main()
