"""upworthy_ctr: headline packages of randomised A/B tests with impressions and clicks. For reports only.

The pictures were never published: every row's is grey. Splits keep a test's packages together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.datasets import tables
from training.datasets.sample import BadRows, Label, Record


def packages(root: Path, bad: BadRows) -> Iterator[Record]:
    """packages.csv.gz: `ctr`, `impressions`, `clicks` of a headline and the number of its `test`, and the line under
    it (`excerpt`) where there is one."""
    table = tables.first_of(root, "packages.csv.gz", "packages.csv")
    tests: dict[str, int] = {}
    for index, row in tables.rows(table, ("clickability_test_id", "headline", "impressions", "clicks")):
        with bad.row():
            impressions, clicks = tables.clicked(table, index, row)
            labels: dict[str, Label] = {"impressions": impressions, "clicks": clicks}
            labels["ctr"] = clicks / impressions if impressions else float("nan")
            test = row["clickability_test_id"]
            labels["test"] = tests.setdefault(test, len(tests))
            extra = {"test": test, "headline": row["headline"]}
            fields = {"headline": row["headline"]}
            if row.get("excerpt"):
                fields["body"] = row["excerpt"]
            yield Record(index, f"{test}-{index}", None, fields, labels, (f"test:{test}",), extra)
