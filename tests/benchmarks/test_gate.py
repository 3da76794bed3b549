"""The gate on real trees: a slowdown in the source is caught, no change is none, and what can't be compared is told."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import gate
from benchmarks.gate import ROOT, Side, Verdict, compare, line, nothing_to_compare, tree_of

SLOWER = """

_plain = parse_record


def parse_record(record):
    import time

    began = time.process_time()
    made = _plain(record)
    took = time.process_time() - began
    while time.process_time() - began < 1.3 * took:
        pass
    return made
"""
ROUNDS = 9


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree like this one, but that reads its events 30 % slower and has no batcher."""
    folder = tmp_path_factory.mktemp("tree")
    for package in ("admodels", "worker"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "worker" / "intake" / "events.py").open("a") as events:
        events.write(SLOWER)
    (folder / "worker" / "scoring" / "batch.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def here() -> Iterator[Side]:
    side = Side(ROOT)
    yield side
    side.close()


@pytest.fixture(scope="module")
def there(tree: Path) -> Iterator[Side]:
    side = Side(tree)
    yield side
    side.close()


def test_a_planted_slowdown_is_caught(here: Side, there: Side) -> None:
    verdict = compare(here, there, "event decode", ROUNDS)
    assert verdict.slower
    assert verdict.ratio == pytest.approx(1.3, abs=0.12)


def test_what_is_equal_or_faster_is_not(here: Side, there: Side) -> None:
    assert not compare(there, here, "event decode", ROUNDS).slower
    same = compare(here, there, "fetch from memory", ROUNDS)
    assert same.ratio == pytest.approx(1.0, abs=0.12)
    assert not same.slower


def test_what_one_tree_lacks_is_not_compared(here: Side, there: Side) -> None:
    verdict = compare(here, there, "batcher, 1000 creatives", ROUNDS)
    assert not verdict.slower
    assert "ImportError" in verdict.why
    assert "not compared: ImportError" in line(verdict)


def test_a_difference_below_the_floor_is_none(monkeypatch: pytest.MonkeyPatch, here: Side, there: Side) -> None:
    monkeypatch.setattr(gate, "FLOOR_SECONDS", 1.0)
    assert not compare(here, there, "event decode", ROUNDS).slower


class Told:
    """A side whose every run takes what it is told."""

    def __init__(self, *seconds: float) -> None:
        self._seconds = list(seconds)
        self.runs = 0

    def run(self, probe: str, count: int) -> float:
        self.runs += 1
        return self._seconds[min(self.runs - 1, len(self._seconds) - 1)]


def test_an_alarm_is_measured_once_more_and_longer() -> None:
    base, head = Told(1.0), Told(*[2.0] * 5, 1.0)
    assert not compare(base, head, "x", 3).slower  # type: ignore[arg-type]
    assert head.runs == 2 + 3 + 2 + 9


@pytest.mark.parametrize(
    ("name", "why"), [("", "no base"), ("no-such-branch", "no commit"), ("HEAD", "is what is checked out")]
)
def test_without_a_base_it_passes_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    real = gate._git
    monkeypatch.setattr(gate, "_git", lambda *arguments: "" if arguments[0] == "status" else real(*arguments))
    monkeypatch.setattr(sys, "argv", ["gate", "--base", name])
    assert gate.main() == 0
    assert why in capsys.readouterr().out


def test_a_changed_tree_is_compared_with_its_own_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    real = gate._git
    monkeypatch.setattr(
        gate, "_git", lambda *arguments: " M worker/x.py" if arguments[0] == "status" else real(*arguments)
    )
    assert nothing_to_compare("HEAD") is None


def test_a_work_tree_comes_and_goes() -> None:
    if subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("this is no checkout")
    with tree_of("HEAD") as tree:
        assert (tree / "worker" / "__main__.py").exists()
    assert not tree.exists()
    assert str(tree) not in gate._git("worktree", "list")


def test_the_exit_status_says_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [Verdict("a", 1.0, 1.0, 1.0), Verdict("b", 1.0, 2.0, 2.0, slower=True)]
    monkeypatch.setattr(gate, "nothing_to_compare", lambda _: None)
    monkeypatch.setattr(gate, "tree_of", lambda _: __import__("contextlib").nullcontext(tmp_path))
    monkeypatch.setattr(gate, "run", lambda *_: told)
    monkeypatch.setattr(sys, "argv", ["gate", "--base", "main", "--json", str(tmp_path / "found.json")])
    assert gate.main() == 1
    assert "slower than main: b" in capsys.readouterr().out
    told.pop()
    assert gate.main() == 0
