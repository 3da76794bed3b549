"""Every configuration over a data set that is read: trained for an epoch on a few rows, measured on others."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from admodels import checkpoint
from admodels.checkpoint import CheckpointError
from export.heads import export_head
from training import config as configuration
from training.__main__ import cli
from training.config import Config, ConfigError
from training.datasets.posters import GENRES
from training.datasets.sample import BadRows, DataError
from training.encoders import MODELS
from training.evaluate import evaluate
from training.fit import VALIDATION, fit
from training.predictor import Predictor
from training.variants import baseline

CONFIGS = Path(configuration.__file__).parent / "configs"
ROWS = 36
FEW = {"epochs": 1, "batch_size": 8, "warmup_steps": 0}


def _lines(path: Path, header: str, rows: list[str]) -> None:
    text = "\n".join([header, *rows]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def make(root: Path, dataset: str) -> Path:
    """ROWS rows in a data set's layout, each with a picture of its own."""
    rng = np.random.default_rng(4)
    folder = root / "massvis" if dataset == "saliency_designs" else root
    (folder / "images").mkdir(parents=True)
    names = [f"images/{n:02d}.png" for n in range(ROWS)]
    for name in names:
        small = Image.fromarray(rng.integers(0, 255, (3, 4, 3), dtype=np.uint8))
        small.resize((40, 30), Image.Resampling.BICUBIC).save(folder / name)
    bare = [name.removeprefix("images/") for name in names]
    pairs = [(GENRES[n % 21], GENRES[(n * 7 + 4) % 21]) for n in range(ROWS)]
    tones = ("negative", "neutral", "positive")
    looks = [(n, rng.uniform(2, 28, 2)) for n in range(ROWS) for _ in range(5)]
    match dataset:
        case "movie_posters":
            header = "imdb_id,image_small,tagline,genres,imdb_rating,tmdb_popularity"
            rows = [
                f"tt{n},{names[n]},Line {n},{'|'.join(sorted(set(pairs[n])))},{n % 9},0.{n + 1}" for n in range(ROWS)
            ]
            _lines(root / "posters.csv", header, rows)
        case "mm_tweet_sentiment":
            # Of many lengths, so that batches differ in theirs.
            rows = [f"{n},{names[n]},it was {'so ' * n}{tones[n % 3]} {n},{tones[n % 3]}" for n in range(ROWS)]
            _lines(root / "data.csv", "guid,image,text,sentiment", rows)
        case "website_aesthetics":
            _lines(
                root / "rated.csv", "id,image,mean_rating_1_9", [f"p{n},{names[n]},{1 + n % 9}" for n in range(ROWS)]
            )
        case "upworthy_ctr":
            rows = [f"t{n // 2},Headline {n},1000,{5 + n}" for n in range(ROWS)]
            _lines(root / "packages.csv.gz", "clickability_test_id,headline,impressions,clicks", rows)
        case "pitt_ads_text":
            rows = [f'{n},buy word{n % 5},car|person,{n % 38 + 1},x,"[[""{n % 30 + 1}""]]"' for n in range(ROWS)]
            _lines(root / "ads.csv.gz", "image_id,ocr_tokens,objects,topic_votes,topic,sentiment_votes", rows)
        case "saliency_designs":
            _lines(folder / "bubbleview_clicks.csv", "image,x,y", [f"{bare[n]},{x:.1f},{y:.1f}" for n, (x, y) in looks])
        case "saliency_osie":
            _lines(root / "fixations.csv.gz", "image,x,y", [f"{bare[n]},{x:.1f},{y:.1f}" for n, (x, y) in looks])
            (root / "validation.txt").write_text("\n".join(bare[:5]) + "\n")
    return root


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    made: dict[str, Path] = {}

    def root(dataset: str) -> Path:
        if dataset not in made:
            made[dataset] = make(tmp_path_factory.mktemp(dataset), dataset)
        return made[dataset]

    return root


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("features")


EXPECTED = {
    "movie_posters": {"auc/mean6", "map", "auc/Comedy", "popularity/spearman"},
    "mm_tweet_sentiment": {"accuracy", "macro_f1"},
    "website_aesthetics": {"pearson", "spearman", "mae"},
    "upworthy_ctr": {"pair_accuracy", "ctr/log_loss", "ctr/auc", "ctr/brier", "ctr/ece", "ctr/pcoc"},
    "pitt_ads_text": {f"{t}/{m}" for t in ("topic", "sentiment") for m in ("map", "f1_c", "f1_o")},
    "saliency_designs": {"cc", "nss", "kl", "sim", "auc_judd"},
    "saliency_osie": {"cc", "nss", "kl", "sim", "auc_judd"},
}
READ = {
    "movie_posters": ["tagline"],
    "mm_tweet_sentiment": ["text"],
    "upworthy_ctr": ["headline", "excerpt"],
    "pitt_ads_text": ["ocr_tokens", "objects"],
}
FILES = sorted(file.stem for file in CONFIGS.glob("*.toml") if "generated" not in file.stem)


