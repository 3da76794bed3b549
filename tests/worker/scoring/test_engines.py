"""Engines over stand-in runners: shared encoders run once, failures are split until one record stands alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from admodels.contract.bundle import Bundle, BundleError
from admodels.contract.manifest import Calibration, EncoderUse, ImageSpec, Manifest, TensorSpec
from admodels.runtime.runner import EngineError, EngineLostError, EngineMemoryError
from worker.scoring.engines import Engines
from worker.scoring.feeds import Prepared
from worker.scoring.parts import attractiveness_bucket, ctr_bucket

IMAGE = ImageSpec(height=2, width=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def bundle(name: str, task: str, inputs: tuple[str, ...], outputs: tuple[str, ...], **fields: Any) -> Bundle:
    manifest = Manifest(
        manifest_version=1,
        name=name,
        version="1",
        task=task,  # type: ignore[arg-type]
        architecture=name,
        precision="fp32",
        inputs=tuple(TensorSpec(name=item, dtype="float32", shape=("batch",)) for item in inputs),
        outputs=tuple(
            TensorSpec(name=item, dtype="float32", shape=("batch", 3) if item == "sentiment_logits" else ("batch",))
            for item in outputs
        ),
        files={"model.onnx": "0" * 64},
        **fields,
    )
    return Bundle(manifest, {}, (name[0] * 64))


ENCODER = bundle("encoder", "encoder", ("image",), ("mean",), image=IMAGE)
USE = (EncoderUse(name="encoder", version="1", digest=ENCODER.digest, outputs={"mean": "features"}),)
ATTRACTIVENESS = bundle("attractor", "attractiveness", ("features",), ("score",), encoders=USE)
CTR = bundle("clicker", "ctr", ("features",), ("ctr",), encoders=USE, base_rate=0.5, bucket_edges={"ctr": (0.8, 1.2)})
SENTIMENT = bundle(
    "feeler",
    "sentiment",
    ("features",),
    ("sentiment_logits",),
    encoders=USE,
    labels={"sentiment": ("negative", "neutral", "positive")},
    calibration={"sentiment_logits": Calibration(kind="temperature", t=2.0)},
)


class Runner:
    """Counts its calls; refuses batches with a value in `bad`, gives `odd` for values in `nan`.

    `fits` rows have room, `lost` raises as a poisoned context does, `lacks` raises what numpy raises.
    """

    backend = "fake"

    def __init__(self, bundle: Bundle) -> None:
        self.task = bundle.manifest.task
        self.batches: list[int] = []
        self.bad: set[float] = set()
        self.nan: set[float] = set()
        self.odd = np.nan
        self.fits = 100
        self.lost = False
        self.lacks = False

    def infer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        if self.task == "encoder":
            values = feeds["image"].reshape(len(feeds["image"]), -1).mean(axis=1).astype(np.float32) / 255
            outputs = {"mean": values}
        else:
            values = feeds["features"]
            name = {"attractiveness": "score", "ctr": "ctr", "sentiment": "sentiment_logits"}[self.task]
            raw = np.where(np.isin(values.astype(float).round(2), list(self.nan)), self.odd, values).astype(np.float32)
            outputs = {name: np.stack([-raw, raw * 0, raw], axis=1) if self.task == "sentiment" else raw}
        self.batches.append(len(values))
        if self.lost:
            raise EngineLostError("an illegal memory access was encountered")
        if len(values) > self.fits:
            raise MemoryError if self.lacks else EngineMemoryError("out of memory")
        if any(round(float(value), 2) in self.bad for value in values):
            raise EngineError("planted")
        return outputs


class Rig:
    def __init__(self, **heads: Bundle) -> None:
        self.runners: dict[str, Runner] = {}
        self.engines = Engines(
            {head: [item] for head, item in heads.items()}, {ENCODER.digest: ENCODER}, self._make, "ocr-1"
        )

    def _make(self, item: Bundle) -> Runner:
        self.runners[item.manifest.name] = Runner(item)
        return self.runners[item.manifest.name]

    def score(self, *values: int, wanted: tuple[str, ...] | None = None) -> list[Any]:
        heads = frozenset(wanted or self.engines.digests)
        return self.engines.score(
            [Prepared({(2, 2): np.full((2, 2, 3), value, np.uint8)}, {}, heads) for value in values]
        )


@pytest.fixture
def rig() -> Rig:
    return Rig(attractiveness=ATTRACTIVENESS, ctr=CTR, sentiment=SENTIMENT)


def test_parts_are_calibrated_labelled_and_bucketed(rig: Rig) -> None:
    (scored,) = rig.score(255)
    assert scored.parts["attractiveness"] == {"value": 1.0, "bucket": "a9"}
    assert scored.parts["ctr"] == {"value": 1.0, "relative": 2.0, "bucket": "high"}
    exact = np.exp([-0.5, 0.0, 0.5]) / np.exp([-0.5, 0.0, 0.5]).sum()
    sentiment = scored.parts["sentiment"]
    assert list(sentiment["probabilities"].values()) == pytest.approx(exact, abs=1e-6)
    assert sentiment["value"] == pytest.approx(exact[2] - exact[0], abs=2e-6)
    assert (sentiment["label"], sentiment["bucket"]) == ("positive", "pos")


def test_a_shared_encoder_runs_once_per_batch(rig: Rig) -> None:
    rig.score(10, 20, 30)
    assert rig.runners["encoder"].batches == [3]
    assert rig.runners["clicker"].batches == [3]


def test_heads_run_only_for_those_that_want_them(rig: Rig) -> None:
    first = Prepared({(2, 2): np.full((2, 2, 3), 51, np.uint8)}, {}, frozenset({"ctr"}))
    second = Prepared({(2, 2): np.full((2, 2, 3), 102, np.uint8)}, {}, frozenset({"attractiveness", "ctr"}))
    scored = rig.engines.score([first, second])
    assert [set(item.parts) for item in scored] == [{"ctr"}, {"attractiveness", "ctr"}]
    assert scored[1].parts["attractiveness"]["value"] == pytest.approx(0.4)
    assert rig.runners["encoder"].batches == [2]
    assert rig.runners["attractor"].batches == [1]


@pytest.mark.parametrize("place", range(5))
def test_a_record_that_fails_in_one_head_stands_alone(rig: Rig, place: int) -> None:
    values = [51, 51, 51, 51, 51]
    values[place] = 102
    rig.runners["clicker"].bad = {0.4}
    scored = rig.score(*values)
    assert [("ctr" in item.parts, "ctr" in item.errors) for item in scored] == [
        (index != place, index == place) for index in range(5)
    ]
    assert all("attractiveness" in item.parts for item in scored)


def test_a_record_that_fails_in_the_encoder_fails_all_its_heads_and_no_other_record(rig: Rig) -> None:
    rig.runners["encoder"].bad = {0.4}
    good, bad, other = rig.score(51, 102, 204)
    assert set(bad.errors) == {"attractiveness", "ctr", "sentiment"}
    assert not bad.parts
    assert not good.errors
    assert other.parts["ctr"]["value"] == pytest.approx(0.8)


def test_what_is_not_finite_is_never_a_score(rig: Rig) -> None:
    rig.runners["feeler"].nan = {0.4}
    rig.runners["attractor"].nan = {0.4}
    good, bad = rig.score(51, 102)
    assert set(bad.errors) == {"attractiveness", "sentiment"}
    assert "finite" in bad.errors["sentiment"]
    assert bad.parts.keys() == {"ctr"}
    assert not good.errors


def test_an_infinite_value_is_never_a_score(rig: Rig) -> None:
    rig.runners["clicker"].nan = {0.4}
    rig.runners["clicker"].odd = -np.inf
    good, bad = rig.score(51, 102)
    assert "finite" in bad.errors["ctr"]
    assert "ctr" not in bad.parts
    assert good.parts["ctr"]["value"] == pytest.approx(0.2)


def test_what_calibration_makes_infinite_is_never_a_score() -> None:
    tiny = bundle(
        "clicker", "ctr", ("features",), ("ctr",), encoders=USE, base_rate=5e-324, bucket_edges={"ctr": (1.0, 2.0)}
    )
    (scored,) = Rig(ctr=tiny).score(102)
    assert "finite" in scored.errors["ctr"]
    assert not scored.parts


@pytest.mark.parametrize(("raw", "value"), [(1.2, None), (-0.1, None), (1.0005, 1.0), (-0.0005, 0.0), (1.0, 1.0)])
def test_a_share_outside_its_range_is_no_score_but_half_precision_may_round(
    rig: Rig, raw: float, value: float | None
) -> None:
    rig.runners["clicker"].nan, rig.runners["clicker"].odd = {0.4}, raw
    (scored,) = rig.score(102)
    assert scored.parts.get("ctr", {}).get("value") == value
    assert ("ctr" in scored.errors) == (value is None)


@pytest.mark.parametrize(("raw", "sound"), [(7.3, False), (-4.0, False), (1.0005, True), (-0.0005, True), (0.4, True)])
def test_calibration_does_not_make_a_score_of_what_was_out_of_range(raw: float, sound: bool) -> None:
    calibration = {"ctr": Calibration(kind="platt", a=1.0, b=0.0)}
    rig = Rig(ctr=bundle("clicker", "ctr", ("features",), ("ctr",), encoders=USE, calibration=calibration))
    rig.runners["clicker"].nan, rig.runners["clicker"].odd = {0.4}, raw
    (scored,) = rig.score(102)
    assert ("ctr" in scored.parts) == sound
    assert ("ctr" in scored.errors) != sound


@pytest.mark.parametrize("lacks", [False, True])
@pytest.mark.parametrize("name", ["encoder", "clicker"])
def test_without_memory_for_the_batch_it_is_scored_in_parts_and_the_caller_is_told(
    rig: Rig, name: str, lacks: bool
) -> None:
    rig.runners[name].fits, rig.runners[name].lacks = 2, lacks
    told: list[int] = []
    batch = [
        Prepared({(2, 2): np.full((2, 2, 3), value, np.uint8)}, {}, frozenset(rig.engines.digests))
        for value in (10, 20, 30, 40, 50)
    ]
    scored = rig.engines.score(batch, told.append)
    assert not any(item.errors for item in scored)
    assert [item.parts["ctr"]["value"] for item in scored] == pytest.approx(
        [v / 255 for v in (10, 20, 30, 40, 50)], abs=1e-6
    )
    assert told == [5, 3]
    assert rig.runners[name].batches == [5, 2, 3, 1, 2]


def test_no_memory_even_for_one_costs_that_record_alone(rig: Rig) -> None:
    rig.runners["clicker"].fits, rig.runners["clicker"].lacks = 0, True
    (scored,) = rig.score(51)
    assert set(scored.errors) == {"ctr"}
    assert "memory" in scored.errors["ctr"]


def test_a_poisoned_context_is_no_records_fault_and_reaches_the_caller(rig: Rig) -> None:
    rig.runners["clicker"].lost = True
    with pytest.raises(EngineLostError):
        rig.score(51, 102)
    assert rig.runners["clicker"].batches == [2], "the batch isn't tried again in parts"


def test_the_digest_of_a_head_moves_with_its_bundle_and_the_ocr() -> None:
    def digests(ocr: str, ctr: Bundle) -> dict[str, str]:
        return Engines({"ctr": [ctr]}, {ENCODER.digest: ENCODER}, Runner, ocr).digests

    assert digests("a", CTR) == digests("a", CTR)
    assert digests("a", CTR) != digests("b", CTR)
    assert digests("a", CTR) != digests("a", Bundle(CTR.manifest, {}, "9" * 64))


def test_a_missing_encoder_is_named() -> None:
    with pytest.raises(BundleError, match="encoder/1 isn't loaded"):
        Engines({"ctr": [CTR]}, {}, Runner, "ocr")


@pytest.mark.parametrize(
    ("outputs", "inputs", "told"),
    [
        ({"median": "features"}, ("features",), "encoder/1 has no output median"),
        ({"mean": "features"}, ("features", "tokens"), "nothing feeds its input tokens"),
        ({"mean": "features"}, ("features", "input_ids"), "nothing feeds its input input_ids"),
    ],
)
def test_a_head_that_its_encoders_do_not_feed_is_refused_when_it_is_loaded(
    outputs: dict[str, str], inputs: tuple[str, ...], told: str
) -> None:
    use = (EncoderUse(name="encoder", version="1", digest=ENCODER.digest, outputs=outputs),)
    with pytest.raises(BundleError, match=told):
        Rig(ctr=bundle("clicker", "ctr", inputs, ("ctr",), encoders=use))


def test_a_head_that_takes_another_shape_than_its_encoder_gives_is_refused_when_it_is_loaded() -> None:
    wide = CTR.manifest.model_copy(
        update={"inputs": (TensorSpec(name="features", dtype="float32", shape=("batch", 4)),)}
    )
    with pytest.raises(BundleError, match=r"gives mean as float32 .* takes features as float32"):
        Rig(ctr=Bundle(wide, {}, CTR.digest))


def test_an_engine_with_other_outputs_than_its_manifest_says_fails_the_record_with_the_reason(rig: Rig) -> None:
    said = CTR.manifest.model_copy(
        update={"outputs": (*CTR.manifest.outputs, TensorSpec(name="attention", dtype="float32", shape=("batch",)))}
    )
    (scored,) = Rig(ctr=Bundle(said, {}, CTR.digest)).score(51)
    assert "output attention is missing" in scored.errors["ctr"]


@pytest.mark.parametrize(("value", "bucket"), [(0.0, "a0"), (0.0999, "a0"), (0.1, "a1"), (0.95, "a9"), (1.0, "a9")])
def test_attractiveness_buckets(value: float, bucket: str) -> None:
    assert attractiveness_bucket(value) == bucket


@pytest.mark.parametrize(("relative", "bucket"), [(0.0, "low"), (0.8, "medium"), (1.19, "medium"), (1.2, "high")])
def test_ctr_buckets(relative: float, bucket: str) -> None:
    assert ctr_bucket(relative, (0.8, 1.2)) == bucket


def test_an_encoder_that_is_loaded_already_is_not_loaded_again(rig: Rig) -> None:
    made: list[str] = []

    def make(item: Bundle) -> Runner:
        made.append(item.manifest.name)
        return Runner(item)

    beside = Engines({"ctr": [CTR]}, {ENCODER.digest: ENCODER}, make, "ocr-1", rig.engines.encoders)
    assert made == ["clicker"]
    (scored,) = beside.score([Prepared({(2, 2): np.full((2, 2, 3), 255, np.uint8)}, {}, frozenset({"ctr"}))])
    assert scored.parts["ctr"] == rig.score(255)[0].parts["ctr"]
    assert rig.runners["encoder"].batches == [1, 1]
    assert beside.digests["ctr"] == rig.engines.digests["ctr"]
