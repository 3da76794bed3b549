from collections.abc import Callable
from typing import Any

SECRET = "hunter2-very-secret"


def test_every_setting_with_value_and_origin(adscore: Callable[..., Any]) -> None:
    env = {
        "ADSCORE_KAFKA__GROUP_ID": "mine",
        "ADSCORE_KAFKA__SASL_PASSWORD": SECRET,
        "ADSCORE_REDIS__URL": f"redis://user:{SECRET}@cache:6379/0?password={SECRET}",
    }
    ran = adscore("config", "show", env=env)
    assert ran.status == 0
    lines = {line.split(" = ")[0].strip(): line for line in ran.out.splitlines()}
    assert lines["kafka.group_id"].split() == ["kafka.group_id", "=", "mine", "#", "ADSCORE_KAFKA__GROUP_ID"]
    assert lines["http.port"].endswith("# default")
    assert "redis://***@cache:6379/0" in lines["redis.url"]
    assert SECRET not in ran.out + ran.err
