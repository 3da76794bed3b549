"""Whether this commit is slower than another, on any machine: base and head in turn, by the ratio of their medians.

    make bench-gate BASE=origin/main
    .venv/bin/python -m benchmarks.gate --prove 10

Two processes, one per tree, do the same units of work (`probes.py`, this tree's) alternately for a few milliseconds at
a time, so that whatever else the machine does falls on both. What counts is CPU time: a process that waits for its turn
isn't slow. A probe is slower when the median ratio of its pairs is over LIMIT, one unit costs at least FLOOR_SECONDS
more, and both hold again when it is measured once more, longer. Exit status 1 where one is slower.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 1.15
FLOOR_SECONDS = 5e-6
PIECE_SECONDS = 0.02
"""So long one side works before it is the other's turn."""
ROUNDS = 15
QUICK = (
    "event decode",
    "fetch from memory",
    "image decode JPEG 1200x628",
    "image decode PNG 300x250",
    "preprocess",
    "tokenise",
    "batcher, 1000 creatives",
    "cache in memory, 100 creatives",
    "engine mobilenetv2 at 1",
    "engine minilm at 1",
    "all engines at 1",
    "assemble",
    "pipeline, one creative known to the cache",
)
"""The probes of the gate: what this project's own code decides, in seconds."""


@dataclass(frozen=True)
class Verdict:
    """base, head: median CPU seconds of one unit; ratio: of the pairs, in the middle; why: of a probe not compared."""

    probe: str
    base: float = 0.0
    head: float = 0.0
    ratio: float = 1.0
    slower: bool = False
    why: str = ""


class Side:
    """One tree's probes, in a process of their own."""

    def __init__(self, tree: Path, planted: float = 0.0) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ADSCORE_")}
        environment |= {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "ADSCORE_BENCH_PLANT": str(planted)}
        command = [sys.executable, "-P", str(ROOT / "benchmarks" / "probes.py")]
        self._process = subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        served = self._line()
        if Path(served).parents[1] != tree.resolve():
            raise SystemExit(f"the probes of {tree} run on the code of {served}")

    def run(self, probe: str, count: int) -> float:
        """CPU seconds of one unit. Raises LookupError with the reason where the tree has no such thing."""
        _stream(self._process.stdin).write(f"{probe} {count}\n")
        _stream(self._process.stdin).flush()
        answer = self._line()
        if answer.startswith("no "):
            raise LookupError(answer.removeprefix("no "))
        return float(answer) / count

    def close(self) -> None:
        """End the process."""
        _stream(self._process.stdin).close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _stream(self._process.stdout).close()

    def _line(self) -> str:
        line = _stream(self._process.stdout).readline().strip()
        if not line:
            raise SystemExit("the probes' process ended")
        return line


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextmanager
def sides(base: Path, head: Path, planted: float = 0.0) -> Iterator[tuple[Side, Side]]:
    """Both trees, ready; planted: how much slower the head is made."""
    first = Side(base)
    try:
        second = Side(head, planted)
        try:
            yield first, second
        finally:
            second.close()
    finally:
        first.close()


def compare(base: Side, head: Side, probe: str, rounds: int = ROUNDS) -> Verdict:
    """One probe on both sides in turn, once more and longer where it seems slower."""
    try:
        verdict = _measured(base, head, probe, rounds)
    except LookupError as error:
        return Verdict(probe, why=str(error))
    return _measured(base, head, probe, 3 * rounds) if verdict.slower else verdict


def _measured(base: Side, head: Side, probe: str, rounds: int) -> Verdict:
    once = min(base.run(probe, 1), base.run(probe, 1), head.run(probe, 1), head.run(probe, 1))
    count = max(1, round(PIECE_SECONDS / max(once, 1e-7)))
    pairs: list[tuple[float, float]] = []
    for number in range(rounds):
        if number % 2:
            after = head.run(probe, count)
            pairs.append((base.run(probe, count), after))
        else:
            before = base.run(probe, count)
            pairs.append((before, head.run(probe, count)))
    before, after = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(second / first for first, second in pairs)
    slower = min(ratio, after / before) > LIMIT and after - before > FLOOR_SECONDS
    return Verdict(probe, before, after, ratio, slower)


@contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """A work tree of a commit, gone behind the block."""
    with tempfile.TemporaryDirectory(prefix="bench-base-") as folder:
        tree = Path(folder) / "base"
        _git("worktree", "add", "--detach", "--quiet", str(tree), revision)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _commit(name: str) -> str | None:
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return None


def nothing_to_compare(name: str) -> str | None:
    """Why there is no base to compare with, or None."""
    if not name:
        return "no base is named (BASE=…)"
    base = _commit(name)
    if base is None:
        return f"{name!r} is no commit of this checkout (a shallow clone?)"
    if base == _commit("HEAD") and not _git("status", "--porcelain", "--", "worker", "admodels"):
        return f"{name} is what is checked out"
    return None


def run(base: Path, head: Path, probes: Sequence[str], rounds: int, planted: float = 0.0) -> list[Verdict]:
    """Compare two trees, printing a line for each probe."""
    found = []
    with sides(base, head, planted) as (first, second):
        for probe in probes:
            verdict = compare(first, second, probe, rounds)
            found.append(verdict)
            print(line(verdict), flush=True)
    return found


def line(verdict: Verdict) -> str:
    """One probe for people."""
    if verdict.why:
        return f"{verdict.probe:<46} not compared: {verdict.why}"
    times = f"{verdict.base * 1e6:>10.1f} {verdict.head * 1e6:>10.1f} µs"
    return f"{verdict.probe:<46} {times}  {verdict.ratio:.3f}{'  SLOWER' if verdict.slower else ''}"


def prove(times: int, probes: Sequence[str], rounds: int, planted: float) -> tuple[bool, object]:
    """This tree against itself so many times, then once with every unit slower; (whether it is proven, figures)."""
    quiet = [run(ROOT, ROOT, probes, rounds) for _ in range(times)]
    alarms = [verdict for one in quiet for verdict in one if verdict.slower]
    if quiet:
        all_quiet = _span([verdict for one in quiet for verdict in one])
        print(f"no change, {times} times {len(probes)} probes: {len(alarms)} called slower, {all_quiet}")
    slowed = run(ROOT, ROOT, probes, rounds, planted) if planted else []
    missed = [verdict for verdict in slowed if not verdict.slower]
    if slowed:
        caught = len(slowed) - len(missed)
        print(f"planted {planted:.0%}: {caught} of {len(slowed)} called slower, {_span(slowed)}")
    told = {"quiet": [[asdict(verdict) for verdict in one] for one in quiet], "planted": list(map(asdict, slowed))}
    return not alarms and not missed, told


def _span(verdicts: Sequence[Verdict]) -> str:
    ratios = [verdict.ratio for verdict in verdicts]
    return f"ratios {min(ratios):.3f} to {max(ratios):.3f}"


def main() -> int:
    """Compare, and say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="", help="the commit to compare with; unknown or equal: nothing to do")
    parser.add_argument("--probe", action="append", help="only these; may be repeated")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--prove", type=int, metavar="TIMES", help="this tree against itself, then planted slowdowns")
    parser.add_argument("--planted", type=float, default=0.3, help="share by which --prove makes units slower")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    probes = options.probe or QUICK
    if options.prove is not None:
        proven, told = prove(options.prove, probes, options.rounds, options.planted)
        _write(options.json, told)
        return int(not proven)
    why = nothing_to_compare(options.base)
    if why:
        print(f"nothing to compare: {why}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the work tree goes, however this ends
    with tree_of(options.base) as tree:
        found = run(tree, ROOT, probes, options.rounds)
    _write(options.json, [asdict(verdict) for verdict in found])
    slower = [verdict.probe for verdict in found if verdict.slower]
    print(f"slower than {options.base}: {', '.join(slower)}" if slower else f"nothing is slower than {options.base}")
    return int(bool(slower))


def _write(path: Path | None, told: object) -> None:
    if path is not None:
        path.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    sys.exit(main())
