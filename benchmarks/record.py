"""Every benchmark in turn, and what they said, in one dated file: run it on a machine that does nothing else.

    python -m benchmarks.record xeon-2-cores
    python -m benchmarks.plots benchmarks/results/DATE-xeon-2-cores.json docs/performance.png

Half an hour on two cores. It writes `benchmarks/results/DATE-MACHINE.json` after each of them; `--only NAME` measures
some again and leaves the others as they are. The peers need the extra `peers`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ONE_THREAD = "ADSCORE_PIPELINE__ENGINE_THREADS=1"
# FILE stands for where the JSON goes; without it, it is what the command prints.
BENCHMARKS = {
    "parts": "python -m pytest -q benchmarks -o python_files=bench_*.py --benchmark-json=FILE",
    "throughput": "python -m worker bench throughput --creatives 300 --rounds 5 --json",
    "throughput_one_thread": f"{ONE_THREAD} python -m worker bench throughput --creatives 200 --rounds 5 --json",
    "throughput_broker": "python tools/stack.py run -- python -m worker bench throughput --broker --creatives 300 "
    "--rounds 3 --json",
    "throughput_read": "python -m worker bench throughput --creatives 80 --rounds 2 --text read --json",
    "throughput_cached": "python -m worker bench throughput --creatives 4000 --rounds 3 --cached --json",
    "latency": "python -m worker bench latency --p99-ms 500 --json",
    "peers_given": "python -m benchmarks.peers --creatives 200 --rounds 3 --text given --json FILE",
    "peers_read": "python -m benchmarks.peers --creatives 60 --rounds 2 --text read --json FILE",
    "growth_known": "python -m benchmarks.growth --most 100000 --known --out FILE",
    "growth_new": "python -m benchmarks.growth --most 3000 --out FILE",
}
_MACHINE = re.compile(r"[a-z0-9][a-z0-9-]*")


def measured(command: str) -> Any:
    """The JSON that a benchmark gives. Raises SystemExit where it fails; what it says meanwhile goes to stderr."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder, "out.json")
        words = shlex.split(command.replace("FILE", str(file)))
        settings = dict(word.split("=", 1) for word in words if word.startswith("ADSCORE_"))
        line = [sys.executable if word == "python" else word for word in words if not word.startswith("ADSCORE_")]
        done = subprocess.run(line, cwd=ROOT, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout[-3000:]}")
        return json.loads(file.read_text() if "FILE" in command else done.stdout)


def parts(told: Any) -> Any:
    """Of pytest-benchmark's file what the pages show: percentiles in ms by name."""
    return {
        entry["name"]: {name: round(entry["stats"][name] * 1000, 4) for name in ("p50", "p95", "p99")}
        | {"rounds": entry["stats"]["rounds"]}
        for entry in told["benchmarks"]
    }


def main() -> None:
    """Measure, and write after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("machine", help="what the machine is, for the file's name: xeon-2-cores")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), help="may be repeated")
    options = parser.parse_args()
    if not _MACHINE.fullmatch(options.machine):
        parser.error("the machine's name is small letters, digits and dashes")
    date = time.strftime("%Y-%m-%d", time.gmtime())
    file = RESULTS / f"{date}-{options.machine}.json"
    told = json.loads(file.read_text()) if file.exists() else {"date": date}
    for name in options.only or BENCHMARKS:
        print(f"{name}: {BENCHMARKS[name]}", file=sys.stderr, flush=True)
        result = measured(BENCHMARKS[name])
        told[name] = {"command": BENCHMARKS[name], "result": parts(result) if name == "parts" else result}
        if "machine" in result:
            told |= {key: result[key] for key in ("machine", "versions")}
        file.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
