"""The rendered chart against servers that demand everything: the documented rights suffice, and each one is needed."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from redis import Redis
from redis.exceptions import NoPermissionError

from tests.secure.conftest import REDIS_PASSWORD, Tenant
from tests.secure.servers import Secure

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]


def rights(tenant: Tenant, *, exactly_once: bool = False) -> dict[str, tuple[str, ...]]:
    """docs/operations.md, "Rights", for the worker's principal. Kafka's Read and Write imply Describe."""
    topics = tenant.topics
    wanted = {
        "READ input": ("topic", topics["input"], "READ"),
        "WRITE output": ("topic", topics["output"], "WRITE"),
        "READ output": ("topic", topics["output"], "READ"),
        "DESCRIBE_CONFIGS output": ("topic", topics["output"], "DESCRIBE_CONFIGS"),
        "WRITE dlq": ("topic", topics["dlq"], "WRITE"),
        "DESCRIBE_CONFIGS dlq": ("topic", topics["dlq"], "DESCRIBE_CONFIGS"),
    }
    wanted["READ group"] = ("group", tenant.name, "READ")
    if exactly_once:
        wanted["WRITE transactional id"] = ("transactional_id", tenant.name, "WRITE", "PREFIXED")
    return wanted


def send(secure: Secure, tenant: Tenant, *values: bytes) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=secure.plain)
    for value in values:
        producer.send(tenant.topics["input"], value=value, key=b"cr-1").get(20)
    producer.close()


def creative() -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(picture, "PNG")
    url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    return json.dumps({"ad": {"id": "cr-1", "display": {"banner": {"img": url}}}, "ocr_text": ""}).encode()


@contextmanager
def redis_as_documented(secure: Secure) -> Iterator[Redis]:
    client = Redis(
        host="127.0.0.1",
        port=secure.redis_port,
        username="adscore",
        password=REDIS_PASSWORD,
        ssl=True,
        ssl_ca_certs=str(secure.ca),
    )
    yield client
    client.close()


def published(secure: Secure, tenant: Tenant, kind: str) -> int:
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=secure.plain)
    place = TopicPartition(tenant.topics[kind], 0)
    (end,) = consumer.end_offsets([place]).values()
    consumer.close()
    return end


@pytest.mark.slow
@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_the_documented_rights_suffice(
    delivery: str,
    secure: Secure,
    make_tenant: Callable[..., Tenant],
    grant: Callable[..., None],
    adscore: Callable[..., Any],
) -> None:
    tenant = make_tenant(f"config.kafka.delivery={delivery}", "config.served.sample_seconds=0.1")
    grant(tenant.user, *rights(tenant, exactly_once=delivery == "exactly-once").values())
    send(secure, tenant, creative(), b"not JSON")
    done = adscore("--config", str(tenant.config), "worker", "--until-idle", "3", seconds=120)
    assert done.returncode == 0, done.stderr
    assert "served_not_sampled" not in done.stderr
    assert published(secure, tenant, "output") >= 1
    assert published(secure, tenant, "dlq") >= 1
    assert "redis" not in done.stderr.lower(), done.stderr
    with redis_as_documented(secure) as client:
        kinds = {bytes(key)[:9] for key in client.scan_iter("adscore:*")}
    assert kinds >= {b"adscore:{", b"adscore:r"}


NEEDED = [
    ("READ input", "input"),
    ("WRITE output", "output"),
    ("DESCRIBE_CONFIGS output", "output"),
    ("DESCRIBE_CONFIGS dlq", "dlq"),
    ("WRITE dlq", "dlq"),
    ("READ group", "group"),
    ("WRITE transactional id", "transactional id"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "named"), NEEDED)
def test_each_missing_right_is_told_and_ends_the_worker(
    missing: str,
    named: str,
    secure: Secure,
    make_tenant: Callable[..., Tenant],
    grant: Callable[..., None],
    adscore: Callable[..., Any],
) -> None:
    exactly_once = "transactional" in missing
    tenant = make_tenant(f"config.kafka.delivery={'exactly-once' if exactly_once else 'at-least-once'}")
    wanted = rights(tenant, exactly_once=exactly_once)
    left = {name: right for name, right in wanted.items() if name != missing}
    grant(tenant.user, *left.values())
    send(secure, tenant, creative(), b"not JSON")
    began = time.monotonic()
    done = adscore("--config", str(tenant.config), "worker", "--max-messages", "2", seconds=90)
    assert done.returncode == 3, done.stderr
    assert time.monotonic() - began < 60
    assert tenant.topics.get(named, tenant.name) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_without_the_right_to_read_what_it_wrote_the_worker_goes_on_and_says_so_once(
    secure: Secure, make_tenant: Callable[..., Tenant], grant: Callable[..., None], adscore: Callable[..., Any]
) -> None:
    tenant = make_tenant("config.served.sample_seconds=0.1")
    grant(tenant.user, *(right for name, right in rights(tenant).items() if name != "READ output"))
    send(secure, tenant, creative())
    done = adscore("--config", str(tenant.config), "worker", "--until-idle", "3", seconds=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("served_not_sampled") == 1, done.stderr
    assert f"grant Read on {tenant.topics['output']}" in done.stderr


@pytest.mark.slow
def test_a_wrong_password_ends_with_3_and_says_what_to_check(
    make_tenant: Callable[..., Tenant], adscore: Callable[..., Any]
) -> None:
    done = adscore("--config", str(make_tenant(password="wrong").config), "worker", seconds=60)
    assert done.returncode == 3, done.stderr
    assert "password" in done.stderr
    assert "wrong" not in done.stderr


@pytest.mark.slow
def test_doctor_finds_everything_in_order_by_the_rendered_settings(
    make_tenant: Callable[..., Tenant], grant: Callable[..., None], adscore: Callable[..., Any], tmp_path: Path
) -> None:
    tenant = make_tenant()
    look = [("topic", tenant.topics[kind], "DESCRIBE_CONFIGS") for kind in ("input", "shadow")]
    grant(tenant.user, *rights(tenant).values(), *look, ("topic", tenant.topics["shadow"], "DESCRIBE"))
    done = adscore("--config", str(tenant.config), "doctor", "--json", seconds=90)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["kafka"]["status"] == "ok", checks
    assert checks["redis"]["status"] == "ok", checks


def test_the_documented_redis_user_may_touch_nothing_else(secure: Secure) -> None:
    with redis_as_documented(secure) as client:
        assert client.ping()
        for forbidden in (
            lambda: client.get("foreign"),
            lambda: client.set("foreign", 1),
            client.flushall,
            lambda: client.config_get("*"),
            lambda: client.eval("return 1", 0),
            lambda: client.publish("adscore:channel", 1),
        ):
            with pytest.raises(NoPermissionError):
                forbidden()


@pytest.mark.slow
@pytest.mark.parametrize(
    "verb",
    [("cache", "stats"), ("dlq", "list"), ("dlq", "replay", "--dry-run"), ("topics", "check"), ("models", "verify")],
    ids=" ".join,
)
def test_verbs_read_the_rendered_file_too(
    verb: tuple[str, ...],
    secure: Secure,
    make_tenant: Callable[..., Tenant],
    grant: Callable[..., None],
    adscore: Callable[..., Any],
) -> None:
    tenant = make_tenant()
    look = [
        ("topic", topic, operation) for topic in tenant.topics.values() for operation in ("READ", "DESCRIBE_CONFIGS")
    ]
    grant(tenant.user, *rights(tenant).values(), *look)
    done = adscore("--config", str(tenant.config), *verb, seconds=60)
    # The tests' topics don't have the contract's policies; `topics check` says so.
    assert done.returncode == (1 if verb[0] == "topics" else 0), done.stderr
    assert "Traceback" not in done.stderr
    assert "NOPERM" not in done.stderr
    assert "REDIS" not in done.stderr
