"""`adscore worker` before it meets a broker: what it refuses, and how it says so."""

import pytest


@pytest.mark.parametrize("arguments", [("--max-messages", "0"), ("--until-idle", "-1"), ("--max-messages", "x")])
def test_wrong_usage_is_2(adscore, arguments: tuple[str, str]) -> None:
    ran = adscore("worker", *arguments)
    assert ran.status == 2
    assert arguments[0] in ran.err
