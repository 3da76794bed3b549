"""Every query of the dashboard and the alerts asks for what the worker exports; every alert has its runbook."""

import json
import re
from collections.abc import Iterator

import promql_parser
import pytest

from tools.helm import ROOT
from worker.metrics import DECLARATIONS, Metrics

SCRAPED = {"job", "pod", "le"}
VARIABLES = {"$__rate_interval": "5m", "$job": "ads/adscore"}


def series() -> dict[str, set[str]]:
    """Name of each series → its labels, as the worker's own registry exports them."""
    metrics = Metrics()
    found = {}
    for family in metrics.registry.collect():
        (declared,) = [item for item in DECLARATIONS if item.name in (family.name, f"{family.name}_total")]
        suffixes = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}[family.type]
        found |= {family.name + suffix: set(declared.labels) | SCRAPED for suffix in suffixes}
    return found


SERIES = series()


def selectors(expr: str) -> Iterator[promql_parser.VectorSelector]:
    """Every vector selector in a query, after Grafana's variables are filled in."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    found: list[promql_parser.VectorSelector] = []
    _collect(promql_parser.parse(expr), found)
    yield from found


def _collect(node: object, found: list) -> None:
    if isinstance(node, promql_parser.VectorSelector):
        found.append(node)
    elif isinstance(node, promql_parser.MatrixSelector):
        _collect(node.vector_selector, found)
    elif isinstance(node, promql_parser.BinaryExpr):
        _collect(node.lhs, found)
        _collect(node.rhs, found)
    elif isinstance(node, promql_parser.Call):
        for argument in node.args:
            _collect(argument, found)
    elif hasattr(node, "expr"):
        _collect(node.expr, found)


def check(expr: str) -> None:
    asked = list(selectors(expr))
    assert asked, expr
    for selector in asked:
        assert selector.name in SERIES, f"{selector.name} isn't exported"
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= SERIES[selector.name], f"{selector.name} has no label {labels - SERIES[selector.name]}"


def dashboard(chart) -> dict:
    (config,) = [item for item in chart("everything").all("ConfigMap") if "adscore.toml" not in item["data"]]
    (text,) = config["data"].values()
    return json.loads(text)


def rules(chart, shape: str = "everything", sets: tuple[str, ...] = ()) -> list[dict]:
    groups = chart(shape, sets=sets).one("PrometheusRule")["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_a_query_for_a_metric_that_isnt_there_is_seen() -> None:
    with pytest.raises(AssertionError, match="isn't exported"):
        check('sum(rate(adscore_creatives_total{job="a"}[5m]))')
    with pytest.raises(AssertionError, match="has no label"):
        check('adscore_dlq_total{creative_id="a"}')


def test_every_query_of_the_dashboard_asks_for_what_is_exported(chart) -> None:
    targets = [target for panel in dashboard(chart)["panels"] for target in panel.get("targets", [])]
    assert len(targets) > 20
    for target in targets:
        check(target["expr"])


def test_the_dashboard_shows_every_metric(chart) -> None:
    text = json.dumps(dashboard(chart))
    assert [item.name for item in DECLARATIONS if item.name not in text] == []


def test_the_dashboard_has_its_rows_and_takes_its_data_source_from_a_variable(chart) -> None:
    board = dashboard(chart)
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == [
        "Freshness",
        "Throughput",
        "Latency by stage",
        "Batches and scores",
        "Cache",
        "Dead letters",
        "Lag",
        "GPU and models",
    ]
    sources = {panel["datasource"]["uid"] for panel in board["panels"] if panel["type"] != "row"}
    assert sources == {"${datasource}"}
    assert [item["name"] for item in board["templating"]["list"]] == ["datasource", "job"]


def test_panels_have_ids_of_their_own_and_dont_overlap(chart) -> None:
    panels = dashboard(chart)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(x < 24 for x, _ in cells)


def test_two_releases_have_dashboards_of_their_own(chart) -> None:
    uids = set()
    for release in ("blue", "green"):
        (config,) = [
            item for item in chart("everything", release=release).all("ConfigMap") if "adscore.toml" not in item["data"]
        ]
        uids.add(json.loads(next(iter(config["data"].values())))["uid"])
    assert len(uids) == 2
    assert all(len(uid) <= 40 for uid in uids)


def test_the_buckets_that_are_asked_for_are_there(chart) -> None:
    asked = {
        (selector.name, matcher.value)
        for rule in rules(chart)
        for selector in selectors(rule["expr"])
        for matcher in selector.matchers.matchers
        if matcher.name == "le"
    }
    assert asked
    for name, bound in asked:
        (declared,) = [item for item in DECLARATIONS if f"{item.name}_bucket" == name]
        assert float(bound) in declared.buckets


def test_every_alert_asks_for_what_is_exported_of_this_release_alone(chart) -> None:
    found = rules(chart)
    assert {rule["alert"] for rule in found} == {
        "AdscoreAbsent",
        "AdscoreNotProgressing",
        "AdscoreFreshnessBurnsFast",
        "AdscoreFreshnessBurnsSlowly",
        "AdscoreDeadLetters",
        "AdscoreHeadFailing",
        "AdscoreBreakerOpen",
        "AdscoreScoreDrift",
        "AdscoreServedStale",
        "AdscoreEngineFallback",
    }
    for rule in found:
        check(rule["expr"])
        for selector in selectors(rule["expr"]):
            jobs = [matcher.value for matcher in selector.matchers.matchers if matcher.name == "job"]
            assert jobs == ["ads/adscore"]


def test_the_job_is_the_one_that_the_pod_monitor_makes(chart) -> None:
    monitor = chart("everything").one("PodMonitor")["metadata"]
    assert f"{monitor['namespace']}/{monitor['name']}" == "ads/adscore"


def test_every_alert_has_a_runbook_of_its_name(chart) -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### (Adscore\w+)$", page, flags=re.MULTILINE)
    assert sorted(sections) == sorted(rule["alert"] for rule in rules(chart))
    for rule in rules(chart):
        path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert (ROOT / path).is_file()
        assert anchor == rule["alert"].lower()


def test_alerts_that_make_no_sense_here_are_left_out(chart) -> None:
    scaled_to_zero = {rule["alert"] for rule in rules(chart, sets=("keda.minReplicas=0",))}
    assert "AdscoreAbsent" not in scaled_to_zero
    on_cpus = {rule["alert"] for rule in rules(chart, "cpu-only", ("prometheusRule.enabled=true",))}
    assert on_cpus >= {"AdscoreAbsent", "AdscoreNotProgressing"}
    assert "AdscoreEngineFallback" not in on_cpus


def test_labels_of_every_metric_come_from_closed_sets() -> None:
    allowed = {
        "outcome", "code", "head", "result", "stage", "queue", "partition", "kind", "name", "version", "digest",
        "backend", "precision", "state",
    }  # fmt: skip
    assert {label for item in DECLARATIONS for label in item.labels} <= allowed
