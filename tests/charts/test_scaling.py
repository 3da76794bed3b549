"""Replicas, KEDA, disruption, Jobs and `helm test`."""

import pytest

from tools.helm import render


def test_keda_takes_the_replicas_over(chart) -> None:
    assert chart("plain").one("Deployment")["spec"]["replicas"] == 1
    assert chart("shared-gpu").one("Deployment")["spec"]["replicas"] == 4
    assert "replicas" not in chart("keda").one("Deployment")["spec"]


def test_keda_scales_this_deployment_by_this_groups_lag_on_this_topic(chart) -> None:
    rendered = chart("keda")
    scaled = rendered.one("ScaledObject")["spec"]
    assert scaled["scaleTargetRef"]["name"] == rendered.one("Deployment")["metadata"]["name"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (0, 12)
    (trigger,) = scaled["triggers"]
    assert trigger["metadata"]["topic"] == "ads.creatives"
    assert trigger["metadata"]["consumerGroup"] == "adscore"
    assert trigger["metadata"]["bootstrapServers"] == "kafka-0.kafka:9092,kafka-1.kafka:9092"
    assert trigger["metadata"]["lagThreshold"] == "500"


@pytest.mark.parametrize("number", ["5", "100000", "25000000"])
def test_numbers_for_keda_are_strings_of_digits(number: str, chart) -> None:
    sets = ["keda.enabled=true", f"keda.lagThreshold={number}", f"keda.activationLagThreshold={number}"]
    metadata = chart(sets=sets).one("ScaledObject")["spec"]["triggers"][0]["metadata"]
    assert (metadata["lagThreshold"], metadata["activationLagThreshold"]) == (number, number)
    assert all(isinstance(value, str) for value in metadata.values())


def test_a_threshold_may_be_written_as_text(tmp_path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text('keda: {enabled: true, lagThreshold: "250"}')
    assert render(values).one("ScaledObject")["spec"]["triggers"][0]["metadata"]["lagThreshold"] == "250"


def test_the_topic_is_always_set(chart) -> None:
    for sets in ([], ["config.kafka.input_topic=other"]):
        metadata = chart(sets=["keda.enabled=true", *sets]).one("ScaledObject")["spec"]["triggers"][0]["metadata"]
        assert metadata["topic"] == ("other" if sets else "creatives")


@pytest.mark.parametrize(
    ("sets", "replicas"),
    [([], 1), (["keda.minReplicas=3"], 3), (["keda.fallback.replicas=5"], 5), (["keda.minReplicas=0"], 1)],
)
def test_brokers_that_keda_cant_ask_leave_workers(sets: list[str], replicas: int, chart) -> None:
    fallback = chart(sets=["keda.enabled=true", *sets]).one("ScaledObject")["spec"]["fallback"]
    assert fallback == {"failureThreshold": 3, "replicas": replicas}


@pytest.mark.parametrize("replicas", [1, 7])
def test_the_budget_lets_one_pod_go(replicas: int, chart) -> None:
    budget = chart(sets=["pdb.enabled=true", f"replicaCount={replicas}"]).one("PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget


def test_workers_spread_over_nodes(chart) -> None:
    deployment = chart().one("Deployment")["spec"]
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"] == deployment["selector"]


def test_an_update_needs_no_spare_gpu(chart) -> None:
    update = chart().one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert (update["maxSurge"], update["maxUnavailable"]) == (0, 1)


def test_jobs_survive_an_upgrade(chart) -> None:
    jobs = [
        chart("everything", sets=sets).one("Job")
        for sets in (
            [],
            ["image.digest=sha256:" + "cd" * 32],
            ["topicsJob.partitions=24"],
            ["config.fetch.max_bytes=1"],
        )
    ]
    assert len({job["metadata"]["name"] for job in jobs}) == len(jobs)
    again = chart("everything", sets=["replicaCount=9"]).one("Job")
    assert again == jobs[0]


def test_the_topics_job_creates_the_topics_with_the_contracts_policies(chart) -> None:
    (container,) = chart("everything").one("Job")["spec"]["template"]["spec"]["containers"]
    assert container["args"][2:] == ["topics", "create", "--partitions=12", "--replication-factor=3"]


def test_helm_test_runs_the_doctor_without_waiting_for_a_gpu(chart) -> None:
    doctor = chart().one("Pod")
    assert doctor["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert doctor["spec"]["containers"][0]["args"][-1] == "doctor"
    assert "nvidia" not in str(doctor)


@pytest.mark.parametrize("sets", [["doctor.gpu=true"], ["config.backend=tensorrt"]])
def test_the_doctor_gets_a_gpu_where_it_needs_one(sets: list[str], chart) -> None:
    limits = chart(sets=sets).one("Pod")["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
