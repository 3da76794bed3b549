from __future__ import annotations

from pathlib import Path

import pytest

from training.datasets import splits
from training.datasets.sample import DataError, Record


def record(row: int, *groups: str, picture: Path | None = None, held_out: bool = False, mirror: bool = False) -> Record:
    extra = {splits.HELD_OUT: held_out}
    return Record(row, str(row), picture, {}, {}, groups, extra=extra, mirrored=mirror)


def parts(records: list[Record], seed: int = 0) -> dict[str, set[int]]:
    dealt = splits.split(records, splits.digests(records), seed)
    return {name: set(getattr(dealt, name).tolist()) for name in ("train", "tune", "validation")}


def test_rows_linked_over_several_steps_stay_together(tmp_path):
    one, same, other = (tmp_path / name for name in ("a", "b", "c"))
    for path, data in ((one, b"x"), (same, b"x"), (other, b"y")):
        path.write_bytes(data)
    records = [record(0, "test:1", picture=one), record(1, "test:2", picture=same), record(2, "test:2", picture=other)]
    records += [record(3, "test:3")]
    names = splits.groups(records, splits.digests(records))
    assert names[0] == names[1] == names[2] != names[3]


def test_every_row_has_one_part_and_seeds_validate_on_rows_of_their_own():
    records = [record(n, f"ad:{n // 2}") for n in range(400)]
    dealt = [parts(records, seed) for seed in range(splits.FOLDS)]
    for each in dealt:
        assert set.union(*each.values()) == set(range(400))
        assert sum(map(len, each.values())) == 400
        assert all((n in part) == (n ^ 1 in part) for part in each.values() for n in part)
    assert set.union(*(each["validation"] for each in dealt)) == set(range(400))
    assert sum(len(each["validation"]) for each in dealt) == 400


def test_a_rows_part_depends_on_no_other_row():
    records = [record(n, f"ad:{n}") for n in range(300)]
    assert parts(records[:200])["validation"] == {n for n in parts(records)["validation"] if n < 200}


def test_named_validation_rows_stay_so_and_mirrored_rows_only_train():
    records = [record(n, f"p:{n}", held_out=n < 5) for n in range(60)]
    records += [record(60 + n, f"p:{n}", mirror=True) for n in range(60)]
    for seed in (0, 1):
        dealt = parts(records, seed)
        assert dealt["validation"] == set(range(5))
        assert {n - 60 for n in dealt["train"] if n >= 60} == {n for n in dealt["train"] if n < 60}


def test_too_few_rows_are_an_error():
    with pytest.raises(DataError, match="2 rows leave none"):
        splits.split([record(0, "a"), record(1, "a")], ["", ""], 0)


def test_a_quick_look_takes_whole_groups_and_always_the_same():
    records = [record(n, f"test:{n // 3}") for n in range(300)]
    owners = splits.groups(records, [""] * 300)
    few = [r.row for r in splits.some(records, owners, 60)]
    assert 60 <= len(few) <= 62
    assert few == sorted(few) == [r.row for r in splits.some(records, owners, 60)]
    assert all({n // 3 * 3, n // 3 * 3 + 1, n // 3 * 3 + 2} <= set(few) for n in few)
    assert set(few) <= {r.row for r in splits.some(records, owners, 120)}
    assert len(splits.some(records, owners, 1000)) == 300
