"""Canaries in all that a sender writes and an operator keeps secret: none gets out, at debug level too."""

from __future__ import annotations

import base64
import io
import re
import signal

import orjson
import pytest
from PIL import Image, PngImagePlugin

from tests.faults import planted_canary, planted_engine
from tests.faults.creatives import LASTMOD, Outgoing, bare, data_url, event, png, with_image
from tests.faults.wire import publish, read_all

CANARY = re.compile(rb"canary-[a-z0-9-]*", re.IGNORECASE)
TEXT = "canary-copy"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "AWS_ACCESS_KEY_ID": "canary-aws-id",
    "AWS_SESSION_TOKEN": "canary-aws-token",
    "GOOGLE_BEARER_TOKEN": "canary-google",
    "ADSCORE_KAFKA__SASL_PASSWORD": "canary-sasl",
    "ADSCORE_TRACING__HEADERS": "authorization=canary-tracing",
}


def image_with_canaries() -> bytes:
    """A good PNG with text in its metadata."""
    out, told = io.BytesIO(), PngImagePlugin.PngInfo()
    told.add_text("Comment", "canary-metadata")
    exif = Image.Exif()
    exif[0x010E] = "canary-exif"
    Image.new("RGB", (40, 32), (9, 9, 9)).save(out, "PNG", pnginfo=told, exif=exif)
    return out.getvalue()


def good() -> list[Outgoing]:
    """Creatives that are scored, with canaries wherever nothing of them belongs into a log or a header."""
    fields = {
        "copy": {name: f"{TEXT} {name}" for name in ("headline", "body", "cta", "brand")},
        "ad": {"adomain": ["canary-domain.example"], "cat": ["canary-cat"], "canary-name": 1, "lang": "en"},
        "context": {"advertiser_id": "canary-advertiser"},
        "ext": {"canary-ext": {"canary": "canary-deep"}},
    }
    made = [
        event(f"good-{number}", data_url(png(number)), **{**fields, "ad": dict(fields["ad"])}) for number in range(3)
    ]
    made.append(event("metadata", data_url(image_with_canaries(), "image/png;name=canary-name"), ocr_text="canary-ocr"))
    headers = (("x-canary-header", b"canary-header"), ("canary-name", None), ("ce_source", b"canary-source"))
    return [Outgoing(each["ad"]["id"].encode(), orjson.dumps(each), headers) for each in made]


def bad(root: str) -> list[Outgoing]:
    """Creatives and records that are refused, each in another place, with a canary in what is refused."""
    urls = [
        "https://canary-user:canary-password@cdn.example/a.png?canary-query#canary-fragment",
        "https://cdn.example/canary-path.png?token=canary-token",
        "http://127.0.0.1:1/canary-refused?canary-query",
        f"file://{root}/canary-file.png",
        f"file://{root}/canary-broken.png",
        "file:///etc/canary-outside",
        "s3://ads/canary-key.png",
        "s3://canary-bucket/canary-key.png",
        "gs://ads/canary-key.png",
        "canary-scheme:x",
        "data:image/png;base64,canary-base64!",
        "data:image/png;canary-plain,canary-data",
        data_url(b"\x89PNG\r\n\x1a\n canary-broken-image"),
        data_url(b"canary-no-image"),
        planted_canary.STAGE + "?canary-stage",
    ]
    made = [with_image(f"bad-{number}", url) for number, url in enumerate(urls)]
    made.append(with_image("engine", planted_engine.url(planted_engine.FAILS), copy={"headline": TEXT}))
    values = [
        b'{"canary-json": ',
        b'"canary-string"',
        orjson.dumps(event("x", "canary", ad={"lang": ["canary-type"]})),
        orjson.dumps(event("canary\n-id", data_url(png(1)))),
        orjson.dumps(event("text", data_url(png(1)), copy={"headline": TEXT * 2_000})),
        orjson.dumps(event("sha", data_url(png(1)), asset={"sha256": "canary-sha"})),
        orjson.dumps({"specversion": "canary-version", "type": "canary-type", "data": {"canary": 1}}),
        b"\xff canary-bytes",
    ]
    made += [Outgoing(b"canary-key", value, (("canary-header", b"canary-value"),)) for value in values]
    made.append(Outgoing(b"canary-key", values[0], (("ce_type", b"canary-ce-type"), ("ce_specversion", b"canary-ce"))))
    made.append(Outgoing(b"", None, (("ce_subject", b"\xffcanary-subject"),)))
    return made