def quick(name: str) -> Config:
    """A configuration of the repository, with an epoch alone."""
    loaded = configuration.load(CONFIGS / f"{name}.toml")
    # So few tuning rows don't have every genre.
    monitor = "map" if loaded.dataset == "movie_posters" else loaded.fit.monitor
    return loaded.model_copy(update={"fit": loaded.fit.model_copy(update={**FEW, "monitor": monitor})})


@pytest.mark.parametrize("name", FILES)
def test_a_configuration_leaves_a_run_that_evaluate_takes(name, roots, shared, tmp_path):
    config = quick(name)
    root = roots(config.dataset)
    metrics = fit(config, root, tmp_path / "run", seed=0, command="x", report=lambda _: None, features=shared)
    assert metrics
    report, lines = evaluate(Predictor(tmp_path / "run", MODELS), config.dataset, root)
    assert report["rows"] == (5 if config.dataset == "saliency_osie" else ROWS)
    left_out = {"image": {"tagline", "text", "ocr_tokens"}, "text": {"objects"}}.get(config.form, set())
    assert report["text"] == [column for column in READ.get(config.dataset, []) if column not in left_out]
    assert set(report["metrics"]) >= EXPECTED[config.dataset] - {"pair_accuracy"}
    assert all(np.isfinite(value) for value in report["metrics"].values())
    assert len(lines) == report["rows"]
    json.dumps([report, lines], allow_nan=False)
    first = lines[0]
    match config.dataset:
        case "movie_posters":
            assert set(first["scores"]) == set(GENRES)
        case "mm_tweet_sentiment":
            assert sum(first["scores"].values()) == pytest.approx(1)
        case "pitt_ads_text":
            assert (len(first["topics"]), len(first["sentiments"])) == (38, 30)
        case "saliency_designs" | "saliency_osie":
            assert first["id"] == "00"
            assert first["heatmap"]["grid"] == [64, 64]
        case _:
            assert 0 <= first["score"] <= 1


@pytest.mark.parametrize("pooled", [False, True])
def test_evaluate_reads_what_fit_validated_on_to_the_same_numbers(pooled, roots, shared, tmp_path):
    """The store keeps maps at the grid that the head resamples to (a baseline: one cell); evaluate runs the head as it
    is served."""
    config = quick("fgmfn-mm_tweet_sentiment")
    config = baseline(config, "early") if pooled else config
    root = roots("mm_tweet_sentiment")
    fit(config, root, tmp_path / "run", seed=1, command="x", report=lambda _: None, features=shared)
    said = np.load(tmp_path / "run" / VALIDATION)["sentiment_logits"]
    _, lines = evaluate(Predictor(tmp_path / "run", MODELS), "mm_tweet_sentiment", root)
    served = np.array([list(line["scores"].values()) for line in lines])
    softmax = np.exp(said) / np.exp(said).sum(1, keepdims=True)
    for row in softmax:
        assert np.abs(served - row).max(1).min() < 5e-3


def test_words_may_be_vectors_that_the_training_rows_taught(roots, shared, tmp_path):
    """They travel with the run: evaluate says of every row what fit said, and reads a broken word near a whole one."""
    own = configuration.load(CONFIGS / "deepm2ad-pitt_ads_text.toml").model_dump()
    config = Config.model_validate({**own, "fit": {**own["fit"], **FEW}, "subwords": {"dim": 8, "buckets": 500}})
    root = roots("pitt_ads_text")
    for name, chosen in (("model", config), ("baseline", baseline(config, "early"))):
        run = tmp_path / name
        fit(chosen, root, run, seed=1, command="x", report=lambda _: None, features=shared)
        said = np.load(run / VALIDATION)["topics_logits"]
        predictor = Predictor(run, MODELS)
        rows = [predictor.sample(r) for r in configuration.DATASETS["pitt_ads_text"].records(root, BadRows())]
        served = predictor.predict(rows)["topics_logits"]
        for row in said:
            assert np.abs(served - row).max(1).min() < 1e-4
    unread = [replace(rows[0], fields={"ocr": text}) for text in ("", "buy word0", "buy wrd0", "zzz")]
    empty, whole, broken, strange = predictor.predict(unread)["topics_logits"]
    assert 0 < np.abs(broken - whole).max() < min(np.abs(other - whole).max() for other in (empty, strange))


def test_forms_read_one_side_alone(roots, shared, tmp_path):
    root = roots("movie_posters")
    for form, other in (("image", {"headline": "Something else"}), ("text", None)):
        config = quick(f"adfusion-movie_posters-{form}")
        run = tmp_path / form
        fit(config, root, run, seed=0, command="x", report=lambda _: None, features=shared)
        assert checkpoint.load(run).training["form"] == form
        with pytest.raises(CheckpointError, match=f"trained on {form} alone"):
            export_head(checkpoint.load(run), MODELS)
        predictor = Predictor(run, MODELS)
        (record, second) = list(configuration.DATASETS["movie_posters"].records(root, BadRows()))[:2]
        changed = type(record)(
            record.row, record.id, second.picture if other is None else record.picture, other or record.fields, {}
        )
        one, two = (predictor.predict([predictor.sample(r)])["keywords_logits"] for r in (record, changed))
        assert np.array_equal(one, two)


