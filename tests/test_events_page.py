"""The kcat commands of docs/events.md do what the page says: a program that isn't ours submits and reads."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
SUBMIT, WITHDRAW, READ = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(shutil.which("kcat") is None, reason="there is no kcat; `make setup` installs it")


def run(block: str, topics) -> str:
    """As on the page, but on this test's topics."""
    block = block.replace("-t creatives.enriched", f"-t {topics.output}")
    block = re.sub(r"-t creatives\b", f"-t {topics.input}", block)
    shell = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(shell, cwd=ROOT, env=topics.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_submit_read_withdraw(topics, adscore: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    run(SUBMIT, topics)
    worked = adscore("worker", "--max-messages", "1", env=topics.env)
    assert worked.returncode == 0, worked.stderr
    key, size, value = run(READ, topics).strip().split(" ", 2)
    assert key == "cr-123"
    assert int(size) == len(value.encode())
    event = json.loads(value)
    assert event["creative_id"] == "cr-123"
    assert event["status"] == "scored"

    run(WITHDRAW, topics)
    assert adscore("worker", "--max-messages", "1", env=topics.env).returncode == 0
    assert run(READ, topics).splitlines()[-1].split() == ["cr-123", "-1"]


def test_kcat_and_adscore_put_a_creative_on_the_same_partition(
    topics, adscore: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    picture = ROOT / "data" / "osie" / "images" / "1003.webp"
    assert adscore("publish", str(picture), env=topics.env).returncode == 0
    run(SUBMIT.replace("-k cr-123", f"-k {picture.name}"), topics)
    place = run("kcat -C -b $ADSCORE_KAFKA__BOOTSTRAP_SERVERS -t creatives -o beginning -e -q -f '%p %k\\n'", topics)
    (first, second) = place.splitlines()
    assert first == second
