"""What the README says is there, and its commands run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The checkout under a path with a space, by links: what the commands write stays out of the real one."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for entry in ROOT.iterdir():
        if entry.name != ".git":
            (folder / entry.name).symlink_to(entry)
    return folder


def run(block: str, cwd: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    """As a person would type it: one shell, and it stops at the first failure."""
    shell = ["bash", "-euo", "pipefail", "-c", block]
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    environment["ADSCORE_HTTP__PORT"] = "0"  # 8080 may be taken here
    return subprocess.run(shell, cwd=cwd, env=environment, capture_output=True, text=True, timeout=seconds)


def test_the_blocks_are_the_three_that_are_run_below() -> None:
    assert [re.findall(r"make(?: -s)? [a-z-]+|adscore [a-z]+", block) for block in BLOCKS] == [
        ["make demo"],
        ["make setup-serve", "adscore score"],
        ["make -s up", "adscore publish", "adscore worker", "adscore tail", "make down"],
    ]


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(900)
def test_the_demo(checkout: Path) -> None:
    done = run(BLOCKS[0], checkout, 900)
    assert done.returncode == 0, done.stderr[-4000:]
    report = (ROOT / "demo" / "report.html").read_text(encoding="utf-8")
    assert "<img" in report
    assert (ROOT / "demo" / "summary.json").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_scoring_a_picture_gives_a_table_and_an_overlay(checkout: Path) -> None:
    done = run(BLOCKS[1], checkout, 120)
    assert done.returncode == 0, done.stderr
    assert "1001.webp" in done.stdout
    assert list((checkout / "out").iterdir())


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(180)
def test_the_whole_way_by_hand(checkout: Path) -> None:
    if (ROOT / ".run" / "up").exists():
        pytest.skip("a stack from `make up` is in use here; `make down` first")
    try:
        done = run(BLOCKS[2], checkout, 180)
    finally:
        subprocess.run(["make", "down"], cwd=ROOT, check=True)
    assert done.returncode == 0, done.stderr
    assert "1001.webp" in done.stdout
    assert "1002.webp" in done.stdout


def test_every_folder_is_in_the_tree_and_every_folder_in_the_tree_is_there() -> None:
    tree = README.partition("## The tree")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `([\w/]+)`", tree, flags=re.MULTILINE)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    there = {path.split("/")[0] for path in tracked.splitlines() if "/" in path and not path.startswith(".")}
    assert {name.split("/")[0] for name in told} == there
    assert [name for name in told if not (ROOT / name).is_dir()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_target_it_names_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8"))}
    assert named - targets == set()


def test_every_verb_it_names_is_there() -> None:
    verbs = sorted(set(re.findall(r"`adscore ([a-z]+)", README)))
    script = (
        "import click; from worker.__main__ import cli; root = cli()\n"
        f"for verb in {verbs!r}: print(root.get_command(click.Context(root), verb).name)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == verbs, done.stderr
