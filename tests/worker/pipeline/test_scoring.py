"""The scoring half on stand-ins: duplicates, cache, order of the stages, and batches."""

from typing import Any

import pytest

from tests.fakes import eventually
from tests.worker.pipeline.flow import Ocr, Rig, rig
from worker.delivery.cache import key
from worker.pipeline.job import content_part, read_content_part
from worker.types import Copy, OcrBox, OcrResult

__all__ = ["rig"]


def test_a_creative_gets_all_heads_its_text_and_its_times(rig: Rig) -> None:
    (outcome,) = rig.score("one", copy=Copy(headline="Buy \u200bnow"))
    assert outcome.heads["ctr"]["value"] == ord("e") / 255
    assert outcome.ocr.text == "SALE"
    assert outcome.cache == {"attractiveness": "miss", "ctr": "miss"}
    assert rig.engines.fields == {"headline": "Buy now", "ocr": "SALE"}
    assert set(outcome.latency_ms) == {"fetch", "decode", "ocr", "infer", "total"}


def test_given_text_saves_the_ocr(rig: Rig) -> None:
    (outcome,) = rig.score("one", ocr_text="given")
    assert rig.ocr.calls == 0
    assert outcome.ocr == OcrResult("given")


def test_equal_content_is_scored_once_also_when_it_arrives_together(rig: Rig) -> None:
    rig.decode.gate.clear()
    outcomes = rig.submit("same", "same", "same", "other")
    eventually(lambda: sum(len(job.followers) for job in rig.flow._inflight.values()) == 2)
    rig.decode.gate.set()
    eventually(lambda: all(outcomes))
    assert sum(rig.engines.batches) == 2
    assert sorted(outcome.cache["ctr"] for outcome in outcomes[:3]) == ["hit", "hit", "miss"]
    assert [outcome.creative.creative_id for outcome in outcomes] == ["cr-0", "cr-1", "cr-2", "cr-3"]
    assert len({str(outcome.heads) for outcome in outcomes[:3]}) == 1


def test_a_later_duplicate_comes_from_the_cache_without_decoding(rig: Rig) -> None:
    rig.score("one")
    decoded = len(rig.decode.calls)
    (again,) = rig.score("one")
    assert again.cache == {"attractiveness": "hit", "ctr": "hit"}
    assert again.ocr == OcrResult("SALE", 0.9, (OcrBox("SALE", 0.1, 0.2, 0.3, 0.4),))
    assert again.phash == "f" * 16
    assert len(rig.decode.calls) == decoded


def test_a_new_model_scores_its_own_head_again_and_reads_no_text(rig: Rig) -> None:
    rig.score("one")
    rig.flow._digests["ctr"] = rig.engines.digests["ctr"] = "n" * 64
    (again,) = rig.score("one")
    assert again.cache == {"attractiveness": "hit", "ctr": "miss"}
    assert rig.ocr.calls == 1


def test_the_engine_never_waits_for_a_slow_ocr(rig: Rig) -> None:
    rig.ocr.slow = 1
    slow = rig.submit("slow")
    eventually(lambda: rig.ocr.calls == 1)
    # One of the two readers is busy: the others' text is read, and they are scored in full batches meanwhile.
    read = rig.submit(*(f"image-{number}" for number in range(6)))
    eventually(lambda: all(read))
    # Both are: whoever brings the text, or is known, passes by.
    rig.ocr.slow = 1
    waiting = rig.submit("slow-2")
    eventually(lambda: rig.ocr.calls == 8)
    given = rig.submit(*(f"given-{number}" for number in range(6)), ocr_text="")
    known = rig.submit("image-3")
    eventually(lambda: all(given) and all(known))
    assert (slow, waiting) == ([None], [None])
    assert sum(rig.engines.batches) == 12
    rig.ocr.gate.set()
    eventually(lambda: all(slow) and all(waiting))
    assert slow[0].ocr.text == "SALE"


def test_texts_of_two_ocrs_have_two_entries_however_alike_their_names_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for version in ("5.3", "5.4"):
        monkeypatch.setattr(Ocr, "identity", f"pytesseract tesseract-{version} eng")
        rig = Rig()
        digests.append(rig.flow._digests["content"])
        rig.flow.close()
    assert len({key("c" * 64, "content", digest) for digest in digests}) == 2


def test_equal_content_in_another_form_of_unicode_is_one_content(rig: Rig) -> None:
    first, second = (rig.score("one", copy=Copy(headline=text))[0] for text in ("caf\u00e9", "cafe\u0301"))
    assert first.content_sha256 == second.content_sha256
    assert second.cache["ctr"] == "hit"


def test_batches_gather_what_arrives_together(rig: Rig) -> None:
    rig.decode.gate.clear()
    outcomes = rig.submit(*(f"image-{number}" for number in range(8)), ocr_text="")
    eventually(lambda: len(rig.flow._inflight) == 8)
    rig.decode.gate.set()
    eventually(lambda: all(outcomes))
    assert sum(rig.engines.batches) == 8
    assert len(rig.engines.batches) < 8


@pytest.mark.parametrize("garbage", [{}, {"phash": "0"}, {"phash": "0", "text": {"boxes": [[1]]}}])
def test_a_content_entry_that_is_none_is_ignored(garbage: dict[str, Any]) -> None:
    assert read_content_part(garbage) is None


def test_a_content_entry_comes_back_as_it_was() -> None:
    ocr = OcrResult("a b", 0.5, (OcrBox("a", 0.1, 0.2, 0.3, 0.4),))
    assert read_content_part(content_part("f" * 16, ocr)) == ("f" * 16, ocr)
