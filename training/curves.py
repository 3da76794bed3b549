"""Training curves as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw(log: Path, picture: Path, monitor: str) -> None:
    """Draw the losses and the watched metric of a log.csv over the epochs."""
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    epochs = [float(row["epoch"]) for row in rows]
    for name in (name for name in rows[0] if name.startswith("loss/")):
        left.plot(epochs, [float(row[name] or "nan") for row in rows], label=name.removeprefix("loss/"))
    left.set(xlabel="epoch", title="training losses", yscale="symlog")
    left.legend(fontsize=7)
    right.plot(epochs, [float(row[f"tune/{monitor}"]) for row in rows])
    right.set(xlabel="epoch", title=f"{monitor} on the tuning rows")
    figure.savefig(picture, dpi=110)
