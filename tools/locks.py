"""`make locks`: what the images install, pinned with hashes. `make sbom`: the worker's part of it as CycloneDX."""

from __future__ import annotations

import sys

from tools.install import ROOT, run, uv

UNUSED = ("colorlog", "omegaconf", "opencv-python-headless", "pyclipper", "shapely", "six")

# Lock → what it is made of: pyproject.toml with extras, or requirements.
LOCKS: dict[str, tuple[str, ...]] = {
    "serve": (
        *(f"--extra={name}" for name in ("tracing", "gpu", "signing", "tesserocr", "rapidocr")),
        # What rapidocr's own code needs: the worker imports none of it, it takes the models from the wheel.
        *(f"--no-emit-package={name}" for name in UNUSED),
        "pyproject.toml",
    ),
    "training": ("--extra", "export", "pyproject.toml"),
    "build": ("setuptools>=77", "uv>=0.9"),
    "sbom": ("cyclonedx-bom>=7",),
}
SERVED = "locks/serve.txt"
COMPILE = ("pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-header", "--no-annotate")


def write_locks() -> int:
    """Resolve every lock anew; the first failing status."""
    for name, sources in LOCKS.items():
        wanted = ROOT / ".cache" / f"{name}.in"
        if "pyproject.toml" not in sources:
            wanted.write_text("\n".join(sources) + "\n")
            sources = (str(wanted),)
        output = str(ROOT / "locks" / f"{name}.txt")
        status = run([*uv(), *COMPILE, "--upgrade", "--python-version", "3.11", *sources, "--output-file", output])
        if status != 0:
            return status
    return 0


def write_sbom() -> int:
    """dist/adscore.cdx.json from the lock, by cyclonedx-bom as locks/sbom.txt pins it."""
    (ROOT / "dist").mkdir(exist_ok=True)
    output = str(ROOT / "dist" / "adscore.cdx.json")
    tool = ROOT / ".cache" / "sbom"
    python = str(tool / "bin" / "python")
    commands = [
        [*uv(), "venv", "--quiet", "--clear", str(tool)],
        [*uv(), "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", "locks/sbom.txt"],
        [
            str(tool / "bin" / "cyclonedx-py"),
            "requirements",
            "--output-reproducible",
            *("--output-file", output),
            SERVED,
        ],
    ]
    return next((status for command in commands if (status := run(command)) != 0), 0)


def main() -> int:
    """`locks.py` or `locks.py sbom`."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    return write_sbom() if sys.argv[1:] == ["sbom"] else write_locks()


if __name__ == "__main__":
    sys.exit(main())
