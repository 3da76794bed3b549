"""The settings class, values.yaml, its schema and the docs agree; the rendered file is what the worker reads."""

import json
import tomllib
from pathlib import Path

import pytest
import yaml

from tools.chart_pages import ELSEWHERE, IN_A_CLUSTER, config_default
from tools.helm import CHART, ROOT, HelmError, render
from worker.settings import fields, load, variable

VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
SECRETS = {
    "kafka.sasl_password": "hush",
    "kafka.ssl_cafile": "-",
    "redis.url": "rediss://u:hush@redis:6380/0",
    "tracing.headers": "Authorization=hush",
}


def dotted(tree: dict, above: str = "") -> set[str]:
    return {
        leaf
        for name, value in tree.items()
        for leaf in (dotted(value, f"{name}.") if isinstance(value, dict) else {above + name})
    }


def test_every_setting_is_a_value_and_every_value_a_setting() -> None:
    assert dotted(VALUES["config"]) | set(ELSEWHERE) == set(fields())


@pytest.mark.parametrize("name", sorted(set(fields()) - set(ELSEWHERE)))
def test_a_values_default_is_the_settings(name: str) -> None:
    group, _, leaf = name.rpartition(".")
    value = (VALUES["config"][group] if group else VALUES["config"])[leaf]
    assert value == config_default(name, fields()[name])


def test_the_schema_knows_every_setting_and_is_closed() -> None:
    config = SCHEMA["properties"]["config"]
    known = {
        f"{name}.{leaf}" if "properties" in prop else name
        for name, prop in config["properties"].items()
        for leaf in prop.get("properties", [""])
    }
    assert known - set(fields()) == {
        "kafka.sasl_password_file",
        "redis.url_file",
        "tracing.headers_file",
    }
    assert set(fields()) - known == set()
    assert config["additionalProperties"] is False
    assert all(prop["additionalProperties"] is False for prop in config["properties"].values() if "properties" in prop)


def test_every_map_of_the_schema_is_closed_or_free_on_purpose() -> None:
    free = {
        "global", "strategy", "resources.requests", "resources.limits", "affinity", "gpu.nodeLabels", "podLabels",
        "podAnnotations", "nodeSelector", "serviceAccount.annotations", "podMonitor.labels", "prometheusRule.labels",
        "dashboard.labels", "dashboard.annotations", "existingSecrets.kafka", "existingSecrets.redis",
        "existingSecrets.files", "existingSecrets.tracing",
    }  # fmt: skip
    assert set(_open(SCHEMA, "")) == free


def _open(node: dict, path: str) -> list[str]:
    if "properties" not in node:
        return [path] if node.get("type") == "object" else []
    below = [found for key, inner in node["properties"].items() for found in _open(inner, f"{path}.{key}".strip("."))]
    return below if node.get("additionalProperties") is False else [path, *below]


def test_every_value_is_in_the_schema_and_in_the_readme() -> None:
    page = (CHART / "README.md").read_text(encoding="utf-8")
    for name, value in VALUES.items():
        assert name in SCHEMA["properties"]
        assert f"`{name}`" in page or all(f"`{name}.{leaf}" in page for leaf in value)


def test_the_docs_name_every_setting() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [name for name in fields() if f"`{variable(name)}`" not in page] == []


def test_the_worker_reads_the_rendered_file(every_shape: str, chart, tmp_path: Path) -> None:
    settings = _loaded(chart(every_shape), tmp_path)
    assert settings.http.port == 8080
    assert settings.kafka.bootstrap_servers


def _loaded(rendered, folder: Path):
    """As in the pod, with the Secrets' files somewhere else."""
    text = next(item for item in rendered.all("ConfigMap") if "adscore.toml" in item["data"])["data"]["adscore.toml"]
    for name, secret in SECRETS.items():
        (folder / name).write_text(secret)
    config = folder / "adscore.toml"
    config.write_text(text.replace("/run/secrets/adscore", str(folder)))
    return load(config, {}).settings


def test_the_default_render_says_what_the_defaults_say(chart, tmp_path: Path) -> None:
    made = _loaded(chart(), tmp_path)
    plain = load(None, {}).settings
    differ = [name for name in fields() if _value(made, name) != _value(plain, name)]
    assert set(differ) == set(IN_A_CLUSTER) - {"models.dir"}


