"""Install what this checkout needs, once: `install.py serve` for serving (no torch), `install.py all` for everything.

System packages come by apt where root or sudo without a password is at hand; otherwise the command to run is printed.
Python packages go into `.venv`; a stamp there makes the next call instant. Everything is said on standard error.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "adscore-setup.json"
OLDEST = (3, 11)
EXTRAS = {"serve": "", "all": "[dev]"}
FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")


class SetupError(Exception):
    """Something can't be installed. The text says what to do."""


def say(text: str) -> None:
    """Tell the person in front of the terminal what happens; standard output belongs to data."""
    print(f"setup: {text}", file=sys.stderr, flush=True)


def missing_packages(wants: str) -> list[str]:
    """Debian packages whose programs aren't here."""
    sys.path.insert(0, str(ROOT))
    from tools.kafka_broker import jars_folder, java
    from tools.server import StackUnavailableError

    try:
        java()
        has_java = True
    except StackUnavailableError:
        has_java = False
    needs = {
        "redis-server": shutil.which("redis-server") is not None,
        "tesseract-ocr": shutil.which("tesseract") is not None,
        "fonts-dejavu-core": FONT.exists(),
        "default-jre-headless": has_java,
        "maven": jars_folder(ROOT / ".cache").is_dir() or shutil.which("mvn") is not None,
        "python3-venv": PYTHON.exists() or importlib.util.find_spec("ensurepip") is not None,
    }
    if wants == "all":
        needs |= {
            "kcat": shutil.which("kcat") is not None,
            "procps": shutil.which("pgrep") is not None,
            "iproute2": shutil.which("ip") is not None,
        }
    return [name for name, there in needs.items() if not there]


def install_packages(names: list[str]) -> None:
    """By apt. Servers that a package brings aren't started (RUNLEVEL=1): the project starts its own."""
    by_hand = f"install them by hand: sudo apt-get install {' '.join(names)} (or your system's packages of that kind)"
    if shutil.which("apt-get") is None:
        raise SetupError(f"missing on this system: {', '.join(names)}. There is no apt-get here; {by_hand}")
    prefix = []
    if os.geteuid() != 0:
        if shutil.which("sudo") is None or run(["sudo", "-n", "true"], quiet=True) != 0:
            raise SetupError(f"missing on this system: {', '.join(names)}. Not root, and sudo asks; {by_hand}")
        prefix = ["sudo", "-n"]
    say(f"installing {', '.join(names)} by apt")
    quietly = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1"]
    apt = [*prefix, *quietly, "apt-get", "-q", "-o", "DPkg::Lock::Timeout=600"]
    if run([*apt, "update"]) != 0:
        say("apt-get update failed; trying with the package lists as they are")
    if run([*apt, "install", "-y", "--no-install-recommends", *names]) != 0:
        raise SetupError(f"apt-get couldn't install {', '.join(names)} (its words are above); mend that, or {by_hand}")


def run(command: list[str], *, quiet: bool = False) -> int:
    """Run a command with its output on standard error."""
    out = subprocess.DEVNULL if quiet else sys.stderr
    return subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False).returncode  # noqa: S603


def wanted_stamp(wants: str) -> dict[str, str]:
    """What the stamp says when `wants` is installed as pyproject.toml has it now."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return {"root": str(ROOT), "wants": wants, "pyproject": digest}


def read_stamp() -> dict[str, str]:
    """The stamp as it is; empty without a usable one."""
    try:
        found = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def make_venv() -> None:
    """A virtual environment that works here: a moved or broken one is made anew."""
    moved = read_stamp().get("root", str(ROOT)) != str(ROOT)
    check = f"import sys; sys.exit(sys.version_info < {OLDEST})"
    if PYTHON.exists() and not moved and run([str(PYTHON), "-c", check], quiet=True) == 0:
        return
    say(f"making .venv with Python {sys.version.split()[0]}")
    if run([sys.executable, "-m", "venv", "--clear", str(VENV)]) != 0:
        raise SetupError(
            "Python couldn't make .venv (its words are above); on Debian: sudo apt-get install python3-venv"
        )


def uv() -> list[str]:
    """uv, which installs many times faster than pip: the one at hand, or one from PyPI in `.venv`."""
    for found in (str(VENV / "bin" / "uv"), shutil.which("uv")):
        if found and Path(found).exists() and run([found, "--version"], quiet=True) == 0:
            return [found]
    if run([str(PYTHON), "-m", "pip", "--version"], quiet=True) != 0:
        run([str(PYTHON), "-m", "ensurepip", "--upgrade"])
    if run([str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv>=0.9"]) != 0:
        raise SetupError("pip couldn't install uv into .venv (its words are above); mend that and try again")
    return [str(VENV / "bin" / "uv")]


def install(wants: str) -> None:
    """Everything that `wants` names, unless the stamp says that it is there."""
    if missing := missing_packages(wants):
        install_packages(missing)
    stamp, found = wanted_stamp(wants), read_stamp()
    if found in (stamp, wanted_stamp("all")) and PYTHON.exists():
        return
    make_venv()
    STAMP.unlink(missing_ok=True)
    say("installing Python packages into .venv" + (" (with torch: some minutes)" if wants == "all" else ""))
    target = f"adscore{EXTRAS[wants]}"
    if run([*uv(), "pip", "install", "--quiet", "--python", str(PYTHON), "-e", f".{EXTRAS[wants]}"]) != 0:
        raise SetupError(f"uv couldn't install {target} (its words are above); mend that and try again")
    STAMP.write_text(json.dumps(stamp))
    say("done")


def main() -> int:
    """Install; exit 3 when something can't be had."""
    if len(sys.argv) != 2 or sys.argv[1] not in EXTRAS:
        print(f"usage: install.py {'|'.join(EXTRAS)}", file=sys.stderr)
        return 2
    if sys.version_info < OLDEST:
        newer = next(filter(None, (shutil.which(f"python3.{minor}") for minor in (13, 12, 11, 14))), None)
        if newer is None:
            say(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; install one and say make PYTHON=…")
            return 3
        os.execv(newer, [newer, *sys.argv])  # noqa: S606 - the same script under a Python that can
    (ROOT / ".cache").mkdir(exist_ok=True)
    try:
        with (ROOT / ".cache" / "setup.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            install(sys.argv[1])
            fetch_jars()
    except SetupError as error:
        say(str(error))
        return 3
    return 0


def fetch_jars() -> None:
    """Kafka's jars, so that starting the broker needs no network."""
    from tools.kafka_broker import jars, jars_folder
    from tools.server import StackUnavailableError

    if not jars_folder(ROOT / ".cache").is_dir():
        say("fetching Kafka's jars")
        try:
            jars(ROOT / ".cache")
        except StackUnavailableError as error:
            raise SetupError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
