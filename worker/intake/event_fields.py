"""The fields of `creative.submitted.v1` that are known, and their types: everything else is ignored."""

from __future__ import annotations

from typing import Any

MAX_WHOLE = 2**53 - 1
MAX_OBJECTS = 1_000
"""Objects in one array (native assets): no ad has a hundred, and each costs time to look at."""

# str: a string. int: a whole number that a double holds exactly. A tuple of one: an array of that. A dict: an object.
_LINK = {"url": str}
_ASSET = {
    "id": int,
    "req": int,
    "title": {"text": str, "len": int},
    "image": {"url": str, "w": int, "h": int, "type": int},
    "data": {"value": str, "len": int, "type": int},
    "link": _LINK,
}
EVENT: dict[str, Any] = {
    "ad": {
        "id": str,
        "adomain": (str,),
        "cat": (str,),
        "cattax": int,
        "lang": str,
        "attr": (int,),
        "init": int,
        "lastmod": int,
        "display": {
            "mime": str,
            "w": int,
            "h": int,
            "banner": {"img": str, "link": _LINK},
            "native": {"asset": (_ASSET,), "link": _LINK},
        },
    },
    "copy": {"headline": str, "body": str, "cta": str, "brand": str},
    "asset": {"sha256": str, "bytes": int},
    "ocr_text": str,
    "context": {"advertiser_id": str, "campaign_id": str, "placement": str},
    "ext": {},
}

_NAMES = {str: "a string", int: "a whole number", tuple: "an array", dict: "an object"}


def check(value: object) -> None:
    """Raise ValueError naming the first known field of the wrong type, never its content. Null is absent."""
    try:
        _check_object(value, EVENT)
    except _WrongError as error:
        raise ValueError(f"{error.path} {error.why}") from None


class _WrongError(Exception):
    """What is wrong, and where: the path is put together on the way up, so that good events don't pay for it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self._parts: list[str] = []

    def inside(self, part: str) -> _WrongError:
        self._parts.insert(0, part)
        return self

    @property
    def path(self) -> str:
        return "".join(self._parts).removeprefix(".") or "the event"


def _check(value: object, kind: Any) -> None:
    if kind is str:
        if type(value) is not str:
            raise _wrong(str, value)
    elif kind is int:
        if type(value) is not int and not (type(value) is float and value.is_integer()):
            raise _wrong(int, value)
        if abs(value) > MAX_WHOLE:
            raise _WrongError("is outside ±(2^53 - 1)")
    elif type(kind) is tuple:
        _check_array(value, kind[0])
    else:
        _check_object(value, kind)


def _check_array(value: object, kind: Any) -> None:
    if type(value) is not list:
        raise _wrong(tuple, value)
    if kind in (str, int) and set(map(type, value)) <= {kind} and (kind is str or _are_whole(value)):
        return  # a million of them in a few milliseconds
    if type(kind) is dict and len(value) > MAX_OBJECTS:
        raise _WrongError(f"has {len(value)} items; at most {MAX_OBJECTS} are read")
    for index, item in enumerate(value):
        try:
            _check(item, kind)
        except _WrongError as error:
            raise error.inside(f"[{index}]") from None


def _are_whole(values: list[int]) -> bool:
    return not values or (max(values) <= MAX_WHOLE and min(values) >= -MAX_WHOLE)


def _check_object(value: object, kind: dict[str, Any]) -> None:
    if type(value) is not dict:
        raise _wrong(dict, value)
    for name in kind if len(value) > len(kind) else [name for name in kind if name in value]:
        of, member = kind[name], value.get(name)
        if member is not None and not (of is str and type(member) is str):
            try:
                _check(member, of)
            except _WrongError as error:
                raise error.inside(f".{name}") from None


def _wrong(kind: type, value: object) -> _WrongError:
    found = {
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "an array",
        dict: "an object",
    }
    return _WrongError(f"must be {_NAMES[kind]}, not {found.get(type(value), 'null')}")
