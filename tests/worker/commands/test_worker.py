"""`adscore worker` before it meets a broker: what it refuses, and how it says so."""

import pytest


@pytest.mark.parametrize("arguments", [("--max-messages", "0"), ("--until-idle", "-1"), ("--max-messages", "x")])
def test_wrong_usage_is_2(adscore, arguments: tuple[str, str]) -> None:
    ran = adscore("worker", *arguments)
    assert ran.status == 2
    assert arguments[0] in ran.err


def test_a_dry_run_asks_for_its_topic_before_it_loads_what_takes_long(adscore, topics, tmp_path) -> None:
    lacks = {"ADSCORE_KAFKA__INPUT_TOPIC": "not.there", "ADSCORE_MODELS__DIR": str(tmp_path)}
    ran = adscore("worker", "--dry-run", env=topics.env | lacks)
    assert ran.status == 3
    assert "no topic not.there" in ran.err
