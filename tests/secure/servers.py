"""A Kafka that asks for SASL_SSL with SCRAM and has ACLs, and a Redis with TLS and users, as platform teams have."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools.kafka_broker import JVM, SOURCES, jars, java
from tools.server import Server, free_port

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "s3cret+/word"
KAFKA = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=SECURE://127.0.0.1:{secure},PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SECURE://127.0.0.1:{secure},PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=SECURE:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location=server.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
log.dirs=data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=4194304
"""
REDIS = """\
bind 127.0.0.1
port 0
tls-port {port}
tls-cert-file server.crt
tls-key-file server.key
tls-ca-cert-file ca.crt
tls-auth-clients no
save ""
appendonly no
maxmemory-policy noeviction
user default off
"""


@dataclass(frozen=True)
class Secure:
    """Where both listen, and the files of the authority that signed their certificates."""

    plain: str
    """Kafka without authentication, for the tests' own set-up (a super user)."""
    kafka: str
    redis_port: int
    ca: Path


def certificates(folder: Path) -> None:
    """An authority and a certificate for 127.0.0.1 in `folder`: ca.crt, server.crt, server.key, server.pem."""
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-x509", "-days", "2"]
    authority = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"]
    server = ["basicConstraints=critical,CA:FALSE", "subjectAltName=IP:127.0.0.1"]
    commands = [
        [*new, "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.crt", *_added(authority)],
        [*new, "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.crt", *_added(server)],
    ]
    commands[1] += ["-CA", "ca.crt", "-CAkey", "ca.key"]
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (folder / "server.pem").write_text((folder / "server.key").read_text() + (folder / "server.crt").read_text())


def _added(extensions: list[str]) -> list[str]:
    return [word for extension in extensions for word in ("-addext", extension)]


def kafka(folder: Path, ports: dict[str, int], users: list[str]) -> Server:
    """The broker, formatted with the users' passwords, not yet started."""
    certificates(folder)
    (folder / "server.properties").write_text(KAFKA.format(**ports))
    base = [
        java(),
        *JVM,
        f"-Dlog4j2.configurationFile={SOURCES / 'log4j2.properties'}",
        "-cp",
        f"{jars(ROOT / '.cache')}/*",
    ]
    tool = [
        "kafka.tools.StorageTool",
        "format",
        "--standalone",
        "-t",
        "AAAAAAAAAAAAAAAAAAAAAQ",
        "-c",
        "server.properties",
    ]
    scram = [word for user in users for word in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={PASSWORD}]")]
    done = subprocess.run([*base, *tool, *scram], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Server("Kafka", folder, [*base, "kafka.Kafka", "server.properties"], "Kafka Server started", owned=True)


def redis(folder: Path, port: int, acl: list[str]) -> Server:
    """Redis with TLS and these users, not yet started."""
    certificates(folder)
    (folder / "redis.conf").write_text(REDIS.format(port=port) + "\n".join(acl) + "\n")
    return Server("Redis", folder, ["redis-server", "redis.conf"], "Ready to accept connections", owned=True)


def free_ports() -> dict[str, int]:
    """Ports of everything."""
    return {name: free_port() for name in ("secure", "plain", "controller", "redis")}
