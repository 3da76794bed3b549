"""The allow-list's grammar, and what each entry lets through."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from worker.intake.hosts import AllowList
from worker.intake.http_url import parse


@pytest.mark.parametrize(
    ("entry", "permitted", "refused"),
    [
        (
            "cdn.example",
            ["https://cdn.example/", "https://CDN.EXAMPLE./x", "https://cdn.example:443/"],
            ["http://cdn.example/", "https://cdn.example:8443/", "https://a.cdn.example/", "https://xcdn.example/"],
        ),
        ("CDN.example", ["https://cdn.example/"], ["https://cdn.example.evil/"]),
        ("cdn.example:8443", ["https://cdn.example:8443/"], ["https://cdn.example/", "http://cdn.example:8443/"]),
        (
            ".example",
            ["https://cdn.example/", "https://a.b.example/", "https://example/"],
            ["https://xexample/", "https://example.evil/", "http://cdn.example/", "https://cdn.example:444/"],
        ),
        ("*", ["https://any.example/", "https://8.8.8.8/"], ["http://any.example/", "https://any.example:444/"]),
        ("http://*", ["http://any.example/"], ["https://any.example/"]),
        ("http://cdn.example", ["http://cdn.example/"], ["https://cdn.example/", "http://cdn.example:8080/"]),
        ("http://cdn.example:8080", ["http://cdn.example:8080/"], ["http://cdn.example/", "https://cdn.example:8080/"]),
        ("10.1.2.3", ["https://10.1.2.3/"], ["http://10.1.2.3/", "https://10.1.2.4/", "https://10.1.2.3:444/"]),
        ("http://127.0.0.1:8080", ["http://127.0.0.1:8080/"], ["http://127.0.0.1/", "http://localhost:8080/"]),
        ("10.0.0.0/8", ["https://10.9.9.9/"], ["https://11.0.0.1/", "https://host.example/"]),
        ("http://10.0.0.0/8:8080", ["http://10.9.9.9:8080/"], ["http://10.9.9.9/"]),
        ("::1", ["https://[::1]/"], ["https://[::2]/", "https://127.0.0.1/"]),
        ("http://[::1]:8080", ["http://[::1]:8080/"], ["http://[::1]/"]),
        ("fd00::/8", ["https://[fd12::1]/"], ["https://[fe12::1]/"]),
        ("s3://bucket", [], ["https://bucket/", "http://bucket/"]),
    ],
)
def test_entries(entry: str, permitted: list[str], refused: list[str]) -> None:
    allowed = AllowList([entry, " ", ""])
    assert allowed.permits_network
    assert [url for url in permitted if not allowed.permits(parse(url))] == []
    assert [url for url in refused if allowed.permits(parse(url))] == []


def test_an_empty_list_permits_nothing() -> None:
    allowed = AllowList([])
    assert not allowed.permits_network
    assert not allowed.permits(parse("https://x.example/"))


@pytest.mark.parametrize(
    ("entries", "address", "port", "listed"),
    [
        (["*", ".example", "cdn.example"], "10.0.0.1", 443, False),
        (["10.0.0.1"], "10.0.0.1", 443, True),
        (["10.0.0.1"], "10.0.0.1", 8443, True),  # the name's own entry decided on the port
        (["10.0.0.0/8"], "10.0.0.1", 80, True),
        (["http://127.0.0.1:8080"], "127.0.0.1", 8080, True),
        (["http://127.0.0.1:8080"], "127.0.0.1", 443, False),
        (["::1"], "127.0.0.1", 443, False),
        (["127.0.0.1"], "::1", 443, False),
    ],
)
def test_which_internal_addresses_are_listed(entries: list[str], address: str, port: int, listed: bool) -> None:
    assert AllowList(entries).permits_internal(ip_address(address), port) is listed


def test_object_stores() -> None:
    allowed = AllowList(["s3://ads/live/", "gs://pics", "s3://shop/banner"])
    assert allowed.permits_object("s3", "shop", "banner")
    assert allowed.permits_object("s3", "shop", "banner/a.png")
    assert not allowed.permits_object("s3", "shop", "banner-drafts/a.png")
    assert allowed.permits_object("s3", "ads", "live/a.png")
    assert not allowed.permits_object("s3", "ads", "dead/a.png")
    assert not allowed.permits_object("gs", "ads", "live/a.png")
    assert allowed.permits_object("gs", "pics", "anything")


@pytest.mark.parametrize(
    "entry",
    [
        "https://cdn.example",
        "cdn.example/path",
        "cdn.example:",
        "cdn.example:0",
        "cdn.example:99999",
        "cdn.example:http",
        "*.example",
        "10.0.0.0/33",
        "127.1",
        "2130706433",
        "bücher.example",
        "http://",
        ".",
        "s3://",
        "ftp://x",
        "a b",
        "[::1",
    ],
)
def test_what_is_no_entry_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="ADSCORE_FETCH__ALLOWED_HOSTS") as caught:
        AllowList(["good.example", entry])
    assert repr(entry) in str(caught.value)
