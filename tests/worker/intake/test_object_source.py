"""Object stores through the real client, against stores on loopback that check signatures and misbehave."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.worker.intake.buckets import ACCESS_KEY, IMAGE, REGION, SECRET, TOKEN, Buckets, buckets
from worker.errors import Code, CreativeError, Stage
from worker.intake.hosts import AllowList
from worker.intake.object_source import ObjectAccess, ObjectSource
from worker.intake.pinned import Deadline

CAP = 100_000
SECONDS = 5.0
ENTRIES = ("s3://ads", "gs://ads", "s3://shop/live/")


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clouds' own ways: the environment."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", TOKEN)


@pytest.fixture
def store() -> Iterator[Buckets]:
    with buckets() as made:
        made.objects["ads/a/b.png"] = IMAGE
        yield made


def source(store: Buckets, *, anonymous: bool = False, cap: int = CAP, seconds: float = SECONDS) -> ObjectSource:
    access = ObjectAccess(store.endpoint, REGION, anonymous, store.endpoint, anonymous)
    return ObjectSource(AllowList(ENTRIES), cap, access, seconds)


def read(store: Buckets, url: str, *, seconds: float = SECONDS, **options: object) -> bytes:
    made = source(store, seconds=seconds, **options)  # type: ignore[arg-type]
    return made.read(url.partition(":")[0], url, Deadline(seconds))


def verdict(store: Buckets, url: str, **options: object) -> CreativeError:
    with pytest.raises(CreativeError) as caught:
        read(store, url, **options)  # type: ignore[arg-type]
    error = caught.value
    assert error.stage is Stage.FETCH
    for canary in ("canary", str(store.port), ACCESS_KEY, "Signature", "NoSuchKey", "AccessDenied"):
        assert canary not in error.message, "a store's answer, a URL or a secret reached the message"
    return error


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_object_is_read_with_the_clouds_own_credentials(store: Buckets, scheme: str) -> None:
    assert read(store, f"{scheme}://ads/a/b.png") == IMAGE
    ((path, authorization),) = store.asked
    assert path.removeprefix("/").split("/")[0] == "ads"
    assert (authorization or "").startswith("AWS4-HMAC-SHA256" if scheme == "s3" else f"Bearer {TOKEN}")


def test_a_wrong_secret_is_denied_and_told_to_nobody(store: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-other")
    error = verdict(store, "s3://ads/a/b.png")
    assert (error.code, error.retryable) == (Code.FETCH_FAILED, False)
    assert "credentials" in error.message


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_anonymous_reads_send_no_credentials(scheme: str) -> None:
    with buckets(signed=False) as public:
        public.objects["ads/a/b.png"] = IMAGE
        assert read(public, f"{scheme}://ads/a/b.png", anonymous=True) == IMAGE
        assert public.asked[0][1] is None


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize(
    ("key", "code", "retryable", "asked"),
    [
        ("nowhere.png", Code.MISSING_IMAGE, False, 1),
        ("denied", Code.FETCH_FAILED, False, 1),
        ("unauthenticated", Code.FETCH_FAILED, False, 1),
        ("broken", Code.FETCH_FAILED, True, 3),
        ("cut", Code.FETCH_FAILED, True, None),
        ("half-zipped", Code.FETCH_FAILED, True, 1),
        ("huge", Code.TOO_LARGE, False, 1),
        ("bomb", Code.TOO_LARGE, False, 1),
    ],
)
def test_what_a_store_answers_decides_the_code(
    store: Buckets, scheme: str, key: str, code: Code, retryable: bool, asked: int | None
) -> None:
    error = verdict(store, f"{scheme}://ads/{key}")
    assert (error.code, error.retryable) == (code, retryable)
    assert asked is None or len(store.asked) == asked


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("key", ["silent", "drips"])
def test_a_slow_store_costs_the_deadline_and_no_more(store: Buckets, scheme: str, key: str) -> None:
    began = time.monotonic()
    error = verdict(store, f"{scheme}://ads/{key}", seconds=0.4)
    assert (error.code, error.retryable) == (Code.FETCH_TIMEOUT, True)
    assert "ADSCORE_FETCH__TIMEOUT_SECONDS" in error.message
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_body_without_an_end_is_cut_at_the_cap(store: Buckets, scheme: str) -> None:
    error = verdict(store, f"{scheme}://ads/grows")
    assert error.code in (Code.TOO_LARGE, Code.FETCH_FAILED), "the client may insist on an announced length"


def test_a_cap_is_exact(store: Buckets) -> None:
    assert read(store, "s3://ads/a/b.png", cap=len(IMAGE)) == IMAGE
    assert verdict(store, "s3://ads/a/b.png", cap=len(IMAGE) - 1).code is Code.TOO_LARGE


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_what_comes_compressed_is_inflated(store: Buckets, scheme: str) -> None:
    assert read(store, f"{scheme}://ads/zipped") == IMAGE


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_redirect_leads_nowhere(store: Buckets, scheme: str) -> None:
    with buckets(signed=False) as internal:
        store.elsewhere = f"http://localhost:{internal.port}/ads/secret"
        internal.objects["ads/secret"] = b"internal"
        assert verdict(store, f"{scheme}://ads/redirects").code is Code.FETCH_FAILED
        assert internal.asked == []


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_proxies_of_the_environment_are_not_used(store: Buckets, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with buckets(signed=False) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.endpoint)
            monkeypatch.setenv(name.lower(), proxy.endpoint)
        assert read(store, f"{scheme}://ads/a/b.png") == IMAGE
        assert proxy.asked == []


@pytest.mark.parametrize(
    "key",
    [
        "sp ace/\u00fcn\u00ef \u65e5\u672c.png",
        "a+b&c=d;e@f.png",
        "100%.png",
        "a%20b.png",
        "q?x=1#f",
        "a:b/\U0001f680.png",
    ],
)
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_key_is_taken_as_it_is_written(store: Buckets, scheme: str, key: str) -> None:
    store.objects[f"ads/{key}"] = key.encode()
    assert read(store, f"{scheme}://ads/{key}") == key.encode()


@pytest.mark.parametrize(
    "url",
    [
        "s3://other/a/b.png",
        "s3://ads.other/a",
        "s3://Ads/a",
        "gs://shop/live/a.png",
        "s3://shop/a.png",
        "s3://shop/live-drafts/a.png",
        "s3://shop/live/../secret.png",
        "s3://shop/live/%2e%2e/secret.png",
        "s3://shop/live/%252e%252e/secret.png",
        "s3://shop/live/..%2fsecret.png",
        "s3://shop/live/./a.png",
        "s3://shop/live//a.png",
        "s3://shop/live/",
        "s3://shop//live/a.png",
        "s3://shop/live\\..\\secret",
        "s3://shop/live/a\r\nHost: x",
        "s3://shop/live/a\0b",
        "s3://ads/" + "a" * 1025,
        "s3://canary@ads/a/b.png",
        "s3://ads:80/a/b.png",
        "s3://127.0.0.1/a",
        "s3://ads",
        "s3://ads/",
        "s3:ads/a/b.png",
        "s3:///a/b.png",
        "s3://a..b/c",
    ],
)
def test_what_is_not_listed_or_not_plain_is_refused_without_asking(store: Buckets, url: str) -> None:
    assert verdict(store, url).code is Code.FETCH_REFUSED
    assert store.asked == []


def test_an_empty_list_names_the_setting() -> None:
    with pytest.raises(CreativeError, match="ADSCORE_FETCH__ALLOWED_HOSTS is empty"):
        ObjectSource(AllowList(()), CAP, ObjectAccess(), 1).read("s3", "s3://ads/a", Deadline(1))


def test_an_endpoint_of_the_environment_is_reached_too(store: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
    monkeypatch.setenv("AWS_REGION", REGION)
    made = ObjectSource(AllowList(ENTRIES), CAP, ObjectAccess(environment=(store.endpoint,)), SECONDS)
    assert made.read("s3", "s3://ads/a/b.png", Deadline(SECONDS)) == IMAGE


def test_no_descriptor_and_no_thread_is_left_behind_by_many_reads(store: Buckets) -> None:
    import os
    import threading

    made = source(store)
    made.read("s3", "s3://ads/a/b.png", Deadline(SECONDS))
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(30):
        made.read("s3", "s3://ads/a/b.png", Deadline(SECONDS))
        with pytest.raises(CreativeError):
            made.read("s3", "s3://ads/denied", Deadline(SECONDS))
    assert len(os.listdir("/proc/self/fd")) <= before + 3, "one kept-alive connection and its like"
    assert threading.active_count() <= threads + 1
