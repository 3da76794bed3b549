"""The Grafana dashboard: each panel names a metric, and the rest follows from the metric's declaration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from worker.metrics import DECLARATIONS, Declaration

METRICS = {item.name: item for item in DECLARATIONS}
SELECTOR = 'job=~"$job"'
UNITS = {"seconds": "s", "records": "short", "creatives": "short", "requests": "short", "1": "short"}
WIDTH, HEIGHT = 24, 8


@dataclass(frozen=True)
class Panel:
    """One graph. `expr` where a plain view of the metric (rate, quantiles, sum) isn't enough; `unit` then too."""

    title: str
    metric: str
    expr: str = ""
    unit: str = ""


def _ratio(part: str, whole: str) -> str:
    return f"sum(rate({part}[$__rate_interval])) / sum(rate({whole}[$__rate_interval]))"


ENDED = f'adscore_events_processed_total{{{SELECTOR},outcome=~"scored|partial|dead_letter"}}'
PARTIAL = f'adscore_events_processed_total{{{SELECTOR},outcome="partial"}}'
IN_TIME = f'adscore_event_age_seconds_bucket{{{SELECTOR},le="60.0"}}'
HELD = f'adscore_served_sampled_total{{{SELECTOR},state=~"fresh|partial|stale"}}'
NOT_FRESH = f'adscore_served_sampled_total{{{SELECTOR},state=~"partial|stale"}}'
HITS = f'adscore_cache_requests_total{{{SELECTOR},result="hit"}}'

ROWS: dict[str, tuple[Panel, ...]] = {
    "Freshness": (
        Panel("Age when published", "adscore_event_age_seconds"),
        Panel("Published within a minute", "adscore_event_age_seconds", _ratio(IN_TIME, ENDED), "percentunit"),
        Panel("Published in parts", "adscore_events_processed_total", _ratio(PARTIAL, ENDED), "percentunit"),
        Panel(
            "Held by ad servers, not whole or stale",
            "adscore_served_sampled_total",
            _ratio(NOT_FRESH, HELD),
            "percentunit",
        ),
    ),
    "Throughput": (
        Panel("Finished, by outcome", "adscore_events_processed_total"),
        Panel("Received", "adscore_events_consumed_total"),
        Panel("Published", "adscore_events_published_total"),
        Panel("In flight", "adscore_inflight_events"),
    ),
    "Latency by stage": (
        Panel("Time in a stage", "adscore_stage_duration_seconds"),
        Panel("Waiting before a stage", "adscore_queue_depth"),
    ),
    "Batches and scores": (
        Panel("Creatives per batch", "adscore_batch_size"),
        Panel("Creatives that a batch may hold", "adscore_batch_limit"),
        Panel("Scores", "adscore_score"),
        Panel("Heads that failed", "adscore_head_errors_total"),
    ),
    "Cache": (
        Panel("Look-ups", "adscore_cache_requests_total"),
        Panel(
            "Share of hits",
            "adscore_cache_requests_total",
            _ratio(HITS, f"adscore_cache_requests_total{{{SELECTOR}}}"),
            "percentunit",
        ),
        Panel("Images from the network, by where they came from", "adscore_held_images_total"),
        Panel("Breaker open", "adscore_cache_breaker_open"),
    ),
    "Dead letters": (Panel("Dead letters, by code", "adscore_dlq_total"),),
    "Lag": (
        Panel("Records behind", "adscore_consumer_lag_records", f"sum(adscore_consumer_lag_records{{{SELECTOR}}})"),
        Panel("Hand-overs of partitions", "adscore_rebalances_total"),
        Panel("Commits", "adscore_commits_total"),
    ),
    "GPU and models": (
        Panel("Engine seconds per second, by model", "adscore_model_seconds_total"),
        Panel("Creatives scored, by model", "adscore_model_creatives_total"),
        Panel("Models that serve", "adscore_model_info"),
        Panel("Candidates' events, by outcome", "adscore_shadow_events_total"),
    ),
}


def queries(panel: Panel) -> list[tuple[str, str]]:
    """(expression, legend) of a panel's lines."""
    item = METRICS[panel.metric]
    if panel.expr:
        return [(panel.expr, panel.title)]
    by = f" by ({', '.join(item.labels)})" if item.labels else ""
    legend = " ".join(f"{{{{{label}}}}}" for label in item.labels)
    if item.kind == "counter":
        return [(f"sum{by} (rate({item.name}{{{SELECTOR}}}[$__rate_interval]))", legend or panel.title)]
    if item.kind == "gauge":
        return [(f"sum{by} ({item.name}{{{SELECTOR}}})", legend or panel.title)]
    inner = ", ".join(("le", *item.labels))
    rate = f"sum by ({inner}) (rate({item.name}_bucket{{{SELECTOR}}}[$__rate_interval]))"
    return [(f"histogram_quantile({q}, {rate})", f"p{q * 100:g} {legend}".strip()) for q in (0.5, 0.95, 0.99)]


def _unit(panel: Panel, item: Declaration) -> str:
    if panel.unit:
        return panel.unit
    if item.kind == "counter":
        return "percentunit" if item.unit == "seconds" else "ops"
    return UNITS.get(item.unit, "short")


def _panels() -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for row, panels in ROWS.items():
        number += 1
        yield {
            "id": number,
            "type": "row",
            "title": row,
            "collapsed": False,
            "panels": [],
            "gridPos": _at(0, top, 24, 1),
        }
        top += 1
        width = WIDTH // len(panels)
        for index, panel in enumerate(panels):
            number += 1
            yield _panel(number, panel, _at(index * width, top, width, HEIGHT))
        top += HEIGHT


def _at(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    item = METRICS[panel.metric]
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": f"{item.name}: {item.help}",
        "datasource": source,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": _unit(panel, item), "min": None if item.labels else 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": expr, "legendFormat": legend}
            for index, (expr, legend) in enumerate(queries(panel))
        ],
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}},
        {
            "name": "job",
            "label": "Release",
            "type": "query",
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "query": {"query": "label_values(adscore_events_consumed_total, job)", "refId": "job"},
            "current": {"text": "RELEASE", "value": "RELEASE"},
            "multi": True,
            "includeAll": True,
            "refresh": 2,
        },
    ]


def page() -> str:
    """charts/adscore/files/dashboard.json; the chart puts the release's name and a uid of its own in."""
    board = {
        "uid": "DASHBOARD_UID",
        "title": "adscore RELEASE",
        "tags": ["adscore"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": list(_panels()),
    }
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"


PAGES = {"charts/adscore/files/dashboard.json": page}
