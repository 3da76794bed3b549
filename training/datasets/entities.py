"""Entities in the copy → one class per token, for DBAFN's entity head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from admodels.contract.manifest import TextSpec
from admodels.contract.text import canonical
from training.creatives.values import Span

ENTITIES = ("none", "price", "discount", "brand", "product")
UNLABELLED = -1


class EntityLabeller:
    """Labels tokens in the order of `admodels.contract.text.TextEncoder`."""

    def __init__(self, tokenizer_json: bytes, spec: TextSpec) -> None:
        tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._spec = spec

    def label(self, fields: Mapping[str, str], spans: Sequence[Span] | None) -> NDArray[np.int64]:
        """int64 of max_tokens: an index into ENTITIES per token of the copy, UNLABELLED elsewhere.

        Special tokens, padding and OCR text are UNLABELLED (spans are known in the copy alone), and so is a row
        without marked spans or a field that canonicalisation changes, whose offsets would be off.
        """
        labels = np.full(self._spec.max_tokens, UNLABELLED, np.int64)
        position = 1
        for name in self._spec.fields:
            text = canonical(fields.get(name) or "")
            if not text:
                continue
            offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
            room = max(0, self._spec.max_tokens - position)
            if spans is not None and name != "ocr" and text == fields[name]:
                own = [span for span in spans if span.field == name]
                labels[position : position + len(offsets)] = [_entity(offset, own) for offset in offsets][:room]
            position += len(offsets) + 1
        return labels


def _entity(offset: tuple[int, int], spans: Sequence[Span]) -> int:
    for span in spans:
        if span.start <= offset[0] and offset[1] <= span.end:
            return ENTITIES.index(span.entity)
    return 0
