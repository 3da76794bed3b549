import os
from collections.abc import Callable
from typing import Any

import pytest

from worker.commands.topics import differences, policies
from worker.settings import load

WANTED = policies(load(None, {}).settings)
GOOD = {
    "creatives": {"cleanup.policy": "delete", "max.message.bytes": "12233388"},
    "creatives.enriched": {"cleanup.policy": "compact", "max.message.bytes": "1048588"},
    "creatives.dlq": {"cleanup.policy": "delete", "max.message.bytes": "12298924"},
    "creatives.shadow": {"cleanup.policy": "delete", "max.message.bytes": "1048588"},
}


def test_policies_fit_the_largest_image_in_base64() -> None:
    assert {policy.name: policy.configs() for policy in WANTED} == {
        name: {key: value for key, value in configs.items() if value != "1048588"} for name, configs in GOOD.items()
    }
    received = WANTED[0].max_message_bytes or 0
    assert received > 8 * 1024 * 1024 * 4 / 3 + 500_000
    assert WANTED[2].max_message_bytes == received + 64 * 1024


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"creatives": None}, ["creatives (input_topic) doesn't exist"]),
        ({"creatives.enriched": {"cleanup.policy": "delete"}}, ["cleanup.policy is delete, not compact"]),
        ({"creatives": {"max.message.bytes": "1048588"}}, ["creatives: max.message.bytes is 1048588, less than"]),
        # Dead letters must hold whatever the input lets in, also when that is more than needed.
        ({"creatives": {"max.message.bytes": "20000000"}}, ["creatives.dlq: max.message.bytes", "20065536"]),
        ({"creatives.dlq": {"max.message.bytes": "99999999"}}, []),
        ({"creatives.shadow": {"cleanup.policy": "compact"}}, ["creatives.shadow: cleanup.policy"]),
    ],
)
def test_every_difference_is_named(change: dict[str, dict[str, str] | None], told: list[str]) -> None:
    found = {
        name: configs | (change.get(name) or {}) for name, configs in GOOD.items() if change.get(name, {}) is not None
    }
    wrong = "\n".join(differences(WANTED, found))
    assert bool(wrong) == bool(told)
    assert all(words in wrong for words in told)


def fresh(topics: Any) -> dict[str, str]:
    """Settings for topics that don't exist yet."""
    names = {"INPUT": topics.input, "OUTPUT": topics.output, "DLQ": topics.dlq, "SHADOW": topics.shadow}
    return topics.env | {f"ADSCORE_KAFKA__{kind}_TOPIC": f"{name}.new" for kind, name in names.items()}


def test_create_then_check(adscore: Callable[..., Any], topics: Any) -> None:
    env = fresh(topics)
    before = adscore("topics", "check", env=env)
    assert before.status == 1
    assert before.out.count("doesn't exist") == 4
    made = adscore("topics", "create", "--partitions", "2", "--replication-factor", "1", env=env)
    assert made.status == 0
    assert made.out.count("created with 2 partitions") == 4
    assert adscore("topics", "check", env=env).status == 0
    again = adscore("topics", "create", env=env)
    assert (again.status, again.out.count("exists")) == (0, 4)


def test_what_the_broker_refuses_is_told(adscore: Callable[..., Any], topics: Any) -> None:
    env = fresh(topics) | {"ADSCORE_KAFKA__INPUT_TOPIC": f"{topics.input}.refused"}
    ran = adscore("topics", "create", "--replication-factor", "3", env=env)
    assert ran.status == 1
    assert "the broker refuses" in ran.err


@pytest.mark.slow
def test_a_broker_that_is_not_there_is_3_within_30_s(start_adscore: Callable[..., Any]) -> None:
    running = start_adscore("topics", "check", env=os.environ | {"ADSCORE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    assert running.wait(30) == 3
    assert "127.0.0.1:1" in running.stderr
    assert "ADSCORE_KAFKA__BOOTSTRAP_SERVERS" in running.stderr


@pytest.mark.slow
def test_a_broker_that_hangs_is_3_within_30_s(start_adscore: Callable[..., Any], stack: Any, topics: Any) -> None:
    stack.pause_broker()
    try:
        verbs = ("topics check", "tail", "dlq list", "publish -")
        running = [start_adscore(*verb.split(), env=topics.env) for verb in verbs]
        assert [one.wait(30) for one in running] == [3] * len(verbs)
    finally:
        stack.resume_broker()
