"""Vectors trained on a small corpus: gensim's own numbers, near for words that OCR broke."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from admodels.contract.subwords import Subwords, pad_rows, words_of
from admodels.word_vectors import Trained, WordVectors, mean_vectors, pack, train, unpack
from training.creatives.copywriting import write

CORPUS = [
    ["fresh", "pizza", "delivered", "to", "your", "door"],
    ["hot", "pizza", "and", "pasta", "tonight"],
    ["new", "running", "shoes", "for", "the", "marathon"],
    ["light", "running", "shoes", "on", "sale"],
] * 30


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(CORPUS, dim=24, buckets=2000)


def test_the_numpy_rows_give_gensims_vectors() -> None:
    from gensim.models import FastText

    model = FastText(vector_size=8, min_count=1, bucket=500, sg=1, workers=1, seed=3, window=5, epochs=2)
    model.build_vocab(corpus_iterable=CORPUS)
    model.train(corpus_iterable=CORPUS, total_examples=len(CORPUS), epochs=2)
    ours = train(CORPUS, dim=8, buckets=500, min_n=3, max_n=6, min_count=1, epochs=2, seed=3)
    words = ["pizza", "pizzza", "marathon", "schuhe"]
    np.testing.assert_allclose(mean_vectors(ours, words), np.stack([model.wv[w] for w in words]), atol=1e-6)


def test_a_dropped_character_leaves_a_word_nearest_to_itself() -> None:
    written = [write(np.random.default_rng(seed)).copy for seed in range(400)]
    corpus = [words_of(f"{copy.headline} {copy.body} {copy.cta}", 64) for copy in written]
    trained = train(corpus, dim=32, buckets=20_000)
    vocabulary = trained.subwords.words
    known = mean_vectors(trained, vocabulary)
    known = known / np.linalg.norm(known, axis=1, keepdims=True)
    ranks: list[int] = []
    for word in [word for word in vocabulary if len(word) >= 6][:60]:
        near = mean_vectors(trained, [word[:drop] + word[drop + 1 :] for drop in range(len(word))]) @ known.T
        ranks += (near > near[:, [vocabulary.index(word)]]).sum(1).tolist()
    # Of over 800 words; a table without n-grams knows none of the broken ones.
    assert len(vocabulary) > 700
    assert np.mean(np.array(ranks) == 0) > 0.8
    assert np.mean(np.array(ranks) < 5) > 0.95


def test_the_module_is_the_mean_of_the_rows(trained: Trained) -> None:
    vectors = WordVectors(trained.subwords.rows, 24)
    vectors.load(trained.table)
    words = ["pizza", "shoos"]
    rows, _ = pad_rows([trained.subwords.encode(words), []])
    out = vectors(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(out[0], mean_vectors(trained, words), atol=1e-6)
    assert (out[1] == 0).all()
    assert not vectors.table.weight.requires_grad
    with pytest.raises(ValueError, match=r"the table is \(2, 2\)"):
        vectors.load(np.zeros((2, 2), np.float32))


def test_the_same_seed_gives_the_same_table(trained: Trained) -> None:
    again = train(CORPUS, dim=24, buckets=2000)
    np.testing.assert_array_equal(again.table, trained.table)
    assert again.subwords.words == trained.subwords.words


def test_a_corpus_that_is_too_small_says_so() -> None:
    with pytest.raises(ValueError, match="no word of the corpus comes 2 times"):
        train([["once"]])


def test_what_is_packed_is_unpacked_in_half_precision(trained: Trained) -> None:
    again = unpack(pack(trained))
    assert again.subwords.encode(["sales", "unheard"]) == trained.subwords.encode(["sales", "unheard"])
    np.testing.assert_allclose(again.table, trained.table, atol=1e-3)


UNEVEN = Trained(Subwords(["a"], buckets=2), np.zeros((3, 2), np.float32))


@pytest.mark.parametrize("garbage", [b"", b"{}", pack(UNEVEN)])
def test_what_is_no_packed_table_is_refused(garbage: bytes) -> None:
    with pytest.raises(ValueError, match="again"):
        unpack(garbage)
