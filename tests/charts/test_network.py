"""What the NetworkPolicy lets through, computed from the rendered object."""

import ipaddress

import pytest

METADATA = ["169.254.169.254", "fd00:ec2::254", "100.100.100.200"]


def egress(rendered) -> list[dict]:
    return rendered.one("NetworkPolicy")["spec"]["egress"]


def reaches(rule: dict, address: str) -> bool:
    """Whether a rule lets a pod connect to an address outside the cluster."""
    if "to" not in rule:
        return True
    asked = ipaddress.ip_address(address)
    for peer in rule["to"]:
        block = peer.get("ipBlock")
        if block and _holds(block["cidr"], asked) and not any(_holds(cidr, asked) for cidr in block.get("except", [])):
            return True
    return False


def _holds(cidr: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    network = ipaddress.ip_network(cidr)
    return network.version == address.version and address in network


def ports(rendered) -> list[set[int]]:
    return [{port["port"] for port in rule["ports"]} for rule in egress(rendered)]


def test_it_is_off_by_default(chart) -> None:
    assert chart().all("NetworkPolicy") == []


@pytest.mark.parametrize("address", METADATA)
@pytest.mark.parametrize("shape", ["everything", "sasl-ssl", "without-redis"])
def test_no_rule_reaches_the_metadata_services(shape: str, address: str, chart) -> None:
    assert [rule for rule in egress(chart(shape)) if reaches(rule, address)] == []


def test_the_world_is_reached_where_it_is_allowed(chart) -> None:
    fetches = egress(chart("everything"))[3]
    for address in ("203.0.113.9", "10.1.2.3", "2001:db8::1"):
        assert reaches(fetches, address)


def test_excepted_addresses_lie_in_their_block(chart) -> None:
    for rule in egress(chart("everything"))[1:]:
        for block in (peer["ipBlock"] for peer in rule["to"]):
            outer = ipaddress.ip_network(block["cidr"])
            assert all(ipaddress.ip_network(inner).subnet_of(outer) for inner in block["except"])


def test_ports_follow_from_the_settings(chart) -> None:
    assert ports(chart("everything")) == [{53}, {9092}, {6379}, {443, 8081}, {4318}]
    assert ports(chart("sasl-ssl")) == [{53}, {9094}, {6380}, {443}]
    assert ports(chart("without-redis")) == [{53}, {9092}]


@pytest.mark.parametrize(
    ("hosts", "wanted"),
    [
        ("{*}", {443}),
        ("{.example.com,http://old.example}", {443, 80}),
        ("{cdn.example:8443,http://old.example:8080}", {8443, 8080}),
        ("{10.0.0.0/8,fd00::/8}", {443}),
        ("{[fd00::1]:9443}", {9443}),
        ("{s3://bucket/prefix,gs://other}", {443}),
    ],
)
def test_fetch_ports_follow_from_the_allow_list(hosts: str, wanted: set[int], chart) -> None:
    rendered = chart("without-redis", sets=[f"config.fetch.allowed_hosts={hosts}"])
    assert ports(rendered)[2:] == [wanted]


@pytest.mark.parametrize(
    ("hosts", "settings", "wanted"),
    [
        ("{s3://bucket}", ["s3_endpoint=https://minio.example:9000"], {443, 9000}),
        ("{cdn.example,gs://bucket}", ["gs_endpoint=http://gcs.example"], {443, 80}),
        ("{s3://bucket}", ["s3_endpoint=https://[fd00::1]"], {443}),
        ("{s3://bucket}", ["gs_endpoint=http://gcs.example:4443"], {443}),
    ],
)
def test_an_object_stores_own_port_is_open(hosts: str, settings: list[str], wanted: set[int], chart) -> None:
    sets = [f"config.fetch.allowed_hosts={hosts}", *(f"config.fetch.{setting}" for setting in settings)]
    assert ports(chart("without-redis", sets=sets))[2:] == [wanted]


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector:4318/v1/traces", 4318),
        ("https://collector.example/v1/a:1", 443),
        ("http://[fd00::1]/v1/traces", 80),
    ],
)
def test_the_collector_of_traces_is_reached(endpoint: str, port: int, chart) -> None:
    rendered = chart("without-redis", sets=[f"config.tracing.endpoint={endpoint}"])
    assert ports(rendered)[2:] == [{port}]
    assert not reaches(egress(rendered)[-1], METADATA[0])
    own = ["networkPolicy.tracing.ports={9}", "networkPolicy.tracing.to[0].podSelector.matchLabels.app=collector"]
    rule = egress(chart("without-redis", sets=[f"config.tracing.endpoint={endpoint}", *own]))[-1]
    assert rule["ports"] == [{"port": 9, "protocol": "TCP"}]
    assert rule["to"] == [{"podSelector": {"matchLabels": {"app": "collector"}}}]


@pytest.mark.parametrize(
    ("url", "port"), [("redis://redis:6390/2", 6390), ("rediss://redis", 6379), ("redis://redis:7000", 7000)]
)
def test_the_redis_port_is_the_urls(url: str, port: int, chart) -> None:
    assert ports(chart("without-redis", sets=[f"config.redis.url={url}"]))[-1] == {port}


def test_all_pods_of_the_release_are_held(chart) -> None:
    rendered = chart("everything")
    policy = rendered.one("NetworkPolicy")["spec"]
    for labels in (
        rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"],
        rendered.one("Job")["spec"]["template"]["metadata"]["labels"],
        rendered.one("Pod")["metadata"]["labels"],
    ):
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"port": "http", "protocol": "TCP"}]]
