"""Every shape of the chart: linted, one object per file, what Kubernetes takes, and names that can't collide."""

import copy
from pathlib import Path

import pytest

from tools.helm import CHART, lint, render
from tools.manifests import pods, problems, unrestricted

GOLDEN = Path(__file__).with_name("golden.yaml")
WANTED = {"plain", "keda", "sasl-ssl", "shared-gpu", "mig", "without-redis", "cpu-only"}


def test_every_supported_shape_has_its_value_file() -> None:
    assert {path.stem for path in (CHART / "ci").glob("*.yaml")} >= WANTED


def test_lint(every_shape: str) -> None:
    lint(*([CHART / "ci" / f"{every_shape}.yaml"] if every_shape else []))


def test_kubernetes_and_the_operators_take_every_object(every_shape: str, chart) -> None:
    assert {item["kind"]: found for item in chart(every_shape).objects if (found := problems(item))} == {}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "template", "spec", "enableServiceLink"), False),
        ("Deployment", ("spec", "replicas"), "two"),
        ("ScaledObject", ("spec", "lagThreshold"), "5"),
        ("ScaledObject", ("spec", "maxReplicaCount"), "8"),
        ("ScaledObject", ("spec", "triggers", 0, "metadata", "lagThreshold"), 5),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "portt"), "http"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "severity"), "page"),
        ("NetworkPolicy", ("spec", "egress", 0, "from"), []),
    ],
)
def test_the_validators_see_a_planted_mistake(kind: str, path: tuple, value: object, chart) -> None:
    item = copy.deepcopy(chart("everything").one(kind))
    node = item
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert problems(item)


def test_pods_keep_to_pod_security_restricted(every_shape: str, chart) -> None:
    found = [pod for item in chart(every_shape).objects for pod in pods(item)]
    assert found
    assert [told for pod in found for told in unrestricted(pod)] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("securityContext", "seccompProfile"), {"type": "Unconfined"}),
        (("securityContext", "runAsNonRoot"), False),
        (("securityContext", "runAsUser"), 0),
        (("hostNetwork",), True),
        (("volumes", 0), {"name": "x", "hostPath": {"path": "/"}}),
        (("containers", 0, "securityContext", "capabilities"), {"drop": ["NET_RAW"]}),
        (("initContainers", 0, "securityContext"), {}),
    ],
)
def test_a_planted_breach_of_pod_security_is_seen(path: tuple, value: object, chart) -> None:
    pod = copy.deepcopy(next(pods(chart("everything").one("Deployment"))))
    node = pod
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert unrestricted(pod)


def test_the_default_render_is_the_golden_one() -> None:
    assert render(text=True) == GOLDEN.read_text(encoding="utf-8"), (
        "the default render has changed; look at the difference, then: "
        ".venv/bin/python -m tools.helm > tests/charts/golden.yaml"
    )


def test_optional_parts_are_off_by_default(chart) -> None:
    kinds = [item["kind"] for item in chart().objects]
    assert sorted(kinds) == ["ConfigMap", "Deployment", "Pod", "ServiceAccount"]


def test_each_template_makes_one_object_of_each_file(chart) -> None:
    templates = {path.name for path in (CHART / "templates").rglob("*.yaml")}
    rendered = {Path(name).name for name in [*chart("everything").files, *chart("mig").files, *chart("sasl-ssl").files]}
    assert templates == rendered


@pytest.mark.parametrize(
    ("one", "other"),
    [("adscore", "blue"), ("blue", "blue-adscore"), ("a" * 53, "a" * 52), ("adscore", "adscore-adscore")],
)
def test_two_releases_in_a_namespace_dont_collide(one: str, other: str, chart) -> None:
    names = [
        {(item["kind"], item["metadata"]["name"]) for item in chart("everything", release=release).objects}
        for release in (one, other)
    ]
    assert names[0] & names[1] == set()
    assert all(len(name) <= 63 for kind, name in names[0] | names[1] if kind not in ("ConfigMap", "Pod"))


def test_nothing_of_one_release_selects_the_others_pods(chart) -> None:
    one, other = (chart("everything", release=release) for release in ("blue", "green"))
    labels = other.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    for selector in _selectors(one):
        assert not selector.items() <= labels.items()


def _selectors(rendered) -> list[dict[str, str]]:
    return [
        rendered.one("Deployment")["spec"]["selector"]["matchLabels"],
        rendered.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        rendered.one("PodMonitor")["spec"]["selector"]["matchLabels"],
        rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]


def test_selectors_never_change_on_upgrade(chart) -> None:
    changed = ["image.tag=9.9.9", "podLabels.app\\.kubernetes\\.io/name=other", "fullnameOverride=other", "gpu.count=2"]
    before = _selectors(chart("everything"))
    after = chart("everything", sets=changed)
    assert _selectors(after) == before
    pod = after.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert all(selector.items() <= pod.items() for selector in before)


def test_worker_selectors_leave_jobs_and_tests_alone(chart) -> None:
    rendered = chart("everything")
    workers = rendered.one("Deployment")["spec"]["selector"]["matchLabels"]
    others = [
        rendered.one("Job")["spec"]["template"]["metadata"]["labels"],
        rendered.one("Pod")["metadata"]["labels"],
    ]
    assert not any(workers.items() <= labels.items() for labels in others)
