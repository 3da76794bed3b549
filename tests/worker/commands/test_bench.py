"""`adscore bench`: figures of a real worker, in memory and on the real broker, and nothing of it left behind."""

import json
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from PIL import Image

from tests.conftest import Running, Topics
from tests.fakes import eventually
from tools.stack import Stack
from worker.commands import bench_runs
from worker.commands.bench_creatives import samples, tails
from worker.commands.bench_rig import Result, Stages, between, bottleneck
from worker.commands.bench_runs import Ages, Supply, best, narrowed, open_loop, slope
from worker.commands.group_lag import patiently
from worker.errors import FatalError
from worker.intake.events import parse_record
from worker.types import Creative, Origin, Record

MIB = 1 << 20


@pytest.fixture
def light(tiny_models: Path) -> dict[str, str]:
    return {"ADSCORE_MODELS__DIR": str(tiny_models), "ADSCORE_OCR__WORKERS": "1", "ADSCORE_DECODE__WORKERS": "1"}


def parsed(event: bytes) -> Creative:
    creative = parse_record(Record(Origin("t", 0, 0, 1), None, event))
    assert isinstance(creative, Creative)
    return creative


def test_throughput_of_the_made_creatives_beside_the_bare_engines(adscore: Callable[..., Any], light: Any) -> None:
    ran = adscore("bench", "throughput", "--creatives", "30", "--rounds", "2", "--json", env=light)
    assert ran.status == 0, ran.err
    assert ran.err == ""
    told = json.loads(ran.out)
    assert (told["bench"], told["where"], told["cached"]) == ("throughput", "process", False)
    assert told["creatives"]["distinct"] == told["creatives"]["without_ocr"] == 24
    assert [entry["outcomes"] for entry in told["rounds"]] == [{"scored": 30}] * 2
    assert [entry["from_cache"] for entry in told["rounds"]] == [0, 0]  # also where a creative comes again
    for entry in told["rounds"]:
        assert entry["ratio"] == pytest.approx(entry["worker"] / entry["engine"], rel=1e-2)
        assert entry["ratio"] < 1  # these engines cost nothing: decoding is what limits
        assert {name: stage["count"] for name, stage in entry["stages"].items() if name != "infer"} == {
            **dict.fromkeys(("fetch", "decode"), 30),
            "publish": pytest.approx(30, abs=16),  # its metrics are counted behind the result
        }
        assert 0 < entry["stages"]["decode"]["busy"] <= 1
        assert entry["stages"]["publish"]["busy"] is None
    assert told["bottleneck"] == "decode"
    assert told["models"]["ctr"][0]["name"] == "adfusion"
    assert told["machine"]["cores"] >= 1


def test_what_the_cache_holds_costs_no_decoder(adscore: Callable[..., Any], light: Any) -> None:
    ran = adscore("bench", "throughput", "--creatives", "30", "--rounds", "1", "--cached", env=light)
    assert ran.status == 0, ran.err
    assert "30 scored (30 from the cache)" in ran.out
    assert "\nfetch " in ran.out
    assert "\ndecode " not in ran.out
    assert ran.out.rstrip().endswith("bottleneck: fetch")


def test_latency_at_given_rates(adscore: Callable[..., Any], light: Any) -> None:
    arguments = ("--rate", "20", "--rate", "5", "--seconds", "2", "--p99-ms", "60000", "--json")
    ran = adscore("bench", "latency", *arguments, env=light)
    assert ran.status == 0, ran.err
    told = json.loads(ran.out)
    assert [entry["rate"] for entry in told["rates"]] == [5, 20]
    for entry in told["rates"]:
        assert entry["offered"] == pytest.approx(entry["rate"], rel=0.6)
        assert 0 < entry["p50"] <= entry["p95"] <= entry["p99"] <= entry["max"]
        assert entry["outcomes"] == {"scored": entry["offered"] * 2}
        assert not entry["overloaded"]
    assert told["best_rate"] == 20  # with a minute to spare; the next test has none
    assert told["saturated"] > 0


def test_no_rate_holds_a_limit_that_nothing_can(adscore: Callable[..., Any], light: Any) -> None:
    ran = adscore("bench", "latency", "--rate", "10", "--seconds", "1", "--p99-ms", "1", "--refine", "1", env=light)
    assert ran.status == 0, ran.err
    rates = [line.split()[0] for line in ran.out.splitlines() if line[:1].isdigit()]
    assert rates[:2] == ["5", "10"]
    assert "p99 of 1 ms or less: at none of these rates" in ran.out


