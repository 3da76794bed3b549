"""The kinds of value that settings take beside numbers and plain text."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field


def _split(value: Any) -> Any:
    items = value.split(",") if isinstance(value, str) else value
    if isinstance(items, list):
        return tuple(item.strip() if isinstance(item, str) else item for item in items if item != "")
    return items


def addressed(url: str) -> str:
    """No URL, or one with a host and a port that a connection can be made to. Raises ValueError."""
    if url:
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError("names no host")
        if parts.port == 0:  # a port that is none at all has raised by itself
            raise ValueError("Port out of range 1-65535")
        parts.hostname.encode("idna")
    return url


Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_split)]
"""A list: comma-separated text, or a TOML array."""
Bundle = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}(/[a-z0-9][a-z0-9_.-]{0,31})?$")]
Bundles = Annotated[tuple[Bundle, ...], BeforeValidator(_split)]
Endpoint = Annotated[str, Field(pattern=r"^(https?://[^\s/?#@]+)?$"), AfterValidator(addressed)]
Topic = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Ocr = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*$")]
