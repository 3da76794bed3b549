"""The two headers of a record that was put back to be scored again."""

from __future__ import annotations

import dataclasses

import pytest

from tests.fakes import record
from worker.intake.events import parse_record
from worker.intake.rescored import LASTMOD, OF, headers_of
from worker.types import Creative, Headers, Place, Withdrawal

DAY_MS = 86_400_000
WRITTEN_MS = record(0).origin.timestamp_ms


def parsed(*headers: tuple[str, bytes | None], **fields: object) -> Creative:
    found = parse_record(record(5, "a", headers=headers, **fields))
    assert isinstance(found, Creative)
    return found


def test_they_name_the_record_and_order_it() -> None:
    found = parsed((OF, b"creatives:3:981"), (LASTMOD, b"42"), lastmod=7)
    assert (found.lastmod, found.repeats) == (42, Place("creatives", 3, 981))
    again = dataclasses.replace(found, lastmod=7, repeats=None)
    assert again == parsed(lastmod=7), "nothing else of the record changes"


def test_what_was_put_back_before_is_named_anew() -> None:
    headers: Headers = (("note", None), (OF, b"creatives:3:981"), (LASTMOD, b"42"), ("note", b"1"))
    assert headers_of(headers, Place("creatives", 3, 1200), 43) == (
        ("note", None),
        ("note", b"1"),
        (OF, b"creatives:3:1200"),
        (LASTMOD, b"43"),
    )


@pytest.mark.parametrize(
    "headers",
    [
        ((OF, b"creatives:3:981"),),
        ((LASTMOD, b"42"),),
        ((OF, None), (LASTMOD, b"42")),
        ((OF, b"creatives:3"), (LASTMOD, b"42")),
        ((OF, b"crea tives:3:981"), (LASTMOD, b"42")),
        ((OF, b"creatives:3:981\n"), (LASTMOD, b"42")),
        ((OF, "creatives:٣:٣".encode()), (LASTMOD, b"42")),
        ((OF, b"creatives:3:981"), (LASTMOD, b"-1")),
        ((OF, b"creatives:3:981"), (LASTMOD, str(2**53).encode())),
        ((OF, b"\xff"), (LASTMOD, b"\xff")),
    ],
)
def test_odd_ones_are_no_reason_to_refuse(headers: Headers) -> None:
    assert parsed(*headers, lastmod=7) == parsed(lastmod=7)


def test_a_sender_cannot_order_by_the_far_future() -> None:
    found = parsed((OF, b"creatives:0:0"), (LASTMOD, str(WRITTEN_MS + 2 * DAY_MS).encode()))
    assert found.lastmod == WRITTEN_MS


def test_a_withdrawal_is_one_whatever_they_say() -> None:
    found = parse_record(record(5, "a", value=None, headers=((OF, b"creatives:0:0"), (LASTMOD, b"1"))))
    assert found == Withdrawal("a")
