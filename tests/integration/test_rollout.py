"""A new model's way into service: beside the live one, then live, then over what the old one scored.

The commands are those of docs/operations.md.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.creatives import LASTMOD, Outgoing, bare, with_image, withdrawal
from tests.faults.gate import Gate
from tests.faults.light_models import write_light_models, write_next_ctr
from tests.faults.process import WorkerProcess, wait_for
from tests.faults.wire import Found, publish, read_all

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
(REPORT,), (DRY_RUN, STALE, SINCE, RESUME) = (
    [
        tuple(line.split())
        for line in re.findall(r"^ *adscore (.*)$", PAGE.split(title)[1].split("\n##")[0], re.MULTILINE)
    ]
    for title in ("\n### Rolling out a model\n", "\n## Rescoring\n")
)
CREATIVES = 20
LINKED = 5
"""So many of them have their image behind a URL."""
NEXT = {"ADSCORE_MODELS__CTR": "adfusion/2"}


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Settings of a worker on light bundles, of which `adfusion` has a version 2. Version 1 serves."""
    folder = write_next_ctr(write_light_models(tmp_path_factory.mktemp("models")))
    return {
        "ADSCORE_MODELS__DIR": str(folder),
        "ADSCORE_MODELS__CTR": "adfusion/1",
        "ADSCORE_DECODE__WORKERS": "1",
        "ADSCORE_OCR__WORKERS": "1",
        "ADSCORE_PIPELINE__ENGINE_THREADS": "1",
        "ADSCORE_HTTP__HOST": "127.0.0.1",
    }


@pytest.fixture
def start(start_adscore: Callable[..., Any], two_versions: Mapping[str, str]) -> Callable[..., WorkerProcess]:
    def start(topics: Any, *arguments: str, **settings: str) -> WorkerProcess:
        return WorkerProcess(start_adscore("worker", *arguments, env=topics.env | two_versions | settings))

    return start


@pytest.fixture
def site() -> Iterator[Gate]:
    with Gate() as gate:
        gate.open()
        yield gate


def newest(servers: str, topic: str) -> dict[str, Found]:
    """As an ad server holds it: the last record of each creative, withdrawn ones left out."""
    held = {(found.key or b"").decode(): found for found in read_all(servers, topic)}
    return {name: found for name, found in held.items() if found.value is not None}


def creatives(count: int, **more: Any) -> list[Outgoing]:
    # Every image has a colour: on black the light bundles of all versions agree.
    return [bare(f"cr-{number}", number + 1, **more) for number in range(count)]


def _scored_by(worker: WorkerProcess) -> dict[tuple[str, str], float]:
    """(bundle, version) → creatives that it was run on, of those that ran."""
    families = text_string_to_metric_families(worker.get("/metrics")[1])
    samples = [sample for family in families for sample in family.samples]
    counted = [sample for sample in samples if sample.name == "adscore_model_creatives_total" and sample.value]
    return {(sample.labels["name"], sample.labels["version"]): sample.value for sample in counted}


def stop(worker: WorkerProcess) -> None:
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.told


