"""Strict reading of `http:` and `https:` URLs: one meaning, or refused.

What a browser, a resolver and a URL library would read differently (backslashes, userinfo, numbers that some resolver
takes for an address, non-ASCII hosts) is not guessed at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

from worker.intake.addresses import Address

DEFAULT_PORTS = {"https": 443, "http": 80}

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{0,5}))?")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_KEPT = "!#$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """A URL taken apart. `host` is a lower-case name, or an address as text; `address` is set in the second case.

    `target` is what the request line carries: path and query, ASCII.
    """

    scheme: str
    host: str
    address: Address | None
    port: int
    target: str


def parse(url: str) -> HttpUrl:
    """Take `url` apart. Raises ValueError, which quotes nothing of it."""
    if _FORBIDDEN.search(url):
        raise ValueError("the URL holds a control character or a backslash")
    found = _URL.match(url)
    if not found:
        raise ValueError("the URL is not of the form https://host/path")
    scheme, authority, target = found[1].lower(), found[2], found[3]
    if "@" in authority:
        raise ValueError("the URL carries userinfo")
    parts = _AUTHORITY.fullmatch(authority)
    if not parts:
        raise ValueError("the URL's host and port are malformed")
    port = int(parts[3]) if parts[3] else DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise ValueError("the URL's port is out of range")
    host, address = parse_host(f"[{parts[1]}]" if parts[1] else parts[2])
    if not target.startswith("/"):
        target = "/" + target
    return HttpUrl(scheme, host, address, port, quote(target, safe=_KEPT))


def parse_host(text: str) -> tuple[str, Address | None]:
    """A host as it stands in a URL or an allow-list: (name, None) or (address as text, address). Raises ValueError."""
    if text.startswith("["):
        try:
            address: Address = IPv6Address(text.strip("[]"))
        except AddressValueError:
            raise ValueError("the host is not an IPv6 address") from None
        return str(address), address
    name = text.lower().removesuffix(".")
    if _NUMERIC_END.fullmatch(name):
        try:
            address = IPv4Address(name)
        except AddressValueError:
            raise ValueError("the host is a number that is not a dotted IPv4 address") from None
        return str(address), address
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise ValueError("the host is not an ASCII name (write international names in their xn-- form)")
    return name, None


def redirect(base: HttpUrl, location: str) -> str:
    """Where a `Location` header leads from `base`; a URL still to be parsed. Raises ValueError."""
    text = location.encode("latin-1", "replace").decode("utf-8", "replace").strip()  # headers come in as latin-1
    if not text or _FORBIDDEN.search(text):
        raise ValueError("the redirect's location is empty or holds a control character or a backslash")
    host = f"[{base.host}]" if ":" in base.host else base.host
    try:
        return urljoin(f"{base.scheme}://{host}:{base.port}{base.target}", text)
    except ValueError:  # its text quotes the location, user and password included
        raise ValueError("the redirect's location is not a URL") from None