def test_own_creatives_with_text_to_read(adscore: Callable[..., Any], light: Any, tmp_path: Path) -> None:
    folder = tmp_path / "ads"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (60, 50), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"GIF but not really")
    ran = adscore("bench", "throughput", str(folder), "--creatives", "12", "--rounds", "1", "--json", env=light)
    assert ran.status == 1  # every fourth can't be decoded
    told = json.loads(ran.out)
    assert told["rounds"][0]["outcomes"] == {"scored": 9, "unsupported_format": 3}
    assert told["rounds"][0]["stages"]["ocr"]["count"] == 9
    assert "3 creatives ended as unsupported_format" in ran.err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("throughput", "/nowhere/ad.png"), 1, "there is no such file"),
        (("throughput", "--cached", "--broker"), 2, "needs ADSCORE_REDIS__URL"),
        (("throughput", "--creatives", "5"), 2, "--creatives"),
        (("latency", "--rate", "0"), 2, "--rate"),
        (("latency", "--text", "none"), 2, "'given'"),
    ],
)
def test_what_is_wrong_is_told(adscore: Callable[..., Any], arguments: Any, status: int, said: str) -> None:
    ran = adscore("bench", *arguments)
    assert ran.status == status
    assert said in ran.err


class Bench:
    """`bench` on the real broker, with topics of the settings beside it that it must leave alone."""

    def __init__(self, stack: Stack, env: dict[str, str]) -> None:
        self.stack, self.env = stack, env

    def left(self) -> set[str]:
        from kafka import KafkaAdminClient

        with closing(KafkaAdminClient(bootstrap_servers=self.stack.bootstrap_servers)) as admin:
            groups = {group["group_id"] for group in patiently(admin.list_groups)}
            return {name for name in {*admin.list_topics(), *groups} if name.startswith("adscore-bench-")}

    def received(self, topics: Topics) -> int:
        from kafka import KafkaConsumer, TopicPartition

        with closing(KafkaConsumer(bootstrap_servers=self.stack.bootstrap_servers)) as client:
            names = (topics.input, topics.output, topics.dlq)
            return sum(client.end_offsets([TopicPartition(name, part) for name in names for part in range(3)]).values())


def test_on_the_broker_with_topics_of_its_own(
    adscore: Callable[..., Any], topics: Topics, stack: Stack, light: dict[str, str]
) -> None:
    on_broker = Bench(stack, {**topics.env, **light})
    arguments = ("--broker", "--creatives", "30", "--rounds", "1", "--cached", "--json")
    ran = adscore("bench", "throughput", *arguments, env=on_broker.env | {"ADSCORE_REDIS__TIMEOUT_MS": "5000"})
    assert ran.status == 0, ran.err
    told = json.loads(ran.out)
    assert told["where"] == "broker"
    assert told["rounds"][0]["outcomes"] == {"scored": 30}
    assert told["rounds"][0]["from_cache"] == 30
    assert told["rounds"][0]["stages"]["fetch"]["count"] <= 30
    assert told["rounds"][0]["worker"] > 0
    assert on_broker.left() == set()
    assert on_broker.received(topics) == 0


def test_interrupted_it_leaves_nothing(
    start_adscore: Callable[..., Running], topics: Topics, stack: Stack, light: dict[str, str]
) -> None:
    on_broker = Bench(stack, {**topics.env, **light})
    arguments = ("--broker", "--rate", "5", "--seconds", "600")
    running = start_adscore("bench", "latency", *arguments, env=on_broker.env)
    eventually(lambda: any(not name.endswith(("put", "dlq", "shadow")) for name in on_broker.left()), 60)  # the group
    running.signal(signal.SIGINT)
    assert running.wait() == 130
    assert running.stderr.strip() == ""
    assert on_broker.left() == set()


NATIVE = {
    "specversion": "1.0",
    "id": "1",
    "type": "creative.submitted.v1",
    "source": "s",
    "data": {
        "copy": {"headline": "Hi"},
        "asset": {"sha256": "0" * 64, "bytes": 3},
        "ad": {
            "display": {"native": {"asset": [{"image": {"url": "data:image/png;base64,QUJDRA==", "type": 3}}]}},
            "id": "native",
        },
        "ocr_text": "SALE",
    },
}
REMOTE = {
    "copy": {"body": "text"},
    "ad": {"id": "remote", "display": {"banner": {"img": "https://cdn.example/a.png"}}},
}


