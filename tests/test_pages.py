"""What the pages point at is there: files, headings, tests."""

import re
import unicodedata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The headings as GitHub names them."""
    found = re.findall(r"^#+ +(.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    kept = (re.sub(r"`|\[|\]\([^)]*\)", "", text).lower() for text in found)
    return {
        "".join(c for c in text.replace(" ", "-") if c in "-_" or unicodedata.category(c)[0] in "LN") for text in kept
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        leads_to = (page.parent / path).resolve() if path else page
        assert leads_to.exists(), f"{page.name} links to {target}, which isn't there"
        if anchor:
            assert anchor in anchors(leads_to), (
                f"{page.name} links to {target}, and {leads_to.name} has no such heading"
            )


def test_the_tests_that_a_page_names_exist() -> None:
    named = set(re.findall(r"`(?:[\w./]*/)?(test_\w+\.py)`", (ROOT / "docs/security.md").read_text()))
    assert named - {path.name for path in (ROOT / "tests").rglob("test_*.py")} == set()
    assert len(named) > 10
