"""How the TensorRT runner uses contexts, graphs and memory, on a stand-in that keeps NVIDIA's rules."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from admodels.runtime import cuda, tensorrt, tensorrt_module
from admodels.runtime.runner import EngineError, EngineLostError, EngineMemoryError
from admodels.runtime.tensorrt import TensorRtRunner
from tests.admodels.runtime import stand_in_gpu
from tests.admodels.runtime.stand_in_gpu import Engine, Error, Gpu, batches


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    made = Gpu()
    monkeypatch.setattr(cuda, "cudart", made.runtime)
    monkeypatch.setattr(tensorrt_module, "logger", lambda _: SimpleNamespace(errors=deque()))
    return made


def runner(gpu: Gpu, profiles: tuple[tuple[int, int], ...] = ((4, 8), (16, 8))) -> TensorRtRunner:
    return TensorRtRunner(stand_in_gpu.tensorrt(Engine(gpu, profiles)), b"plan")


def check(made: TensorRtRunner, x: np.ndarray[Any, Any]) -> None:
    got = made.infer({"x": x})
    np.testing.assert_array_equal(got["y"], 2 * x)
    np.testing.assert_allclose(got["s"], x.sum(1), rtol=1e-5, atol=1e-5)


def test_shapes_that_come_and_go_never_meet_a_graph_of_another_shape(gpu: Gpu) -> None:
    made = runner(gpu)
    for x in batches(np.random.default_rng(0), 300, 16, 8):
        check(made, x)
    assert len(gpu.graphs) == 5 * 8, "buckets 1 to 16, lengths 1 to 8: each was captured once"
    assert gpu.captures == 5 * 8


def test_what_a_caller_holds_is_not_written_by_the_next_run(gpu: Gpu) -> None:
    made = runner(gpu)
    first = made.infer({"x": np.ones((2, 3), np.float32)})
    made.infer({"x": np.zeros((2, 3), np.float32)})
    assert first["s"].tolist() == [3.0, 3.0]


def test_a_capture_that_fails_costs_nothing_and_is_not_tried_again(gpu: Gpu) -> None:
    gpu.capturable = False
    made = runner(gpu)
    for _ in range(3):
        check(made, np.ones((2, 3), np.float32))
    assert gpu.captures == 1
    assert not gpu.graphs
    made.close()
    assert gpu.live == 0


def test_without_memory_for_one_more_context_it_runs_without_a_graph(gpu: Gpu) -> None:
    engine = Engine(gpu, ((4, 8),))
    engine.most_contexts = 1
    made = TensorRtRunner(stand_in_gpu.tensorrt(engine), b"plan")
    for _ in range(3):
        check(made, np.ones((2, 3), np.float32))
    assert (engine.contexts, gpu.captures) == (2, 0)


def test_shapes_beyond_the_limit_run_without_graphs(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "MAX_GRAPHS", 2)
    made = runner(gpu, ((4, 8),))
    for _ in range(2):
        for length in range(1, 6):
            check(made, np.full((1, length), 3, np.float32))
    assert gpu.captures == 2


def test_a_module_that_says_not_now_is_asked_again(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [False, True]
    monkeypatch.setattr(stand_in_gpu.Context, "is_stream_capturable", lambda *_: answers.pop(0), raising=False)
    engine = Engine(gpu, ((4, 8),))
    made = TensorRtRunner(stand_in_gpu.tensorrt(engine), b"plan")
    for _ in range(3):
        check(made, np.ones((2, 3), np.float32))
    assert (answers, gpu.captures, engine.contexts) == ([], 1, 2)


def test_an_error_that_sticks_is_a_lost_engine(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    made = runner(gpu)
    check(made, np.ones((2, 3), np.float32))
    monkeypatch.setattr(gpu.runtime, "cudaStreamSynchronize", lambda _: (Error.cudaErrorIllegalAddress,))
    with pytest.raises(EngineLostError, match="cudaErrorIllegalAddress"):
        made.infer({"x": np.ones((2, 3), np.float32)})


def test_a_batch_beyond_every_profile_is_refused_and_the_next_runs(gpu: Gpu) -> None:
    made = runner(gpu)
    with pytest.raises(EngineError, match="takes shapes up to"):
        made.infer({"x": np.ones((17, 3), np.float32)})
    check(made, np.ones((16, 8), np.float32))


def test_buffers_hold_the_largest_of_each_tensor_over_all_profiles(gpu: Gpu) -> None:
    """The profile with most rows isn't the one with the longest texts."""
    made = runner(gpu, ((32, 2), (2, 64)))
    check(made, np.ones((32, 2), np.float32))
    check(made, np.ones((2, 64), np.float32))


def test_everything_is_given_back(gpu: Gpu) -> None:
    made = runner(gpu)
    for x in batches(np.random.default_rng(1), 20, 16, 8):
        check(made, x)
    assert gpu.live
    made.close()
    made.close()
    assert gpu.live == 0


@pytest.mark.parametrize("room", [0, 1000, 2000])
def test_a_runner_that_lacks_memory_gives_back_what_it_had(gpu: Gpu, room: int) -> None:
    gpu.room = room
    with pytest.raises(EngineMemoryError):
        runner(gpu)
    assert gpu.live == 0
