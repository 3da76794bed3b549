from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest

from training import stores
from training.config import Config
from training.creatives.vocabulary import label_sets
from training.datasets import generated, osie
from training.datasets.entities import ENTITIES, UNLABELLED
from training.datasets.sample import BadRows, DataError
from training.encoders import MODELS, SharedEncoders
from training.features import Features, cached, columns
from training.stores import Stores


@pytest.fixture(scope="module")
def encoders() -> SharedEncoders:
    return SharedEncoders(MODELS, "mobilenetv2/1", "minilm/1")


def test_splits_share_no_photograph(photo_root):
    parts = {split: set(osie.photographs(photo_root, split)) for split in ("train", "tune", "validation")}
    assert {path.name for path in parts["validation"]} == {"p02.webp", "p05.webp"}
    assert len(parts["tune"]) == 2
    assert set.union(*parts.values()) == set(osie.photographs(photo_root))
    assert sum(map(len, parts.values())) == 12


def photos(root, *names):
    (root / "images").mkdir()
    for name in names:
        (root / "images" / name).touch()
    return root


def test_without_a_list_splits_still_share_no_photograph(tmp_path):
    photos(tmp_path, *(f"{n}.png" for n in range(60)))
    parts = {split: set(osie.photographs(tmp_path, split)) for split in ("train", "tune", "validation")}
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 60
    assert 5 < len(parts["validation"]) < 20
    (tmp_path / "images" / "another.png").touch()
    assert parts["validation"] <= set(osie.photographs(tmp_path, "validation"))


def test_a_list_may_have_a_byte_order_mark_and_names_with_spaces(tmp_path):
    photos(tmp_path, "a b.png", "c.png", "d.png", "e.png")
    (tmp_path / "validation.txt").write_bytes("\ufeffc.png\r\na b.png\r\n\r\n".encode())
    assert [path.name for path in osie.photographs(tmp_path, "validation")] == ["a b.png", "c.png"]
    (tmp_path / "validation.txt").write_text("elsewhere.png\n")
    with pytest.raises(DataError, match=r"no photograph for validation: .*mend .*validation\.txt"):
        osie.photographs(tmp_path, "validation")


def test_photographs_come_with_their_density_and_mirrored(photo_root):
    plain, mirrored = list(osie.samples(photo_root, "validation", 32, flips=True))[:2]
    assert plain.image.shape == (32, 32, 3)
    assert plain.labels["saliency"].sum() == pytest.approx(1, abs=1e-3)
    assert np.array_equal(mirrored.image, plain.image[:, ::-1])
    assert np.allclose(mirrored.labels["saliency"], plain.labels["saliency"][:, ::-1], atol=2e-3)


def test_a_folder_without_photographs_names_the_option(tmp_path):
    with pytest.raises(DataError, match="--root"):
        osie.photographs(tmp_path)


@pytest.mark.parametrize("cell", ["left", "nan", "inf", "1e300"])
def test_a_broken_fixation_names_file_and_row(cell, tmp_path):
    lines = f"image,x,y\np00.webp,1,2\np00.webp,{cell},2\np00.webp,3,4\n"
    (tmp_path / "fixations.csv.gz").write_bytes(gzip.compress(lines.encode()))
    with pytest.raises(DataError, match=rf"fixations\.csv\.gz, row 1: x is '{cell}', not a number"):
        osie.fixations(tmp_path)
    bad = BadRows(skip=True)
    assert osie.fixations(tmp_path, bad)["p00"].tolist() == [[1, 2], [3, 4]]
    assert bad.count == 1


def test_fixations_that_were_cut_off_are_an_error(tmp_path):
    (tmp_path / "fixations.csv.gz").write_bytes(gzip.compress(b"image,x,y\np00.webp,1,2\n")[:-12])
    with pytest.raises(DataError, match=r"fixations\.csv\.gz can't be read \(EOFError\)"):
        osie.fixations(tmp_path)


def test_generated_rows_have_every_label_and_splits_differ(photo_root):
    train = list(generated.samples(photo_root, "train", 30, 1, 32))
    tune = list(generated.samples(photo_root, "tune", 30, 1, 32))
    assert {s.extra["name"] for s in train}.isdisjoint(s.extra["name"] for s in tune)
    assert [s.fields for s in train] != [s.fields for s in tune]
    for sample in train:
        assert set(label_sets()) | {"score", "ctr", "clicks", "impressions", "saliency"} <= set(sample.labels)
        assert sample.labels["saliency"].shape == (64, 64)
    kinds = {("ocr" in s.fields, "headline" in s.fields) for s in train}
    assert kinds == {(False, True), (True, False), (True, True)}


