"""Each check of the account fails on a planted fault, and on that alone."""

from dataclasses import replace

import pytest

from tests.faults.account import Evidence, account, longest_silence
from tests.faults.load import DEAD, OUTPUT, SUPERSEDED, WITHDRAWN, Script, Sent
from tests.faults.watch import Commit, Seen

BEGAN = 1_000_000
SCORES = {"ctr": 0.5}


def _sent(offset: int, creative_id: str, lastmod: int | None = 1, fate: str = OUTPUT, code: str = "") -> Sent:
    return Sent((0, offset), creative_id, lastmod, fate, image=7, code=code, sent_ms=BEGAN)


def _out(source: int, creative_id: str, lastmod: int | None = 1, *, offset: int, at: int, **more) -> Seen:
    more = {"scores": SCORES if lastmod is not None else None} | more
    status = "scored" if lastmod is not None else "withdrawn"
    return Seen("out", 0, offset, BEGAN + at, (0, source), creative_id, lastmod, status=status, **more)


SENT = (
    _sent(0, "a"),
    _sent(1, "b", 5),
    _sent(2, "b", 3, SUPERSEDED),
    _sent(3, "bad", fate=DEAD, code="bad_image"),
    _sent(4, "c"),
    _sent(5, "c", None, WITHDRAWN),
)
OUT = (
    _out(0, "a", offset=0, at=10),
    _out(1, "b", 5, offset=1, at=20),
    Seen("dlq", 0, 0, BEGAN + 30, (0, 3), "bad", None, "bad_image"),
    _out(4, "c", offset=2, at=40),
    _out(5, "c", None, offset=3, at=50),
)
COMMITS = (Commit(0, 2, BEGAN + 25), Commit(0, 6, BEGAN + 60))
FAIR = Evidence(SENT, OUT, OUT, COMMITS, scores={7: SCORES})


def wrong(evidence: Evidence) -> set[str]:
    return {check for check, count in account(evidence).counts.items() if count}


def with_also(*more: Seen, **change) -> Evidence:
    """The fair evidence, and these records too."""
    return replace(FAIR, during=(*OUT, *more), after=(*OUT, *more), **change)


@pytest.mark.parametrize("exactly_once", [False, True])
def test_what_is_as_promised_is_clean(exactly_once) -> None:
    found = account(replace(FAIR, exactly_once=exactly_once))
    assert found.clean, found.told()
    assert found.ended == {"dead letter": 1, "output": 3, "superseded": 1, "withdrawn": 1}


@pytest.mark.parametrize("missing", range(len(OUT)))
def test_lost(missing) -> None:
    left = (*OUT[:missing], *OUT[missing + 1 :])
    found = account(replace(FAIR, during=left, after=left))
    assert found.wrong["lost"] == [OUT[missing].source]
    assert str(OUT[missing].source) in found.told(), "a failed cell must print what went missing"


PHANTOMS = {
    "never sent": _out(9, "x", offset=4, at=70),
    "another creative": _out(0, "x", offset=4, at=70),
    "another revision": _out(0, "a", 2, offset=4, at=70),
    "a good record condemned": Seen("dlq", 0, 1, BEGAN + 70, (0, 0), "a", None, "decode_crashed"),
    "another code": Seen("dlq", 0, 1, BEGAN + 70, (0, 3), "bad", None, "too_large"),
    "a bad record scored": _out(3, "bad", offset=4, at=70),
    "partial": replace(_out(0, "a", offset=4, at=70), status="partial"),
}


@pytest.mark.parametrize("what", PHANTOMS)
def test_phantom(what) -> None:
    assert "phantom" in wrong(with_also(PHANTOMS[what]))


def test_in_both_places() -> None:
    assert "in both places" in wrong(with_also(PHANTOMS["a good record condemned"]))


def test_superseded_but_published() -> None:
    assert "superseded but published" in wrong(with_also(_out(2, "b", 3, offset=4, at=70)))


def test_superseded_before_a_withdrawal_may_come_again_with_at_least_once_alone() -> None:
    sent = (*SENT, _sent(6, "b", None, WITHDRAWN))
    more = (_out(6, "b", None, offset=4, at=70), _out(2, "b", 3, offset=5, at=80), _out(6, "b", None, offset=6, at=90))
    evidence = with_also(*more, sent=sent, commits=(*COMMITS, Commit(0, 7, BEGAN + 99)), deaths_ms=[BEGAN + 75])
    assert wrong(evidence) == set()
    assert "superseded but published" in wrong(replace(evidence, exactly_once=True))


def test_duplicated_with_exactly_once() -> None:
    assert wrong(with_also(_out(0, "a", offset=4, at=70), exactly_once=True)) == {"duplicated"}


