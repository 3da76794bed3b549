"""Write what is made from the code: the pages of settings and metrics, and parts of the chart. A test compares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tools import alerts, chart_pages, dashboard
from tools.tables import table
from worker.metrics import DECLARATIONS
from worker.settings import Settings, fields, variable

ROOT = Path(__file__).resolve().parents[1]
MADE = "<!-- Made by `make docs` from {source}; changes here are lost. -->\n"


def default(field: FieldInfo) -> str:
    """The default as one would write it in the environment."""
    if field.default_factory is not None:
        return "the installation's own"
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        value = ",".join(str(item) for item in value)
    return f"`{value}`" if value != "" else "empty"


def accepts(schema: dict[str, Any]) -> str:
    """What a setting takes, from its JSON schema."""
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{value}`" if value else "empty" for value in choices)
    if schema.get("type") == "array":
        return "list"
    if schema.get("type") in ("integer", "number"):
        low = f"≥ {schema['minimum']}" if "minimum" in schema else f"> {schema.get('exclusiveMinimum', '−∞')}"
        high = f"≤ {schema['maximum']}" if "maximum" in schema else f"< {schema.get('exclusiveMaximum', '∞')}"
        bounds = [bound for bound in (low, high) if "∞" not in bound]
        return f"{schema['type']} {', '.join(bounds)}".strip()
    return {"path": "folder", "password": "secret"}.get(schema.get("format", ""), "text")


def settings_page() -> str:
    """docs/settings.md."""
    schema = Settings.model_json_schema()
    groups: dict[str, list[tuple[str, ...]]] = {}
    for name, field in fields().items():
        group, _, leaf = name.rpartition(".")
        parent = schema["$defs"][schema["properties"][group]["$ref"].rpartition("/")[2]] if group else schema
        row = (f"`{variable(name)}`", default(field), accepts(parent["properties"][leaf]), field.description or "")
        groups.setdefault(group, []).append(row)
    page = MADE.format(source="worker/settings_schema.py") + SETTINGS_HEAD
    for group, rows in groups.items():
        kind = Settings.model_fields[group].annotation if group else None
        meaning = (kind.__doc__ or "").strip() if kind else "What has no group."
        page += f"\n## {group or 'general'}\n\n{meaning}\n\n" + table(("variable", "default", "takes", "meaning"), rows)
    return page


SETTINGS_HEAD = """
# Settings

Each setting is an environment variable, or a line in the TOML file that `--config` names, where
`ADSCORE_KAFKA__GROUP_ID` is `group_id` under `[kafka]`. The environment wins. Lists are comma-separated (in TOML,
arrays). A name with `_FILE` behind it (`ADSCORE_KAFKA__SASL_PASSWORD_FILE`) names a file that holds the value; a
newline at its end goes. An unknown name, or a value that doesn't fit, ends every verb with exit status 2 and names
the nearest right one. `adscore config show` prints what is in force and where it came from, with secrets masked.
"""


def metrics_page() -> str:
    """docs/metrics.md."""
    rows = [
        (f"`{item.name}`", item.kind, item.unit, ", ".join(f"`{label}`" for label in item.labels), item.help)
        for item in DECLARATIONS
    ]
    page = (
        MADE.format(source="worker/metrics.py")
        + METRICS_HEAD
        + table(("name", "type", "unit", "labels", "meaning"), rows)
    )
    buckets = [(f"`{item.name}`", json.dumps(item.buckets)[1:-1]) for item in DECLARATIONS if item.buckets]
    return page + "\nBuckets of the histograms:\n\n" + table(("name", "upper bounds"), buckets)


METRICS_HEAD = """
# Metrics

`GET /metrics` on `ADSCORE_HTTP__PORT`, in the Prometheus text format. Labels hold names from closed sets only: no ids,
nothing that a sender chose.

"""

PAGES = {
    "docs/settings.md": settings_page,
    "docs/metrics.md": metrics_page,
    **chart_pages.PAGES,
    **alerts.PAGES,
    **dashboard.PAGES,
}


def main() -> None:
    """Write every page."""
    for path, page in PAGES.items():
        (ROOT / path).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
