"""Copy → token ids. Training and serving read text through this one door, so that they can't drift apart.

Everything here is linear in the text's length, on hostile text too, and never raises for what a sender can write.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from admodels.contract.manifest import TextSpec

COPY_FIELDS = ("headline", "body", "cta", "brand")
"""What a sender wrote; the other fields say what is seen in the image."""

MAX_COMBINING_RUN = 30
"""Unicode's Stream-Safe Text Format (UAX #15) allows as many; normalising is quadratic in the run's length."""

_CHARACTERS_PER_TOKEN = 32
"""A field is cut to this many characters per token of room before tokenising: honest words are far shorter."""

# Characters without a glyph (Unicode's Default_Ignorable_Code_Point and the interlinear annotation marks), but for
# U+200C and U+200D, which join letters and emoji; and the control characters that are no white space.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)

# A tokenizer's own names for the first token and the separator, by family: BERT's, then RoBERTa's.
_FIRST = ("[CLS]", "<s>")
_SEPARATOR = ("[SEP]", "</s>")


def canonical(text: str) -> str:
    """The form of a text that the models read and that equal content is recognised by.

    NFC; control characters and invisible ones that join nothing are dropped (ZWJ and ZWNJ stay); runs of more than
    30 combining marks are cut to 30; white space is collapsed to single spaces and stripped. Idempotent.
    """
    return " ".join(_normal(_INVISIBLE.sub("", text)).split())


def _normal(text: str) -> str:
    if text.isascii():
        return text
    # Cut first, since normalising long runs is quadratic; cut again, since a mark can decompose into two.
    return _cut_combining_runs(unicodedata.normalize("NFC", _cut_combining_runs(text)))


def _cut_combining_runs(text: str) -> str:
    return "".join(_bounded_runs(text))


def _bounded_runs(text: str) -> Iterator[str]:
    run = 0
    for character in text:
        # Letters below U+0300 are most of all copy; no combining mark lies there.
        if character < "\u0300" or unicodedata.category(character)[0] != "M":
            run = 0
        else:
            run += 1
            if run > MAX_COMBINING_RUN:
                continue
        yield character


def received_places(text: str) -> list[tuple[int, int]]:
    """For each character of `canonical(text)` where it stood in `text`: start and end (exclusive) in code points.

    Empty where the two can't be laid side by side, which no text is known for.
    """
    kept = [(index, character) for index, character in enumerate(text) if not _INVISIBLE.fullmatch(character)]
    made: list[tuple[str, int, int]] = []
    for cluster in _clusters(kept):
        start, end = cluster[0][0], cluster[-1][0] + 1
        made += [(character, start, end) for character in _normal("".join(character for _, character in cluster))]
    words: list[list[tuple[str, int, int]]] = [[]]
    for item in made:
        if item[0].isspace():
            words.append([])
        else:
            words[-1].append(item)
    words = [word for word in words if word]
    joined: list[tuple[str, int, int]] = []
    for word in words:
        joined += [(" ", joined[-1][2], word[0][1]), *word] if joined else word
    agrees = "".join(character for character, _, _ in joined) == canonical(text)
    return [(start, end) for _, start, end in joined] if agrees else []


def _clusters(characters: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Pieces that are normalised each by itself: a character, the marks and the rest of a Hangul syllable behind it."""
    cluster: list[tuple[int, str]] = []
    for item in characters:
        joins = item[1] >= "\u0300" and (unicodedata.category(item[1])[0] == "M" or "\u1160" <= item[1] <= "\u11ff")
        if cluster and not joins:
            yield cluster
            cluster = []
        cluster.append(item)
    if cluster:
        yield cluster


@dataclass(frozen=True)
class Piece:
    """Where a token comes from: characters `start` to `end` (exclusive) of the canonical text of `field`."""

    field: str
    start: int
    end: int


class TextEncoder:
    """Turns a creative's texts into token ids as `spec` says. Thread-safe; one per process is enough.

    tokenizer_json: the bundle's `tokenizer.json` (Hugging Face `tokenizers`), as the bytes that were hashed.
    Raises ValueError when those bytes are no tokenizer, or one without a first and a separator token.
    """

    def __init__(self, tokenizer_json: bytes, spec: TextSpec) -> None:
        try:
            tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        # The Rust binding raises bare Exception for whatever is wrong with the text.
        except Exception as error:
            raise ValueError(
                f"tokenizer.json can't be read as a tokenizer ({error}); export the bundle again"
            ) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # "[SEP]" written by a sender is five characters of copy, never a separator.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._spec = spec
        self._first = _special_id(tokenizer, _FIRST)
        self._separator = _special_id(tokenizer, _SEPARATOR)
        self.pad_id: int = _special_id(tokenizer, ("[PAD]", "<pad>"))

    def encode(self, fields: Mapping[str, str]) -> list[int]:
        """`[CLS] field [SEP] field [SEP] …` over the spec's fields in order, at most `max_tokens` ids.

        fields: text by field name (`headline`, `body`, `cta`, `brand`, `ocr`), canonical or not. A field that is
        absent, empty or holds nothing visible is skipped; names the spec doesn't list are not read.
        """
        return self.encode_marked(fields)[0]

    def encode_marked(
        self, fields: Mapping[str, str], *, keep_empty: Collection[str] = ()
    ) -> tuple[list[int], list[Piece | None]]:
        """The ids as `encode` gives them, and for each where it comes from (None for the special tokens).

        keep_empty: fields that keep their separator when they are empty, so that what follows keeps its place.
        """
        room = self._spec.max_tokens
        ids, pieces = [self._first], list[Piece | None]([None])
        for name in self._spec.fields:
            if len(ids) >= room:
                break
            text = canonical(fields.get(name) or "")[: room * _CHARACTERS_PER_TOKEN]
            before = len(ids)
            if text:
                encoded = self._tokenizer.encode(text, add_special_tokens=False)
                ids += encoded.ids
                pieces += [Piece(name, start, end) for start, end in encoded.offsets]
            if len(ids) > before or name in keep_empty:
                ids.append(self._separator)
                pieces.append(None)
        return ids[:room], pieces[:room]


def copy_mask(pieces: Sequence[Piece | None]) -> list[int]:
    """1 at the tokens of the copy, 0 elsewhere. Where there is no copy the first token stands for it."""
    mask = [int(piece is not None and piece.field in COPY_FIELDS) for piece in pieces]
    return mask if any(mask) else [1, *mask[1:]]


def _special_id(tokenizer: Tokenizer, names: tuple[str, ...]) -> int:
    for name in names:
        token = tokenizer.token_to_id(name)
        if token is not None:
            return int(token)
    raise ValueError(f"the tokenizer knows none of {', '.join(names)}; a model of the BERT or RoBERTa family is needed")


def pad(
    rows: Sequence[Sequence[int]], multiple: int, maximum: int, pad_id: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids of a batch → (input_ids, attention_mask), both int64 B×L.

    L is the longest row, at least 1, rounded up to a multiple of `multiple`, at most `maximum`: few widths mean few
    engine profiles. Raises ValueError for a row longer than `maximum`.
    """
    longest = max((len(row) for row in rows), default=1)
    if longest > maximum:
        raise ValueError(f"a row has {longest} tokens, over the maximum of {maximum}; encode it with that max_tokens")
    width = min(-(-max(longest, 1) // multiple) * multiple, maximum)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return ids, mask
