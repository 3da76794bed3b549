"""The pool of killable children, with a child that does as it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from worker.errors import FatalError
from worker.intake import child, frames
from worker.intake.child import ChildDiedError, ChildHungError
from worker.intake.children import ChildPool

TOY = """
import os, signal, sys, time
from worker.intake.frames import pack, serve

def answer(request):
    order = bytes(request[:4])
    if order == b"echo":
        return pack({"pid": os.getpid(), "environment": dict(os.environ), "cwd": os.getcwd()}, [request[4:]])
    if order == b"prnt":
        print("chatter on standard output", flush=True)
        return pack({})
    if order == b"hang":
        time.sleep(60)
    if order == b"kill":
        os.kill(os.getpid(), int(bytes(request[4:])))
        time.sleep(60)
    if order == b"quit":
        os._exit(3)
    if order == b"lies":
        os.write(3, b"\\xff" * 100)
        os.write(4, b"\\xff" * 100)
        time.sleep(60)
    if order == b"rtre":
        return pack({"pid": os.getpid()}, retire=True)
    return pack({})

if len(sys.argv) > 1 and sys.argv[1] == "broken":
    sys.exit(1)
serve({"hello": sys.argv[1:]}, answer)
"""

MakePool = Callable[..., ChildPool]


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    (tmp_path / "toy_child.py").write_text(TOY)
    packages = str(Path(__file__).parents[3])
    pools: list[ChildPool] = []

    def make(workers: int = 1, **options: object) -> ChildPool:
        environment = {"PYTHONPATH": os.pathsep.join((str(tmp_path), packages))}
        pools.append(ChildPool("toy_child", workers, environment=environment, **options))  # type: ignore[arg-type]
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def gone(pid: int) -> bool:
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.02)
    return False


def test_a_child_answers_and_megabytes_go_both_ways(make_pool: MakePool) -> None:
    pool = make_pool(arguments=["x"])
    assert pool.ready == {"hello": ["x"]}
    data = os.urandom(9_000_000)
    reply = pool.ask((b"echo", data[:1], memoryview(data)[1:]), 20)
    assert bytes(reply.body) == data
    assert pool.ask((b"echo",), 5).head["pid"] == pool.pids()[0]


def test_a_child_sees_nothing_of_the_worker(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADSCORE_KAFKA__SASL_PASSWORD", "canary")
    head = make_pool().ask((b"echo",), 5).head
    assert "canary" not in str(head["environment"])
    assert head["cwd"] == "/"
    assert os.getsid(head["pid"]) == head["pid"] != os.getsid(0)


def test_what_libraries_print_does_not_disturb_the_frames(make_pool: MakePool) -> None:
    pool = make_pool()
    pool.ask((b"prnt",), 5)
    assert bytes(pool.ask((b"echo", b"x"), 5).body) == b"x"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGPROF])
def test_a_child_that_dies_says_of_what_and_is_replaced(make_pool: MakePool, number: signal.Signals) -> None:
    pool = make_pool()
    first = pool.pids()[0]
    with pytest.raises(ChildDiedError) as caught:
        pool.ask((b"kill", str(int(number)).encode()), 5)
    assert caught.value.signal is number
    assert pool.ask((b"echo",), 5).head["pid"] != first
    assert gone(first)


def test_a_child_that_leaves_by_itself(make_pool: MakePool) -> None:
    pool = make_pool()
    with pytest.raises(ChildDiedError, match="3") as caught:
        pool.ask((b"quit",), 5)
    assert caught.value.signal is None


def test_a_child_that_breaks_the_protocol_counts_as_dead(make_pool: MakePool) -> None:
    pool = make_pool()
    with pytest.raises(ChildDiedError):
        pool.ask((b"lies",), 5)
    assert bytes(pool.ask((b"echo", b"x"), 5).body) == b"x"


def test_a_child_that_hangs_is_killed_at_the_deadline(make_pool: MakePool) -> None:
    pool = make_pool()
    first = pool.pids()[0]
    started = time.monotonic()
    with pytest.raises(ChildHungError):
        pool.ask((b"hang",), 0.2)
    assert time.monotonic() - started < 2
    assert gone(first)
    assert bytes(pool.ask((b"echo", b"x"), 5).body) == b"x"


def test_a_stopped_child_that_reads_nothing_is_killed_too(make_pool: MakePool) -> None:
    pool = make_pool()
    os.kill(pool.pids()[0], signal.SIGSTOP)
    with pytest.raises(ChildHungError):
        pool.ask((b"echo", bytes(20_000_000)), 0.2)


def test_an_idle_child_that_was_killed_costs_nobody_a_request(make_pool: MakePool) -> None:
    pool = make_pool()
    for _ in range(3):
        os.kill(pool.pids()[0], signal.SIGKILL)
        time.sleep(0.05)
        assert bytes(pool.ask((b"echo", b"x"), 5).body) == b"x"


def test_a_child_retires_when_it_asks_to_or_has_answered_enough(make_pool: MakePool) -> None:
    pool = make_pool(recycle_after=3)
    first = pool.ask((b"rtre",), 5).head["pid"]
    served = [pool.ask((b"echo",), 5).head["pid"] for _ in range(6)]
    assert gone(first)
    assert len({first, *served}) == 3
    assert served[0] == served[2] != served[3] == served[5]


def test_neighbours_do_not_wait_for_a_bad_one(make_pool: MakePool) -> None:
    pool = make_pool(2)

    def hang() -> None:
        with pytest.raises(ChildHungError):
            pool.ask((b"hang",), 2.0)

    bad = threading.Thread(target=hang)
    bad.start()
    started = time.monotonic()
    for _ in range(20):
        pool.ask((b"echo", b"x"), 5)
    assert time.monotonic() - started < 1.5
    bad.join()


def test_many_threads_share_few_children(make_pool: MakePool) -> None:
    pool = make_pool(2)
    wrong: list[bytes] = []

    def work(number: int) -> None:
        for turn in range(20):
            text = b"%d/%d" % (number, turn)
            if bytes(pool.ask((b"echo", text), 20).body) != text:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closing_ends_children_and_requests_and_leaves_no_descriptor(make_pool: MakePool) -> None:
    before = set(os.listdir("/proc/self/fd"))
    pool = make_pool(2)
    pids = pool.pids()
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            pool.ask((b"hang",), 30)
        except ChildDiedError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    pool.close()
    pool.close()
    thread.join(5)
    assert len(caught) == 1
    assert all(gone(pid) for pid in pids)
    with pytest.raises(RuntimeError, match="closed"):
        pool.ask((b"echo",), 5)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_children_that_can_not_start_are_fatal_and_say_how_to_look(make_pool: MakePool) -> None:
    with pytest.raises(FatalError, match="-m toy_child") as caught:
        make_pool(arguments=["broken"])
    assert caught.value.exit_code == 3


def test_children_that_can_not_be_replaced_are_fatal_to_whoever_asks_and_come_back(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool()

    def none_left(*_arguments: object, **_options: object) -> None:
        raise BlockingIOError("no process")

    with monkeypatch.context() as short:
        short.setattr(subprocess, "Popen", none_left)
        with pytest.raises(ChildDiedError):
            pool.ask((b"quit",), 5)
        with pytest.raises(FatalError) as caught:
            pool.ask((b"echo",), 5)
        assert caught.value.exit_code == 3
    assert pool.ask((b"echo",), 5).head is not None


def test_an_answer_that_there_was_no_memory_for_is_nobody_elses(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool()
    before = pool.pids()

    def none_left(_data: object) -> None:
        raise MemoryError

    with monkeypatch.context() as short:
        short.setattr(frames, "unpack", none_left)
        with pytest.raises(MemoryError):
            pool.ask((b"echo",), 5)
    assert pool.pids() != before


def test_a_pool_of_nobody_is_refused(make_pool: MakePool) -> None:
    with pytest.raises(ValueError, match="0 workers"):
        make_pool(0)


def test_a_killed_worker_leaves_no_child_behind(tmp_path: Path) -> None:
    (tmp_path / "toy_child.py").write_text(TOY)
    packages = str(Path(__file__).parents[3])
    script = f"""
        import time
        from worker.intake.children import ChildPool
        pool = ChildPool("toy_child", 2, environment={{"PYTHONPATH": {os.pathsep.join((str(tmp_path), packages))!r}}})
        print(*pool.pids(), flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": packages},
    ) as worker:
        assert worker.stdout is not None
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        worker.kill()
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_small_pipes_work_too(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(child.fcntl, "fcntl", denied)
    assert len(make_pool().ask((b"echo", bytes(1_000_000)), 10).body) == 1_000_000
