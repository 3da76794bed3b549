"""The operator's allow-list: from which hosts, addresses and buckets an image may be fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from worker.intake.addresses import Address
from worker.intake.http_url import DEFAULT_PORTS, HttpUrl, parse_host

SETTING = "ADSCORE_FETCH__ALLOWED_HOSTS"
OBJECT_SCHEMES = ("s3", "gs")


@dataclass(frozen=True, slots=True)
class _Host:
    """`name`, `.domain` (the domain and all below it) or `*`; `network` instead for an address or a CIDR."""

    scheme: str
    name: str
    network: IPv4Network | IPv6Network | None
    port: int | None


@dataclass(frozen=True, slots=True)
class _Bucket:
    scheme: str
    bucket: str
    prefix: str


class AllowList:
    """Entries: `host`, `host:port`, `.domain`, `*`, an address, a CIDR, each with `http://` before it for plain http
    instead of https; `s3://bucket[/prefix]`, `gs://bucket[/prefix]`. Raises ValueError naming an entry that is none.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._hosts: list[_Host] = []
        self._buckets: list[_Bucket] = []
        for text in filter(None, (entry.strip() for entry in entries)):
            if text.startswith(tuple(f"{scheme}://" for scheme in OBJECT_SCHEMES)):
                self._buckets.append(_bucket(text))
            else:
                self._hosts.append(_host(text))

    @property
    def permits_network(self) -> bool:
        """Whether there is any entry at all."""
        return bool(self._hosts or self._buckets)

    def permits(self, url: HttpUrl) -> bool:
        """Whether the URL's scheme, host and port are listed. Its addresses are checked on their own."""
        return any(
            entry.scheme == url.scheme
            and (entry.port or DEFAULT_PORTS[entry.scheme]) == url.port
            and _covers(entry, url)
            for entry in self._hosts
        )

    def permits_internal(self, address: Address, port: int) -> bool:
        """Whether an internal address is listed: by an entry with this port, or by one without any."""
        return any(
            entry.network is not None and address in entry.network and entry.port in (None, port)
            for entry in self._hosts
        )

    def permits_object(self, scheme: str, bucket: str, key: str) -> bool:
        """Whether an object of an object store is listed; `live` covers `live/…`, not `live-drafts/…`."""
        return any(
            (entry.scheme, entry.bucket) == (scheme, bucket)
            and (not entry.prefix or key == entry.prefix or key.startswith(entry.prefix.rstrip("/") + "/"))
            for entry in self._buckets
        )


def _covers(entry: _Host, url: HttpUrl) -> bool:
    if entry.network is not None:
        return url.address is not None and url.address in entry.network
    if entry.name == "*":
        return True
    if url.address is not None:
        return False
    if entry.name.startswith("."):
        return url.host == entry.name[1:] or url.host.endswith(entry.name)
    return url.host == entry.name


def _bucket(text: str) -> _Bucket:
    scheme, rest = text.split("://", 1)
    bucket, _, prefix = rest.partition("/")
    if not bucket:
        raise ValueError(
            f"{SETTING}: {_shown(text)!r} names no bucket; write {scheme}://bucket or {scheme}://bucket/prefix"
        )
    return _Bucket(scheme, bucket, prefix)


def _host(text: str) -> _Host:
    scheme, rest = ("http", text.removeprefix("http://")) if text.startswith("http://") else ("https", text)
    mend = f"{SETTING}: {_shown(text)!r} is no entry; write host, host:port, .domain, *, an IP address or a CIDR"
    try:
        return _network(scheme, rest) or _name(scheme, rest)
    except ValueError:
        raise ValueError(f"{mend} (http:// before it permits plain http there), s3://bucket or gs://bucket") from None


def _shown(text: str) -> str:
    """An entry that is none may hold what a URL hides: its userinfo and its query go."""
    return re.sub(r"\?.*", "?***", re.sub(r"^([a-z0-9]+://)?.*@", r"\1***@", text))


def _network(scheme: str, rest: str) -> _Host | None:
    """`address`, `cidr`, `address:port`, `cidr:port`; IPv6 with a port, or an address, may stand in brackets."""
    candidates = [(rest, "")]
    if rest.startswith("["):
        inside, closed, after = rest[1:].partition("]")
        if closed and (not after or after.startswith(":")):
            candidates = [(inside, after[1:])]
    elif rest.count(":") == 1:
        candidates = [tuple(rest.split(":"))]  # type: ignore[list-item]  # one colon makes two parts
    for text, port in candidates:
        try:
            network = ip_network(text, strict=False)
        except ValueError:
            continue
        return _Host(scheme, "", network, _port(port))
    return None


def _name(scheme: str, rest: str) -> _Host:
    name, colon, port = rest.partition(":")
    if colon and not port:
        raise ValueError("no port behind the colon")
    if name != "*":
        host, address = parse_host(name.removeprefix("."))
        if address is not None:
            raise ValueError("an address")
        name = "." + host if name.startswith(".") else host
    return _Host(scheme, name, None, _port(port))


def _port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise ValueError("the port is no number from 1 to 65535")
    return int(text)
