"""`adscore buckets`: where each targeting bucket begins and ends, for who sets up line items in an ad server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import orjson

from worker.commands import edge
from worker.errors import FatalError
from worker.scoring.targeting import KEYS

if TYPE_CHECKING:
    from admodels.contract.manifest import Manifest


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: head → key and buckets.")
def buckets(as_json: bool) -> None:
    """Cut points of every targeting bucket. A value at a cut point belongs to the upper bucket."""
    from admodels.contract.bundle import BundleError
    from worker.commands.bundles import load_heads, trusted
    from worker.types import HEADS

    settings = edge.settings()
    try:
        configured = {head: getattr(settings.models, head) for head in HEADS}
        heads = load_heads(settings.models.dir, configured, trusted(settings.models.public_key))
    except BundleError as error:
        raise FatalError(str(error), exit_code=edge.UNAVAILABLE) from error
    told = {head: {"key": KEYS[head]} | cut_points(head, [item.manifest for item in heads[head]]) for head in heads}
    if as_json:
        click.echo(orjson.dumps(told))
        return
    for head, part in told.items():
        click.echo(f"{part['key']}: {head}, by {part['by']}")
        for bucket in part["buckets"]:
            click.echo(f"  {bucket['bucket']:<8} {_range(bucket)}")


def cut_points(head: str, manifests: list[Manifest]) -> dict[str, Any]:
    """`by` (what is compared) and `buckets`, each with `from` (inclusive) and `to` (exclusive; null: no end)."""
    from worker.scoring.parts import CTR_BUCKETS, SENTIMENT_BUCKETS

    if head == "attractiveness":
        tenths = [{"bucket": f"a{n}", "from": n / 10, "to": (n + 1) / 10} for n in range(10)]
        tenths[-1]["to"] = None
        return {"by": "the score", "buckets": tenths}
    if head == "sentiment":
        named = [{"bucket": bucket, "label": label} for label, bucket in SENTIMENT_BUCKETS.items()]
        return {"by": "the most probable label", "buckets": named}
    served = next((manifest for manifest in manifests if manifest.base_rate), None)
    if served is None:
        return {"by": "the CTR relative to the base rate", "base_rate": None, "buckets": []}
    edges = [0.0, *served.bucket_edges["ctr"], None]
    ranges = [
        {"bucket": name, "from": low, "to": high}
        for name, low, high in zip(CTR_BUCKETS, edges, edges[1:], strict=False)
    ]
    return {"by": "the CTR relative to the base rate", "base_rate": served.base_rate, "buckets": ranges}


def _range(bucket: dict[str, Any]) -> str:
    if "label" in bucket:
        return str(bucket["label"])
    low = f"{bucket['from']:.4g}"
    return f"{low} and more" if bucket["to"] is None else f"{low} to {bucket['to']:.4g}"
