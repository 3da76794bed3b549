"""From what a creative is to how people take it: the generative model behind every label that nobody measured.

These functions are assumptions, not findings. They are monotone in what the design literature agrees on (contrast,
legibility, order, colour, sharpness; a call to action, a deep discount, a fitting audience) and their weights are ours.

Attractiveness: σ(8 · (Σ wᵢ·qᵢ − 0.76)) over the measured parts qᵢ of QUALITY_WEIGHTS, plus N(0, 0.015).
CTR: σ(−5.1 + Σ terms + N(0, 0.1)) (see `_pull`), clicks drawn binomially from log-normal impressions.
Sentiment: the copy's tone (−1, 0, 1) + 0.55 · the picture's mood, cut at ±⅓: only neutral copy can be tipped by mood.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from training.creatives.copywriting import Written
from training.creatives.values import Response
from training.creatives.vocabulary import vocabulary

QUALITY_WEIGHTS = {"contrast": 0.28, "legibility": 0.2, "order": 0.12, "colour": 0.12, "sharpness": 0.28}
_EMOTION_PULL = {"excitement": 0.25, "curiosity": 0.3, "joy": 0.15, "fear": 0.1, "sadness": -0.25, "neutral": -0.15}
_EMOTION_SHARE = {"joy": 0.7, "excitement": 0.6, "warmth": 0.8, "anger": 0.7, "sadness": 0.3, "neutral": -0.7}


def attractiveness(quality: dict[str, float], rng: np.random.Generator) -> float:
    """The score in [0, 1] of the measured parts of quality."""
    score = sum(weight * quality[part] for part, weight in QUALITY_WEIGHTS.items())
    return float(np.clip(_sigmoid(8 * (score - 0.76)) + rng.normal(0, 0.015), 0, 1))


def sentiment(tone: str, mood: float) -> Literal["negative", "neutral", "positive"]:
    """The label of a tone under a picture's mood in [−1, 1]."""
    value = {"negative": -1, "neutral": 0, "positive": 1}[tone] + 0.55 * mood
    if abs(value) <= 1 / 3:
        return "neutral"
    return "positive" if value > 0 else "negative"


def respond(written: Written, quality: dict[str, float], attractive: float, rng: np.random.Generator) -> Response:
    """Simulate the audience. `ctr` is the underlying rate; the observed one is clicks ÷ impressions."""
    ctr = float(_sigmoid(-5.1 + _pull(written, quality, attractive) + rng.normal(0, 0.1)))
    impressions = int(np.clip(rng.lognormal(np.log(12_000), 0.8), 500, 200_000))
    emotion = written.classes["emotion"]
    share = -1.6 + _EMOTION_SHARE.get(emotion, 0.0) + 1.2 * (attractive - 0.5) + 0.3 * (written.discount > 0.3)
    share += -0.6 if written.classes["trust"] == "exaggerated" else 0.0
    seen = -2.6 + 1.4 * quality["contrast"] + 0.9 * quality["legibility"] + 0.8 * quality["colour"]
    seen += 0.35 if written.badge else 0.0
    return Response(
        impressions,
        int(rng.binomial(impressions, ctr)),
        ctr,
        float(_sigmoid(share + rng.normal(0, 0.1))),
        float(_sigmoid(seen + rng.normal(0, 0.1))),
    )


def _pull(written: Written, quality: dict[str, float], attractive: float) -> float:
    """Sum of the effects on the log-odds of a click."""
    classes, theme = written.classes, vocabulary()["themes"][written.classes["theme"]]
    action, money = classes["call_to_action"], classes["monetary_mention"]
    pull = 0.0 if action == "none" else 0.35
    pull += 0.2 if action == "buy" and money != "none" else 0.0
    pull += 0.8 * written.discount + (0.35 if money == "free" else 0.0)
    pull += 0.9 * (attractive - 0.5) + 0.3 * (quality["contrast"] - 0.5)
    pull += theme["pull"] + (0.35 if classes["audience"] in theme["fits"] else 0.0)
    pull += _EMOTION_PULL.get(classes["emotion"], 0.0)
    return pull - (0.2 if classes["trust"] == "exaggerated" else 0.0)


def _sigmoid(x: float) -> float:
    return 1 / (1 + float(np.exp(-x)))
