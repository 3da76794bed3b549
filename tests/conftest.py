"""Fixtures for every test: a real broker and Redis, topics of one's own, `adscore` as a process. And who is skipped."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tools.server import GUARD, StackUnavailableError
from tools.stack import ROOT, Stack
from worker.settings import Settings, load

DATA = ROOT.parent / "shared" / "data"
_names = itertools.count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the broker is marked so; `data` and `gpu` skip where there is none."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.broker)
        if item.get_closest_marker("data") and not DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"there is no {os.path.relpath(DATA, ROOT)}"))
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


def _has_gpu() -> bool:
    """Asks the driver, not torch, which takes seconds to import."""
    count = ctypes.c_int(0)
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """A run in the background of a script starts with SIGINT ignored, and so would every verb that the tests start."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """A developer's `eval "$(make -s up)"` must not reach the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ADSCORE_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets, for tests marked `data`."""
    return DATA


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A real Kafka and Redis for this run alone. Without them: a skip for a developer, a failure in CI."""
    stack = Stack()
    try:
        stack.start()
    except StackUnavailableError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    yield stack
    stack.stop()


@pytest.fixture(autouse=True)
def _stack_mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test may kill or freeze the servers; the next one finds them running."""
    yield
    if "stack" in request.fixturenames:
        request.getfixturevalue("stack").ensure()


@dataclass(frozen=True)
class Topics:
    """Fresh topics, with a consumer group and a Redis database of their own."""

    input: str
    output: str
    dlq: str
    shadow: str
    group_id: str
    redis_url: str
    env: dict[str, str] = field(repr=False)
    """A whole environment for a subprocess, with the settings to use them."""


@contextmanager
def _topics_of(stack: Stack) -> Iterator[Callable[[int], Topics]]:
    """A maker of sets of topics; they are deleted behind it."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    made: list[str] = []

    def make(partitions: int = 3) -> Topics:
        number = next(_names)
        names = {kind: f"t{number}.{kind}" for kind in ("input", "output", "dlq", "shadow")}
        redis_url = f"{stack.redis_url.rpartition('/')[0]}/{number % 1024}"
        settings = {f"ADSCORE_KAFKA__{kind.upper()}_TOPIC": name for kind, name in names.items()} | {
            "ADSCORE_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "ADSCORE_KAFKA__GROUP_ID": f"t{number}",
            "ADSCORE_REDIS__URL": redis_url,
            "ADSCORE_HTTP__PORT": "0",
            "ADSCORE_LOG__FORMAT": "json",
        }
        env = {name: value for name, value in os.environ.items() if not name.startswith("ADSCORE_")} | settings
        _create(load(None, settings).settings, partitions)
        made.extend(names.values())
        return Topics(**names, group_id=f"t{number}", redis_url=redis_url, env=env)

    yield make
    stack.ensure()
    admin = KafkaAdminClient(bootstrap_servers=stack.bootstrap_servers)
    try:
        admin.delete_topics(made)
    except KafkaError:
        pass  # the test deleted one itself
    finally:
        admin.close()


@pytest.fixture
def make_topics(stack: Stack) -> Iterator[Callable[[int], Topics]]:
    """`make_topics(partitions)`: as many sets of topics as a test wants. They are deleted behind it."""
    with _topics_of(stack) as make:
        yield make


@pytest.fixture(scope="module")
def make_module_topics(stack: Stack) -> Iterator[Callable[[int], Topics]]:
    """The same for topics that all tests of a module look at."""
    with _topics_of(stack) as make:
        yield make


def _create(settings: Settings, partitions: int) -> None:
    """By the contract's policies, in process: a verb of its own would take a second for each test."""
    from worker.commands.kafka import admin
    from worker.commands.topics import policies

    with admin(settings.kafka) as client:
        wanted = {
            policy.name: {"num_partitions": partitions, "replication_factor": 1, "configs": policy.configs()}
            for policy in policies(settings)
        }
        client.create_topics(wanted)
        client.wait_for_topics(list(wanted))


@pytest.fixture
def topics(make_topics: Callable[[int], Topics]) -> Topics:
    """One set of fresh topics, three partitions each."""
    return make_topics(3)


@dataclass(frozen=True)
class Running:
    """An `adscore` verb as a process of its own. It ends with the test run, however that ends."""

    guard: subprocess.Popen[bytes]
    folder: Path

    @property
    def pid(self) -> int:
        """The verb's own process id (its guard's is `guard.pid`)."""
        return int((self.folder / "pid").read_text().split()[0])

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        """What it has logged so far."""
        return (self.folder / "stderr").read_text()

    def signal(self, number: int) -> None:
        """Send a signal to the verb itself, SIGKILL and SIGSTOP too."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = 60.0) -> int:
        """Its exit status, 128 + n when signal n ended it."""
        return self.guard.wait(seconds)


@pytest.fixture
def start_adscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """`start_adscore("worker", …, env=topics.env)` starts a verb and returns. It ends with the test at the latest."""
    with ExitStack() as cleanup:

        def start(
            *arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None, module: str = "worker"
        ) -> Running:
            folder = tmp_path_factory.mktemp("adscore")
            guard = [sys.executable, "-I", "-S", str(GUARD), "--pid-file", str(folder / "pid"), "--grace", "60", "--"]
            command = [sys.executable, "-m", module, *arguments]
            with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
                popen = subprocess.Popen([*guard, *command], env=env, cwd=cwd, stdout=out, stderr=err)
            running = Running(popen, folder)
            cleanup.callback(_end, running)
            while not (folder / "pid").exists() and popen.poll() is None:
                time.sleep(0.005)
            return running

        yield start


def _end(running: Running) -> None:
    if running.guard.poll() is None:
        running.signal(9)
    running.guard.wait()


@pytest.fixture
def adscore() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`adscore("topics", "check", env=…)` runs a verb to its end: status, standard output, standard error."""

    def run(
        *arguments: str,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str = "",
        seconds: float = 60.0,
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "worker", *arguments]
        return subprocess.run(
            command, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )

    return run
