"""Cutting UTF-8 at a number of bytes."""

from __future__ import annotations

import pytest

from worker.intake.cut import cut_utf8


@pytest.mark.parametrize("text", ["", "abc", "ä" * 10, "日本" * 7, "😀" * 5, "a😀b" * 4, "é" * 3])
@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4, 5, 9, 16, 100])
def test_the_longest_beginning_that_fits(text: str, limit: int) -> None:
    cut = cut_utf8(text, limit)
    assert text.startswith(cut)
    assert len(cut.encode()) <= limit
    assert cut == text or len(text[: len(cut) + 1].encode()) > limit
