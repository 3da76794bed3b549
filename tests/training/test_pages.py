"""The pages of docs/results: their tables are what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from training import pages, pictures
from training.baselines import Baseline
from training.results import PAGES

OUTCOME = {
    "dataset": "posters",
    "model": "adfusion",
    "metric": "map",
    "seeds": 2,
    "resamples": 20,
    "rows": [10, 11],
    "variants": {
        "adfusion": {"value": 0.5, "low": 0.4, "high": 0.6, "metrics": {"auc": 0.75, "map": 0.5}, "parameters": 1234},
        "early": {"value": 0.45, "low": 0.3, "high": 0.5, "metrics": {"map": 0.45}, "parameters": 99},
    },
    "differences": {"early": {"value": 0.05, "low": -0.01, "high": 0.1}},
}
TABLE = """\
`map` on `posters`: 2 seeds, 21 validation rows in all.

| | map | 95 % | adfusion − this | 95 % | auc | parameters |
|---|---|---|---|---|---|---|
| adfusion | 0.5000 | [0.4000, 0.6000] | – | – | 0.7500 | 1,234 |
| early | 0.4500 | [0.3000, 0.5000] | +0.0500 | [-0.0100, +0.1000] | – | 99 |
"""


def test_a_table_has_a_row_per_variant():
    assert pages.markdown(OUTCOME, ["auc"]) == TABLE


def test_tables_are_filled_between_their_markers_alone(tmp_path):
    runs, folder = tmp_path / "runs", tmp_path / "pages"
    for name in ("one", "two"):
        (runs / name).mkdir(parents=True)
        (runs / name / "comparison.json").write_text(json.dumps(OUTCOME | {"dataset": name}))
    (runs / "one" / "comparison.ctr-auc.json").write_text(json.dumps(OUTCOME))
    assert pages.keep(runs, folder) == ["one.ctr-auc", "one", "two"]
    page = folder / "adfusion.md"
    page.write_text("Before\n<!-- table: one auc -->\nold\n<!-- end -->\nAfter\n<!-- table: two -->\n<!-- end -->\n")
    assert pages.fill(folder) == [page]
    text = page.read_text()
    assert text.startswith("Before\n<!-- table: one auc -->\n\n`map` on `one`: 2 seeds")
    assert "old" not in text
    assert "\n<!-- end -->\nAfter\n<!-- table: two -->\n\n`map` on `two`" in text
    assert pages.fill(folder) == []


def test_a_table_of_which_nothing_was_measured_says_so(tmp_path):
    (tmp_path / "page.md").write_text("<!-- table: nothing -->\n<!-- end -->\n")
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        pages.fill(tmp_path)


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_the_pages_in_the_repository_are_current(page: Path):
    text = page.read_text(encoding="utf-8")
    assert pages.filled(text, PAGES / pages.MEASURED) == text, "run python -m training.results pages"
    for line in text.splitlines():
        if "![" in line:
            target = line.split("](", 1)[1].split(")", 1)[0]
            assert (PAGES / target).stat().st_size < 100_000


def test_a_strip_shows_where_people_looked_and_every_heatmap(photo_root, tmp_path):
    predictors = [Baseline("centre-bias"), Baseline("spectral-residual")]
    told = pictures.strip(predictors, photo_root, ["a", "b"], tmp_path / "strip.jpg")
    assert told == (4, 2)
    with Image.open(tmp_path / "strip.jpg") as made:
        assert made.size == (4 * pictures.WIDTH, 2 * pictures.HEIGHT)
        centre = made.getpixel((int(2.5 * pictures.WIDTH), pictures.HEIGHT // 2))
        corner = made.getpixel((2 * pictures.WIDTH + 3, 3))
    assert centre[0] > corner[0] + 60
