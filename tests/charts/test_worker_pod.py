"""The worker's pod: GPU, image, probes, grace period, what is mounted and what is not."""

import re
import tomllib

import pytest

from tools.manifests import containers, pods


def pod(rendered) -> dict:
    return rendered.one("Deployment")["spec"]["template"]["spec"]


def worker(rendered) -> dict:
    (found,) = pod(rendered)["containers"]
    return found


@pytest.mark.parametrize(
    ("shape", "resource"),
    [("plain", "nvidia.com/gpu"), ("shared-gpu", "nvidia.com/gpu.shared"), ("mig", "nvidia.com/mig-1g.10gb")],
)
def test_the_gpu_stands_in_limits_only_beside_the_other_resources(shape: str, resource: str, chart) -> None:
    resources = worker(chart(shape))["resources"]
    assert resources["limits"] == {"memory": "4Gi", resource: "1"}
    assert resources["requests"] == {"cpu": "2", "memory": "4Gi"}


def test_without_a_gpu_nothing_of_it_is_left(chart) -> None:
    spec = pod(chart("cpu-only"))
    assert "nvidia" not in str(spec)


def test_gpu_nodes_are_chosen_by_label_and_their_taint_tolerated(chart) -> None:
    spec = pod(chart("shared-gpu"))
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L4-SHARED"]}
    ]
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]
    assert spec["runtimeClassName"] == "nvidia"


def test_the_digest_wins_over_the_tag(chart) -> None:
    digest = "sha256:" + "ab" * 32
    assert worker(chart(sets=["image.tag=1.2.3"]))["image"] == "adscore:1.2.3"
    assert worker(chart(sets=["image.tag=1.2.3", f"image.digest={digest}"]))["image"] == f"adscore@{digest}"


@pytest.mark.parametrize(("drain", "least"), [("20", 20), ("45.5", 45.5), ("300", 300)])
def test_the_grace_period_is_longer_than_the_drain(drain: str, least: float, chart) -> None:
    grace = pod(chart(sets=[f"config.drain.timeout_seconds={drain}"]))["terminationGracePeriodSeconds"]
    assert least + 5 <= grace <= least + 11


def test_probes_leave_room_for_loading_and_dont_kill_for_absent_brokers(chart) -> None:
    probes = worker(chart(sets=["startup.timeoutSeconds=900"]))
    startup, live, ready = (probes[name] for name in ("startupProbe", "livenessProbe", "readinessProbe"))
    assert startup["periodSeconds"] * startup["failureThreshold"] == 900
    assert (startup["httpGet"]["path"], live["httpGet"]["path"]) == ("/livez", "/livez")
    assert ready["httpGet"]["path"] == "/readyz"


def test_the_port_is_one_value(chart) -> None:
    rendered = chart("everything", sets=["http.port=9999"])
    assert worker(rendered)["ports"] == [{"name": "http", "containerPort": 9999}]
    assert _toml(rendered)["http"]["port"] == 9999


def test_no_service_links_and_no_token(every_shape: str, chart) -> None:
    rendered = chart(every_shape)
    for spec in (spec for item in rendered.objects for spec in pods(item)):
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        assert not any("serviceAccountToken" in str(volume) for volume in spec["volumes"])
    assert rendered.one("ServiceAccount")["automountServiceAccountToken"] is False


@pytest.mark.parametrize(
    ("shape", "writable"), [("", {"/tmp"}), ("sasl-ssl", {"/tmp"}), ("mig", {"/tmp", "/var/cache/adscore"})]
)
def test_only_tmp_and_the_engine_cache_are_writable(shape: str, writable: set[str], chart) -> None:
    container = worker(chart(shape))
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == writable


def test_the_platform_may_choose_the_user(chart) -> None:
    sets = [f"podSecurityContext.{name}=null" for name in ("runAsUser", "runAsGroup", "fsGroup")]
    context = pod(chart(sets=sets))["securityContext"]
    assert context == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_no_container_has_an_environment(every_shape: str, chart) -> None:
    found = [box for item in chart(every_shape).objects for spec in pods(item) for box in containers(spec)]
    assert [box["name"] for box in found if "env" in box or "envFrom" in box] == []


def test_labels_and_annotations_reach_the_pod(chart) -> None:
    metadata = chart("everything").one("Deployment")["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == "ads"
    assert metadata["annotations"]["example.com/cost-centre"] == "ads"


def test_a_changed_setting_starts_the_pods_anew(chart) -> None:
    sums = [
        chart(sets=sets).one("Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for sets in ([], ["config.batch.max_size=32"])
    ]
    assert sums[0] != sums[1]
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in sums)


@pytest.mark.parametrize(
    ("sets", "image", "does"),
    [
        (["bundles.source=oci", "bundles.oci.image=models:7"], "models:7", "cp"),
        (["bundles.source=objectStore", "bundles.objectStore.remote=s:b"], "rclone/rclone:1.71.1", "copy"),
    ],
)
def test_bundles_are_copied_and_then_read_only(sets: list[str], image: str, does: str, chart) -> None:
    rendered = chart(sets=sets)
    (copies,) = pod(rendered)["initContainers"]
    assert copies["image"] == image
    assert does in [*copies.get("command", []), *copies.get("args", [])]
    assert {"name": "bundles", "mountPath": "/bundles", "readOnly": True} in worker(rendered)["volumeMounts"]
    assert _toml(rendered)["models"]["dir"] == "/bundles"


def test_bundles_of_a_claim_are_mounted_read_only(chart) -> None:
    rendered = chart(sets=["bundles.source=pvc", "bundles.pvc.claimName=models", "bundles.pvc.subPath=v3"])
    assert "initContainers" not in pod(rendered)
    assert {"name": "bundles", "mountPath": "/bundles", "readOnly": True, "subPath": "v3"} in worker(rendered)[
        "volumeMounts"
    ]


def test_engines_are_built_before_the_worker_starts_with_the_gpu(chart) -> None:
    rendered = chart("mig")
    names = [box["name"] for box in pod(rendered)["initContainers"]]
    assert names == ["engine-cache", "engine-build"]
    build = pod(rendered)["initContainers"][1]
    assert build["args"][-2:] == ["models", "build"]
    assert build["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    assert _toml(rendered)["models"]["dir"] == "/var/cache/adscore/models"
    assert rendered.one("PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]


def _toml(rendered) -> dict:
    return tomllib.loads(rendered.all("ConfigMap")[0]["data"]["adscore.toml"])