def test_what_an_older_version_scored_is_scored_again_behind_live_traffic(
    stack, make_topics, start, adscore, two_versions, site: Gate, tmp_path: Path
) -> None:
    topics, servers = make_topics(2), stack.bootstrap_servers
    old_ms = LASTMOD - 1_000
    fetch = site.settings | {"ADSCORE_FETCH__HELD_DIR": str(tmp_path / "held")}
    # Some are read by OCR, some are downloaded, and some are ordered by their record's time alone.
    linked = [with_image(f"cr-{number}", site.url(number + 1), ocr_text=None) for number in range(LINKED)]
    publish(servers, topics.input, [*linked, *creatives(CREATIVES, ocr_text=None)[LINKED:]])
    publish(servers, topics.input, [bare("undated", 90, lastmod=None)], timestamp_ms=old_ms)
    assert start(topics, "--until-idle", "0.5", **fetch).wait() == 0
    before = newest(servers, topics.output)
    assert len(before) == CREATIVES + 1
    assert site.asked.total() == LINKED

    env = topics.env | two_versions | NEXT
    worker = start(topics, **NEXT, **fetch).wait_ready()
    told = adscore(*DRY_RUN, env=env)
    assert (told.returncode, len(told.stdout.splitlines())) == (0, CREATIVES + 1), told.stderr
    ran = adscore(*STALE, env=env)
    assert ran.returncode == 0, ran.stderr
    assert f"{CREATIVES + 1} sent, 0 withdrawn or newer, 0 expired, 0 failed" in ran.stderr
    after = newest(servers, topics.output)
    assert after.keys() == before.keys()
    for name, found in after.items():
        event, was = found.event, before[name].event
        assert event["provenance"]["models"]["ctr"][0]["version"] == "2"
        assert event["provenance"]["cache"] == {"attractiveness": "hit", "sentiment": "hit", "ctr": "miss"}, name
        assert event["scores"]["ctr"] != was["scores"]["ctr"]
        same = ("lastmod", "text", "content_sha256", "phash")
        assert {field: event[field] for field in same} == {field: was[field] for field in same}
        assert event["scores"]["sentiment"] == was["scores"]["sentiment"]
        assert found.source != before[name].source
    assert after["undated"].event["lastmod"] == old_ms
    assert worker.metric("adscore_stage_duration_seconds_count", stage="ocr") == 0, "it read a known picture again"
    assert _scored_by(worker) == {("adfusion", "2"): CREATIVES + 1}, "another model than the new one ran"
    assert worker.metric("adscore_event_age_seconds_bucket", le="60.0") == CREATIVES + 1, "it seems to have waited"
    assert site.asked.total() == LINKED, "it downloaded what was held"
    assert worker.metric("adscore_held_images_total", result="hit") == LINKED
    again = adscore(*STALE, env=env)
    assert (again.returncode, "0 sent" in again.stderr) == (0, True), again.stderr
    assert adscore(*SINCE, env=env).returncode == 0
    resumed = adscore(*RESUME, env=env)
    assert (resumed.returncode, "no run was ended early" in resumed.stderr) == (0, True), resumed.stderr
    stop(worker)


