"""`adscore topics`: the four topics, made and checked by the contract's policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from worker.commands import edge, kafka
from worker.errors import FatalError
from worker.settings import Settings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

# Beside the image an event holds copy, OCR text and what an ad server adds.
EVENT_ROOM_BYTES = 1024 * 1024
DLQ_ROOM_BYTES = 64 * 1024
ALREADY_EXISTS = 36


@dataclass(frozen=True, slots=True)
class Policy:
    """One topic as it should be. max_message_bytes None: the broker's default is large enough."""

    name: str
    setting: str
    cleanup: str
    max_message_bytes: int | None = None

    def configs(self) -> dict[str, str]:
        """Kafka's own names for it."""
        size = {"max.message.bytes": str(self.max_message_bytes)} if self.max_message_bytes else {}
        return {"cleanup.policy": self.cleanup} | size


def policies(settings: Settings) -> list[Policy]:
    """The topics of these settings: input, output, dead letters, shadow."""
    received = (settings.fetch.max_bytes + 2) // 3 * 4 + EVENT_ROOM_BYTES
    names = settings.kafka
    return [
        Policy(names.input_topic, "input_topic", "delete", received),
        Policy(names.output_topic, "output_topic", "compact"),
        Policy(names.dlq_topic, "dlq_topic", "delete", received + DLQ_ROOM_BYTES),
        Policy(names.shadow_topic, "shadow_topic", "delete"),
    ]


def differences(wanted: list[Policy], found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What keeps the topics from their policies, a sentence each. `found`: topic → its configuration; absent: no topic.

    A larger `max.message.bytes` than needed is no difference, but dead letters must hold whatever the input lets in.
    """
    told: list[str] = []
    room: dict[str, int] = {}
    for policy in wanted:
        configs = found.get(policy.name)
        if configs is None:
            told.append(f"{policy.name} ({policy.setting}) doesn't exist")
            continue
        if not configs:
            told.append(f"{policy.name}: its configuration can't be read: grant DescribeConfigs to this principal")
            continue
        if configs["cleanup.policy"] != policy.cleanup:
            told.append(f"{policy.name}: cleanup.policy is {configs['cleanup.policy']}, not {policy.cleanup}")
        room[policy.setting] = int(configs["max.message.bytes"])
        least = policy.max_message_bytes or 0
        if policy.setting == "dlq_topic":
            least = max(least, room.get("input_topic", 0) + DLQ_ROOM_BYTES)
        if room[policy.setting] < least:
            told.append(f"{policy.name}: max.message.bytes is {room[policy.setting]}, less than {least}")
    return told


def described(client: KafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """Topic → configuration of those that exist; empty where this principal may not read it."""
    from kafka.admin import ConfigResource, ConfigResourceType

    there = [name for name in names if name in set(client.list_topics())]
    if not there:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
    answers: Any = client.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: entry["value"] for key, entry in answers[name].items()} for name in there}


def max_message_bytes(found: Mapping[str, Mapping[str, str]], topic: str) -> int:
    """What a described topic takes. Raises FatalError (exit status 3) where this principal may not know."""
    if not found[topic]:
        # A guess would cut dead letters that the topic could hold.
        raise FatalError(
            f"no right to read the configuration of topic {topic}: grant DescribeConfigs on it to this principal",
            exit_code=edge.UNAVAILABLE,
        )
    return int(found[topic]["max.message.bytes"])


@click.group()
def topics() -> None:
    """Create the topics, or check them against their policies."""


@topics.command()
@click.option("--partitions", type=click.IntRange(1, 10_000), default=6, show_default=True, help="Partitions of each.")
@click.option(
    "--replication-factor", type=click.IntRange(1, 32_767), help="Replicas of each.  [default: the broker's own]"
)
def create(partitions: int, replication_factor: int | None) -> None:
    """Create the topics that are missing; those that exist are left as they are."""
    settings = edge.settings()
    wanted = policies(settings)
    with kafka.reached(settings.kafka), kafka.admin(settings.kafka) as client:
        there = set(client.list_topics())
        missing = [policy for policy in wanted if policy.name not in there]
        replicas = replication_factor or -1
        asked = {
            policy.name: {"num_partitions": partitions, "replication_factor": replicas, "configs": policy.configs()}
            for policy in missing
        }
        answers = client.create_topics(asked, raise_errors=False)["topics"] if asked else []
        refused = [answer for answer in answers if answer["error_code"] not in (0, ALREADY_EXISTS)]
        if refused:
            raise FatalError("\n".join(_refusal(answer) for answer in refused), exit_code=edge.FAILED)
        if asked:
            client.wait_for_topics(list(asked))
        wrong = differences(wanted, described(client, [policy.name for policy in wanted]))
    made = {answer["name"] for answer in answers if answer["error_code"] == 0}
    for policy in wanted:
        state = f"created with {partitions} partitions" if policy.name in made else "exists"
        click.echo(f"{policy.name}: {state}")
    for difference in wrong:
        click.echo(f"differs: {difference}", err=True)


@topics.command()
def check() -> None:
    """Name every difference between the topics and their policies; exit 1 if there is one."""
    settings = edge.settings()
    wanted = policies(settings)
    with kafka.reached(settings.kafka), kafka.admin(settings.kafka) as client:
        wrong = differences(wanted, described(client, [policy.name for policy in wanted]))
    for difference in wrong:
        click.echo(difference)
    if wrong:
        raise click.exceptions.Exit(edge.FAILED)
    click.echo("the topics are as they should be", err=True)


def _refusal(answer: Mapping[str, Any]) -> str:
    return f"{answer['name']}: the broker refuses: {answer['error_message'] or answer['error_code']}"
