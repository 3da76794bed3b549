"""Would Kubernetes take the chart's objects? Its own schemas, the operators' CRDs, pod security "restricted"."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from typing import Any

import jsonschema
import kubernetes_validate

KUBERNETES = ("1.29", "1.37")
# (apiVersion, kind) → package whose models are made of the operator's CRDs, and the model in it.
CUSTOM = {
    ("keda.sh/v1alpha1", "ScaledObject"): "cloudcoil.models.keda.v1alpha1",
    ("keda.sh/v1alpha1", "TriggerAuthentication"): "cloudcoil.models.keda.v1alpha1",
    ("monitoring.coreos.com/v1", "PodMonitor"): "cloudcoil.models.prometheus_operator.v1",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "cloudcoil.models.prometheus_operator.v1",
}
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def problems(item: dict[str, Any]) -> list[str]:
    """What keeps an API server from taking an object, unknown fields included."""
    if (item["apiVersion"], item["kind"]) in CUSTOM:
        validator = jsonschema.Draft202012Validator(crd_schema(item["apiVersion"], item["kind"]))
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(item)]
    found = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"Kubernetes {version}: {error.message}")
    return found


@functools.cache
def crd_schema(api_version: str, kind: str) -> dict[str, Any]:
    """The JSON schema of a custom resource, closed: what the CRD doesn't name is refused, and null is no value."""
    model = getattr(importlib.import_module(CUSTOM[api_version, kind]), kind)
    schema = model.model_json_schema(by_alias=True)
    schema["$defs"]["ObjectMeta"] = {"type": "object", "required": ["name"]}  # Kubernetes' own, not the CRD's
    return _closed(schema)


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node if item != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    made = {key: _closed(value) for key, value in node.items()}
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def pods(item: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pod spec in an object, if there is one."""
    if item["kind"] == "Pod":
        yield item["spec"]
    elif "template" in item.get("spec", {}):
        yield item["spec"]["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Every container of a pod, those of its start included."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def unrestricted(pod: dict[str, Any]) -> list[str]:
    """Where a pod falls short of the pod security standard "restricted"."""
    told = [f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    for volume in pod.get("volumes", []):
        told += [f"volume {volume['name']}: {kind}" for kind in volume.keys() - {"name"} - RESTRICTED_VOLUMES]
    above = pod.get("securityContext", {})
    for container in containers(pod):
        own = container.get("securityContext", {})
        wants = {
            "privileged": not own.get("privileged"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "runAsNonRoot": own.get("runAsNonRoot", above.get("runAsNonRoot")) is True,
            "runAsUser": own.get("runAsUser", above.get("runAsUser")) != 0,
            "seccompProfile": (own.get("seccompProfile") or above.get("seccompProfile") or {}).get("type")
            in ("RuntimeDefault", "Localhost"),
            "drop": "ALL" in own.get("capabilities", {}).get("drop", []),
            "add": set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
            "hostPort": not any(port.get("hostPort") for port in container.get("ports", [])),
        }
        told += [f"{container['name']}: {name}" for name, met in wants.items() if not met]
    return told
