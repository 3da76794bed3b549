"""Secrets are files of Secrets that exist; none stands in an environment, in the configuration or in an object."""

import tomllib


def test_secrets_are_files_that_the_settings_name(chart) -> None:
    rendered = chart("sasl-ssl")
    toml = tomllib.loads(rendered.one("ConfigMap")["data"]["adscore.toml"])
    assert toml["kafka"]["sasl_password_file"] == "/run/secrets/adscore/kafka.sasl_password"
    assert toml["kafka"]["ssl_cafile"] == "/run/secrets/adscore/kafka.ssl_cafile"
    assert toml["redis"]["url_file"] == "/run/secrets/adscore/redis.url"
    assert "url" not in toml["redis"]


def test_each_secret_key_is_mounted_under_the_name_that_the_settings_use(chart) -> None:
    spec = chart("sasl-ssl").one("Deployment")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "secrets"]
    files = {
        item["path"]: (source["secret"]["name"], item["key"])
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }
    assert files == {
        "kafka.sasl_password": ("adscore-kafka", "password"),
        "kafka.ssl_cafile": ("kafka-ca", "ca.crt"),
        "redis.url": ("adscore-redis", "url"),
        "redis-ca.pem": ("redis-ca", "ca.crt"),
    }
    assert volume["projected"]["defaultMode"] == 0o440


def test_no_object_is_a_secret(every_shape: str, chart) -> None:
    assert chart(every_shape).all("Secret") == []


def test_keda_asks_the_brokers_with_the_same_secrets(chart) -> None:
    rendered = chart("sasl-ssl")
    authentication = rendered.one("TriggerAuthentication")["spec"]
    told = {item["parameter"]: (item["name"], item["key"]) for item in authentication["secretTargetRef"]}
    assert told == {"password": ("adscore-kafka", "password"), "ca": ("kafka-ca", "ca.crt")}
    (username,) = authentication["configMapTargetRef"]
    assert rendered.one("ConfigMap")["data"][username["key"]] == "adscore"
    trigger = rendered.one("ScaledObject")["spec"]["triggers"][0]
    assert trigger["authenticationRef"]["name"] == rendered.one("TriggerAuthentication")["metadata"]["name"]
    assert (trigger["metadata"]["sasl"], trigger["metadata"]["tls"]) == ("scram_sha512", "enable")
