"""Secured servers for the session, and topics with a principal of their own for each test."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.light_models import write_light_models
from tests.secure.servers import PASSWORD, Secure, free_ports, kafka, redis
from tools.helm import CHART, ROOT, render
from tools.server import StackUnavailableError

USERS = [f"worker-{number}" for number in range(12)]
REDIS_PASSWORD = "redis-secret"
_next = itertools.count()


def redis_acl() -> str:
    """The line that docs/operations.md gives, with the tests' password."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^user adscore on .*$", page, flags=re.MULTILINE)
    return line.replace("PASSWORD", REDIS_PASSWORD)


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """Kafka with SASL_SSL and ACLs, Redis with TLS and users."""
    ports, folder = free_ports(), tmp_path_factory.mktemp("secure")
    for name in ("kafka", "redis"):
        (folder / name).mkdir()
    try:
        servers = [kafka(folder / "kafka", ports, USERS), redis(folder / "redis", ports["redis"], [redis_acl()])]
    except StackUnavailableError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    for server in servers:
        server.start()
    bundle = folder / "ca.crt"
    bundle.write_text("".join((folder / name / "ca.crt").read_text() for name in ("kafka", "redis")))
    yield Secure(f"127.0.0.1:{ports['plain']}", f"127.0.0.1:{ports['secure']}", ports["redis"], bundle)
    for server in servers:
        server.stop(0)


@dataclass(frozen=True)
class Tenant:
    """Topics, a group and a principal without any right, and the settings as the chart renders them for it."""

    name: str
    user: str
    config: Path
    topics: dict[str, str]


@pytest.fixture(scope="session")
def light_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles that load in no time."""
    return write_light_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def make_tenant(secure: Secure, light_models: Path, tmp_path: Path) -> Callable[..., Tenant]:
    """`make_tenant(delivery="exactly-once")`: what the chart's sasl-ssl.yaml makes, with our addresses and Secrets."""
    from kafka import KafkaAdminClient

    def make(*sets: str, password: str = PASSWORD) -> Tenant:
        number = next(_next)
        name = f"s{number}"
        topics = {kind: f"{name}.{kind}" for kind in ("input", "output", "dlq", "shadow")}
        admin = KafkaAdminClient(bootstrap_servers=secure.plain)
        admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1} for topic in topics.values()})
        admin.wait_for_topics(list(topics.values()))
        admin.close()
        values = [f"config.kafka.{kind}_topic={topic}" for kind, topic in topics.items()]
        values += [
            f"config.kafka.bootstrap_servers={{{secure.kafka}}}",
            f"config.kafka.group_id={name}",
            f"config.kafka.sasl_username={USERS[number % len(USERS)]}",
            f"config.models.dir={light_models}",
            "keda.enabled=false",
            *sets,
        ]
        config = _as_mounted(render(CHART / "ci" / "sasl-ssl.yaml", sets=values), secure, tmp_path, password)
        return Tenant(name, USERS[number % len(USERS)], config, topics)

    return make


def _as_mounted(rendered, secure: Secure, folder: Path, password: str) -> Path:
    """The rendered file, with the Secrets' files where a test can put them, and a port that is free."""
    secrets = {
        "kafka.sasl_password": f"{password}\n",
        "kafka.ssl_cafile": secure.ca.read_text(),
        "redis-ca.pem": secure.ca.read_text(),
        "redis.url": f"rediss://adscore:{REDIS_PASSWORD}@127.0.0.1:{secure.redis_port}/0"
        f"?ssl_ca_certs={folder}/redis-ca.pem",
    }
    for name, text in secrets.items():
        (folder / name).write_text(text)
    text = rendered.one("ConfigMap")["data"]["adscore.toml"]
    config = folder / "adscore.toml"
    config.write_text(text.replace("/run/secrets/adscore", str(folder)).replace("port = 8080", "port = 0"))
    return config


@pytest.fixture
def grant(secure: Secure) -> Callable[..., None]:
    """`grant(user, ("topic", name, "READ"), …)`; a fourth "PREFIXED" covers what begins with the name."""
    from kafka import KafkaAdminClient
    from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

    def give(user: str, *rights: tuple[str, ...]) -> None:
        admin = KafkaAdminClient(bootstrap_servers=secure.plain)
        acls = [
            ACL(
                f"User:{user}",
                "*",
                ACLOperation[operation],
                ACLPermissionType.ALLOW,
                ResourcePattern(
                    ResourceType[kind.upper()], name, ACLResourcePatternType[pattern[0] if pattern else "LITERAL"]
                ),
            )
            for kind, name, operation, *pattern in rights
        ]
        admin.create_acls(acls)
        admin.close()

    return give
