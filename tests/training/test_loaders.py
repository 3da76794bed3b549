"""Every reader: what it makes of a few rows, and what it says of broken ones."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.datasets import designs, lexicons, osie, own, pitt, posters, tweets
from training.datasets.catalogue import DATASETS
from training.datasets.sample import BadRows, DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (20, 10), colour).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


def write(path: Path, *lines: str) -> Path:
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(reader, root: Path) -> list:
    return list(reader(root, BadRows()))


POSTERS = "imdb_id,image_small,tagline,overview,genres,imdb_rating,tmdb_popularity"
PITT = "image_id,ocr_tokens,objects,topic_votes,topic,sentiment_votes"
TWEETS = "guid,image,text,sentiment"
UPWORTHY = "clickability_test_id,headline,impressions,clicks"

GOOD = {
    "movie_posters": ("posters.csv", POSTERS, "tt1,images/0.png,Run.,A plot,Drama|Horror,6.5,0.6"),
    "mm_tweet_sentiment": ("data.csv", TWEETS, "7,images/1.png,so happy,positive"),
    "website_aesthetics": ("rated.csv", "id,image,mean_rating_1_9", "p,images/2.png,5"),
    "upworthy_ctr": ("packages.csv.gz", UPWORTHY, "t1,Look,1000,15"),
    "pitt_ads_text": ("ads.csv.gz", PITT, '1/1.jpg,fresh fish,person|car,3|25|25,travel,"[[""12""], [""9"", ""14""]]"'),
}


@pytest.fixture
def rows(root):
    def make(dataset: str, *bad: str) -> list:
        name, header, good = GOOD[dataset]
        write(root / name, header, good, *bad)
        return read(DATASETS[dataset].records, root)

    return make


def test_a_poster_reads_its_tagline_alone(rows):
    (row,) = rows("movie_posters")
    assert row.fields == {"headline": "Run."}
    assert {g for g, has in zip(posters.GENRES, row.labels["keywords"], strict=True) if has} == {"Drama", "Horror"}
    assert row.labels["attention"] == pytest.approx(0.65)
    assert row.labels["share_likelihood"] == pytest.approx(0.5, abs=0.01)
    assert row.sample(16).image.shape == (16, 16, 3)


def test_a_tweet_is_a_picture_a_text_and_a_class(rows):
    (row,) = rows("mm_tweet_sentiment")
    assert (row.id, row.fields, row.labels["sentiment"]) == ("7", {"body": "so happy"}, 2)


def test_a_page_has_its_rating_from_nought_to_one(rows):
    assert rows("website_aesthetics")[0].labels["score"] == 0.5


def test_a_package_has_no_picture_and_stays_with_its_test(rows):
    (row,) = rows("upworthy_ctr")
    assert row.picture is None
    assert row.labels == {"impressions": 1000, "clicks": 15, "ctr": 0.015, "test": 0}
    assert "test:t1" in row.groups
    assert (row.sample(4).image == 128).all()
    assert row.fields == {"headline": "Look"}


def test_a_package_is_read_with_the_line_under_its_headline(tmp_path):
    table = "clickability_test_id,headline,lede,excerpt,impressions,clicks\nt1,Look,Once.,Pass it on.,1000,15\n"
    (tmp_path / "packages.csv").write_text(table)
    (row,) = DATASETS["upworthy_ctr"].records(tmp_path, BadRows())
    assert row.fields == {"headline": "Look", "body": "Pass it on."}


def test_an_ad_has_whatever_any_annotator_chose(rows):
    (row,) = rows("pitt_ads_text")
    assert [pitt.TOPICS[k] for k in np.flatnonzero(row.labels["topics"])] == ["chips", "travel"]
    chosen = {pitt.SENTIMENTS[k] for k in np.flatnonzero(row.labels["sentiments"])}
    assert chosen == {"cheerful", "creative", "eager"}
    assert pitt.TOPICS[row.labels["topic"]] == "travel"
    assert row.extra["objects"] == ("person", "car")


@pytest.mark.parametrize(
    ("dataset", "bad", "said"),
    [
        ("movie_posters", "tt2,images/1.png,x,y,Dramma,5,1", r"posters\.csv, row 1: genre 'Dramma'"),
        ("movie_posters", "tt2,../1.png,x,y,Drama,5,1", r"row 1: the image is '\.\./1\.png', no path inside"),
        ("movie_posters", "tt2,images/1.png,x,y,Drama,11,1", r"row 1: imdb_rating is '11', not a number from"),
        (
            "mm_tweet_sentiment",
            "8,images/1.png,x,great",
            r"data\.csv, row 1: sentiment is 'great', not one",
        ),
        ("website_aesthetics", "q,images/1.png,9.5", r"row 1: mean_rating_1_9 is '9\.5', not a number from 1 to 9"),
        ("website_aesthetics", "q,images/1.png,nan", r"row 1: mean_rating_1_9"),
        ("website_aesthetics", "q", r"row 1: mean_rating_1_9 is ''"),
        ("upworthy_ctr", "t1,Look,10,11", r"packages\.csv\.gz, row 1: 11 clicks of 10 impressions"),
        ("upworthy_ctr", "t1,Look,-1,0", r"row 1: impressions is '-1', not a number of at least 0"),
        ("pitt_ads_text", '1/2.jpg,a,b,3,x,"[[""31""]]"', r"row 1: sentiment '31' is no id from 1 to 30"),
        ("pitt_ads_text", "1/2.jpg,a,b,3,x,[[", r"row 1: no JSON"),
    ],
)
def test_a_bad_row_is_named_with_its_mend_or_skipped_and_counted(rows, root, dataset, bad, said):
    with pytest.raises(DataError, match=said):
        rows(dataset, bad)
    told: list[str] = []
    skipping = BadRows(skip=True, report=told.append)
    assert len(list(DATASETS[dataset].records(root, skipping))) == 1
    assert skipping.count == len(told) == 1


@pytest.mark.parametrize("dataset", GOOD)
def test_a_missing_table_and_a_missing_column_name_the_option(dataset, root):
    with pytest.raises(DataError, match="--root names the set's own folder"):
        read(DATASETS[dataset].records, root)
    name, header, good = GOOD[dataset]
    column = "headline" if dataset == "upworthy_ctr" else "ocr_tokens" if "ocr" in header else header.split(",")[1]
    write(root / name, header.replace(column, f"{column}s"), good)
    with pytest.raises(DataError, match=f"has no column '{column}'; rename '{column}s'"):
        read(DATASETS[dataset].records, root)


def test_a_picture_that_cannot_be_read_is_named_with_its_row(rows, root):
    (root / "images" / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png \(row 0\) can't be read as an image.*--skip-bad"):
        rows("mm_tweet_sentiment")[0].sample(8)


def test_infographics_come_with_their_clicks(root):
    write(
        root / "bubbleview_clicks.csv", "image,source,subject,x,y", "0.png,s,0,5,5", "0.png,s,1,15,5", "1.png,s,0,1,1"
    )
    first, second = read(designs.infographics, root)
    assert np.allclose(first.extra["fixations"], [[0.25, 0.5], [0.75, 0.5]])
    assert second.labels["saliency"].sum() == pytest.approx(1, abs=1e-4)
    write(root / "bubbleview_clicks.csv", "image,x,y", "9.png,5,5")
    with pytest.raises(DataError, match=r"names 9\.png, which .*images doesn't hold"):
        read(designs.infographics, root)


def test_twitter_rows_put_the_target_into_the_tweet(root):
    header = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String"
    write(root / "train.tsv", header, "0\t2\t0.png\t$T$ beats Bob\tAda", "1\t0\t0.png\tAda beats $T$\tBob")
    write(root / "test.tsv", header, "0\t1\t1.png\thello $T$\tEve")
    one, two, three = read(tweets.targets, root)
    assert [r.fields["body"] for r in (one, two, three)] == ["Ada beats Bob", "Ada beats Bob", "hello Eve"]
    assert [r.labels["sentiment"] for r in (one, two, three)] == [2, 0, 1]
    assert one.groups == two.groups != three.groups
    assert [r.row for r in (one, two, three)] == [0, 1, 2]
    write(root / "test.tsv", header, "0\t-1\t1.png\tx $T$\tEve", "1\t1\t1.png\tx $T$\tEve")
    assert [r.labels["sentiment"] for r in read(tweets.targets, root)[2:]] == [0, 2]
    write(root / "test.tsv", header, "0\t1\t1.png\tx")
    with pytest.raises(DataError, match=r"test\.tsv, row 0: 4 columns"):
        read(tweets.targets, root)


def test_published_pitt_folders_are_joined_by_file_name(root):
    (root / "0").mkdir()
    (root / "images" / "0.png").rename(root / "0" / "1.png")
    (root / "Topics.json").write_text(json.dumps({"0/1.png": ["9", "9", "odd cars"], "0/2.png": ["1"]}))
    (root / "Sentiments.json").write_text(json.dumps({"0/1.png": [["1"], ["4", "2"]]}))
    bad = BadRows(skip=True)
    (row,) = pitt.folders(root, bad)
    assert bad.count == 1
    assert [pitt.TOPICS[k] for k in np.flatnonzero(row.labels["topics"])] == ["cars"]
    assert row.labels["sentiments"].sum() == 3
    with pytest.raises(DataError, match=r"2\.png isn't there"):
        read(pitt.folders, root)


def test_own_creatives_may_have_any_subset_of_labels(root):
    write(root / "creatives.csv", "id,image,headline,score,sentiment,impressions,clicks,fixations,keywords,test",
          'a,images/0.png,Buy now,0.7,positive,100,3,"[[10, 5]]",,t1', "b,images/1.png,,,,,,,,")  # fmt: skip
    full, bare = read(own.creatives, root)
    assert full.labels["score"] == 0.7
    assert full.labels["sentiment"] == 2
    assert full.labels["ctr"] == 0.03
    assert np.allclose(full.extra["fixations"], [[0.5, 0.5]])
    assert full.groups == ("creative:a", "test:t1")
    assert dict(bare.labels) == {}
    lines = [{"image": "images/0.png", "theme": None, "saliency": "images/2.png", "keywords": []}, {"headline": "x"}]
    write(root / "creatives.jsonl", *map(json.dumps, lines))
    looked, words = read(own.creatives, root)
    assert looked.labels["saliency"].sum() == pytest.approx(1, abs=1e-4)
    assert words.picture is None


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"scores": 0.5}, "unknown 'scores'"),
        ({"score": 1.5}, "score is '1.5', not a number from 0 to 1"),
        ({"sentiment": "fine"}, "sentiment is 'fine', not one of"),
        ({"impressions": 5, "clicks": 6}, "6 clicks of 5 impressions"),
        ({"keywords": ["nothing"]}, "keyword 'nothing' is none of"),
        ({"image": "images/0.png", "fixations": [1, 2]}, r"fixations must be \[\[x, y\]"),
        ({"image": "/etc/passwd"}, "no path inside"),
        ({"image": "a\0b.png"}, "no path inside"),
        ({"impressions": 10.5, "clicks": 2.5}, "impressions is '10.5', not a whole number"),
        ({"impressions": 10, "clicks": 2.5}, "clicks is '2.5', not a whole number"),
        ({"image": "images/0.png", "fixations": [[1e300, 2]]}, r"fixations must be \[\[x, y\]"),
        ({"headline": "\ud800"}, "lone surrogate"),
    ],
)
def test_own_creatives_say_what_is_wrong(root, row, said):
    write(root / "creatives.jsonl", json.dumps({"headline": "x"}), json.dumps(row))
    with pytest.raises(DataError, match=rf"creatives\.jsonl, row 1: .*{said}"):
        read(own.creatives, root)


def test_own_creatives_of_broken_json_are_named(root):
    write(root / "creatives.jsonl", '{"headline": "x"}', "{", "[]", "[" * 200_000, "1" * 5_000)
    with pytest.raises(DataError, match="row 1: no JSON"):
        read(own.creatives, root)
    told: list[str] = []
    assert len(list(own.creatives(root, BadRows(skip=True, report=told.append)))) == 1
    assert [line.split(": ")[1].rsplit(", ")[1] for line in told] == ["row 1", "row 2", "row 3", "row 4"]


def test_lines_end_at_line_ends_alone(root):
    """U+2028 and U+0085 end a line for str.splitlines, and stand in people's texts."""
    texts = ["one\u2028two", "three\u0085four"]
    write(root / "creatives.jsonl", *(json.dumps({"body": text}, ensure_ascii=False) + "\r" for text in texts))
    assert [row.fields["body"] for row in read(own.creatives, root)] == texts
    header = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String"
    write(root / "train.tsv", header, f"0\t2\t0.png\t{texts[0]} $T$\tAda", f"1\t0\t1.png\t{texts[1]} $T$\tBob")
    assert [row.fields["body"] for row in read(tweets.targets, root)] == [f"{texts[0]} Ada", f"{texts[1]} Bob"]


