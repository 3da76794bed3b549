"""The alerts, as charts/adscore/files/alerts.yaml has them. SELECTOR and RUNBOOK are filled in when the chart renders.

Each alert is a symptom that somebody has to act on; docs/operations.md has a section of its name that says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

HEAD = "# Made by `make docs` from tools/alerts.py; changes here are lost.\n"
OBJECTIVE = 0.99  # share of creatives that are whole and published within FRESH_SECONDS
FRESH_SECONDS = 60.0


@dataclass(frozen=True)
class Alert:
    """One rule. `says` may hold Prometheus' templates."""

    name: str
    severity: str
    lasts: str
    expr: str
    says: str


def _fresh(window: str) -> str:
    """Share of creatives that were late, in parts or not scored at all, over `window`."""
    ended = f'adscore_events_processed_total{{SELECTOR,outcome=~"scored|partial|dead_letter"}}[{window}]'
    late = f'adscore_event_age_seconds_bucket{{SELECTOR,le="{FRESH_SECONDS}"}}[{window}]'
    partial = f'adscore_events_processed_total{{SELECTOR,outcome="partial"}}[{window}]'
    in_time = f"(sum(rate({late})) - (sum(rate({partial})) or vector(0)))"
    return f"1 - {in_time} / sum(rate({ended}))"


def _mean_score(window: str) -> str:
    parts = (f"sum by (head) (rate(adscore_score_{part}{{SELECTOR}}[{window}]))" for part in ("sum", "count"))
    return " / ".join(parts)


def _burns(factor: float, long: str, short: str) -> str:
    budget = round(factor * (1 - OBJECTIVE), 4)
    return f"({_fresh(long)}) > {budget} and ({_fresh(short)}) > {budget}"


ALWAYS = (
    Alert(
        "AdscoreAbsent",
        "critical",
        "10m",
        "absent(adscore_events_consumed_total{SELECTOR})",
        "No worker of this release is scraped.",
    ),
)
WORK = (
    Alert(
        "AdscoreNotProgressing",
        "critical",
        "10m",
        "sum(adscore_consumer_lag_records{SELECTOR}) + sum(adscore_inflight_events{SELECTOR}) > 0 "
        "and sum(rate(adscore_events_processed_total{SELECTOR}[5m])) == 0",
        "{{ $value }} records wait and none has been finished for ten minutes.",
    ),
    Alert(
        "AdscoreFreshnessBurnsFast",
        "critical",
        "2m",
        _burns(14.4, "1h", "5m"),
        "{{ $value | humanizePercentage }} of creatives are late or not whole; at this rate the month's budget lasts "
        "two days.",
    ),
    Alert(
        "AdscoreFreshnessBurnsSlowly",
        "warning",
        "15m",
        _burns(6, "6h", "30m"),
        "{{ $value | humanizePercentage }} of creatives are late or not whole; at this rate the month's budget lasts "
        "five days.",
    ),
    Alert(
        "AdscoreDeadLetters",
        "warning",
        "15m",
        "sum(rate(adscore_dlq_total{SELECTOR}[15m])) / sum(rate(adscore_events_processed_total{SELECTOR}[15m])) > 0.05",
        "{{ $value | humanizePercentage }} of records end as dead letters.",
    ),
    Alert(
        "AdscoreHeadFailing",
        "warning",
        "15m",
        "sum by (head) (rate(adscore_head_errors_total{SELECTOR}[15m])) "
        "/ on () group_left () sum(rate(adscore_events_processed_total{SELECTOR}[15m])) > 0.02",
        "Head {{ $labels.head }} gives no score for {{ $value | humanizePercentage }} of creatives.",
    ),
    Alert(
        "AdscoreBreakerOpen",
        "warning",
        "10m",
        "avg_over_time(adscore_cache_breaker_open{SELECTOR}[10m]) > 0.5",
        "{{ $labels.pod }} has left Redis alone for most of ten minutes: work is repeated.",
    ),
    Alert(
        "AdscoreServedStale",
        "warning",
        "1h",
        'sum(increase(adscore_served_sampled_total{SELECTOR,state="stale"}[6h])) '
        '/ sum(increase(adscore_served_sampled_total{SELECTOR,state=~"fresh|partial|stale"}[6h])) > 0.1',
        "{{ $value | humanizePercentage }} of the creatives that ad servers hold were scored by other models.",
    ),
    Alert(
        "AdscoreScoreDrift",
        "warning",
        "1h",
        f"abs({_mean_score('6h')} - {_mean_score('7d')}) > 0.1 "
        "and sum by (head) (increase(adscore_score_count{SELECTOR}[6h])) > 500",
        "The mean score of {{ $labels.head }} has moved by {{ $value | humanize }} against the week.",
    ),
)
GPU = (
    Alert(
        "AdscoreEngineFallback",
        "warning",
        "15m",
        'max by (pod, head, name, backend) (adscore_model_info{SELECTOR,backend!="tensorrt"}) == 1',
        "{{ $labels.pod }} has a GPU and serves {{ $labels.name }} by {{ $labels.backend }}.",
    ),
)
# The chart leaves the first out where KEDA may scale to zero, the last where there is no GPU.
GROUPS = {"adscore.always": ALWAYS, "adscore.work": WORK, "adscore.gpu": GPU}


def page() -> str:
    """charts/adscore/files/alerts.yaml."""
    groups = [{"name": name, "rules": [_rule(alert) for alert in alerts]} for name, alerts in GROUPS.items()]
    return HEAD + yaml.safe_dump({"groups": groups}, sort_keys=False, width=1_000)


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasts,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.says, "runbook_url": f"RUNBOOK#{alert.name.lower()}"},
    }


PAGES = {"charts/adscore/files/alerts.yaml": page}
