"""The fields of `creative.submitted.v1` that are known, and their types: everything else is ignored."""

from __future__ import annotations

from typing import Any

MAX_WHOLE = 2**53 - 1

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


def check(value: object, kind: Any = EVENT, path: str = "the event") -> None:
    """Raise ValueError naming the first known field of the wrong type, never its content. Null is absent."""
    if kind is str:
        if type(value) is not str:
            raise _wrong(path, str, value)
    elif kind is int:
        if type(value) is not int and not (type(value) is float and value.is_integer()):
            raise _wrong(path, int, value)
        if abs(value) > MAX_WHOLE:
            raise ValueError(f"{path} is outside ±(2^53 - 1)")
    elif type(kind) is tuple:
        if type(value) is not list:
            raise _wrong(path, tuple, value)
        for index, item in enumerate(value):
            check(item, kind[0], f"{path}[{index}]")
    else:
        _check_object(value, kind, path)


def _check_object(value: object, kind: dict[str, Any], path: str) -> None:
    if type(value) is not dict:
        raise _wrong(path, dict, value)
    inside = "" if kind is EVENT else f"{path}."
    for name, of in kind.items():
        member = value.get(name)
        if member is not None and not (of is str and type(member) is str):
            check(member, of, inside + name)


def _wrong(path: str, kind: type, value: object) -> ValueError:
    found = {
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "an array",
        dict: "an object",
    }
    return ValueError(f"{path} must be {_NAMES[kind]}, not {found.get(type(value), 'null')}")
