"""The pages of docs/results: tables between markers, filled from what `compare` and `ablate` wrote.

    <!-- table: tweets-fgmfn accuracy log_loss -->    → a row per variant, those metrics' means beside the compared one
    <!-- end -->

docs/results/measured/<name>.json is a comparison.json as it was written. Nobody types a figure into a table.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.compare import OUTCOME

MEASURED = "measured"
_TABLE = re.compile(r"(<!-- table: (?P<name>\S+)(?P<metrics>[^>]*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def keep(runs: Path, pages: Path) -> list[str]:
    """Copy every comparison under `runs` to the pages' measured/; returns their names."""
    start = OUTCOME.removesuffix(".json")
    found = {f"{f.parent.name}{f.stem.removeprefix(start)}": f for f in sorted(runs.glob(f"*/{start}*.json"))}
    (pages / MEASURED).mkdir(parents=True, exist_ok=True)
    for name, outcome in found.items():
        shutil.copyfile(outcome, pages / MEASURED / f"{name}.json")
    return list(found)


def fill(pages: Path) -> list[Path]:
    """Write every page's tables anew; returns the pages that changed. Raises FileNotFoundError for a table of which
    nothing was measured."""
    changed = []
    for page in sorted(pages.glob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = filled(before, pages / MEASURED)
        if after != before:
            page.write_text(after, encoding="utf-8")
            changed.append(page)
    return changed


def filled(text: str, measured: Path) -> str:
    """A page's text with its tables as they should be."""

    def table(found: re.Match[str]) -> str:
        outcome = json.loads((measured / f"{found['name']}.json").read_text(encoding="utf-8"))
        return f"{found[1]}\n{markdown(outcome, found['metrics'].split())}\n{found[4]}"

    return _TABLE.sub(table, text)


def markdown(outcome: Mapping[str, Any], more: Sequence[str] = ()) -> str:
    """One row per variant: the compared metric with its interval, the first one's gain over it, the seeds' means of
    `more`, its size."""
    rows, metric, model = sum(outcome["rows"]), outcome["metric"], outcome["model"]
    seeds = "one seed" if outcome["seeds"] == 1 else f"{outcome['seeds']} seeds"
    heads = ["", metric, "95 %", f"{model} − this", "95 %", *more, "parameters"]
    lines = [
        f"`{metric}` on `{outcome['dataset']}`: {seeds}, {rows} validation rows in all.",
        "",
        f"| {' | '.join(heads)} |".replace("|  |", "| |"),
        "|---" * len(heads) + "|",
    ]
    for name, found in outcome["variants"].items():
        gap = outcome["differences"].get(name)
        cells = [name, _figure(found["value"]), f"[{_figure(found['low'])}, {_figure(found['high'])}]"]
        cells += [f"{gap['value']:+.4f}", f"[{gap['low']:+.4f}, {gap['high']:+.4f}]"] if gap else ["–", "–"]
        cells += [_figure(found["metrics"][m]) if m in found["metrics"] else "–" for m in more]
        cells.append(f"{found['parameters']:,}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figure(value: float) -> str:
    return f"{value:.4f}"
