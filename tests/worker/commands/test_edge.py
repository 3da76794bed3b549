import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from worker.__main__ import VERBS, cli
from worker.commands import edge
from worker.errors import FatalError

ROOT = Path(__file__).resolve().parents[3]


def test_help_names_every_verb_and_imports_none(adscore: Callable[..., Any]) -> None:
    code = "import sys\nfrom worker.__main__ import main\n"
    code += "try: main()\nfinally: print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert all(f"\n  {verb}" in done.stdout for verb in VERBS)
    assert not any(f"'{heavy}'" in done.stderr for heavy in ("pydantic", "kafka", "onnxruntime", "numpy", "PIL"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_config(adscore: Callable[..., Any], verb: str) -> None:
    ran = adscore(verb, "--help")
    assert ran.status == 0
    assert "--config" in ran.out


@pytest.mark.parametrize(
    "arguments", [(), ("nonsense",), ("config", "show", "--nonsense"), ("score",), ("tail", "--last", "x")]
)
def test_wrong_usage_is_2(adscore: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    ran = adscore(*arguments)
    assert ran.status == 2
    assert ran.out == ""
    assert ran.err


@pytest.mark.parametrize("verb", ["config show", "buckets", "schema export", "topics check", "worker", "score x"])
def test_a_bad_setting_ends_every_verb_with_2(adscore: Callable[..., Any], verb: str) -> None:
    ran = adscore(*verb.split(), env={"ADSCORE_KAFKA__GRUOP_ID": "x"})
    assert ran.status == 2
    assert "ADSCORE_KAFKA__GROUP_ID" in ran.err


def test_config_goes_before_or_after_the_verb(adscore: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "adscore.toml"
    file.write_text("[kafka]\ngroup_id = 'from-the-file'\n")
    places = (["--config", str(file), "config", "show"], ["config", "--config", str(file), "show"])
    for arguments in (*places, ["config", "show", "--config", str(file)]):
        assert "from-the-file" in adscore(*arguments).out


def failing(error: BaseException) -> click.Group:
    @click.group()
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    edged = edge.with_edge(group)
    assert isinstance(edged, click.Group)
    return edged


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (FatalError("the broker is gone", exit_code=3), 3, "adscore: the broker is gone\n"),
        (click.UsageError("no"), 2, "Error: no"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
        (ZeroDivisionError("creative text"), 1, "internal error: ZeroDivisionError"),
    ],
)
def test_failures_become_exit_statuses(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    told: str,
) -> None:
    monkeypatch.setattr(os, "dup2", lambda *_: None)  # a closed pipe's cleaning up would take the test's own output
    assert edge.run(failing(error), ["fail"]) == status
    err = capfd.readouterr().err
    assert told in err
    assert "creative text" not in err


@pytest.mark.parametrize("verb", ["config show", "--help"])
def test_a_closed_pipe_is_no_error(verb: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "worker", *verb.split()]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("verb", ["config show", "--help", "score -"])
def test_closed_streams_are_nothing_to_read_and_nowhere_to_write(verb: str) -> None:
    command = f'exec "$0" -m worker {verb} <&- >&- 2>"$1"'
    with tempfile.NamedTemporaryFile() as err:
        done = subprocess.run(["sh", "-c", command, sys.executable, err.name], cwd=ROOT, timeout=60)
        assert (done.returncode, err.read()) == (0, b"")


@pytest.mark.parametrize("verb", ["config show", "--help"])
def test_a_full_disk_behind_standard_output_is_told(verb: str) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "worker", *verb.split()]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "adscore: standard output: No space left on device\n")


def test_a_full_disk_is_not_told_as_the_brokers(tmp_path: Path) -> None:
    code = "from worker.__main__ import main; import worker.commands.tail as t, click\n"
    code += "from worker.commands import edge, kafka\n"
    code += "def tail(**_):\n with kafka.reached(edge.settings().kafka): click.echo('x')\n"
    code += "t.tail.callback = tail; main()"
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-c", code, "tail"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "adscore: standard output: No space left on device\n")


def test_ctrl_c_is_130(tmp_path: Path) -> None:
    fifo = tmp_path / "creatives.jsonl"
    os.mkfifo(fifo)
    code = "from worker.__main__ import main; import worker.commands.tail as t, time\n"
    code += "t.tail.callback = lambda **_: (print('up', flush=True), time.sleep(60)); main()"
    popen = subprocess.Popen(
        [sys.executable, "-c", code, "tail"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert popen.stdout is not None
    assert popen.stdout.readline() == "up\n"
    popen.send_signal(signal.SIGINT)
    _, err = popen.communicate(timeout=30)
    assert popen.returncode == 130
    assert "Traceback" not in err


def test_version(adscore: Callable[..., Any]) -> None:
    assert adscore("--version").out.startswith("adscore ")


def test_the_root_command_is_fresh_each_time() -> None:
    assert cli() is not cli()
