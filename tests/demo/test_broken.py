import io

import orjson
import pytest
from PIL import Image

from demo.broken import UNSENDABLE, broken
from worker.errors import Code, CreativeError
from worker.intake.decode import DecoderPool
from worker.intake.events import parse_record
from worker.intake.fetch import Fetcher, FetchLimits
from worker.types import Creative, Origin, Record

WEB = "http://127.0.0.1:1"
MAX_BYTES = 100_000


@pytest.fixture(scope="module")
def good() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 250), "navy").save(buffer, "JPEG")
    return buffer.getvalue()


def test_every_code_that_can_be_sent_is_there(good: bytes) -> None:
    sent = {code for code, _ in broken(good, WEB, MAX_BYTES)}
    assert sent == set(Code) - UNSENDABLE


def test_each_gets_its_code(good: bytes) -> None:
    """By the worker's own stages. What needs the demonstration's server is refused there; `make demo` checks it."""
    limits = FetchLimits(allowed_hosts=(), max_bytes=MAX_BYTES, timeout_seconds=1.0, file_roots=())
    fetcher, decoder = Fetcher(limits), DecoderPool(1, [(32, 32)])
    try:
        for expected, event in broken(good, WEB, MAX_BYTES):
            if expected in (Code.FETCH_FAILED, Code.FETCH_TIMEOUT):
                continue
            with pytest.raises(CreativeError) as caught:  # noqa: PT012
                creative = parse_record(Record(Origin("t", 0, 0, 0), None, orjson.dumps(event)))
                assert isinstance(creative, Creative)
                decoder.decode(fetcher.fetch(creative).data, ocr=False)
            assert caught.value.code == expected
    finally:
        decoder.close()
