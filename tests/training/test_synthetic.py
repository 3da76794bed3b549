from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training import synthetic
from training.creatives import response
from training.creatives.copywriting import keywords_in
from training.creatives.layout import SIZES
from training.creatives.values import Copy
from training.creatives.vocabulary import label_sets

COUNT = 60


@pytest.fixture(scope="module")
def photos(photo_root: Path) -> list[Path]:
    return sorted((photo_root / "images").glob("*.webp"))


@pytest.fixture(scope="module")
def made(photos: list[Path]) -> list[synthetic.GeneratedCreative]:
    return list(synthetic.creatives(photos, COUNT, seed=7))


def test_the_same_seed_makes_the_same_bytes_whatever_the_count(made, photos):
    again = list(synthetic.creatives(photos, 5, seed=7))
    assert again == made[:5]


def test_another_seed_makes_others(made, photos):
    other = synthetic.creative(photos, 0, seed=8)
    assert other.image_bytes != made[0].image_bytes
    assert other.copy != made[0].copy


def test_ids_are_unique_and_every_photograph_is_used(made, photos):
    assert len({creative.id for creative in made}) == COUNT
    assert {creative.placement.name for creative in made} == {photo.stem for photo in photos}


def test_pictures_have_the_announced_type_and_a_real_ad_size(made):
    sizes = {size for size, _ in SIZES}
    magic = {"image/jpeg": b"\xff\xd8", "image/png": b"\x89PNG", "image/webp": b"RIFF"}
    for creative in made:
        assert creative.image_bytes.startswith(magic[creative.mime])
        assert creative.image().size == creative.size
        assert creative.size in sizes
    assert len({creative.size for creative in made}) >= 6
    assert {creative.mime for creative in made} == set(magic)


def test_spans_cut_the_entities_out_of_the_copy(made):
    seen = set()
    for creative in made:
        fields = creative.copy.fields()
        for span in creative.labels.spans:
            text = fields[span.field][span.start : span.end]
            assert text
            assert text == text.strip()
            seen.add(span.entity)
            if span.entity == "brand" and span.field == "brand":
                assert text == creative.copy.brand
            if span.entity == "price":
                assert any(character.isdigit() for character in text)
            if span.entity == "discount":
                assert text.endswith("%") or any(sign in text for sign in "$£€D")
    assert seen == {"price", "discount", "brand", "product"}


def test_labels_are_classes_and_numbers_of_their_ranges(made):
    sets = label_sets()
    for creative in made:
        labels = creative.labels
        assert 0 <= labels.attractiveness <= 1
        assert all(0 <= part <= 1 for part in labels.quality.values())
        assert labels.classes["sentiment"] == labels.sentiment
        assert set(labels.classes) == set(sets) - {"keywords"}
        assert all(name in sets[head] for head, name in labels.classes.items())
        assert labels.keywords == keywords_in(creative.copy)
        assert 0 <= labels.response.clicks <= labels.response.impressions
        assert 0 < labels.response.ctr < 0.15
    assert {creative.labels.sentiment for creative in made} == {"negative", "neutral", "positive"}
    assert 0.005 < np.mean([creative.labels.response.ctr for creative in made]) < 0.03


def test_what_was_promised_is_said(made):
    for creative in made:
        classes = creative.labels.classes
        assert (classes["call_to_action"] == "none") == (creative.copy.cta == "")
        text = " ".join(creative.copy.fields().values()).lower()
        if classes["monetary_mention"] == "free":
            assert "free" in text


def test_regions_lie_on_the_creative(made):
    for creative in made:
        assert any(region.label == "headline" for region in creative.regions)
        for region in creative.regions:
            box = region.box
            assert box.x >= 0
            assert box.y >= 0
            assert box.x + box.w <= 1.25  # a text that fits at no size runs out of its slot


def test_attractiveness_grows_with_every_part_of_quality():
    rng = np.random.default_rng(0)
    low = dict.fromkeys(response.QUALITY_WEIGHTS, 0.6)
    for part in low:
        better = response.attractiveness(low | {part: 1.0}, np.random.default_rng(1))
        assert better > response.attractiveness(low, np.random.default_rng(1))
    assert response.attractiveness(dict.fromkeys(low, 1.0), rng) > 0.8
    assert sum(response.QUALITY_WEIGHTS.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("tone", "mood", "label"),
    [
        ("positive", -1.0, "positive"),
        ("negative", 1.0, "negative"),
        ("neutral", 0.0, "neutral"),
        ("neutral", 0.9, "positive"),
        ("neutral", -0.9, "negative"),
    ],
)
def test_mood_tips_only_neutral_copy(tone, mood, label):
    assert response.sentiment(tone, mood) == label


def test_keywords_are_whole_words():
    assert keywords_in(Copy("Offline office", "", "", "")) == ("work",)
    assert "sale" in keywords_in(Copy("Now 20% off", "", "", ""))


def test_variants_keep_the_size_and_differ(made):
    sharpness = {}
    creative = next(c for c in made if c.labels.quality["sharpness"] == 1)
    better, worse = synthetic.variants(creative, seed=7)
    for name, image in {"plain": creative.image(), "better": better, "worse": worse}.items():
        assert image.size == creative.size
        sharpness[name] = np.asarray(image).tobytes()
    assert len(set(sharpness.values())) == 3


def test_an_event_names_the_picture_and_the_copy(made):
    event = synthetic.as_event(made[0], "a.webp")
    assert event["ad"]["id"] == made[0].id
    assert event["ad"]["display"]["banner"]["img"] == "a.webp"
    assert event["copy"] == made[0].copy.fields()


def test_no_photographs_is_an_error_that_says_where_some_are():
    with pytest.raises(ValueError, match="data/osie/images"):
        next(synthetic.creatives([], 1, 0))


def test_the_generator_needs_no_torch():
    code = "import sys, training.synthetic; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
