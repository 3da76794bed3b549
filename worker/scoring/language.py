"""The language of a creative's words. Copy is short, so most guesses are poor: an unsure one is no answer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

# Languages that advertising is written in and that the identifier tells apart, ISO 639-1. Leaving out its rarer ones
# (dialects, creoles) is what makes a sure answer about five words of English possible.
_CODES = """
    ar bg bn ca cs da de el en es et eu fa fi fr gl gu he hi hr hu hy id is it ja ka kk km kn ko lo lt lv mk ml mn mr
    ms my ne nl no pa pl pt ro ru si sk sl sq sr sv sw ta te th tl tr uk ur uz vi zh
"""
SURE = 0.85
MIN_LETTERS = 4
MAX_CHARACTERS = 200
"""More text makes the answer no better, only slower."""


def identify(text: str) -> str | None:
    """ISO 639-1 code of `text`'s language, or None where it is too short or the answer is unsure."""
    return _identify(text[:MAX_CHARACTERS])


@lru_cache(maxsize=4_096)
def _identify(text: str) -> str | None:
    if sum(character.isalpha() for character in text) < MIN_LETTERS:
        return None
    language, probability = _identifier().classify(text)
    return str(language) if probability >= SURE else None


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # reading the model takes a second

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(_CODES.split())
    return identifier


def warm() -> None:
    """Read the model now rather than in the first event."""
    _identifier()
