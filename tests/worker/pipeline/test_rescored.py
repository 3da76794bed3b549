"""Records put back to be scored again, between live ones: whatever came after what they repeat wins."""

from typing import Any

import orjson
import pytest

from tests.fakes import TOPIC, eventually, record
from tests.worker.pipeline.rig import OUT
from worker.intake.rescored import headers_of
from worker.types import Place


def again(offset: int, of: int, creative_id: str, lastmod: int) -> Any:
    """A copy at `offset` of the record at `of`. Its own `ad.lastmod` is lower than what ordered the original."""
    return record(offset, creative_id, lastmod=0, headers=headers_of((), Place(TOPIC, 0, of), lastmod))


@pytest.mark.parametrize("transactional", [False, True])
def test_a_copy_is_published_with_its_lastmod_unless_something_came_after_the_original(
    make: Any, transactional: bool
) -> None:
    rig = make(transactional=transactional)
    rig.offer(
        record(0, "same", lastmod=5),
        record(1, "newer", lastmod=5),
        record(2, "newer", lastmod=6),
        record(3, "equal", lastmod=5),
        record(4, "equal", lastmod=5),
        record(5, "gone", lastmod=5),
        record(6, "gone", value=None),
        again(7, 0, "same", 5),
        again(8, 1, "newer", 5),
        again(9, 3, "equal", 5),
        again(10, 5, "gone", 5),
        again(11, 0, "same", 5),
        record(12, "gone", lastmod=1),
    )
    rig.start()
    for _ in range(12):
        eventually(lambda: any(rig.flow.jobs.values()))
        rig.flow.finish(next(name for name, jobs in rig.flow.jobs.items() if jobs))
    eventually(lambda: rig.count("superseded") == 4)
    eventually(lambda: rig.count("scored") == 8)
    published = [(m.key.decode(), orjson.loads(m.value)["lastmod"]) for m in rig.sink.sent if m.value is not None]
    assert [one for one in published if one[0] == "same"] == [("same", 5), ("same", 5)]
    assert [one for one in published if one[0] == "newer"] == [("newer", 5), ("newer", 6)]
    assert [one for one in published if one[0] == "equal"] == [("equal", 5), ("equal", 5)]
    gone = [m.value for m in rig.sink.sent if m.key == b"gone" and m.topic == OUT]
    assert [value is None for value in gone] == [False, True, False], "it came back by a record of its own alone"
    assert orjson.loads(gone[2])["lastmod"] == 1
