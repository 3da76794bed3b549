"""URLs have one meaning or none."""

from __future__ import annotations

import pytest

from worker.intake.http_url import parse, redirect


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "target"),
    [
        ("https://cdn.example/c.jpg", "https", "cdn.example", 443, "/c.jpg"),
        ("HTTPS://CDN.Example.:8443/a?b=c#d", "https", "cdn.example", 8443, "/a?b=c"),
        ("http://a_b.example", "http", "a_b.example", 80, "/"),
        ("https://x.example?q", "https", "x.example", 443, "/?q"),
        ("https://x.example:/", "https", "x.example", 443, "/"),
        ('https://x.example/ü b%20"', "https", "x.example", 443, "/%C3%BC%20b%20%22"),
        ("https://x.example/a//b/../c", "https", "x.example", 443, "/a//b/../c"),
        ("https://xn--bcher-kva.example/", "https", "xn--bcher-kva.example", 443, "/"),
        ("https://93.184.216.34/", "https", "93.184.216.34", 443, "/"),
        ("http://[2001:DB8::1]:8080/x", "http", "2001:db8::1", 8080, "/x"),
    ],
)
def test_good_urls(url: str, scheme: str, host: str, port: int, target: str) -> None:
    got = parse(url)
    assert (got.scheme, got.host, got.port, got.target) == (scheme, host, port, target)
    assert (got.address is not None) == (host[0] in "92" and "example" not in host)


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https:///x",
        "https:/x.example/",
        "https:x.example",
        "//x.example/",
        "ftp://x.example/",
        "https://user@x.example/",
        "https://user:pw@x.example/",
        "https://x.example\\@evil.example/",
        "https://x.example/\\evil",
        "https://x.example/\r\nHost: y",
        "https://x.example/\t",
        "https://x\x00.example/",
        "https://x.example/\x85",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://127.0.0.1.1/",
        "https://127.0.0.0x1/",
        "https://1.2.3.256/",
        "https://foo.1/",
        "https://１２７.0.0.1/",
        "https://bücher.example/",
        "https://x。example/",
        "https://x.example%2eevil/",
        "https://[fe80::1%25eth0]/",
        "https://[::1/",
        "https://::1/",
        "https://[127.0.0.1]/",
        "https://[v1.x]/",
        "https://x.example:0/",
        "https://x.example:65536/",
        "https://x.example:８０/",
        "https://x.example:-1/",
        "https://x.example:80:80/",
        "https://-x.example/",
        "https://x..example/",
        "https://.example/",
        "https://x example/",
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 127 + "aa/",
    ],
)
def test_bad_urls_are_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the (URL|host)") as caught:
        parse(url)
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/other", "https://x.example:8443/other"),
        ("other?x", "https://x.example:8443/a/other?x"),
        ("//y.example/z", "https://y.example/z"),
        ("http://y.example", "http://y.example"),
        ("http://[::1]/", "http://[::1]/"),
        ("file:///etc/passwd", "file:///etc/passwd"),
    ],
)
def test_redirects_lead_on_from_where_they_stand(location: str, leads_to: str) -> None:
    assert redirect(parse("https://x.example:8443/a/b?c"), location) == leads_to


@pytest.mark.parametrize("location", ["", " ", "/a\nb", "\\\\evil", "/\x00"])
def test_bad_redirects(location: str) -> None:
    with pytest.raises(ValueError, match="redirect's location"):
        redirect(parse("https://x.example/"), location)


@pytest.mark.parametrize("location", ["http://user:s3cret@a\u2100b/", "http://user:s3cret@[::1/"])
def test_a_redirect_that_is_no_url_is_not_quoted(location: str) -> None:
    with pytest.raises(ValueError, match=r"^the redirect's location is not a URL$"):
        redirect(parse("https://x.example/"), location.encode().decode("latin-1"))
