"""Everything that senders send, by name: good creatives, each broken class, odd records, revisions, duplicates."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import orjson
from PIL import Image, ImageDraw, ImageFont

from tests.faults.creatives import (
    LASTMOD,
    Outgoing,
    Pairs,
    bare,
    binary,
    data_url,
    event,
    png,
    structured,
    with_image,
    withdrawal,
)

SECRETS = {
    name: f"canary{name}7f3a" for name in ("copy", "ocr", "query", "userinfo", "header", "redis", "key", "garbage")
}
OCR_WORD = "ZEBRAFISH"
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_UTF8 = b"\xff\xfe"
ODD_HEADERS: Pairs = (("note", None), ("note", b"1"), ("note", None), ("", b"\xff\x00"), ("note", b"1"))
COPIES = 4
REPEATED = {f"copy-{image}-{number}": 700 + image for number in range(COPIES) for image in range(3)}


def everything(roots: Path) -> dict[str, Outgoing]:
    """Records of the first day, in the order of publishing; images for `file:` are written to `roots`."""
    copies = {name: bare(name, image) for name, image in REPEATED.items()}
    return good(roots) | broken(roots) | odd() | revisions() | copies


def second_day() -> dict[str, Outgoing]:
    """What comes when another worker has taken over: known content, and revisions around those of the first day."""
    older = {
        "a-older": bare("rev-a", 1, lastmod=LASTMOD + 4),
        "a-equal": bare("rev-a", 1, lastmod=LASTMOD + 5),
        "a-newer": bare("rev-a", 1, lastmod=LASTMOD + 6),
        "c-back": bare("rev-c", 3, lastmod=LASTMOD + 1),
    }
    return older | {f"again-{name}": bare(name, image) for name, image in REPEATED.items()}


def good(roots: Path) -> dict[str, Outgoing]:
    """Creatives that are scored."""
    (roots / "folder image.png").write_bytes(png(50))
    records = {f"bare-{n}": bare(f"bare-{n}", n) for n in range(3)}
    records |= {f"binary-{n}": binary(f"binary-{n}", 10 + n, (("traceparent", TRACE),)) for n in range(3)}
    records |= {
        f"structured-{n}": structured(f"structured-{n}", 20 + n, {"traceparent": TRACE.decode()}) for n in range(3)
    }
    untyped = structured("untyped", 30)
    records["untyped"] = Outgoing(untyped.key, untyped.value)
    records["file"] = with_image("file", (roots / "folder image.png").as_uri())
    records["jpeg"] = with_image("jpeg", data_url(_jpeg(), "image/jpeg"))
    records["ocr"] = with_image("ocr", data_url(_text_image()), ocr_text=None)
    records["secret"] = with_image(
        "secret",
        data_url(png(60)),
        copy={"headline": SECRETS["copy"], "body": SECRETS["copy"]},
        ocr_text=SECRETS["ocr"],
        context={"advertiser_id": SECRETS["copy"]},
    )
    return records


def broken(roots: Path) -> dict[str, Outgoing]:
    """Creatives of every class that this worker can refuse without a network, named by the code they get."""
    far = f"https://cdn.example/a.png?token={SECRETS['query']}"
    named = f"https://{SECRETS['userinfo']}:{SECRETS['userinfo']}@cdn.example/a.png"
    values = {
        "bad_event.json": f'{{"ad": {SECRETS["garbage"]}'.encode(),
        "bad_event.nan": b'{"ad": {"id": "x"}, "ext": NaN}',
        "bad_event.type": orjson.dumps(event("x", far, ad={"id": 7})),
        "missing_image.none": b'{"ad": {"id": "x"}}',
        "missing_image.empty": orjson.dumps(event("x", "")),
        "missing_image.file": orjson.dumps(event("x", (roots / "absent.png").as_uri())),
        "bad_text.long": orjson.dumps(event("x", far, copy={"body": SECRETS["copy"] * 1_000})),
        "fetch_refused.host": orjson.dumps(event("x", far)),
        "fetch_refused.userinfo": orjson.dumps(event("x", named)),
        "fetch_refused.root": orjson.dumps(event("x", f"file:///etc/{SECRETS['query']}.png")),
        "too_large.data": orjson.dumps(event("x", data_url(png(1) + bytes(250_000)))),
        "digest_mismatch.sha": orjson.dumps(event("x", data_url(png(1)), asset={"sha256": "0" * 64})),
        "digest_mismatch.bytes": orjson.dumps(event("x", data_url(png(1)), asset={"bytes": 1})),
        "unsupported_format.text": orjson.dumps(event("x", data_url(SECRETS["garbage"].encode()))),
        "unsupported_format.empty": orjson.dumps(event("x", data_url(b""))),
        "bad_image.cut": orjson.dumps(event("x", data_url(png(1)[:60]))),
        "bad_image.base64": orjson.dumps(event("x", "data:image/png;base64,*")),
        "image_bomb.header": orjson.dumps(event("x", data_url(_huge_png()))),
    }
    return {name: Outgoing(name.encode(), value) for name, value in values.items()}


def odd() -> dict[str, Outgoing]:
    """What Kafka allows and few expect."""
    many: Pairs = tuple((f"h{n % 7}", str(n).encode()) for n in range(3_000))
    fine, image = bare("odd-key", 80).value, data_url(png(81))
    refused: Pairs = (("adscore_dlq_code", b"old"), ("adscore_replays", b"2"), ("x-note", SECRETS["header"].encode()))
    return {
        "no_key": Outgoing(None, orjson.dumps(event("no-key", image))),
        "bytes_key": Outgoing(NOT_UTF8, fine),
        "odd_headers": Outgoing(b"odd-headers", orjson.dumps(event("odd-headers", image)), ODD_HEADERS),
        "many_headers": Outgoing(b"many", orjson.dumps(event("many", image)), many),
        "withdrawn_by_key": withdrawal("gone-1"),
        "withdrawn_by_subject": Outgoing(None, None, (("ce_subject", b"gone-2"),)),
        "bad_event.nobody": Outgoing(None, None),
        "bad_event.nobody_odd": Outgoing(None, None, ODD_HEADERS),
        "bad_event.null_bytes_key": Outgoing(NOT_UTF8, None),
        "bad_event.control_key": Outgoing(b"a\nb", None),
        "bad_event.empty": Outgoing(b"empty", b""),
        "bad_event.odd_headers": Outgoing(SECRETS["key"].encode(), b"[]", ODD_HEADERS),
        "bad_event.many_headers": Outgoing(b"many-bad", b"[]", many),
        "bad_event.replayed": Outgoing(b"replayed", b"[]", refused),
    }


def revisions() -> dict[str, Outgoing]:
    """Three creatives and their lives."""
    return {
        "a-5": bare("rev-a", 1, lastmod=LASTMOD + 5),
        "a-4": bare("rev-a", 1, lastmod=LASTMOD + 4),
        "a-5-again": bare("rev-a", 1, lastmod=LASTMOD + 5),
        "b-9": bare("rev-b", 2, lastmod=LASTMOD + 9),
        "b-withdrawn": withdrawal("rev-b"),
        "b-4": bare("rev-b", 2, lastmod=LASTMOD + 4),
        "c-9": bare("rev-c", 3, lastmod=LASTMOD + 9),
        "c-withdrawn": withdrawal("rev-c"),
    }


SUPERSEDED = {"a-4"}


def _jpeg() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(out, "JPEG")
    return out.getvalue()


def _text_image() -> bytes:
    image = Image.new("RGB", (600, 120), "white")
    ImageDraw.Draw(image).text((30, 30), OCR_WORD, "black", ImageFont.load_default(48))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _huge_png() -> bytes:
    """A header that promises 36 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 6_000, 6_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
