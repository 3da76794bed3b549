"""Read the settings once, at the edge: defaults, then `--config FILE.toml`, then the environment, which wins.

`ADSCORE_KAFKA__GROUP_ID` in the environment is `group_id` under `[kafka]` in the file. `NAME_FILE` names a file that
holds the value, for secrets. Anything unknown, in either place, is an error that names the nearest right name.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from worker.errors import FatalError
from worker.settings_schema import Settings

__all__ = ["LoadedSettings", "Settings", "SettingsError", "fields", "load", "masked"]

PREFIX = "ADSCORE_"
# What Kubernetes sets in every pod for a Service whose name begins with "adscore".
_SERVICE_LINK = re.compile(
    r"ADSCORE_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)


class SettingsError(FatalError):
    """A setting is unknown, doesn't fit or can't be read. The text names each one, and never a secret's value."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("settings:\n" + "\n".join(f"  {problem}" for problem in problems), exit_code=2)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, and per dotted name where its value came from: `default`, a variable's name, or the file."""

    settings: Settings
    origins: Mapping[str, str]

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(dotted name, value for people with secrets masked, origin) of every setting, in the schema's order."""
        for name in fields():
            group, _, leaf = name.rpartition(".")
            value = getattr(getattr(self.settings, group) if group else self.settings, leaf)
            yield name, _shown(name, value), self.origins[name]


def fields() -> dict[str, FieldInfo]:
    """Every setting by its dotted name (`kafka.group_id`), in the schema's order."""
    found: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= {f"{name}.{leaf}": inner for leaf, inner in kind.model_fields.items()}
        else:
            found[name] = field
    return found


def variable(name: str) -> str:
    """The environment variable of a dotted name."""
    return PREFIX + name.upper().replace(".", "__")


def masked(text: str) -> str:
    """`text` without the userinfo and the query of the URLs in it: everything up to the last @ goes."""
    text = re.sub(r"(?<=://).*@", "***@", text)
    return re.sub(r"(://[^?]*\?).*", r"\1***", text)


def load(config: Path | None, environ: Mapping[str, str]) -> LoadedSettings:
    """Read and check all settings.

    Raises SettingsError (exit status 2) that names every unknown name and every value that doesn't fit.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    origins = dict.fromkeys(fields(), "default")
    sources = [_from_file(config, problems)] if config else []
    for source in [*sources, _from_environment(environ, problems)]:
        for name, (value, origin) in source.items():
            values[name] = value
            origins[name] = origin
    tree: dict[str, Any] = {}
    for name, value in values.items():
        group, _, leaf = name.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[leaf] = value
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        problems += [_told(detail, origins) for detail in error.errors(include_url=False, include_context=False)]
    if problems:
        raise SettingsError(problems)
    return LoadedSettings(settings, origins)


_Source = dict[str, tuple[Any, str]]


def _from_file(path: Path, problems: list[str]) -> _Source:
    try:
        tree = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError, as is bad UTF-8
        reason = "isn't UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise SettingsError([f"{path} isn't a TOML file: {reason}"]) from None
    given = {name: (value, f"{path}: {name}") for name, value in _flat(tree, "")}
    return _chosen(given, ".".join, "_file", problems)


def _flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and (value or name not in Settings.model_fields):
            yield from _flat(value, f"{name}.") if value else [(name, value)]
        elif not isinstance(value, dict):
            yield name, value


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> _Source:
    given = {
        name: (value, name)
        for name, value in environ.items()
        if name.startswith(PREFIX) and ("__" in name or not _SERVICE_LINK.fullmatch(name))
    }
    return _chosen(given, lambda parts: variable(".".join(parts)), "_FILE", problems)


def _chosen(given: Mapping[str, tuple[Any, str]], spell: Any, suffix: str, problems: list[str]) -> _Source:
    """Of one source, by its own spelling of names: the known ones by dotted name, files read. The rest are problems."""
    known = {spell(name.split(".")): name for name in fields()}
    chosen: _Source = {}
    for name, (value, origin) in given.items():
        plain = name.removesuffix(suffix)
        if name in known:
            if isinstance(value, str) and _has_surrogates(value):
                problems.append(f"{origin}: isn't UTF-8")
            elif isinstance(value, bool):  # pydantic would read true as 1
                problems.append(f"{origin}: true and false fit no setting")
            chosen[known[name]] = (value, origin)
        elif name != plain and plain in known:
            if plain in given:
                problems.append(f"{given[plain][1]} and {origin} are both given: keep one of them")
            chosen[known[plain]] = (_read_secret(value, origin, problems), origin)
        else:
            spellings = [f"{right}{suffix}" for right in known] if name != plain else list(known)
            problems.append(f"{origin}: there is no such setting; the nearest is {_nearest(name, spellings)}")
    return chosen


def _nearest(name: str, spellings: list[str]) -> str:
    begun = [right for right in spellings if right.startswith(name)]
    return (begun or difflib.get_close_matches(name, spellings, n=1, cutoff=0.0))[0]


def _has_surrogates(text: str) -> bool:
    """Whether the environment held bytes that aren't UTF-8 (Python hands them out as lone surrogates)."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _read_secret(path: Any, origin: str, problems: list[str]) -> str:
    try:
        text = Path(path).read_bytes().decode()
    except (OSError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "isn't the path of a UTF-8 text file"
        problems.append(f"{origin}: can't read the file it names: {reason}")
        return ""
    return text.removesuffix("\n").removesuffix("\r")


def _told(detail: Any, origins: Mapping[str, str]) -> str:
    """One validation error for people. `input` is told only where it can't be a secret."""
    path = [str(part) for part in detail["loc"]]
    name = next((name for name in (".".join(path[:n]) for n in (2, 1)) if name in origins), path[0] if path else "")
    field = fields().get(name)
    text = detail["msg"].removeprefix("Value error, ")
    if field is None:
        return f"{name}: {text}"
    origin = origins[name] if origins[name] != "default" else variable(name)
    if text.startswith(variable(name)):
        return text
    shown = detail["input"]
    if field.annotation is SecretStr or origin.endswith(("_FILE", "_file")) or not isinstance(shown, str | int | float):
        return f"{origin}: {text}"
    return f"{origin}: {text}; it is {masked(str(shown))[:100]!r}"


def _shown(name: str, value: Any) -> str:
    if isinstance(value, SecretStr):
        secret = value.get_secret_value()
        # Where Redis is, is no secret; of every other one nothing may be told, whatever it looks like.
        is_url = name == "redis.url" and re.match(r"[a-z]+://", secret)
        return masked(secret) if is_url else "***" if secret else ""
    if isinstance(value, tuple):
        return ",".join(masked(str(item)) for item in value)
    return masked(str(value))
