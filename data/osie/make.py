"""Make this folder from the OSIE photographs as `../shared/data/saliency_osie` holds them.

python data/osie/make.py ../shared/data/saliency_osie

Photographs become WebP (quality 50, the encoder's slowest method), fixations lose the columns that nothing here reads
and their fractions of a pixel: 8 MB instead of 19, small enough to travel with every clone.
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from pathlib import Path

from PIL import Image

QUALITY = 50
HERE = Path(__file__).resolve().parent


def encode_photographs(source: Path, target: Path) -> int:
    """Re-encode every JPEG of `source`; returns how many there were."""
    target.mkdir(exist_ok=True)
    photos = sorted(source.glob("*.jpg"))
    for photo in photos:
        with Image.open(photo) as image:
            image.convert("RGB").save(target / f"{photo.stem}.webp", "WEBP", quality=QUALITY, method=6)
    return len(photos)


def compact_fixations(source: Path, target: Path) -> int:
    """Write `image,subject,x,y` with whole pixels of the 400×300 photograph; returns the number of fixations."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("image", "subject", "x", "y"))
    rows = 0
    with gzip.open(source, "rt", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            name = f"{Path(row['image']).stem}.webp"
            writer.writerow((name, row["subject"], round(float(row["x"])), round(float(row["y"]))))
            rows += 1
    # mtime=0: the same rows give the same bytes.
    target.write_bytes(gzip.compress(out.getvalue().encode(), compresslevel=9, mtime=0))
    return rows


def main() -> None:
    """Run on the folder that the command line names."""
    if len(sys.argv) != 2:
        raise SystemExit(f"usage: {Path(__file__).name} FOLDER (with images/, fixations.csv.gz, validation.txt)")
    source = Path(sys.argv[1])
    photos = encode_photographs(source / "images", HERE / "images")
    fixations = compact_fixations(source / "fixations.csv.gz", HERE / "fixations.csv.gz")
    names = (source / "validation.txt").read_text(encoding="utf-8").split()
    (HERE / "validation.txt").write_text("".join(f"{Path(name).stem}.webp\n" for name in names), encoding="utf-8")
    print(f"{photos} photographs, {fixations} fixations, {len(names)} for validation")


if __name__ == "__main__":
    main()
