"""A creative that is scored again by a newer model: no OCR and no download a second time. Only Kafka is left out."""

from __future__ import annotations

import io
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.faults.light_models import write_light_models, write_next_ctr
from worker.commands.compose import scoring_flow
from worker.delivery.cache import MemoryCache
from worker.intake.events import parse_record
from worker.intake.rescored import headers_of
from worker.metrics import Metrics
from worker.settings import load
from worker.types import Creative, Origin, Place, Record, ScoredCreative

FONT = "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"
MINUTE_MS = 60_000


def picture(words: str, colour: tuple[int, int, int] = (250, 240, 200)) -> bytes:
    image = Image.new("RGB", (400, 200), colour)
    ImageDraw.Draw(image).text((30, 60), words, font=ImageFont.truetype(FONT, 48), fill=(10, 10, 10))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


class Site(ThreadingHTTPServer):
    """Gives `body` for every path, and counts."""

    daemon_threads = True
    body = b""
    asked = 0


class Gives(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Site)
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(("127.0.0.1", 0), Gives) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_next_ctr(write_light_models(tmp_path_factory.mktemp("models")))


class Workers:
    """One worker after the other, each with one record to score."""

    def __init__(self, site: Site, models: Path, **settings: str) -> None:
        self.url = f"http://127.0.0.1:{site.server_port}/ad.png?campaign=7"
        self._settings = {
            "ADSCORE_MODELS__DIR": str(models),
            "ADSCORE_DECODE__WORKERS": "1",
            "ADSCORE_OCR__WORKERS": "1",
            "ADSCORE_PIPELINE__ENGINE_THREADS": "1",
            "ADSCORE_FETCH__ALLOWED_HOSTS": f"http://127.0.0.1:{site.server_port}",
        } | settings
        self.cache = MemoryCache(100)

    def score(self, records: Iterable[Record], **more: str) -> list[tuple[ScoredCreative, dict[str, float]]]:
        """Per record its outcome, and how often each stage and hit of held bytes has occurred in this worker so far."""
        metrics = Metrics()
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        told = []
        with scoring_flow(load(None, self._settings | more).settings, cache=self.cache, metrics=metrics) as flow:
            for record in records:
                creative = parse_record(record)
                assert isinstance(creative, Creative)
                flow.submit(creative, done.put)
                outcome = done.get(timeout=60)
                assert isinstance(outcome, ScoredCreative), outcome
                counts = {
                    stage: metrics.registry.get_sample_value("adscore_stage_duration_seconds_count", {"stage": stage})
                    for stage in ("decode", "ocr")
                }
                counts["held"] = metrics.registry.get_sample_value("adscore_held_images_total", {"result": "hit"})
                told.append((outcome, {name: count or 0 for name, count in counts.items()}))
                time.sleep(0.05)  # what it keeps in the cache it keeps behind the outcome
        return told

    def record(self, at_ms: int, headers: Any = ()) -> Record:
        event = {"ad": {"id": "cr", "lastmod": at_ms, "display": {"banner": {"img": self.url}}}}
        return Record(Origin("creatives", 0, 0, at_ms), b"cr", orjson.dumps(event), headers)

    def again(self, at_ms: int, lastmod: int) -> Record:
        headers = headers_of((), Place("creatives", 0, 0), lastmod)
        return Record(Origin("creatives", 0, 1, at_ms), b"cr", self.record(lastmod).value, headers)


def now() -> int:
    return int(time.time() * 1000)


def test_a_new_model_needs_no_ocr_and_no_download(site: Site, two_versions: Path, tmp_path: Path) -> None:
    site.body = picture("Summer sale")
    workers = Workers(site, two_versions, ADSCORE_FETCH__HELD_DIR=str(tmp_path / "held"))
    made = now() - MINUTE_MS
    ((first, stages),) = workers.score([workers.record(made)], ADSCORE_MODELS__CTR="adfusion/1")
    assert (site.asked, stages["ocr"], first.ocr and first.ocr.text) == (1, 1, "Summer sale")
    # Another process with the next model; what was scored is put back, as `adscore rescore` does it.
    ((again, stages),) = workers.score([workers.again(now(), made)], ADSCORE_MODELS__CTR="adfusion/2")
    assert site.asked == 1
    assert again.cache == {"attractiveness": "hit", "sentiment": "hit", "ctr": "miss"}
    assert stages == {"decode": 1, "ocr": 0, "held": 1}
    assert (again.ocr, again.image_sha256) == (first.ocr, first.image_sha256)
    assert again.heads["ctr"] != first.heads["ctr"]


def test_a_new_event_with_another_image_at_its_url_is_downloaded(site: Site, two_versions: Path) -> None:
    site.body = picture("Summer sale")
    workers = Workers(site, two_versions)
    made = now() - MINUTE_MS

    def events() -> Iterator[Record]:
        yield workers.record(made)
        site.body = picture("Winter sale")
        yield workers.record(made)  # the same record: it may have been scored at that moment too
        yield workers.again(now(), made)
        yield workers.record(now())  # written since: what it speaks of may be another image

    told = workers.score(events())
    assert [stages["held"] for _, stages in told] == [0, 1, 2, 2]
    assert site.asked == 2
    assert [outcome.ocr.text for outcome, _ in told if outcome.ocr] == [*["Summer sale"] * 3, "Winter sale"]


def test_nothing_is_held_where_nothing_may_be(site: Site, two_versions: Path) -> None:
    site.body = picture("Summer sale")
    workers = Workers(site, two_versions, ADSCORE_FETCH__HELD_BYTES="0")
    record = workers.record(now() - MINUTE_MS)
    workers.score([record, record])
    assert site.asked == 2
