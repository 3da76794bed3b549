import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import install

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout with a virtual environment that is whole, as far as the installer looks."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(install, "PYTHON", python)
    monkeypatch.setattr(install, "STAMP", tmp_path / ".venv" / "adscore-setup.json")
    monkeypatch.setattr(install, "missing_packages", lambda wants: [])
    return tmp_path


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    ran: list[list[str]] = []

    def run(command: list[str], *, quiet: bool = False) -> int:
        ran.append(command)
        return 0

    monkeypatch.setattr(install, "run", run)
    return ran


def installs(commands: list[list[str]]) -> list[str]:
    return [command[-1] for command in commands if command[1:3] == ["pip", "install"]]


def test_a_second_call_installs_nothing(checkout: Path, commands: list[list[str]]) -> None:
    install.install("serve")
    assert installs(commands) == ["."]
    commands.clear()
    install.install("serve")
    assert commands == []


def test_serving_is_content_with_everything_but_not_the_other_way_round(
    checkout: Path, commands: list[list[str]]
) -> None:
    install.install("serve")
    install.install("all")
    assert installs(commands) == [".", ".[dev]"]
    commands.clear()
    install.install("serve")
    assert commands == []


def test_a_changed_pyproject_installs_again(checkout: Path, commands: list[list[str]]) -> None:
    install.install("all")
    (checkout / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    install.install("serve")
    assert installs(commands) == [".[dev]", "."]


def test_a_moved_checkout_gets_an_environment_of_its_own(checkout: Path, commands: list[list[str]]) -> None:
    install.install("serve")
    stamp = json.loads(install.STAMP.read_text())
    install.STAMP.write_text(json.dumps(stamp | {"root": "/elsewhere"}))
    commands.clear()
    install.install("serve")
    assert [sys.executable, "-m", "venv", "--clear", str(install.VENV)] in commands


def test_a_failed_install_leaves_no_stamp(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "run", lambda command, quiet=False: int(command[1:3] == ["pip", "install"]))
    with pytest.raises(install.SetupError, match=r"couldn't install adscore\[dev\]"):
        install.install("all")
    assert not install.STAMP.exists()


def test_packages_come_by_apt_without_starting_their_servers(
    checkout: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.os, "geteuid", lambda: 0)
    monkeypatch.setattr(install.shutil, "which", lambda name: f"/usr/bin/{name}")
    install.install_packages(["redis-server"])
    assert [command[-1] for command in commands] == ["update", "redis-server"]
    assert all("RUNLEVEL=1" in command and "sudo" not in command for command in commands)


@pytest.mark.parametrize(("programs", "why"), [([], "no apt-get"), (["apt-get"], "Not root")])
def test_where_nothing_can_be_installed_the_message_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, programs: list[str], why: str
) -> None:
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(install.shutil, "which", lambda name: name if name in programs else None)
    with pytest.raises(install.SetupError, match=rf"{why}.*sudo apt-get install redis-server maven"):
        install.install_packages(["redis-server", "maven"])


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    missing = install.missing_packages("all")
    assert {"redis-server", "tesseract-ocr", "default-jre-headless", "kcat"} <= set(missing)
    assert "kcat" not in install.missing_packages("serve")


def test_wrong_usage_is_exit_2() -> None:
    script = ROOT / "tools" / "install.py"
    done = subprocess.run([sys.executable, script, "nonsense"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert done.stderr == "usage: install.py serve|all\n"
