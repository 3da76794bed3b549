"""What stands where in a text as it was received, by its places in the canonical one."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admodels.contract.text import canonical, received_places


def quoted(text: str, part: str) -> str:
    """What `part` of the canonical text was in the received one."""
    places = received_places(text)
    first = canonical(text).index(part)
    return text[places[first][0] : places[first + len(part) - 1][1]]


@pytest.mark.parametrize(
    ("text", "part", "was"),
    [
        ("great battery life", "battery life", "battery life"),
        ("  great \t\n battery   life ", "battery life", "battery   life"),
        ("gre\u200bat bat\u00adtery", "battery", "bat\u00adtery"),
        ("cafe\u0301 open", "open", "open"),
        ("cafe\u0301 open", "café", "cafe\u0301"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af good", "good", "good"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af good", "글", "\u1100\u1173\u11af"),
        ("👩\u200d🍳 cooks", "cooks", "cooks"),
        ("a" + "\u0301" * 50 + " tail", "tail", "tail"),
    ],
)
def test_the_part_that_was_meant_is_found(text: str, part: str, was: str) -> None:
    assert quoted(text, part) == was


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_can_be_laid_beside_its_canonical_form(text: str) -> None:
    places = received_places(text)
    assert len(places) == len(canonical(text))
    assert all(0 <= start <= end <= len(text) for start, end in places)
    assert [start for start, _ in places] == sorted(start for start, _ in places)


@given(
    st.lists(
        st.sampled_from(
            [*"aé ़́̈ाাགྷ각ㅏ각", "\u0344", "\u0958", "\ufb2c", "\u09be", "\u09c7", "\U000110ba", "\u3099", "か"]
        ),
        max_size=20,
    )
)
def test_clusters_compose_as_the_whole_does(parts: list[str]) -> None:
    text = "".join(parts)
    assert unicodedata.is_normalized("NFC", canonical(text))
    assert len(received_places(text)) == len(canonical(text))
