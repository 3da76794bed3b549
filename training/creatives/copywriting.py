"""Copy with known labels: templates by emotion and theme, their slots filled at random, entities kept as spans."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.creatives.values import Copy, Field, Span
from training.creatives.vocabulary import MONEY, vocabulary

_SLOT = re.compile(r"\{(\w+)\}")
_ENTITIES = ("price", "discount", "brand", "product")
_CURRENCIES = ("${}", "£{}", "€{}", "{} €", "USD {}")


@dataclass(frozen=True)
class Written:
    """Copy and what its author meant by it. `discount` is the depth in [0, 1], 0 without one."""

    copy: Copy
    spans: tuple[Span, ...]
    tone: str
    classes: dict[str, str]
    keywords: tuple[str, ...]
    discount: float
    badge: str
    """Price or discount alone, for the round badge; empty without one."""


def pick(rng: np.random.Generator, options: Any) -> Any:
    """One of a sequence's members, each as likely."""
    return options[int(rng.integers(len(options)))]


def write(rng: np.random.Generator) -> Written:
    """Write one creative's copy. The tone is drawn first, so that the three sentiments are about as frequent."""
    words = vocabulary()
    tone = pick(rng, ("negative", "neutral", "positive"))
    emotion = pick(rng, [name for name, entry in words["emotions"].items() if entry["tone"] == tone])
    theme = pick(rng, list(words["themes"]))
    product, kind = pick(rng, words["themes"][theme]["products"]).split("|")
    audience = pick(rng, list(words["audience"])) if rng.random() < 0.6 else "everyone"
    cta = _call(rng, words, theme)
    money = pick(rng, MONEY)
    slots, depth = _slots(rng, words, theme, product, money)
    bank = words["emotions"][emotion]
    exaggerated = rng.random() < 0.08
    # Clickbait takes one of the two lines; the other keeps the tone that the sentiment label stands for.
    shouted = pick(rng, ("headlines", "bodies")) if exaggerated else ""
    headline = _Line(slots).add(pick(rng, (words["exaggerated"] if shouted == "headlines" else bank)["headlines"]))
    body = _Line(slots)
    if exaggerated or rng.random() < 0.85:
        body.add(pick(rng, (words["exaggerated"] if shouted == "bodies" else bank)["bodies"]))
    for addition in _additions(rng, words, audience, money):
        (headline if len(headline.text) < 22 and rng.random() < 0.25 else body).add(addition)
    brand = slots["brand"] if rng.random() < 0.9 else ""
    copy = Copy(headline.text, body.text, pick(rng, words["cta"][cta]), brand)
    spans = headline.spans("headline") + body.spans("body")
    if brand:
        spans += (Span("brand", 0, len(brand), "brand"),)
    classes = {"theme": theme, "emotion": emotion, "audience": audience, "call_to_action": cta, "object": kind}
    classes |= {"monetary_mention": money, "trust": _trust(words, theme, kind, exaggerated)}
    badge = _badge(money, slots)
    return Written(copy, spans, tone, classes, keywords_in(copy), depth, badge)


def keywords_in(copy: Copy) -> tuple[str, ...]:
    """The keywords one of whose trigger words stands in the copy."""
    text = f" {' '.join(copy.fields().values()).lower()} "
    return tuple(
        name
        for name, triggers in vocabulary()["keywords"].items()
        if any(re.search(rf"\b{re.escape(trigger)}\b", text) for trigger in triggers)
    )


def _slots(
    rng: np.random.Generator, words: dict[str, Any], theme: str, product: str, money: str
) -> tuple[dict[str, str], float]:
    percent = int(rng.integers(1, 15)) * 5
    amount = f"{int(rng.integers(2, 900))}" + (".99" if rng.random() < 0.4 else "")
    currency = pick(rng, _CURRENCIES)
    discount = f"{percent}%" if rng.random() < 0.8 else currency.format(percent)
    slots = {
        "product": product,
        "brand": pick(rng, words["names"]) + pick(rng, words["endings"]),
        "price": currency.format(amount),
        "discount": discount,
    }
    for name in ("good", "bad", "season"):
        slots[name] = pick(rng, words[name])
    for name in ("benefit", "problem"):
        slots[name] = pick(rng, words["themes"][theme][name])
    return slots, percent / 100 if money == "discount" else 0.0


def _additions(rng: np.random.Generator, words: dict[str, Any], audience: str, money: str) -> list[str]:
    """What the classes promise must be said: the audience's phrase and the money's."""
    additions = []
    phrase = pick(rng, words["audience"][audience])
    if phrase:
        additions.append(pick(rng, ("Made {}.", "Perfectly sized {}.", "Just {}.", "Designed {}.")).format(phrase))
    if money != "none":
        additions.append(pick(rng, words["money"][money]) + ".")
    return additions


def _call(rng: np.random.Generator, words: dict[str, Any], theme: str) -> str:
    """A kind of call to action: charities mostly ask for gifts, nobody else does."""
    if theme == "charity" and rng.random() < 0.6:
        return "donate"
    return pick(rng, [kind for kind in words["cta"] if kind != "donate"])


def _badge(money: str, slots: dict[str, str]) -> str:
    return {"none": "", "price": slots["price"], "discount": f"-{slots['discount']}", "free": "FREE"}[money]


def _trust(words: dict[str, Any], theme: str, kind: str, exaggerated: bool) -> str:
    if exaggerated:
        return "exaggerated"
    return "sensitive" if words["themes"][theme].get("sensitive") or kind == "alcohol" else "safe"


class _Line:
    """One field of copy under construction: its text and the entities in it."""

    def __init__(self, slots: dict[str, str]) -> None:
        self._slots = slots
        self._found: list[tuple[int, int, str]] = []
        self.text = ""

    def add(self, template: str) -> _Line:
        """Append a filled template; the first letter becomes a capital."""
        if self.text:
            self.text += " " if self.text[-1] in ".!?" else ". "
        begin, last = len(self.text), 0
        for slot in _SLOT.finditer(template):
            self.text += template[last : slot.start()]
            value = self._slots[slot[1]]
            if slot[1] in _ENTITIES:
                self._found.append((len(self.text), len(self.text) + len(value), slot[1]))
            self.text += value
            last = slot.end()
        self.text += template[last:]
        self.text = self.text[:begin] + self.text[begin : begin + 1].upper() + self.text[begin + 1 :]
        return self

    def spans(self, name: Field) -> tuple[Span, ...]:
        """The entities found so far, as spans of field `name`."""
        return tuple(Span(name, start, end, entity) for start, end, entity in self._found)  # type: ignore[arg-type]