def _value(settings, name: str):
    group, _, leaf = name.rpartition(".")
    return getattr(getattr(settings, group) if group else settings, leaf)


@pytest.mark.parametrize(
    ("given", "name", "wanted"),
    [
        ("config.fetch.max_bytes=67108864", "fetch.max_bytes", 67_108_864),
        ("config.redis.ttl_jitter=0.25", "redis.ttl_jitter", 0.25),
        ("config.batch.max_delay_ms=12.5", "batch.max_delay_ms", 12.5),
        (
            "config.fetch.allowed_hosts={a.example,.b.example:8443}",
            "fetch.allowed_hosts",
            ("a.example", ".b.example:8443"),
        ),
        ("config.fetch.allowed_hosts=a.example\\,b.example", "fetch.allowed_hosts", ("a.example", "b.example")),
        ('config.kafka.group_id=q"uo\\\\te <&>', "kafka.group_id", 'q"uo\\te <&>'),
        ("config.kafka.group_id=Grüße", "kafka.group_id", "Grüße"),
        ("config.batch.max_size=null", "batch.max_size", 16),
        ("config.shadow.ctr={adfusion/2}", "shadow.ctr", ("adfusion/2",)),
        ("config.models.ctr={}", "models.ctr", ()),
    ],
)
def test_values_arrive_as_they_were_given(given: str, name: str, wanted: object, chart, tmp_path: Path) -> None:
    sets = [given] if "{}" not in given else []
    if not sets:
        extra = tmp_path / "values.yaml"
        extra.write_text("config: {models: {ctr: []}}")
        rendered = render(extra)
    else:
        rendered = chart(sets=sets)
    assert _value(_loaded(rendered, tmp_path), name) == wanted


def test_the_configuration_is_one_file_that_the_worker_is_given(chart) -> None:
    rendered = chart()
    (worker,) = rendered.one("Deployment")["spec"]["template"]["spec"]["containers"]
    assert worker["args"] == ["--config", "/etc/adscore/adscore.toml", "worker"]
    assert {"name": "config", "mountPath": "/etc/adscore", "readOnly": True} in worker["volumeMounts"]
    tomllib.loads(rendered.one("ConfigMap")["data"]["adscore.toml"])


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["config.kafka.sasl_password=hush"], "existingSecrets.kafka.sasl_password"),
        (["config.tracing.headers=hush"], "existingSecrets.tracing.headers"),
        (["config.redis.url=redis://:hush@redis:6379/0"], "existingSecrets.redis.url"),
        (["config.redis.url=redis://redis?password=hush"], "existingSecrets.redis.url"),
        (["config.kafka.security_protocol=SASL_SSL"], "needs a password"),
        (["config.backend=tensorrt", "gpu.enabled=false"], "needs a GPU"),
        (["config.http.port=9000"], "set http.port alone"),
        (["resources.requests.nvidia\\.com/gpu=1"], "limits alone"),
        (["keda.enabled=true", "keda.minReplicas=9"], "keda.minReplicas 9 is more than keda.maxReplicas 8"),
        (["bundles.source=oci"], "bundles.oci.image"),
        (["bundles.source=pvc"], "bundles.pvc.claimName"),
        (["bundles.source=objectStore"], "bundles.objectStore.remote"),
        (["bundles.source=ftp"], "/bundles/source"),
        (["replicas=3"], "replicas"),
        (["config.kafka.grup_id=x"], "grup_id"),
        (["config.batch.max_size=many"], "/config/batch/max_size"),
        (["config.batch.max_size=0"], "/config/batch/max_size"),
        (["config.batch.max_delay_ms=soon"], "/config/batch/max_delay_ms"),
        (["config.drain.timeout_seconds=null"], "timeout_seconds"),
        (["config.drain=null"], "drain"),
        (["config.kafka.input_topic=null"], "input_topic"),
        (["image.digest=latest"], "/image/digest"),
        (["http.port=80"], "/http/port"),
        (["gpu.resourceName=gpu"], "/gpu/resourceName"),
        (["existingSecrets.kafka.sasl_password=hush"], "/existingSecrets/kafka/sasl_password"),
    ],
)
def test_wrong_values_are_refused_readably_and_no_secret_is_told(sets: list[str], told: str) -> None:
    with pytest.raises(HelmError) as refused:
        render(sets=sets)
    text = str(refused.value)
    assert told in text
    assert "hush" not in text
