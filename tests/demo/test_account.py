from typing import Any

from demo.account import Account


def event(status: str, *cache: str) -> dict[str, Any]:
    return {"status": status, "provenance": {"cache": {str(head): result for head, result in enumerate(cache)}}}


ACCOUNT = Account(
    published={(0, offset): f"cr-{offset}" for offset in range(8)},
    events={(0, 0): event("scored", "miss"), (0, 1): event("scored", "hit", "hit"), (0, 2): event("partial", "hit")},
    dead_letters={(0, 3): {"code": "bad_image"}, (0, 4): {"code": "bad_event"}},
    withdrawn={(0, 5): "cr-5"},
)


def test_the_parts_add_up_to_what_was_published() -> None:
    summary = ACCOUNT.summary(superseded=2)
    assert summary == {
        "published": 8,
        "scored": 2,
        "from_cache": 1,
        "partial": 1,
        "dead_letter": 2,
        "superseded": 2,
        "withdrawn": 1,
        "missing": 0,
    }
    parts = ("scored", "partial", "dead_letter", "superseded", "withdrawn")
    assert summary["published"] == sum(summary[part] for part in parts)


def test_what_nothing_tells_of_is_missing() -> None:
    assert ACCOUNT.unanswered == [(0, 6), (0, 7)]
    assert ACCOUNT.summary(superseded=1)["missing"] == 1
