"""The peers do the same work as the worker: the glue alone differs."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from benchmarks.peers.work import Work
from benchmarks.probes import COPY, picture


@pytest.mark.parametrize("given", [True, False])
def test_a_peer_scores_like_the_worker(
    adscore: Callable[..., Any], tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    monkeypatch.setenv("ADSCORE_MODELS__DIR", str(tiny_models))
    monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
    image = f"data:image/png;base64,{base64.b64encode(picture('300x250', 'PNG')).decode()}"
    event = {"ad": {"id": "cr-1", "lastmod": 1, "display": {"banner": {"img": image}}}, "copy": COPY}
    event |= {"ocr_text": "SALE"} if given else {}
    file = tmp_path / "events.jsonl"
    file.write_bytes(orjson.dumps(event))
    ran = adscore("score", str(file), "--json")
    wanted = orjson.loads(ran.out)
    work = Work()
    ((key, value),) = work.score([work.prepare("t", 0, 0, b"cr-1", orjson.dumps(event))])
    made = orjson.loads(value)
    assert key == b"cr-1"
    for name in ("creative_id", "status", "content_sha256", "image_sha256", "phash", "text", "targeting", "ortb"):
        assert made[name] == wanted[name], name
    assert made["scores"].keys() == wanted["scores"].keys()
    for head, part in wanted["scores"].items():
        assert made["scores"][head]["value"] == pytest.approx(part["value"], abs=1e-3)