def test_variants_change_the_pixels_alone(photo_root):
    views = {view: next(iter(generated.samples(photo_root, "train", 1, 1, 64, view)))
             for view in ("plain", "enhanced", "degraded")}  # fmt: skip
    assert views["plain"].fields == views["enhanced"].fields == views["degraded"].fields
    pixels = {name: sample.image.tobytes() for name, sample in views.items()}
    assert len(set(pixels.values())) == 3


def test_missing_labels_are_marked_by_kind():
    rows = columns([{"a": 1, "b": 0.5}, {"b": 0.25, "c": np.ones(2, np.float32)}])
    assert list(rows["a"]) == [1, -1]
    assert list(rows["b"]) == [0.5, 0.25]
    assert np.isnan(rows["c"][0]).all()


def test_entities_lie_on_their_tokens(encoders):
    from training.creatives.values import Span

    fields = {"headline": "Velora sofas now 40% off", "ocr": "40%"}
    spans = (Span("headline", 0, 6, "brand"), Span("headline", 7, 12, "product"), Span("headline", 17, 20, "discount"))
    labels = encoders.entities.label(fields, spans)
    ids = encoders.text_encoder.encode(fields)
    words = encoders.entities._tokenizer
    by_entity = {
        name: words.decode([i for i, label in zip(ids, labels, strict=False) if label == number])
        for number, name in enumerate(ENTITIES)
    }
    assert by_entity["brand"] == "velora"
    assert by_entity["product"] == "sofas"
    assert by_entity["discount"].replace(" ", "") == "40%"
    assert by_entity["none"] == "now off"
    assert labels[0] == UNLABELLED
    assert (labels[len(ids) - 4 :] == UNLABELLED).all()
    assert (encoders.entities.label(fields, None) == UNLABELLED).all()


def test_features_are_made_anew_where_what_they_depend_on_changes(photo_root, tmp_path, encoders, monkeypatch):
    root = shutil.copytree(photo_root, tmp_path / "root")
    fit = {"epochs": 1, "batch_size": 2, "learning_rate": 1, "weight_decay": 0, "patience": 1}
    data = {"rows": 2, "tune_rows": 2, "validation_rows": 2}
    config = Config.model_validate({"model": "fgmfn", "dataset": "generated", "fit": fit, "data": data})
    told: list[str] = []

    def made() -> int:
        before = len(told)
        Stores(config, root, tmp_path / "features", encoders, ("c5",), told.append).tuning()
        return len(told) - before

    assert (made(), made()) == (1, 0)
    (root / "images" / "p00.webp").write_bytes((root / "images" / "p01.webp").read_bytes())
    assert (made(), made()) == (1, 0)
    lines = gzip.decompress((root / "fixations.csv.gz").read_bytes())
    (root / "fixations.csv.gz").write_bytes(gzip.compress(lines + b"\np00.webp,0,5,5\n"))
    assert (made(), made()) == (1, 0)
    monkeypatch.setattr(stores, "_code", lambda: "another generator")
    assert (made(), made()) == (1, 0)


def test_features_are_what_the_encoders_say_and_are_kept(photo_root, tmp_path, encoders):
    def rows():
        return generated.samples(photo_root, "train", 5, 1, encoders.side)

    store = cached(tmp_path / "store", rows, 5, encoders, ("c4", "c5"))
    samples = list(rows())
    fresh = encoders.maps(np.stack([sample.image for sample in samples]))
    assert np.allclose(store.maps["c5"], fresh["c5"], atol=2e-2, rtol=2e-3)
    ids, mask = encoders.words([sample.fields for sample in samples])
    assert np.array_equal(store.mask.sum(1), mask.sum(1))
    assert np.array_equal(store.input_ids[:, : ids.shape[1]], ids)
    assert np.array_equal(store.images[0], samples[0].image)
    assert list(store.labels["theme"]) == [sample.labels["theme"] for sample in samples]

    def never():
        raise AssertionError("the store was there")

    again = cached(tmp_path / "store", never, 5, encoders, ("c5",))
    assert isinstance(again, Features)
    assert again.ids == store.ids
