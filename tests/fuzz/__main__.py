"""`python -m tests.fuzz --minutes N`: drive every target by libFuzzer (through atheris), each a share of the time.

The corpus grows in `.cache/fuzz/<target>`. What fails is printed, kept as `.cache/fuzz/<target>.found/*`, and makes the
exit status 1: mend the defect, then keep the file under `tests/fuzz/found/<target>/` as a test.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "fuzz"
DATA = ROOT.parent / "shared" / "data"
MAX_INPUT_BYTES = 16_384
INPUT_SECONDS = 2
MEMORY_MB = 2_048
NAMES = ("events", "images", "manifests")


def main() -> int:
    """Run each target in a process of its own; 1 if one found something."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--target", choices=NAMES, action="append")
    parser.add_argument("--inside", choices=NAMES, help=argparse.SUPPRESS)
    arguments, _ = parser.parse_known_args()  # what is left is libFuzzer's
    if arguments.inside:
        _inside(arguments.inside)
    names = arguments.target or NAMES
    seconds = max(1, round(arguments.minutes * 60 / len(names)))
    statuses = {name: _drive(name, seconds) for name in names}
    for name, status in statuses.items():
        print(f"fuzz: {name}: {'nothing found' if status == 0 else f'FAILED (status {status})'}", file=sys.stderr)
    return int(any(statuses.values()))


def _drive(name: str, seconds: int) -> int:
    from tests.fuzz.targets import found, seeds

    corpus, kept = CACHE / name, CACHE / f"{name}.found"
    for folder in (corpus, kept):
        folder.mkdir(parents=True, exist_ok=True)
    for data in [*seeds(name, DATA), *(path.read_bytes() for path in found(name))]:
        if len(data) <= MAX_INPUT_BYTES:
            (corpus / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data)
    dictionary = CACHE / f"{name}.dict"
    dictionary.write_text("".join(f'"{word}"\n' for word in _words(name)))
    command = [
        *(sys.executable, "-m", "tests.fuzz", "--inside", name),
        *(str(corpus), f"-max_total_time={seconds}", f"-max_len={MAX_INPUT_BYTES}", f"-timeout={INPUT_SECONDS}"),
        *(f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={kept}/", f"-dict={dictionary}", "-print_final_stats=1"),
    ]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False).returncode


def _words(name: str) -> list[str]:
    """What the format is made of, in libFuzzer's escapes."""
    if name == "images":
        parts = [
            b"\xff\xda",
            b"\xff\xd8\xff",
            b"\xff\xc2",
            b"IHDR",
            b"IDAT",
            b"acTL",
            b"VP8X",
            b"VP8L",
            b"ANMF",
            b"ispe",
        ]
        parts += [b"ftypavif", b"Exif\0\0", b"iCCP", b"NETSCAPE2.0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"]
        return ["".join(f"\\x{byte:02x}" for byte in part) for part in parts]
    from admodels.contract.manifest import Manifest
    from worker.intake.event_fields import EVENT

    def names(kind: object) -> set[str]:
        if isinstance(kind, tuple):
            return names(kind[0])
        return set(kind) | {name for of in kind.values() for name in names(of)} if isinstance(kind, dict) else set()

    words = names(EVENT) if name == "events" else set(Manifest.model_fields)
    words |= {"specversion", "data", "data_base64", "type", "NaN", "1e999", "null", "true", "platt", "\\\\ud800"}
    return sorted(words)


def _inside(name: str) -> None:
    """Become libFuzzer; never returns."""
    import atheris

    with atheris.instrument_imports(include=["worker", "admodels", "PIL", "json"]):
        from PIL import GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401  # Pillow is lazy

        from tests.fuzz import targets
        from worker.intake import image_guard
    image_guard.configure()
    flags = [argument for argument in sys.argv if argument not in ("--inside", name)]
    atheris.Setup(flags, targets.TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
