from pathlib import Path

import pytest

from worker.settings import SettingsError, fields, load, masked, variable

SECRET = "hunter2-very-secret"


def problems(environ: dict[str, str], config: Path | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(config, environ)
    assert caught.value.exit_code == 2
    return str(caught.value)


def toml(folder: Path, text: str) -> Path:
    path = folder / "adscore.toml"
    path.write_text(text)
    return path


def test_defaults_are_those_of_the_contract() -> None:
    settings = load(None, {}).settings
    assert settings.kafka.input_topic == "creatives"
    assert settings.kafka.session_timeout_ms == 10_000
    assert settings.kafka.transaction_timeout_ms == 20_000
    assert settings.drain.timeout_seconds == 20
    assert settings.dlq.max_consecutive == 0
    assert settings.fetch.max_bytes == 8 * 1024 * 1024
    assert settings.fetch.timeout_seconds == 10
    assert settings.fetch.allowed_hosts == ()
    assert settings.redis.url.get_secret_value() == ""
    assert settings.models.dir.name == "models"


def test_every_setting_is_described() -> None:
    assert all(field.description for field in fields().values())


def test_environment_wins_over_the_file_and_origins_are_told(tmp_path: Path) -> None:
    config = toml(tmp_path, 'backend = "onnxruntime"\n[kafka]\ngroup_id = "file"\ninput_topic = "in"\n')
    loaded = load(config, {"ADSCORE_KAFKA__GROUP_ID": "env"})
    assert loaded.settings.kafka.group_id == "env"
    assert loaded.settings.kafka.input_topic == "in"
    assert loaded.origins["kafka.group_id"] == "ADSCORE_KAFKA__GROUP_ID"
    assert loaded.origins["kafka.input_topic"].startswith(str(config))
    assert loaded.origins["kafka.output_topic"] == "default"


def test_lists_are_comma_separated_or_arrays(tmp_path: Path) -> None:
    config = toml(tmp_path, '[fetch]\nallowed_hosts = ["a.example", "http://b.example:8080"]\n')
    assert load(config, {}).settings.fetch.allowed_hosts == ("a.example", "http://b.example:8080")
    loaded = load(config, {"ADSCORE_FETCH__ALLOWED_HOSTS": " .c.example , 10.0.0.0/8,"})
    assert loaded.settings.fetch.allowed_hosts == (".c.example", "10.0.0.0/8")
    assert load(config, {"ADSCORE_FETCH__ALLOWED_HOSTS": ""}).settings.fetch.allowed_hosts == ()


def test_unknown_names_get_the_nearest_right_one(tmp_path: Path) -> None:
    assert "the nearest is ADSCORE_KAFKA__GROUP_ID" in problems({"ADSCORE_KAFKA_GROUP_ID": "x"})
    assert "the nearest is ADSCORE_REDIS__URL_FILE" in problems({"ADSCORE_REDIS__URI_FILE": "/x"})
    text = problems({}, toml(tmp_path, "[kafak]\ngroup_id = 'x'\n[redis]\nttl = 5\n[odd]\n"))
    assert "kafak.group_id: there is no such setting; the nearest is kafka.group_id" in text
    assert "the nearest is redis.ttl" in text
    assert "odd: there is no such setting" in text


def test_a_group_without_settings_is_no_error(tmp_path: Path) -> None:
    assert load(toml(tmp_path, "[kafka]\n"), {}).settings.kafka.group_id == "adscore"


def test_secret_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{SECRET}\n")
    loaded = load(None, {"ADSCORE_KAFKA__SASL_PASSWORD_FILE": str(secret)})
    assert loaded.settings.kafka.sasl_password.get_secret_value() == SECRET
    assert SECRET not in repr(loaded)
    assert SECRET not in str(list(loaded.rows()))
    config = toml(tmp_path, f"[kafka]\nsasl_password_file = '{secret}'\n")
    assert load(config, {}).settings.kafka.sasl_password.get_secret_value() == SECRET
    both = {"ADSCORE_KAFKA__SASL_PASSWORD_FILE": str(secret), "ADSCORE_KAFKA__SASL_PASSWORD": SECRET}
    assert "both given" in problems(both)
    assert SECRET not in problems(both)


def test_a_secret_file_that_is_not_there_is_named_by_its_setting() -> None:
    text = problems({"ADSCORE_REDIS__URL_FILE": "/nonexistent/secret"})
    assert "ADSCORE_REDIS__URL_FILE: can't read the file it names: No such file" in text


@pytest.mark.parametrize("suffix", ["", "_FILE"])
def test_a_bad_secret_is_not_shown(tmp_path: Path, suffix: str) -> None:
    secret = tmp_path / "url"
    secret.write_text(f"http://user:{SECRET}@redis:6379/0")
    text = problems({f"ADSCORE_REDIS__URL{suffix}": str(secret) if suffix else secret.read_text()})
    assert "must begin with redis://" in text
    assert SECRET not in text


def test_a_bad_number_from_a_file_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "port"
    secret.write_text(SECRET)
    assert SECRET not in problems({"ADSCORE_HTTP__PORT_FILE": str(secret)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADSCORE_HTTP__PORT", "http"),
        ("ADSCORE_HTTP__PORT", ""),
        ("ADSCORE_BATCH__MAX_DELAY_MS", "nan"),
        ("ADSCORE_KAFKA__DELIVERY", "at-most-once"),
        ("ADSCORE_MODELS__CTR", "../evil"),
        ("ADSCORE_OCR__LANGUAGES", "eng;rm"),
        ("ADSCORE_KAFKA__INPUT_TOPIC", "a b"),
        ("ADSCORE_TRACING__ENDPOINT", "http://collector:99999999/v1/traces"),
        ("ADSCORE_TRACING__ENDPOINT", "http://:4318/v1/traces"),
        ("ADSCORE_TRACING__ENDPOINT", "http://[::1:4318/v1/traces"),
        ("ADSCORE_TRACING__ENDPOINT", "http://" + "a" * 64),
        ("ADSCORE_FETCH__S3_ENDPOINT", "https://minio:port"),
    ],
)
def test_a_value_that_does_not_fit_is_named(name: str, value: str) -> None:
    assert name in problems({name: value})


def test_only_redis_shows_what_is_no_secret_of_its_url() -> None:
    given = {
        "ADSCORE_KAFKA__SASL_PASSWORD": f"x://{SECRET}",
        "ADSCORE_TRACING__HEADERS": f"a://x={SECRET}",
        "ADSCORE_REDIS__URL": f"redis://u:{SECRET}@cache:6379/0",
    }
    shown = {name: value for name, value, _ in load(None, given).rows()}
    assert shown["kafka.sasl_password"] == shown["tracing.headers"] == "***"
    assert shown["redis.url"] == "redis://***@cache:6379/0"


@pytest.mark.parametrize(
    "entry", ["https://u:{}@cdn", "u:{}@cdn", "http://{}/@cdn", "https://cdn/?t={}", "s3:///?t={}"]
)
def test_a_password_in_an_entry_that_is_none_is_not_shown(entry: str) -> None:
    text = problems({"ADSCORE_FETCH__ALLOWED_HOSTS": entry.format(SECRET)})
    assert "ADSCORE_FETCH__ALLOWED_HOSTS" in text
    assert SECRET not in text


def test_true_is_no_number(tmp_path: Path) -> None:
    assert "http.port: true and false fit no setting" in problems({}, toml(tmp_path, "[http]\nport = true\n"))


@pytest.mark.parametrize(
    ("text", "says"), [("[kafka", "isn't a TOML file"), ("kafka = 'x'", "kafka: there is no such setting")]
)
def test_a_bad_file_is_told(tmp_path: Path, text: str, says: str) -> None:
    assert says in problems({}, toml(tmp_path, text))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert "No such file" in problems({}, tmp_path / "no.toml")


def test_sasl_needs_its_parts() -> None:
    assert "sasl_mechanism, sasl_username, sasl_password" in problems({"ADSCORE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"})


@pytest.mark.parametrize(
    "name",
    [
        "ADSCORE_SERVICE_HOST",
        "ADSCORE_SERVICE_PORT",
        "ADSCORE_SERVICE_PORT_HTTP",
        "ADSCORE_PORT",
        "ADSCORE_PORT_8080_TCP",
        "ADSCORE_PORT_8080_TCP_ADDR",
        "ADSCORE_REDIS_SERVICE_HOST",
        "ADSCORE_REDIS_PORT_6379_TCP_PROTO",
    ],
)
def test_kubernetes_variables_are_ignored(name: str) -> None:
    assert set(load(None, {name: "tcp://10.0.0.1:80"}).origins.values()) == {"default"}


def test_a_variable_with_two_underscores_is_never_kubernetes() -> None:
    assert "no such setting" in problems({"ADSCORE_REDIS__PORT": "6379"})


def test_other_variables_are_not_ours() -> None:
    load(None, {"PATH": "/bin", "ADSCOREX": "1", "adscore_kafka__x": "1"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://user:p@ss@host:6379/0", "redis://***@host:6379/0"),
        ("redis://host/0?password=x", "redis://host/0?***"),
        ("host:9092", "host:9092"),
    ],
)
def test_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_variable() -> None:
    assert variable("kafka.group_id") == "ADSCORE_KAFKA__GROUP_ID"
