"""The pages that are made from the code are current."""

import pytest

from tools.docs import PAGES, ROOT, accepts, table


@pytest.mark.parametrize("path", PAGES)
def test_a_made_page_is_current(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == PAGES[path](), (
        f"{path} isn't what the code says; run `make docs`"
    )


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"enum": ["", "PLAIN"]}, "empty, `PLAIN`"),
        ({"type": "integer", "minimum": 1, "maximum": 9}, "integer ≥ 1, ≤ 9"),
        ({"type": "number", "exclusiveMinimum": 0}, "number > 0"),
        ({"type": "number", "minimum": 0, "exclusiveMaximum": 1}, "number ≥ 0, < 1"),
        ({"const": "pytesseract", "type": "string"}, "`pytesseract`"),
        ({"type": "array"}, "list"),
        ({"type": "string", "format": "password"}, "secret"),
        ({"type": "string"}, "text"),
    ],
)
def test_what_a_setting_takes(schema: dict, told: str) -> None:
    assert accepts(schema) == told


def test_a_bar_in_a_cell_is_escaped() -> None:
    assert table(("a",), [("x|y",)]) == "| a |\n| --- |\n| x\\|y |\n"
