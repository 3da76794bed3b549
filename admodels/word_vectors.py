"""Word vectors that survive OCR's dropped characters: fastText's method, trained on a corpus by gensim.

`train` needs gensim (the training extra). What it gives is a table for `WordVectors` and the `Subwords` that find its
rows; serving needs the second alone, and numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from admodels.contract.subwords import Subwords


class Trained(NamedTuple):
    """subwords, and their table float32 rows×F (row 0 zero)."""

    subwords: Subwords
    table: NDArray[np.float32]


def pack(trained: Trained) -> bytes:
    """A file of it, safetensors with the table in fp16: what `unpack` reads."""
    vocabulary = np.frombuffer(trained.subwords.to_json(), np.uint8)
    packed: bytes = safetensors.numpy.save({"table": trained.table.astype(np.float16), "subwords": vocabulary})
    return packed


def unpack(data: bytes) -> Trained:
    """Raises ValueError for anything that `pack` doesn't write."""
    try:
        arrays = safetensors.numpy.load(data)
        subwords = Subwords.from_json(arrays["subwords"].tobytes())
        table = arrays["table"].astype(np.float32)
    except (safetensors.SafetensorError, KeyError) as error:
        raise ValueError(f"these are no word vectors ({error}); run the training again") from error
    if table.ndim != 2 or len(table) != subwords.rows:
        raise ValueError(f"a table of {table.shape} doesn't fit {subwords.rows} rows; run the training again")
    return Trained(subwords, table)


class WordVectors(nn.Module):
    """rows int64 B×N×G → B×N×F, the mean over the rows that aren't 0. The table is frozen, as in the paper."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(rows, dim, padding_idx=0)
        self.table.weight.requires_grad_(False)

    def load(self, table: NDArray[np.float32]) -> None:
        """Take a trained table. Raises ValueError for one of another size."""
        if table.shape != tuple(self.table.weight.shape):
            raise ValueError(f"the table is {table.shape}, the model's {tuple(self.table.weight.shape)}")
        with torch.no_grad():
            self.table.weight.copy_(torch.from_numpy(table))

    def forward(self, rows: Tensor) -> Tensor:
        count = (rows != 0).sum(2, keepdim=True).clamp(min=1)  # B×N×1
        vectors: Tensor = self.table(rows).sum(2) / count
        return vectors


def train(
    corpus: Sequence[Sequence[str]],
    *,
    dim: int = 300,
    buckets: int = 50_000,
    min_n: int = 2,
    max_n: int = 4,
    min_count: int = 2,
    epochs: int = 5,
    window: int = 5,
    seed: int = 0,
) -> Trained:
    """Skip-gram with negative sampling over `corpus`, lists of words as `contract.subwords.words_of` gives them.

    n-grams of 2 to 4 characters, where fastText's own default is 3 to 6: on few thousand ads, long n-grams are too rare
    to be learned. With 2 to 4, over 80 % of the words that lack one character stay nearest to what they were
    (tests/admodels/test_word_vectors.py).

    One thread: the same corpus and seed give the same table. Raises ValueError for a corpus without a word that comes
    `min_count` times.
    """
    from gensim.models import FastText  # half a second that only training pays

    model = FastText(
        vector_size=dim, window=window, min_count=min_count, min_n=min_n, max_n=max_n, bucket=buckets,
        sg=1, workers=1, seed=seed,
    )  # fmt: skip
    model.build_vocab(corpus_iterable=corpus)
    if not len(model.wv):
        raise ValueError(f"no word of the corpus comes {min_count} times; give more text or a smaller min_count")
    model.train(corpus_iterable=corpus, total_examples=model.corpus_count, epochs=epochs)
    padding = np.zeros((1, dim), np.float32)
    table = np.concatenate([padding, model.wv.vectors_vocab, model.wv.vectors_ngrams]).astype(np.float32)
    return Trained(Subwords(model.wv.index_to_key, buckets=buckets, min_n=min_n, max_n=max_n), table)


def mean_vectors(trained: Trained, words: Sequence[str]) -> NDArray[np.float32]:
    """The vector of each word: float32 M×F; zeros for a word without any row."""
    rows = trained.subwords.encode(words)
    vectors = [trained.table[each].mean(0) if each else np.zeros_like(trained.table[0]) for each in rows]
    return np.stack(vectors) if vectors else trained.table[:0]
