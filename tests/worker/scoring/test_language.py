import pytest

from worker.scoring.language import MAX_CHARACTERS, identify


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Save 20% on shoes today", "en"),
        ("Jetzt kaufen und sparen", "de"),
        ("Descubre la nueva colección", "es"),
        ("Le nouveau parfum", "fr"),
        ("今すぐ購入", "ja"),
        ("지금 구매", "ko"),
        ("立即购买", "zh"),
    ],
)
def test_clear_text_is_identified(text: str, language: str) -> None:
    assert identify(text) == language


@pytest.mark.parametrize("text", ["", "OK", "20%", "SALE", "Nike Air", "Pizza Roma", "купить сейчас", "❤️❤️❤️❤️❤️"])
def test_an_unsure_answer_is_none(text: str) -> None:
    assert identify(text) is None


def test_a_long_text_costs_no_more_than_its_beginning() -> None:
    assert identify("Jetzt kaufen und sparen. " * 10_000) == "de"
    assert MAX_CHARACTERS <= 400