def test_what_comes_while_it_runs_wins(stack, make_topics, start, adscore, two_versions) -> None:
    topics, servers = make_topics(1), stack.bootstrap_servers
    publish(servers, topics.input, creatives(4))
    assert start(topics, "--until-idle", "0.5").wait() == 0
    # Nobody has seen these yet when the copies are put behind them.
    publish(servers, topics.input, [withdrawal("cr-0"), bare("cr-1", 41, lastmod=LASTMOD + 1), bare("cr-2", 42)])
    ran = adscore("rescore", "--since", "2020-01-01", env=topics.env | two_versions | NEXT)
    assert ran.returncode == 0, ran.stderr
    assert "4 sent" in ran.stderr
    assert "no worker is in group" in ran.stderr
    # And another's memory is not needed to know: Redis has it.
    worker = start(topics, **NEXT)
    worker.wait_processed(7)
    assert worker.metric("adscore_events_processed_total", outcome="superseded") == 3
    assert worker.metric("adscore_events_processed_total", outcome="scored") == 3
    stop(worker)
    found = newest(servers, topics.output)
    assert found.keys() == {"cr-1", "cr-2", "cr-3"}, "a withdrawn creative came back"
    images = {name: one.event["image_sha256"] for name, one in found.items()}
    publish(servers, topics.input, [bare("probe-1", 41), bare("probe-2", 42)])
    assert start(topics, "--until-idle", "0.5", **NEXT).wait() == 0
    probes = newest(servers, topics.output)
    assert images["cr-1"] == probes["probe-1"].event["image_sha256"]
    assert images["cr-2"] == probes["probe-2"].event["image_sha256"], "an equal revision that came later was undone"


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_a_candidate_scores_a_copy_and_is_compared(
    stack, make_topics, start, adscore, two_versions, delivery: str
) -> None:
    topics, servers = make_topics(2), stack.bootstrap_servers
    candidate = {"ADSCORE_SHADOW__CTR": "adfusion/2", "ADSCORE_KAFKA__DELIVERY": delivery}
    env = topics.env | two_versions | candidate
    nothing = adscore(*REPORT, env=env)
    assert nothing.returncode == 3, nothing.stderr
    assert "ADSCORE_SHADOW__" in nothing.stderr
    # Known content, so that its live scores come from the cache: the candidate must decode it itself.
    publish(servers, topics.input, creatives(2))
    assert start(topics, "--until-idle", "0.5").wait() == 0
    records = [*creatives(CREATIVES), bare("copy-of-3", 4), bare("bad", 1, ad={"display": {}}), withdrawal("nobody")]
    sent = publish(servers, topics.input, [*records, bare("cr-5", 6, lastmod=LASTMOD - 1)])
    worker = start(topics, **candidate)
    worker.wait_processed(len(sent))
    wait_for(lambda: worker.metric("adscore_shadow_events_total") == CREATIVES + 1, "not all were scored again")
    assert worker.metric("adscore_shadow_events_total", outcome="published") == CREATIVES + 1
    stop(worker)

    live = newest(servers, topics.output)
    shadow = {found.source: found for found in read_all(servers, topics.shadow)}
    assert shadow.keys() == {found.source for found in live.values() if found.source in set(sent)}
    for found in shadow.values():
        event, beside = found.event, live[(found.key or b"").decode()].event
        assert found.header("ce_type") == "creative.shadow.v1"
        assert found.header("ce_subject") == (found.key or b"").decode() == event["creative_id"]
        assert event["scores"].keys() == event["provenance"]["models"].keys() == {"ctr"}
        assert event["provenance"]["models"]["ctr"][0]["version"] == "2"
        assert beside["provenance"]["models"]["ctr"][0]["version"] == "1"
        assert event["scores"]["ctr"] != beside["scores"]["ctr"]
        same = ("lastmod", "content_sha256", "image_sha256", "text")
        assert {field: event[field] for field in same} == {field: beside[field] for field in same}
        assert found.timestamp_ms >= live[event["creative_id"]].timestamp_ms, "it was published before the live event"
    checked = adscore("schema", "check", "-", stdin=b"\n".join(found.value for found in shadow.values()).decode())
    assert checked.returncode == 0, checked.stdout

    report = adscore(*REPORT, "--json", env=env)
    told = orjson.loads(report.stdout)
    assert told["creatives"] == CREATIVES + 1
    assert adscore(*REPORT, env=env).returncode == report.returncode
    assert told["heads"].keys() == {"ctr"}
    assert report.returncode == (1 if told["over"] else 0)
    lenient = ("--min-rank-correlation", "-1", "--max-psi", "100", "--max-flip-rate", "1")
    assert adscore("shadow", "report", *lenient, env=env).returncode == 0
    strict = adscore("shadow", "report", "--min-rank-correlation", "1", "--max-psi", "0", env=env)
    assert strict.returncode == 1, strict.stdout

    # What the candidate scored beside live traffic needs no scoring once it is live.
    worker = start(topics, **NEXT).wait_ready()
    assert adscore("rescore", env=topics.env | two_versions | NEXT).returncode == 0
    events = [found.event for name, found in newest(servers, topics.output).items() if name in ("cr-7", "cr-8")]
    assert [event["provenance"]["cache"]["ctr"] for event in events] == ["hit", "hit"]
    stop(worker)


def test_a_candidate_that_cannot_be_loaded_is_told_at_the_start(adscore, topics, two_versions, tmp_path: Path) -> None:
    env = topics.env | two_versions
    missing = adscore("worker", env=env | {"ADSCORE_SHADOW__CTR": "adfusion/9"})
    assert missing.returncode == 3
    assert "adfusion" in missing.stderr
    wrong = adscore("worker", env=env | {"ADSCORE_SHADOW__CTR": "dbafn/1"})
    assert wrong.returncode == 3
    nowhere = adscore("worker", env=env | {"ADSCORE_SHADOW__CTR": "adfusion/2", "ADSCORE_KAFKA__SHADOW_TOPIC": "none"})
    assert nowhere.returncode == 3
    assert "topics create" in nowhere.stderr
