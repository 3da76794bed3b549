"""anp_lexicons: adjective-noun pairs, MVLA's vocabulary. Lists without a licence: read for reports, never shipped."""

from __future__ import annotations

import json
from pathlib import Path

from training.datasets import tables
from training.datasets.sample import DataError


def pairs(root: Path) -> tuple[str, ...]:
    """DeepSentiBank's 2,089 pairs (deepsentibank_2089.json), `adjective_noun` each, in the order of its classes."""
    table = root / "deepsentibank_2089.json"
    try:
        found = json.loads(tables.text(table))
    except json.JSONDecodeError as error:
        raise DataError(f"{table}: no JSON ({error.msg}); take the file as it was published") from error
    if not isinstance(found, list) or not all(isinstance(name, str) and "_" in name for name in found):
        raise DataError(f"{table} isn't a list of names like happy_dog; take the file as it was published")
    return tuple(found)


def polarities(root: Path) -> dict[str, float]:
    """Sentiment −2 to 2 by pair, from vso_3244.csv."""
    table = root / "vso_3244.csv"
    return {
        row["anp"]: tables.number(table, index, row, "sentiment", -2, 2)
        for index, row in tables.rows(table, ("anp", "sentiment"))
    }
