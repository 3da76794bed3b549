"""A small data/osie: eight photographs, two of them for validation, fixations on each."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    (root / "images").mkdir()
    rng = np.random.default_rng(3)
    lines = ["image,subject,x,y"]
    for number in range(12):
        colours = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        photo = Image.fromarray(colours).resize((400, 300), Image.Resampling.BICUBIC)
        photo.save(root / "images" / f"p{number:02d}.webp", quality=70)
        centre = rng.uniform((100, 80), (300, 220))
        for x, y in rng.normal(centre, 25, (20, 2)):
            lines.append(f"p{number:02d}.webp,0,{x:.0f},{y:.0f}")
    (root / "fixations.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (root / "validation.txt").write_text("p02.webp\np05.webp\n")
    return root