def test_duplicated_with_at_least_once_needs_a_death_close_behind_or_an_unfinished_record_before() -> None:
    again = with_also(_out(4, "c", offset=4, at=9_000), _out(5, "c", None, offset=5, at=9_001))
    assert wrong(again) == {"duplicated"}, "nobody died"
    assert wrong(replace(again, deaths_ms=[BEGAN + 900])) == set(), "within the last second"
    assert wrong(replace(again, deaths_ms=[BEGAN + 3_000])) == {"duplicated"}, "long before the death"
    assert wrong(replace(again, deaths_ms=[BEGAN + 9_500])) == {"duplicated"}, "before the death came"
    # Behind the record that was unfinished at the death, whenever it was published.
    slow = tuple(replace(record, timestamp_ms=BEGAN + 8_000) if record is OUT[0] else record for record in again.after)
    commits = (Commit(0, 6, BEGAN + 9_100),)
    late = replace(again, during=slow, after=slow, commits=commits, deaths_ms=[BEGAN + 5_000])
    assert wrong(late) == set()


def test_what_was_published_while_commits_were_refused_may_come_again() -> None:
    again = with_also(
        _out(4, "c", offset=4, at=9_000), _out(5, "c", None, offset=5, at=9_001), deaths_ms=[BEGAN + 3_000]
    )
    assert wrong(again) == {"duplicated"}
    refused = [BEGAN + at for at in (500, 1_000, 1_500, 2_000, 2_500)]
    assert wrong(replace(again, refusals_ms=refused)) == set()
    assert wrong(replace(again, refusals_ms=[BEGAN + 500, BEGAN + 2_500])) == {"duplicated"}, "with a gap between"


def test_duplicated_by_a_worker_that_was_only_silent_is_what_it_held_then() -> None:
    again = with_also(_out(4, "c", offset=4, at=9_000), _out(5, "c", None, offset=5, at=9_001))
    assert wrong(replace(again, silences_ms=[BEGAN + 5])) == set(), "sent, and not yet published, when it fell silent"
    assert wrong(replace(again, silences_ms=[BEGAN - 5])) == {"duplicated"}, "sent only later"
    assert wrong(replace(again, silences_ms=[BEGAN + 5_000])) == {"duplicated"}, "published long before"


def test_stale_revision_last() -> None:
    swapped = (OUT[1], OUT[0], *OUT[2:3], _out(5, "c", None, offset=2, at=40), _out(4, "c", offset=3, at=50))
    assert wrong(replace(FAIR, during=swapped, after=swapped)) == {"stale revision last", "seen and gone"}


def test_unlike_without_cache() -> None:
    odd = (_out(0, "a", offset=0, at=10, scores={"ctr": 0.502}), *OUT[1:])
    assert wrong(replace(FAIR, during=odd, after=odd)) == {"unlike without cache"}
    near = (_out(0, "a", offset=0, at=10, scores={"ctr": 0.5005}), *OUT[1:])
    assert wrong(replace(FAIR, during=near, after=near)) == set()


def test_hanging_transaction() -> None:
    assert wrong(replace(FAIR, open_transactions={("out", 0): 3})) == {"hanging transaction"}


def test_committed_past_unfinished() -> None:
    early = (Commit(0, 4, BEGAN + 25), COMMITS[1])
    found = account(replace(FAIR, commits=early))
    assert found.counts["committed past unfinished"] == 1
    assert found.wrong["committed past unfinished"] == [((0, 3), 5)], "the record, and how many ms too early"


def test_uncommitted() -> None:
    assert wrong(replace(FAIR, commits=COMMITS[:1])) == {"uncommitted"}
    assert wrong(replace(FAIR, commits=(*COMMITS, Commit(0, 2, BEGAN + 99)))) == {"uncommitted"}, "it went back"


def test_seen_and_gone() -> None:
    aborted = _out(0, "a", offset=9, at=70)
    assert wrong(replace(FAIR, during=(*OUT, aborted))) == {"seen and gone"}
    assert wrong(replace(FAIR, during=(OUT[1], OUT[0], *OUT[2:]))) == {"seen and gone"}, "out of order"
    assert wrong(replace(FAIR, during=(*OUT, OUT[0]))) == {"seen and gone"}, "twice"


def test_the_longest_silence_reaches_over_the_edges_of_the_window() -> None:
    seen = [_out(number, "a", offset=number, at=at) for number, at in enumerate((0, 100, 5_100, 5_200, 9_000))]
    assert longest_silence(seen, BEGAN + 1_000, BEGAN + 5_150) == {0: 5_000}
    assert longest_silence(seen, BEGAN + 110, BEGAN + 120) == {0: 5_000}


def test_a_script_says_the_same_for_the_same_seed_and_holds_every_kind() -> None:
    def told(seed: str) -> list[tuple[str, str]]:
        script = Script(0, seed)
        planned = [script.next() for _ in range(2_000)]
        return [(entry.creative_id, script.fate(entry)) for entry in planned]

    assert told("1") == told("1") != told("2")
    assert {fate for _, fate in told("1")} == {OUTPUT, DEAD, WITHDRAWN, SUPERSEDED}