def test_a_picture_that_cannot_be_read_stops_or_is_skipped_and_counted(tmp_path):
    root = make(tmp_path / "set", "website_aesthetics")
    (root / "images" / "03.png").write_bytes(b"no picture")
    config = quick("dbafn-website_aesthetics")
    with pytest.raises(DataError, match=r"03\.png \(row 3\) can't be read.*--skip-bad"):
        fit(config, root, tmp_path / "stopped", seed=0, command="x", report=lambda _: None)
    told: list[str] = []
    bad = BadRows(skip=True, report=told.append)
    fit(config, root, tmp_path / "run", seed=0, command="x", report=lambda _: None, bad=bad)
    assert bad.count >= 1
    assert "03.png" in told[0]
    again = BadRows(skip=True, report=told.append)
    fit(config, root, tmp_path / "again", seed=0, command="x", report=lambda _: None, bad=again)
    assert again.count == bad.count
    assert told[bad.count :] == told[: bad.count]
    with pytest.raises(DataError, match=r"03\.png \(row 3\) can't be read.*--skip-bad"):
        fit(config, root, tmp_path / "run", seed=0, command="x", report=lambda _: None)
    report, lines = evaluate(Predictor(tmp_path / "run", MODELS), "website_aesthetics", root, BadRows(skip=True))
    assert (report["rows"], report["skipped"]) == (ROWS - 1, 1)
    assert [line["row"] for line in lines] == [n for n in range(ROWS) if n != 3]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], catch_exceptions=False)


def test_compare_and_ablate_tell_variants_apart(roots, tmp_path):
    small = tmp_path / "small.toml"
    text = (CONFIGS / "deepm2ad-pitt_ads_text.toml").read_text().replace("dim = 192", "dim = 16")
    small.write_text(text.replace("batch_size = 64", "batch_size = 8"))
    common = ("--root", roots("pitt_ads_text"), "--seeds", 2, "--resamples", 20, "--epochs", 1)
    found = call("compare", small, *common, "--out", tmp_path / "compare" / "pitt", "--json")
    outcome = json.loads(found.stdout)
    assert outcome["metric"] == "topic/map"
    assert list(outcome["variants"]) == [
        "deepm2ad", "deepm2ad, image only", "deepm2ad, text only", "image baseline", "text baseline",
        "early baseline", "late baseline", "mlp baseline",
    ]  # fmt: skip
    assert len(outcome["rows"]) == 2
    for told in (*outcome["variants"].values(), *outcome["differences"].values()):
        assert told["low"] <= told["high"]
    assert json.loads((tmp_path / "compare" / "pitt" / "comparison.json").read_text()) == outcome
    other = ("--root", roots("pitt_ads_text"), "--seeds", 2, "--resamples", 20, "--epochs", 2)
    with pytest.raises(ConfigError, match="deepm2ad-s0 holds a run of another configuration"):
        call("compare", small, *other, "--out", tmp_path / "compare" / "pitt")
    again = call("compare", small, *common, "--out", tmp_path / "compare" / "pitt")
    assert "encoding" not in again.stderr
    assert "deepm2ad, text only" in again.stdout
    both = call("compare", small, *common, "--ablations", "--out", tmp_path / "compare" / "pitt", "--json")
    variants = list(json.loads(both.stdout)["variants"])
    assert variants[:8] == list(outcome["variants"])
    assert variants[8:] == [
        "without autoencoder", "without hierarchical attention", "topics alone", "own word vectors",
    ]  # fmt: skip
    ablated = call("ablate", small, *common, "--out", tmp_path / "compare" / "pitt", "--json")
    told = json.loads(ablated.stdout)["differences"]
    assert {"without autoencoder", "topics alone"} <= set(told)
    assert "sentiments alone" not in told


def test_heatmaps_are_held_against_those_that_nobody_trained(roots, tmp_path):
    common = ("--root", roots("saliency_designs"), "--seeds", 1, "--resamples", 20, "--epochs", 1, "--metric", "nss")
    found = call("compare", CONFIGS / "dbafn-saliency_designs.toml", *common, "--out", tmp_path / "designs", "--json")
    outcome = json.loads(found.stdout)
    assert list(outcome["variants"]) == ["dbafn", "image baseline", "centre-bias", "spectral-residual"]
    assert set(outcome["differences"]) == {"image baseline", "centre-bias", "spectral-residual"}
    for told in outcome["variants"].values():
        assert told["metrics"]["nss"] == pytest.approx(told["value"], abs=1e-6)
    assert json.loads((tmp_path / "designs" / "comparison.nss.json").read_text()) == outcome
