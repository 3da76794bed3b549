"""Untrained models of every paper: graphs that any batch and length fits, proved on the runners of this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from admodels.checkpoint import Checkpoint
from admodels.contract.spec import TASKS
from admodels.runtime.onnxruntime import OnnxRuntimeRunner
from export.heads import export_head
from export.onnx_from_torch import export_graph
from export.untrained import untrained

MODELS = Path(__file__).parents[2] / "models"


def small(name: str) -> Checkpoint:
    made = untrained(f"small:{name}", MODELS)
    assert made is not None
    return made


@pytest.fixture(scope="module", params=["deepm2ad", "mvla"])
def graph(request: pytest.FixtureRequest) -> bytes:
    """The two that read more than maps and tokens; the others are exported by the verbs' tests and as engines."""
    return export_head(small(request.param), MODELS, backends=("onnxruntime",)).model


def feeds(model: bytes, batch: int, length: int) -> dict[str, np.ndarray]:
    """Random inputs; the second half of the second row's text is padding."""
    generator = np.random.default_rng(0)
    made: dict[str, np.ndarray] = {}
    for value in onnx.load_from_string(model).graph.input:
        sizes = {"batch": batch, "length": length, "words": length, "rows": 7}
        kind = value.type.tensor_type
        shape = [sizes[d.dim_param] if d.dim_param else d.dim_value for d in kind.shape.dim]
        if value.name.endswith("_mask"):
            made[value.name] = np.ones(shape, np.int64)
            made[value.name][1, length // 2 :] = 0
        elif kind.elem_type == onnx.TensorProto.INT64:
            made[value.name] = generator.integers(1, 100, shape)
        else:
            made[value.name] = generator.normal(size=shape).astype(np.float32)
    return made


def test_a_row_is_itself_in_any_batch_and_beside_any_length(graph: bytes) -> None:
    runner = OnnxRuntimeRunner(graph)
    given = feeds(graph, batch=5, length=40)  # neither size is the exporter's example's
    together = runner.infer(given)
    texts = ("tokens", "words", "attention_mask", "copy_mask", "word_mask")
    alone = runner.infer({name: v[1:2, :20] if name in texts else v[1:2] for name, v in given.items()})
    for name, value in alone.items():
        whole = together[name]
        assert len(whole) == 5
        np.testing.assert_allclose(whole[1:2, :20] if name == "aspect_emissions" else whole[1:2], value, atol=1e-5)
        assert np.isfinite(whole).all()


def test_eight_bits_hold_on_every_runner_of_a_cpu() -> None:
    """Left alone OpenVINO merges what lies between a Q and a DQ: a score was 0.24 off, not 0.015."""
    verdict = export_head(small("dbafn"), MODELS, precision="int8", backends=("onnxruntime", "openvino")).verdict
    assert verdict.ok
    assert {report.backend for report in verdict.reports} == {"onnxruntime", "openvino"}


@pytest.mark.parametrize("name", list(TASKS))
def test_the_same_name_is_the_same_model(name: str) -> None:
    one, two = small(name), small(name)
    assert one.spec == two.spec
    assert one.state.keys() == two.state.keys()
    assert all(torch.equal(value, two.state[key]) for key, value in one.state.items())


class Counting(nn.Module):
    """Reads its batch by `len`, which the exporter takes for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(len(x), 1)


def test_a_module_that_fixes_its_batch_is_not_exported() -> None:
    with pytest.raises(
        ValueError, match=r"input x: axis 0 became 2 in the graph, not the symbol 'batch'.*x\.shape\[0\]"
    ):
        export_graph(Counting(), {"x": torch.ones(2, 3)}, outputs=["y"], dynamic={"x": {0: "batch"}})


def test_a_source_that_is_no_size_is_none() -> None:
    assert untrained("runs/dbafn", MODELS) is None
    with pytest.raises(ValueError, match="no model named 'vgg'; there are dbafn, fgmfn, mvla, deepm2ad, adfusion"):
        untrained("paper:vgg", MODELS)
