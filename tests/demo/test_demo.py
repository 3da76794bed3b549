import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.faults.light_models import write_light_models

ROOT = Path(__file__).resolve().parents[2]


def demo(topics: Any, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    models = write_light_models(tmp_path / "models")
    env = topics.env | {"ADSCORE_MODELS__DIR": str(models), "PATH": os.environ["PATH"]}
    command = [sys.executable, "-m", "demo", "--out", str(tmp_path), *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=200)


def summary(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    parts = ("scored", "partial", "dead_letter", "superseded", "withdrawn", "missing")
    assert told["published"] == sum(told[part] for part in parts)
    return told


@pytest.mark.slow
def test_every_record_is_accounted_for(topics: Any, tmp_path: Path) -> None:
    done = demo(topics, tmp_path, "--count", "21")
    assert done.returncode == 0, done.stderr
    told = summary(tmp_path)
    assert (told["missing"], told["superseded"], told["withdrawn"], told["dead_letter"]) == (0, 1, 1, 19)
    assert told["from_cache"] >= 8
    assert len(told["dead_letter_codes"]) == 11
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="heat"') == told["scored"]
    assert page.count('data-status="dead_letter"') == 19
    assert "records/s" in done.stdout


@pytest.mark.slow
def test_with_a_folder_of_ones_own(topics: Any, tmp_path: Path) -> None:
    folder = tmp_path / "my ads"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (320, 50), (80 * number, 40, 40)).save(folder / f"ad {number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    done = demo(topics, tmp_path, "--input", str(folder))
    assert done.returncode == 0, done.stderr
    told = summary(tmp_path)
    assert (told["published"], told["scored"], told["dead_letter"]) == (4, 3, 1)
    assert (tmp_path / "report.html").read_text().count("Creative ad ") == 3