def found(text: str | bytes) -> set[bytes]:
    """The canaries in a text, encoded ones too."""
    data = text.encode(errors="replace") if isinstance(text, str) else text
    inner = [data]
    for part in re.findall(rb"[A-Za-z0-9+/]{16,}={0,2}", data):
        inner.append(base64.b64decode(part[: len(part) // 4 * 4], validate=False))
    return {hit for each in inner for hit in CANARY.findall(each)}


@pytest.mark.slow
def test_no_canary_gets_out(stack, topics, start_worker, adscore, tmp_path) -> None:
    servers = stack.bootstrap_servers
    (tmp_path / "canary-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n canary-file-content")
    host, _, database = topics.redis_url.removeprefix("redis://").rpartition("/")
    settings = SECRETS | {
        "ADSCORE_LOG__LEVEL": "debug",
        "ADSCORE_REDIS__URL": f"redis://canary-redis-user:canary-redis@{host}/{database}?client_name=canary-query",
        "ADSCORE_FETCH__ALLOWED_HOSTS": "http://127.0.0.1:1,cdn.example,raises.example,s3://ads,gs://ads",
        "ADSCORE_FETCH__FILE_ROOTS": str(tmp_path),
        "ADSCORE_FETCH__S3_ENDPOINT": "http://127.0.0.1:1",
        "ADSCORE_FETCH__GS_ENDPOINT": "http://127.0.0.1:1",
        "ADSCORE_FETCH__TIMEOUT_SECONDS": "2",
    }
    fine, refused = good(), bad(str(tmp_path))
    publish(servers, topics.input, [*fine, *refused])
    worker = start_worker(topics, module="tests.faults.planted_canary", **settings)
    worker.wait_processed(len(fine) + len(refused))
    metrics = worker.get("/metrics")[1]
    worker.signal(signal.SIGUSR1)
    assert worker.wait() == 1, worker.told

    log = worker.log
    assert {line["event"] for line in log} >= {planted_canary.NATIVE, "internal error"}, "native lines are wrapped"
    assert any(line.get("error_type") == "RuntimeError" and line.get("stack") for line in log), "tracebacks are told"
    assert found(worker.running.stderr) == set()
    assert found(worker.running.stdout) == set()
    assert found(metrics) == set()

    outputs, dead = read_all(servers, topics.output), read_all(servers, topics.dlq)
    assert {record.key for record in outputs} == {record.key for record in fine}
    assert len(dead) == len(refused)
    assert [found(str(record.headers)) for record in outputs] == [set()] * len(outputs)
    assert {hit for record in outputs for hit in found(record.value or b"")} <= {b"canary-ocr"}, "its text is its text"
    ours = [
        (name, value or b"") for record in dead for name, value in record.headers if name.startswith("adscore_dlq_")
    ]
    assert len(ours) >= 10 * len(dead)
    assert {hit for name, value in ours for hit in found(name) | found(value)} == set()

    env = topics.env | settings
    for verb in (("config", "show"), ("doctor", "--json")):
        ran = adscore(*verb, env=env)
        assert found(ran.stdout) | found(ran.stderr) == set(), verb


def test_a_canary_would_be_found() -> None:
    assert found("x canary-copy y") == {b"canary-copy"}
    assert found(base64.b64encode(b"xx canary-encoded yy")) == {b"canary-encoded"}
    assert found(b"".join(record.value or b"" for record in good())) >= {b"canary-copy", b"canary-deep"}
    assert LASTMOD
    assert bare("x", 1).value
