"""A manifest that every field check lets through, and that nothing could be scored with, is refused when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from admodels.contract.bundle import BundleError, parse_manifest
from admodels.contract.viterbi import bio_labels

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ("mobilenetv2", "minilm", "dbafn", "fgmfn", "adfusion")


def shipped(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "models" / name / "1" / "manifest.json").read_text())
    return read


def changed(name: str, path: str, value: Any) -> bytes:
    """The shipped manifest with one value, named by a dotted path, set or (None) removed."""
    manifest: Any = shipped(name)
    *parents, last = path.split(".")
    place = manifest
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    last = int(last) if last.isdigit() else last  # type: ignore[assignment]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return json.dumps(manifest).encode()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_ones_agree_with_themselves(name: str) -> None:
    assert parse_manifest(json.dumps(shipped(name)).encode(), f"{name}/1").name == name


@pytest.mark.parametrize(
    ("name", "path", "value", "told"),
    [
        ("fgmfn", "labels", {}, "sentiment_logits has no class names"),
        ("fgmfn", "labels.sentiment", ["negative", "positive"], "numbers for 2 class names"),
        ("fgmfn", "labels.sentiment", ["bad", "neutral", "good"], "sentiment is negative, neutral, positive"),
        ("fgmfn", "labels.sentiment", ["negative", "neutral", "neutral"], "one twice"),
        ("fgmfn", "labels.topics", ["cars"], "no output topics_logits"),
        ("fgmfn", "calibration.sentiment_logits.t", -1.0, "calibration.sentiment_logits.t"),
        ("fgmfn", "calibration.sentiment_logits.t", 0.0, "calibration.sentiment_logits.t"),
        ("fgmfn", "calibration.warmth", {"kind": "identity"}, "no output warmth"),
        ("fgmfn", "task", "attractiveness", "needs score"),
        ("fgmfn", "task", "ctr", "needs ctr"),
        ("fgmfn", "encoders.0.outputs.c1", "c9", "no input c9"),
        ("fgmfn", "encoders.1.outputs", {"tokens": "c1"}, "fed twice"),
        ("fgmfn", "outputs.0.name", "secret text\n", "names are of letters"),
        ("dbafn", "calibration.score", {"kind": "temperature"}, "one number"),
        ("dbafn", "outputs.0.shape", ["batch", 2], "score is one number per row"),
        ("dbafn", "outputs.1.shape", ["batch"], "heatmap has rows and columns"),
        ("dbafn", "outputs.1.shape", [4, 64, 64], "isn't batch"),
        ("dbafn", "outputs.1.name", "score", "stands twice"),
        ("adfusion", "base_rate", -0.01, "base_rate"),
        ("adfusion", "base_rate", 0.0, "base_rate"),
        ("adfusion", "bucket_edges", {}, "two edges"),
        ("adfusion", "bucket_edges.ctr", [1.1, 0.9], "the lower one first"),
        ("adfusion", "labels.theme", ["food"], "theme_logits gives"),
        ("adfusion", "labels.theme", None, "theme_logits has no class names"),
        ("fgmfn", "chain", {"labels": [], "start": [], "transitions": [], "end": []}, "come together"),
        ("minilm", "text.tokenizer", "other.json", "isn't one of the bundle's files"),
        ("minilm", "text.pad_to_multiple", 0, "text.pad_to_multiple"),
        ("mobilenetv2", "image.width", 0, "image.width"),
        ("mobilenetv2", "outputs", [], "outputs: there is none"),
    ],
)
def test_a_contradiction_is_refused_and_named(name: str, path: str, value: Any, told: str) -> None:
    with pytest.raises(BundleError, match=told) as refused:
        parse_manifest(changed(name, path, value), f"{name}/1")
    assert str(refused.value).startswith(f"bundle {name}/1: manifest.json: ")
    assert "secret" not in str(refused.value)


def with_chain(**changes: Any) -> bytes:
    """FGMFN's manifest as MVLA's would be, with something else than that."""
    manifest, labels = shipped("fgmfn"), list(bio_labels(("negative", "neutral", "positive")))
    k = len(labels)
    chain = {"labels": labels, "start": [0.0] * k, "transitions": [[0.0] * k] * k, "end": [0.0] * k}
    manifest["chain"] = chain | {name: value for name, value in changes.items() if name in chain}
    shape = changes.get("shape", ["batch", "length", k])
    manifest["outputs"].append({"name": "aspect_emissions", "dtype": "float32", "shape": shape})
    if changes.get("marked", True):
        manifest["inputs"].append({"name": "copy_mask", "dtype": "int64", "shape": ["batch", "length"]})
    return json.dumps(manifest).encode()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": ["O"]}, "its labels are O"),
        ({"start": [0.0]}, "7×7 transition"),
        ({"transitions": [[0.0] * 7] * 6}, "7×7 transition"),
        ({"end": [0.0] * 8}, "7×7 transition"),
        ({"shape": ["batch", "length", 3]}, "7 numbers for each token"),
        ({"marked": False}, "copy_mask"),
    ],
)
def test_a_chain_fits_what_it_reads(changes: dict[str, Any], told: str) -> None:
    assert parse_manifest(with_chain(), "fgmfn/1").chain is not None
    with pytest.raises(BundleError, match=told):
        parse_manifest(with_chain(**changes), "fgmfn/1")
