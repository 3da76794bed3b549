"""`adscore cache`: what Redis holds of ours, and how to drop scores. Never touches foreign keys nor revisions."""

from __future__ import annotations

import re
import sys
from collections import Counter
from typing import Any

import click
import orjson

from worker.commands import edge, redis
from worker.types import HEADS

# adscore:{<content sha256>}:<head>:<model digest, 12 characters>; OCR text lies there too, under `content`.
_KEY = re.compile(rb"adscore:\{[0-9a-f]{64}\}:([a-z_]{1,32}):([0-9a-f]{12})")
_DIGEST = re.compile(r"[0-9a-f]{4,64}")
_REVISIONS = b"adscore:rev:"
PAGE = 1_000
PURPOSE = "there is no shared cache"


@click.group()
def cache() -> None:
    """What Redis holds of ours, and how to drop it."""


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def stats(as_json: bool) -> None:
    """Count the cached scores per head and model digest, and tell what Redis says of its memory."""
    entries: Counter[tuple[str, str]] = Counter()
    revisions = 0
    with redis.connected(edge.settings(), PURPOSE) as client:
        for key in client.scan_iter(match="adscore:*", count=PAGE):
            if match := _KEY.fullmatch(key):
                entries[match[1].decode(), match[2].decode()] += 1
            revisions += key.startswith(_REVISIONS)
        memory = client.info("memory")
    told: dict[str, Any] = {
        "entries": [
            {"head": head, "version": digest, "count": count} for (head, digest), count in sorted(entries.items())
        ],
        "revisions": revisions,
        "used_memory_bytes": memory["used_memory"],
        "maxmemory_bytes": memory["maxmemory"],
        "maxmemory_policy": memory["maxmemory_policy"],
    }
    if as_json:
        click.echo(orjson.dumps(told))
        return
    for entry in told["entries"]:
        click.echo(f"{entry['head']:<16} {entry['version']:<12} {entry['count']:>10}")
    click.echo(f"{'revisions':<16} {'':<12} {revisions:>10}")
    limit = f" of {memory['maxmemory']}" if memory["maxmemory"] else ""
    click.echo(f"memory: {memory['used_memory']}{limit} bytes, maxmemory-policy {memory['maxmemory_policy']}")


@cache.command()
@click.option("--head", type=click.Choice(HEADS), help="Only scores of this head.")
@click.option("--version", metavar="DIGEST", help="Only scores of this model version: its digest, as `stats` lists it.")
def purge(head: str | None, version: str | None) -> None:
    """Remove cached scores. The memory of revisions and foreign keys stay. Asks only on a terminal."""
    if version is not None and not _DIGEST.fullmatch(version):
        raise click.BadParameter(f"{version!r} is no digest; `adscore cache stats` lists them", param_hint="--version")
    parts = ["all scores" if head is None else f"scores of {head}", f"of version {version}" if version else ""]
    if sys.stdin.isatty() and not click.confirm(f"Remove {' '.join(filter(None, parts))} from the cache?", err=True):
        return
    removed = 0
    with redis.connected(edge.settings(), PURPOSE) as client:
        page: list[bytes] = []
        for key in client.scan_iter(match="adscore:*", count=PAGE):
            if _wanted(key, head, version):
                page.append(key)
            if len(page) == PAGE:
                removed += client.unlink(*page)
                page.clear()
        removed += client.unlink(*page) if page else 0
    click.echo(f"removed {removed} entries", err=True)


def _wanted(key: bytes, head: str | None, version: str | None) -> bool:
    match = _KEY.fullmatch(key)
    if match is None or (head is not None and match[1].decode() != head):
        return False
    return version is None or match[2].decode().startswith(version[:12])
