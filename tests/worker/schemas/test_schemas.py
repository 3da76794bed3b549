"""The schemas are sound, agree with the parser on the input, and know every code and header of the contract."""

from __future__ import annotations

import copy
import json
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from worker import schemas
from worker.errors import Code, CreativeError, Stage
from worker.intake.events import parse_record
from worker.types import Origin, Record

GOOD: dict[str, Any] = {
    "ad": {"id": "x", "lastmod": 1, "attr": [1], "lang": "en", "display": {"w": 1, "banner": {"img": "https://x/y"}}},
    "copy": {"headline": "h", "body": None},
    "asset": {"sha256": "ab", "bytes": 1},
    "ocr_text": "t",
    "context": {"placement": "p"},
    "ext": {"anything": [1]},
    "unknown": 1,
}


def schema(schema_id: str) -> dict[str, Any]:
    loaded = json.loads(resources.files(schemas).joinpath(schemas.FILES[schema_id]).read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def text(name: str) -> str:
    return resources.files(schemas).joinpath(name).read_text("utf-8")


@pytest.mark.parametrize("schema_id", schemas.FILES)
def test_each_schema_is_one_and_says_its_own_absolute_id(schema_id: str) -> None:
    document = schema(schema_id)
    Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$id"] == schema_id
    assert ":" in schema_id


def with_change(path: tuple[Any, ...], change: Any) -> dict[str, Any]:
    value = copy.deepcopy(GOOD)
    target = value
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = change
    return value


@pytest.mark.parametrize(
    ("path", "change"),
    [
        (("unknown",), None),
        (("ad", "id"), ""),
        (("ad", "id"), 5),
        (("ad", "id"), None),
        (("ad", "id"), "a\nb"),
        (("ad", "id"), "a\x85"),
        (("ad", "id"), "ü" * 20),
        (("ad", "lastmod"), -1),
        (("ad", "lastmod"), 2**53),
        (("ad", "lastmod"), 1.0),
        (("ad", "lastmod"), 1.5),
        (("ad", "lastmod"), None),
        (("ad", "attr"), ["1"]),
        (("ad", "attr"), [None]),
        (("ad", "lang"), True),
        (("ad", "display"), None),
        (("ad", "display", "banner"), None),
        (("ad", "display", "banner", "img"), " "),
        (("ad", "display", "banner"), {}),
        (("ad", "display"), {"native": {"asset": [{"image": {"url": "https://x", "type": 3}}]}}),
        (("ad", "display"), {"native": {"asset": [{"image": {"url": "https://x"}}]}}),
        (("ad", "display"), {"native": {"asset": [{"image": {"url": "https://x", "type": 1}}]}}),
        (("ad", "display"), {"native": {"asset": [{"title": {"text": 5}}]}, "banner": {"img": "x"}}),
        (("copy", "headline"), "x" * 8000),
        (("copy", "headline"), "x" * 8001),
        (("copy",), None),
        (("copy",), []),
        (("asset", "bytes"), True),
        (("ocr_text",), 5),
        (("context", "placement"), {}),
        (("ext",), "x"),
    ],
)
def test_schema_and_parser_agree_on_the_input(path: tuple[Any, ...], change: Any) -> None:
    value = with_change(path, change)
    try:
        parse_record(Record(Origin("t", 0, 0, 1), None, json.dumps(value).encode()))
        accepted = True
    except CreativeError:
        accepted = False
    assert Draft202012Validator(schema(schemas.SUBMITTED_SCHEMA_ID)).is_valid(value) is accepted


def test_asyncapi_names_every_code_stage_type_and_schema_file() -> None:
    document = text(schemas.ASYNCAPI)
    assert document.startswith("asyncapi: 3.0.0\n")
    for code in Code:
        assert f"            - {code.value}\n" in document
    assert f"enum: [{', '.join(stage.value for stage in Stage)}]" in document
    for file in schemas.FILES.values():
        assert f"$ref: ./{file}" in document
    assert f"const: {schemas.ENRICHED_SCHEMA_ID}" in document


def test_asyncapi_is_yaml_and_its_references_lead_somewhere() -> None:
    yaml = pytest.importorskip("yaml")
    document = yaml.safe_load(text(schemas.ASYNCAPI))

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for item in node for found in references(item)] if isinstance(node, list) else []

    for reference in references(document):
        if reference.startswith("#/"):
            target = document
            for name in reference[2:].split("/"):
                target = target[name]
        else:
            assert reference.removeprefix("./") in schemas.FILES.values()
    headers = document["components"]["schemas"]["deadLetterHeaders"]
    Draft202012Validator.check_schema(headers)
    assert set(headers["properties"]["adscore_dlq_code"]["enum"]) == {code.value for code in Code}