@pytest.mark.parametrize(
    ("event", "text", "ocr"),
    [(NATIVE, "as-is", "SALE"), (NATIVE, "read", None), (REMOTE, "as-is", None), (REMOTE, "given", "")],
)
def test_an_event_again_and_again(tmp_path: Path, event: Any, text: Any, ocr: str | None) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps(event))
    (sample,), bad = samples([str(file)], text, MIB)
    assert bad == []
    made = tails()
    first, second = next(made), next(made)
    one, again, other = (parsed(sample.event(name, tail)) for name, tail in (("a", first), ("b", first), ("a", second)))
    assert [creative.creative_id for creative in (one, again, other)] == ["a", "b", "a"]
    assert one.ocr_text == sample.creative.ocr_text == ocr
    assert one.asset.sha256 is None
    assert (one.image_url, one.copy) == (again.image_url, again.copy)
    assert (one.image_url, one.copy) != (other.image_url, other.copy)
    if event is NATIVE:
        assert one.image_url.startswith("data:image/png;base64,QUJDRAAA")
        assert one.copy == other.copy
    else:
        assert one.image_url == "https://cdn.example/a.png"


def ages(rate: float, p99: float, overloaded: bool = False) -> Ages:
    return Ages(rate, rate, 10, 1.0, 1.0, p99, p99, overloaded, {})


@pytest.mark.parametrize(
    ("found", "kept", "following"),
    [
        ([ages(1, 50), ages(2, 90)], 2, None),
        ([ages(4, 500), ages(2, 90)], 2, 3.0),
        ([ages(4, 50, overloaded=True), ages(2, 90)], 2, 3.0),
        ([ages(2.1, 500), ages(2, 90)], 2, None),
        ([ages(4, 500)], None, 2.0),
        # By luck a higher rate holds where a lower one doesn't: that is no proof.
        ([ages(1, 50), ages(2, 500), ages(3, 50)], 1, 1.5),
    ],
)
def test_the_highest_rate_that_holds(found: list[Ages], kept: float | None, following: float | None) -> None:
    assert best(found, 100) == kept
    assert narrowed(found, 100) == following


def test_a_rate_is_that_of_the_batches() -> None:
    # Sixteen at a time, twice a second: neither the first nor the last batch distorts it.
    assert slope([number // 16 * 0.5 for number in range(160)]) == pytest.approx(32, rel=0.02)
    with pytest.raises(FatalError, match="--creatives"):
        slope([1.0, 1.0])


def test_shares_are_of_a_stages_own_workers() -> None:
    before = Stages(10.0, {"decode": (1.0, 10), "infer": (5.0, 1)})
    after = Stages(20.0, {"decode": (11.0, 110), "infer": (14.0, 4), "publish": (3.0, 300)})
    found = between(before, after, {"fetch": 64, "decode": 2, "infer": 1})
    assert {name: (stage.busy, stage.count) for name, stage in found.items()} == {
        "decode": (0.5, 100),
        "infer": (0.9, 3),
        "publish": (None, 300),
    }
    assert found["infer"].mean_ms == 3000
    assert bottleneck(found) == "infer"


class SlowRig:
    """Delivers one record every `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.results: SimpleQueue[Result] = SimpleQueue()
        self._seconds, self._waiting, self._at = seconds, [], 0.0

    def offer(self, offers: Any) -> None:
        self._waiting = list(offers)
        for offer in self._waiting[:4]:
            self._at = max(self._at, offer.due) + self._seconds
            self.results.put(Result(offer.key, self._at, b'{"status": "scored"}'))

    def withdraw(self) -> int:
        return len(self._waiting) - 4

    def check(self) -> None:
        """It never ends."""


def test_a_rate_that_is_too_high_is_given_up(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    good, _ = samples([str(tmp_path / "a.png")], "as-is", MIB)
    rig: Any = SlowRig(1.0)
    found = open_loop(rig, Supply(good, tails()), 50, 0.5, 0.01)
    assert found.overloaded
    assert found.outcomes == {"scored": 4}
    assert found.max == pytest.approx(4000, abs=500)
    assert not bench_runs.holds(found, 10_000)
