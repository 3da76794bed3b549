import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from worker import logs

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import logging, os, subprocess, sys, threading, warnings
import structlog
from worker import logs
with logs.configured(sys.argv[1], sys.argv[2], wrap_native=True):
    structlog.get_logger("worker.x").info("fetched", url="https://u:p@h/x?q=1", http_port=8080, data=[b"x", {"a": 1}])
    structlog.get_logger("worker.x").debug("quiet")
    logging.getLogger("kafka.conn").warning("lost %s", "https://user:secret@host/path?token=secret#secret")
    logging.getLogger("urllib3").info("chatter")
    warnings.warn("deprecated")
    os.write(2, b"native line\\n" + b"x" * 20000 + b"\\n")
    subprocess.run(["sh", "-c", "echo child >&2"])
    print("printed", file=sys.stderr)
    thread = threading.Thread(target=lambda: [][7]); thread.start(); thread.join()
    try:
        creative_text = "BUY NOW"
        int(creative_text)
    except ValueError:
        structlog.get_logger("worker.x").exception("failed")
    logging.getLogger("x").info("after")
print("done")
print("plain again", file=sys.stderr)
"""


def run(level: str, form: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", SCRIPT, level, form],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stdout == "done\n"
    return done.stderr.splitlines()


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    *written, last = run("info", "json")
    assert last == "plain again"
    return [json.loads(line) for line in written]


def test_every_source_becomes_a_json_line(lines: list[dict[str, Any]]) -> None:
    loggers = {line["logger"] for line in lines}
    assert loggers >= {"worker.x", "kafka.conn", "py.warnings", "stderr", "uncaught", "x"}
    events = [line["event"] for line in lines]
    assert {"native line", "child", "printed"} <= {line["event"] for line in lines if line["logger"] == "stderr"}
    assert "chatter" not in events
    assert "quiet" not in events
    assert all(line["time"].endswith("Z") and line["level"] for line in lines)


def test_fields_stand_beside_the_event(lines: list[dict[str, Any]]) -> None:
    assert next(line["http_port"] for line in lines if line["event"] == "fetched") == 8080


def test_no_credentials_no_query(lines: list[dict[str, Any]]) -> None:
    assert "secret" not in json.dumps(lines)
    assert next(line["url"] for line in lines if line["event"] == "fetched") == "https://h/x"


def test_exceptions_tell_type_and_place_but_no_values(lines: list[dict[str, Any]]) -> None:
    failed = next(line for line in lines if line["event"] == "failed")
    assert failed["error_type"] == "ValueError"
    assert failed["stack"]
    assert "BUY NOW" not in json.dumps(lines)
    assert next(line["error_type"] for line in lines if line["logger"] == "uncaught") == "IndexError"


def test_lines_are_bounded(lines: list[dict[str, Any]]) -> None:
    assert max(len(line["event"]) for line in lines) <= logs.MAX_TEXT + 1


def test_console_form_is_for_people() -> None:
    written = "\n".join(run("debug", "console"))
    assert "fetched" in written
    assert "quiet" in written
    assert not written.startswith("{")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("get https://a:b@c/d?e#f done", "get https://c/d done"),
        ("redis://:pw@host:6379/0", "redis://host:6379/0"),
        ("image data:image/png;base64,AAAA bad", "image data:… bad"),
        ("s3://bucket/key?X-Sig=1", "s3://bucket/key"),
        ("10:30 plain", "10:30 plain"),
    ],
)
def test_redacted(text: str, shown: str) -> None:
    assert logs.redacted(text) == shown


def test_described_trusts_our_own_and_the_systems_texts() -> None:
    assert logs.described(FileNotFoundError(2, "No such file or directory", "/secret"))["error"] == (
        "No such file or directory"
    )
    assert "error" not in logs.described(KeyError("copy"))
