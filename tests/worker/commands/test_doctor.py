import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def checks(ran: Any) -> dict[str, list[dict[str, str]]]:
    told: dict[str, list[dict[str, str]]] = {}
    for check in json.loads(ran.out)["checks"]:
        assert set(check) == {"name", "status", "detail", "mend"}
        assert check["status"] in ("ok", "warn", "fail")
        assert check["status"] == "ok" or check["mend"]
        told.setdefault(check["name"], []).append(check)
    return told


def test_all_is_well(adscore: Callable[..., Any], topics: Any, tiny_models: Path) -> None:
    ran = adscore("doctor", "--json", env=topics.env | {"ADSCORE_MODELS__DIR": str(tiny_models)})
    told = checks(ran)
    assert ran.status == 0
    assert {"gpu", "models", "kafka", "topics", "redis", "ocr", "limits"} <= set(told)
    assert {check["status"] for name in ("models", "kafka", "topics", "redis", "ocr") for check in told[name]} == {"ok"}


def test_what_is_wrong_is_named_with_its_mend(
    adscore: Callable[..., Any], topics: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {
        "ADSCORE_MODELS__DIR": str(tmp_path),
        "ADSCORE_KAFKA__SHADOW_TOPIC": "not.there",
        "ADSCORE_REDIS__URL": "redis://:secret@127.0.0.1:1/0",
        "ADSCORE_OCR__LANGUAGES": "eng+xyz",
    }
    ran = adscore("doctor", "--json", env=topics.env | wrong)
    told = checks(ran)
    assert ran.status == 1
    for name, words in (("models", "no bundles"), ("topics", "not.there"), ("redis", "127.0.0.1:1"), ("ocr", "xyz")):
        assert told[name][0]["status"] == "fail"
        assert words in told[name][0]["detail"]
    assert "secret" not in ran.out
    people = adscore("doctor", env=topics.env | wrong)
    assert "FAIL  topics" in people.out
    assert "→ " in people.out


def test_without_redis_it_warns(adscore: Callable[..., Any], topics: Any, tiny_models: Path) -> None:
    env = topics.env | {"ADSCORE_REDIS__URL": "", "ADSCORE_MODELS__DIR": str(tiny_models)}
    ran = adscore("doctor", "--json", env=env)
    assert ran.status == 0
    assert checks(ran)["redis"][0]["status"] == "warn"


def test_a_redis_that_evicts_revisions_is_named(adscore: Callable[..., Any], topics: Any, tiny_models: Path) -> None:
    from redis import Redis

    client = Redis.from_url(topics.redis_url)
    client.config_set("maxmemory", 64 * 1024 * 1024)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        ran = adscore("doctor", "--json", env=topics.env | {"ADSCORE_MODELS__DIR": str(tiny_models)})
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 0)
        client.close()
    assert ran.status == 1
    assert "allkeys-lru" in checks(ran)["redis"][0]["detail"]
