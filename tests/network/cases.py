"""Names, servers and URLs: where each fetch may go, and how it has to end."""

from __future__ import annotations

import gzip
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

PUBLIC, PUBLIC_V6, OTHER = "93.184.216.34", "2606:2800:220:1::1", "151.101.1.6"
IMAGE = b"\x89PNG\r\n\x1a\n good"
CAP = 100_000
BOMB = gzip.compress(bytes(50_000_000))
INTERNAL = (
    *("0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.8.8.8", "168.63.129.16"),
    *("169.254.169.254", "172.16.0.1", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1"),
    *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:10.0.0.1", "::ffff:93.184.216.34", "::10.0.0.1", "64:ff9b::a00:1", "64:ff9b::5db8:d822"),
    *("64:ff9b:1::a00:1", "100::1", "2001::a00:1", "2001:db8::1", "2002:a00:1::1", "2002:5db8:d822::1", "3fff::1"),
    *("fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1"),
)
NUMBERS = (
    *("2130706433", "0x7f000001", "0x7f.1", "127.1", "017700000001", "0177.0.0.1", "127.0.0.1.", "127.0.0.01"),
    *(
        "\uff11\uff12\uff17.0.0.1",
        "\u2460\u2461\u2466.0.0.1",
        "127\u30020\u30020\u30021",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
    ),
    *(
        "[::1%25lo]",
        "[fe80::1%25eth0]",
        "4294967295",
        "1.1.1.1.1",
        "0",
        "localhost",
        "localhost.",
        "box.test",
        "LOCALHOST",
    ),
)
LEADS = (  # where a redirect may point, and must not lead
    *(
        "http://127.0.0.1/",
        "//10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://inside.test/",
    ),
    *("http://2130706433/", "http://0x7f.1/", "http://\uff11\uff12\uff17.0.0.1/", "http://user:pw@10.0.0.1/"),
    *("http://public.test:22/", "http://public.test:6379/", "https://public.test:8443/", "file:///etc/passwd"),
    *(
        "gopher://10.0.0.1/",
        "s3://bucket/key",
        "data:image/png;base64,AAAA",
        "http:\\\\10.0.0.1\\",
        "http://10.0.0.1\t/",
    ),
    *("http://mixed.test/", "http://alias.test/", "http://64.test/", "http://box.test/", "ftp://public.test/"),
)


@dataclass(frozen=True)
class Case:
    """`reached`: addresses that may be connected to, on port 80; `code`: None for a good image."""

    name: str
    url: str
    code: str | None
    reached: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ("http://*",)


def names() -> dict[str, list[str] | list[list[str]]]:
    """The name server's answers."""
    told: dict[str, list[str] | list[list[str]]] = {
        "public.test": [PUBLIC],
        "six.test": [PUBLIC_V6],
        "both.test": [PUBLIC, PUBLIC_V6],
        "inside.test": ["10.1.2.3"],
        "alias.test": ["inside.test"],
        "far.test": ["alias.test"],
        "good-alias.test": ["public.test"],
        "mixed.test": [PUBLIC, "10.0.0.1"],
        "mixed6.test": [PUBLIC, "::1"],
        "64.test": ["64:ff9b::a00:1"],
        "rebind.test": [[PUBLIC], ["127.0.0.1"]],
        "rebind-hop.test": [[PUBLIC], ["169.254.169.254"]],
        "metadata.google.internal": ["169.254.169.254"],
        "listed.test": ["10.4.4.4"],
    }
    told |= {f"at-{number}.test": [address] for number, address in enumerate(INTERNAL)}
    return told


def cases() -> Iterator[Case]:
    """Every fetch, with where it may go."""
    yield Case("a public name", "http://public.test/", None, (PUBLIC,))
    yield Case("a public IPv6 name", "http://six.test/", None, (PUBLIC_V6,))
    yield Case("both kinds", "http://both.test/", None, (PUBLIC, PUBLIC_V6))
    yield Case("a public address", f"http://{PUBLIC}/", None, (PUBLIC,))
    yield Case("an alias of a public name", "http://good-alias.test/", None, (PUBLIC,))
    yield Case("a redirect within", "http://public.test/to?/", None, (PUBLIC,))
    yield Case("a redirect to another public name", "http://public.test/to?http://six.test/", None, (PUBLIC, PUBLIC_V6))
    yield Case("nobody listed it", "http://public.test/", "fetch_refused", hosts=())
    yield Case("another is listed", "http://public.test/", "fetch_refused", hosts=("http://six.test",))
    yield Case("plain http isn't listed", "http://public.test/", "fetch_refused", hosts=("*",))
    yield Case(
        "an unlisted hop", "http://public.test/to?http://six.test/", "fetch_refused", (PUBLIC,), ("http://public.test",)
    )
    yield Case("a listed internal address", "http://listed.test/", None, ("10.4.4.4",), ("http://*", "http://10.4.4.4"))
    yield Case(
        "a listed internal network, another port", "http://10.4.4.4:81/", "fetch_refused", hosts=("http://10.4.4.0/24",)
    )
    yield Case("userinfo", "http://user:pw@public.test/", "fetch_refused")
    yield Case("userinfo that hides the host", "http://public.test@10.0.0.1/", "fetch_refused")
    yield Case("a backslash", "http://public.test\\@10.0.0.1/", "fetch_refused")
    yield Case("a fragment that hides the host", "http://10.0.0.1#@public.test/", "fetch_refused")
    yield Case("a query that hides the host", "http://10.0.0.1?@public.test/", "fetch_refused")
    yield Case("a port of another service", "http://public.test:6379/", "fetch_refused")
    yield Case("no such name", "http://nowhere.test/", "fetch_failed")
    yield Case("a name server that is silent", "http://silent.test/", "fetch_timeout")
    for name in (
        "inside.test",
        "alias.test",
        "far.test",
        "mixed.test",
        "mixed6.test",
        "64.test",
        "metadata.google.internal",
    ):
        yield Case(f"the name {name}", f"http://{name}/", "fetch_refused")
    for number, address in enumerate(INTERNAL):
        host = f"[{address}]" if ":" in address else address
        yield Case(f"the address {address}", f"http://{host}/", "fetch_refused")
        yield Case(f"a name for {address}", f"http://at-{number}.test/", "fetch_refused")
    for number in NUMBERS:
        yield Case(f"written {number}", f"http://{number}/", "fetch_refused")
    for place in LEADS:
        yield Case(f"a redirect to {place!r}", f"http://public.test/to?{place}", "fetch_refused", (PUBLIC,))
    for number in range(0, len(INTERNAL), 3):
        yield Case(
            f"a redirect to at-{number}", f"http://public.test/to?http://at-{number}.test/", "fetch_refused", (PUBLIC,)
        )
    yield Case("a second answer that differs", "http://rebind.test/", None, (PUBLIC,))
    yield Case("a second answer that differs, next record", "http://rebind.test/", "fetch_refused")
    yield Case("a second answer at a hop", "http://rebind-hop.test/to?/", "fetch_refused", (PUBLIC,))
    yield Case("a loop of redirects", "http://public.test/loop", "fetch_refused", (PUBLIC,))


TELLING = (
    "the name inside.test",
    "the name alias.test",
    "the name mixed.test",
    "the address 169.254.169.254",
    "the address ::1",
    "a name for 10.0.0.1",
    "written localhost",
    "a redirect to 'http://127.0.0.1/'",
    "a second answer at a hop",
)
"""Cases that go astray where the guard is gone."""

HOSTILE = {
    "silent": "fetch_timeout",
    "drips-headers": "fetch_timeout",
    "drips-body": "fetch_timeout",
    "endless-chunks": "too_large",
    "endless": "too_large",
    "endless-headers": "fetch_failed",
    "endless-100": "fetch_timeout",
    "lies-long": "fetch_failed",
    "says-huge": "too_large",
    "bomb": "too_large",
    "unknown-coding": "fetch_failed",
    "garbage": "fetch_failed",
    "closes": "fetch_failed",
    "500": "fetch_failed",
}


def answer(connection: socket.socket, host: str, path: str) -> None:
    """What stands on port 80, wherever."""
    name = host.partition(":")[0]
    what = name.removesuffix(".hostile.test") if name.endswith(".hostile.test") else ""
    head = b"HTTP/1.1 200 OK\r\n"
    if path.startswith("/to?"):
        connection.sendall(
            b"HTTP/1.1 302 Found\r\nLocation: " + unquote(path[4:]).encode() + b"\r\nContent-Length: 0\r\n\r\n"
        )
    elif path == "/loop":
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n")
    elif what in ("silent", "drips-headers", "drips-body", "endless-100"):
        opening = {"drips-headers": head, "drips-body": head + b"Content-Length: 9999\r\n\r\n"}.get(what, b"")
        connection.sendall(opening)
        drop = {"drips-headers": b"X: y\r\n", "drips-body": b"x", "endless-100": b"HTTP/1.1 100 Continue\r\n\r\n"}.get(
            what, b""
        )
        for _ in range(2_000):
            connection.sendall(drop)
            time.sleep(0.01)
    elif what == "endless-headers":
        connection.sendall(head + b"".join(b"X%d: y\r\n" % number for number in range(100_000)))
    elif what == "endless-chunks":
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"400\r\n" + bytes(1024) + b"\r\n")
    elif what == "endless":
        connection.sendall(head + b"\r\n")
        while True:
            connection.sendall(bytes(65536))
    elif what == "lies-long":
        connection.sendall(head + b"Content-Length: 9999\r\n\r\nshort")
    elif what == "says-huge":
        connection.sendall(head + b"Content-Length: 99999999999\r\n\r\nshort")
    elif what == "bomb":
        connection.sendall(head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB)
    elif what == "unknown-coding":
        connection.sendall(head + b"Content-Encoding: br\r\nContent-Length: 5\r\n\r\nhello")
    elif what == "garbage":
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    elif what == "500":
        connection.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    elif what != "closes":
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE)