def test_a_row_of_more_cells_than_columns_says_so(root):
    write(root / "creatives.csv", "headline,score", "Now, or never,0.5", "Later,0.5")
    with pytest.raises(DataError, match=r"creatives\.csv, row 0: more cells than columns; quote the commas"):
        read(own.creatives, root)
    assert [row.row for row in own.creatives(root, BadRows(skip=True))] == [1]


@pytest.mark.parametrize("harm", ["cut", "changed"])
def test_a_broken_archive_is_named(harm, root):
    name, header, good = GOOD["upworthy_ctr"]
    whole = bytearray(gzip.compress("\n".join([header, *[good] * 50]).encode()))
    if harm == "changed":
        whole[10] = 0xFF  # no kind of block
    (root / name).write_bytes(whole[:-20] if harm == "cut" else whole)
    with pytest.raises(DataError, match=r"packages\.csv\.gz can't be read"):
        read(DATASETS["upworthy_ctr"].records, root)


def test_a_picture_of_too_many_pixels_is_a_bad_row(rows, root):
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0), b"IDAT": b"", b"IEND": b""}
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks.items()]
    (root / "images" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    with pytest.raises(DataError, match=r"1\.png \(row 0\) can't be read as an image \(DecompressionBombError\)"):
        rows("mm_tweet_sentiment")[0].sample(8)


@pytest.mark.data
@pytest.mark.parametrize(
    ("dataset", "rows"),
    [("movie_posters", 3339), ("mm_tweet_sentiment", 3189), ("website_aesthetics", 300), ("upworthy_ctr", 18336),
     ("pitt_ads_text", 12719)],
)  # fmt: skip
def test_the_real_sets_are_read_whole(data_root, dataset, rows):
    records = read(DATASETS[dataset].records, data_root / dataset)
    assert len(records) == rows
    assert [record.row for record in records] == list(range(rows))
    sample = records[rows // 2].sample(32)
    assert sample.image.shape == (32, 32, 3)


@pytest.mark.data
def test_the_real_eye_tracking_is_read(data_root):
    shown = read(designs.infographics, data_root / "saliency_designs")
    assert len(shown) == 51
    assert min(len(record.extra["fixations"]) for record in shown) > 100
    first = next(iter(osie.records(data_root / "saliency_osie", BadRows())))
    assert len(first.extra["fixations"]) > 50


@pytest.mark.data
def test_the_real_lexicons_are_read(data_root):
    assert len(lexicons.pairs(data_root / "anp_lexicons")) == 2089
    values = lexicons.polarities(data_root / "anp_lexicons")
    assert len(values) > 3000
    assert values["beautiful_flower"] == 1.77


def test_a_lexicon_of_another_kind_is_refused(tmp_path):
    (tmp_path / "deepsentibank_2089.json").write_text("{}")
    with pytest.raises(DataError, match="isn't a list of names"):
        lexicons.pairs(tmp_path)
