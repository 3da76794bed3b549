"""The parts of the chart that follow from the code: `config` in values.yaml and its schema, and the chart's README.

The settings class is the source of `config`; values.yaml is the source of everything else. `make docs` writes them.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tools.tables import table
from worker.settings import Settings, fields

CHART = Path(__file__).resolve().parents[1] / "charts" / "adscore"
BEGIN, END = "# BEGIN config\n", "# END config\n"
CONFIG_HEAD = """\
# The worker's settings, as docs/settings.md lists them. Made of the settings class by `make docs`.
# A secret in here is refused: it belongs in existingSecrets. http.port above is config.http.port too.
# -- Every setting by group and name; rendered as the one TOML file that --config reads.
"""
# Where a cluster's default differs from a developer's machine.
IN_A_CLUSTER: dict[str, Any] = {"kafka.bootstrap_servers": ["kafka:9092"], "models.dir": "", "log.format": "json"}
# Not in `config`: a secret, and what has a value of its own.
ELSEWHERE = {
    "kafka.sasl_password": "existingSecrets.kafka.sasl_password",
    "tracing.headers": "existingSecrets.tracing.headers",
    "http.port": "http.port",
}
# What templates read themselves: it may not be left to the worker's defaults by a null.
READ_BY_TEMPLATES = {
    "kafka": ["bootstrap_servers", "group_id", "input_topic", "output_topic", "security_protocol"],
    "redis": [],
    "fetch": ["allowed_hosts"],
    "http": [],
    "tracing": [],
    "drain": ["timeout_seconds"],
}


def config_default(name: str, field: FieldInfo) -> Any:
    """The default of a setting in values.yaml."""
    if name in IN_A_CLUSTER:
        return IN_A_CLUSTER[name]
    value = field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return list(value) if isinstance(value, tuple) else value


def config_block() -> str:
    """`config:` as it stands in values.yaml."""
    lines = [CONFIG_HEAD + "config:\n"]
    group = ""
    for name, field in fields().items():
        if name in ELSEWHERE:
            continue
        above, _, leaf = name.rpartition(".")
        if above != group:
            group = above
            lines.append(f"  {group}:\n")
        indent = "    " if group else "  "
        value = json.dumps(config_default(name, field))
        lines.append(f"{indent}# -- {field.description}\n{indent}{leaf}: {value}\n")
    return "".join(lines)


def values_page() -> str:
    """values.yaml with its `config` made anew."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + config_block() + END + after


def schema_page() -> str:
    """values.schema.json with the schema of `config` and of the secrets made anew."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    schema["properties"]["config"] = _config_schema()
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _config_schema() -> dict[str, Any]:
    made = Settings.model_json_schema()
    tree: dict[str, Any] = {}
    for name, prop in made["properties"].items():
        if "$ref" in prop:
            group = made["$defs"][prop["$ref"].rpartition("/")[2]]
            tree[name] = _closed({leaf: _leaf(inner) for leaf, inner in group["properties"].items()})
            tree[name]["description"] = group["description"]
        else:
            tree[name] = _leaf(prop)
    for secret in ("kafka.sasl_password", "redis.url", "tracing.headers"):
        group_name, _, leaf = secret.partition(".")
        told = f"Path of a file that holds {leaf}; existingSecrets.{secret} sets it."
        tree[group_name]["properties"][f"{leaf}_file"] = {"type": "string", "description": told}
    for secret in ("kafka.sasl_password", "tracing.headers"):
        group_name, _, leaf = secret.partition(".")
        refused = f"Refused here: existingSecrets.{secret} names the Secret that holds it."
        tree[group_name]["properties"][leaf] = {"type": "string", "description": refused}
    tree["redis"]["properties"]["url"]["description"] += " One with a password is refused: existingSecrets.redis.url."
    for group_name, leaves in READ_BY_TEMPLATES.items():
        tree[group_name]["required"] = leaves
    return _closed(tree) | {"required": ["backend", *READ_BY_TEMPLATES]}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _leaf(prop: dict[str, Any]) -> dict[str, Any]:
    """One setting's schema. A list may be comma-separated text, as everywhere; null leaves the worker's default."""
    kept = {key: value for key, value in prop.items() if key not in ("title", "default", "format", "writeOnly")}
    if kept.get("type") == "array":
        listed = {key: kept.pop(key) for key in ("items", "minItems", "maxItems") if key in kept}
        return kept | {"type": ["array", "string", "null"]} | listed
    if kept.get("type") == "number":
        return kept | {
            "type": ["number", "string", "null"],
            "pattern": r"^[0-9]+(\.[0-9]+)?$",
        }  # --set makes 0.5 a text
    if "type" in kept:
        kept["type"] = [kept["type"], "null"]
        if "enum" in kept:
            kept["enum"] = [*kept["enum"], None]
        if "const" in kept:
            kept["enum"] = [kept.pop("const"), None]
    return kept


README_HEAD = """\
<!-- Made by `make docs` from values.yaml; changes here are lost. -->

# The Helm chart of adscore

Runs `adscore worker` on GPUs (the default) or CPUs, scaled by hand or by KEDA on the group's lag.

```
helm install adscore charts/adscore --values values.yaml
helm test adscore --logs
```

Value files for the usual shapes lie in [ci](ci). What to do with a running deployment, and each alert's runbook, is in
[operations.md](../../docs/operations.md); settings in [settings.md](../../docs/settings.md).

## Values

"""


def readme_page() -> str:
    """charts/adscore/README.md."""
    text = values_page()
    rows = [(f"`{path}`", _shown(value), meaning) for path, value, meaning in values(text)]
    return README_HEAD + table(("value", "default", "meaning"), rows)


def values(text: str) -> list[tuple[str, Any, str]]:
    """(path, default, meaning) of every value. A list, or a map none of whose keys is described, is one value."""
    tree = yaml.safe_load(text)
    found: list[tuple[str, Any, str]] = []
    path: list[str] = []
    meaning, within = "", 1_000  # lines deeper than `within` belong to a value that is told already
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if told := re.match(r" *# -- (.*)", line):
            meaning = told[1]
        elif (key := re.match(r"( *)([A-Za-z_]\w*):", line)) and len(key[1]) <= within:
            depth = len(key[1])
            path, within = [*path[: depth // 2], key[2]], 1_000
            value = functools.reduce(lambda node, name: node[name], path, tree)
            if not isinstance(value, dict) or not value or not _describes_its_keys(lines[number + 1 :], depth):
                found.append((".".join(path), value, meaning))
                within = depth
            meaning = ""
    return found


def _describes_its_keys(following: list[str], depth: int) -> bool:
    inside = itertools.takewhile(lambda line: not line.strip() or len(line) - len(line.lstrip()) > depth, following)
    return any(line.lstrip().startswith("# -- ") for line in inside)


def _shown(value: Any) -> str:
    if value in ("", None):
        return "" if value == "" else "`null`"
    return f"`{json.dumps(value)}`"


PAGES = {
    "charts/adscore/values.yaml": values_page,
    "charts/adscore/values.schema.json": schema_page,
    "charts/adscore/README.md": readme_page,
}
