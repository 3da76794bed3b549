"""`python -m benchmarks.ocr_recall`: how many words of ads each OCR engine finds, by what the picture is made of.

Creatives with known words are generated from photographs that no model was trained on (the same for a seed); each
engine reads each, prepared in each way. Words count without case and punctuation, as often as they stand there. CPU
time is that of reading, the started program's too, without making the picture.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import resource
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from admodels.contract.ocr import MAX_SIDE, Word, grey_for_ocr, lines_of_words, text_of_lines
from training.creatives.copywriting import write
from training.synthetic import GeneratedCreative, creative
from worker.intake.ocr import ENGINES
from worker.intake.ocr_child import Reader
from worker.intake.ocr_rapidocr import DETECT_SIDE

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "data" / "osie"
SECONDS = 60.0
Grey = NDArray[np.uint8]
Words = Counter[str]
_WORD = re.compile(r"[^\W_]+(?:[.,'’][^\W_]+)*")


@dataclass
class Row:
    """One engine on one kind of picture: shares of words, CPU seconds of a creative."""

    engine: str
    picture: str
    recall: float = 0.0
    precision: float = 0.0
    cta_recall: float = 0.0
    cpu_seconds: float = 0.0


def grey(scale: float) -> Callable[[Image.Image], Grey]:
    """Grey at `scale`, the long side at most MAX_SIDE; what the worker reads at the contract's own scale."""

    def make(image: Image.Image) -> Grey:
        factor = min(scale, MAX_SIDE / max(image.size))
        return grey_for_ocr(image, (max(1, round(image.width * factor)), max(1, round(image.height * factor))))

    return make


def contrast(image: Image.Image) -> Grey:
    """Grey at 2×, stretched over the whole range but for 1 % at each end."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(grey(2)(image)), cutoff=1))


def dark_on_light(image: Image.Image) -> Grey:
    """Grey at 2×, inverted where more than half of it is dark."""
    made = grey(2)(image)
    return 255 - made if np.median(made) < 128 else made


def local(image: Image.Image) -> Grey:
    """Grey at 2×, less its surroundings."""
    made = Image.fromarray(grey(2)(image))
    around = made.filter(ImageFilter.BoxBlur(40))
    return np.clip(128 + np.asarray(made, np.int16) - np.asarray(around, np.int16), 0, 255).astype(np.uint8)


PICTURES: dict[str, Callable[[Image.Image], Grey]] = {
    "grey 1×": grey(1),
    "grey 1.5×": grey(1.5),
    "grey 2×": grey(2),
    "grey 2×, contrast stretched": contrast,
    "grey 2×, dark text": dark_on_light,
    "grey 2×, local contrast": local,
}


def known(made: GeneratedCreative, index: int, seed: int) -> tuple[Words, Words]:
    """The words drawn on a creative, and those of its call to action."""
    drawn = {region.label for region in made.regions}
    fields = {name: text for name, text in made.copy.fields().items() if name in drawn}
    # The badge is no part of the copy: it is written again, as the creative's own seed has it.
    badge = write(np.random.default_rng(np.random.SeedSequence([seed, index, 0]))).badge if "price" in drawn else ""
    return counted(" ".join([*fields.values(), badge])), counted(fields.get("cta", ""))


def counted(text: str) -> Words:
    """Words without case and punctuation."""
    return Counter(_WORD.findall(text.lower()))


def generated(count: int, seed: int) -> list[tuple[Image.Image, Words, Words]]:
    """Pictures with the words on them."""
    names = (PHOTOGRAPHS / "validation.txt").read_text().split()
    photographs = [PHOTOGRAPHS / "images" / f"{Path(name).stem}.webp" for name in names]
    made = [creative(photographs, index, seed) for index in range(count)]
    return [(one.image(), *known(one, index, seed)) for index, one in enumerate(made)]


def measure(
    reader: Reader, make: Callable[[Image.Image], Grey], creatives: Sequence[tuple[Image.Image, Words, Words]], row: Row
) -> Row:
    """Fill the row."""
    right = there = read = calls = called = 0
    for image, words, cta in creatives:
        picture = make(image)
        began = _cpu()
        found = reader.read(picture)
        row.cpu_seconds += (_cpu() - began) / len(creatives)
        seen = counted(text_of_lines(lines_of_words(found)))
        right += (words & seen).total()
        there, read = there + words.total(), read + seen.total()
        calls, called = calls + (cta & seen).total(), called + cta.total()
    row.recall, row.precision, row.cta_recall = right / there, right / max(1, read), calls / max(1, called)
    return row


class Reference:
    """The program that comes with rapidocr, on one thread."""

    identity = "rapidocr's own"

    def __init__(self) -> None:
        from rapidocr import RapidOCR

        logging.disable(logging.WARNING)
        threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
        self._read = RapidOCR(params=threads)

    def read(self, picture: Grey) -> list[Word]:
        """Whole lines as words; what is made of them here is text alone."""
        found: Any = self._read(np.repeat(picture[:, :, None], 3, axis=2))
        lines = zip(found.txts or (), found.scores or (), strict=True)
        return [[text, 100 * score, 0, number, 1, 1, number] for number, (text, score) in enumerate(lines)]


def readers(engines: Sequence[str], own: Path, *, reference: bool) -> Iterator[tuple[str, str, Reader, Sequence[str]]]:
    """Engine, what is said beside it, its reader, and the pictures that it is given."""
    if "pytesseract" in engines:
        from worker.intake import ocr_pytesseract

        yield "pytesseract", "", ocr_pytesseract.Reader("eng", SECONDS, own), list(PICTURES)
    if "tesserocr" in engines:
        from worker.intake import ocr_tesserocr

        yield "tesserocr", "", ocr_tesserocr.Reader("eng", SECONDS), list(PICTURES)
    if "rapidocr" in engines:
        from worker.intake import ocr_rapidocr

        for side in (640, 960, 1280, MAX_SIDE):
            pictures = list(PICTURES) if side == DETECT_SIDE else ["grey 2×"]
            yield "rapidocr", f", lines at {side}", ocr_rapidocr.Reader(SECONDS, side), pictures
    if reference:
        yield "rapidocr", ", its own program", Reference(), ["grey 2×"]


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="creatives (default: 60)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--pictures", default="", metavar="TEXT", help="only those whose name holds it, like 2×")
    parser.add_argument("--reference", action="store_true", help="rapidocr's own program too, for comparison")
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    os.environ["OMP_THREAD_LIMIT"] = "1"
    creatives = generated(wanted.count, wanted.seed)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="adscore-recall-") as own:
        for engine, more, reader, pictures in readers(wanted.engines, Path(own), reference=wanted.reference):
            for picture in (name for name in pictures if wanted.pictures in name + more):
                rows.append(measure(reader, PICTURES[picture], creatives, Row(engine, picture + more)))
                if not wanted.json:
                    print(_line(rows[-1], first=len(rows) == 1), flush=True)
    if wanted.json:
        print(orjson.dumps({"count": wanted.count, "seed": wanted.seed, "rows": list(map(asdict, rows))}).decode())


def _line(row: Row, *, first: bool) -> str:
    head = (
        "| engine | picture | recall | precision | recall of calls | CPU s |\n|---|---|---|---|---|---|\n"
        if first
        else ""
    )
    numbers = f"{row.recall:.3f} | {row.precision:.3f} | {row.cta_recall:.3f} | {row.cpu_seconds:.2f}"
    return f"{head}| {row.engine} | {row.picture} | {numbers} |"


if __name__ == "__main__":
    main()
