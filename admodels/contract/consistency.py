"""Whether a manifest agrees with itself: what each field says alone is right, and together they still say nonsense.

A bundle that gets past here can be scored with: no name that is looked up later is missing, no row of logits is longer
than its labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from admodels.contract.manifest import Manifest, TensorSpec
from admodels.contract.viterbi import bio_labels

POLARITIES = ("negative", "neutral", "positive")
_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
"""Names are quoted in messages, hence nothing else may stand in them."""
_NEEDED = {
    "attractiveness": ("score",),
    "sentiment": ("sentiment_logits", "topics_logits", "emotions_logits"),
    "ctr": ("ctr",),
    "encoder": (),
}
"""Outputs of which a task needs one."""
_LOGITS = "_logits"
_ONE_NUMBER = ("score", "ctr", "share_likelihood", "attention")


def contradiction(manifest: Manifest) -> str | None:
    """The first thing in a manifest that can't be, in words that quote names alone; None where there is none."""
    return next(_contradictions(manifest), None)


def _contradictions(manifest: Manifest) -> Iterator[str]:
    outputs = {spec.name: spec for spec in manifest.outputs}
    yield from _odd_names(manifest)
    yield from _odd_shapes(manifest)
    yield from _odd_encoders(manifest)
    if manifest.text is not None and manifest.text.tokenizer not in manifest.files:
        yield "text: the tokenizer isn't one of the bundle's files"
    for name, how in manifest.calibration.items():
        if name not in outputs:
            yield f"calibration: there is no output {name}"
        elif how.kind == "temperature" and len(outputs[name].shape) < 2:
            yield f"calibration: {name} is one number, which a temperature can't calibrate"
    needed = _NEEDED[manifest.task]
    if needed and not outputs.keys() & set(needed):
        yield f"outputs: the task {manifest.task} needs {' or '.join(needed)}"
    if manifest.task in ("sentiment", "ctr"):
        yield from _odd_labels(manifest, outputs)
    if manifest.task != "encoder":
        yield from (f"outputs: {n} is one number per row" for n in _ONE_NUMBER if n in outputs and _inner(outputs[n]))
    yield from _odd_chain(manifest, outputs)
    if "heatmap" in outputs and manifest.task == "attractiveness" and len(_inner(outputs["heatmap"])) != 2:
        yield "outputs: heatmap has rows and columns"
    if manifest.base_rate is not None:
        edges = manifest.bucket_edges.get("ctr", ())
        if len(edges) != 2 or not 0 < edges[0] <= edges[1]:
            yield "bucket_edges: with a base_rate, ctr needs two edges, the lower one first"


def _odd_names(manifest: Manifest) -> Iterator[str]:
    for what, names in (
        ("inputs", [spec.name for spec in manifest.inputs]),
        ("outputs", [spec.name for spec in manifest.outputs]),
        ("labels", list(manifest.labels)),
        ("calibration", list(manifest.calibration)),
        ("encoders", [name for use in manifest.encoders for pair in use.outputs.items() for name in pair]),
    ):
        if not all(_NAME.fullmatch(name) for name in names):
            yield f"{what}: names are of letters, digits and underscores, at most 64"
        if what in ("inputs", "outputs") and len(set(names)) < len(names):
            yield f"{what}: a name stands twice"


def _odd_shapes(manifest: Manifest) -> Iterator[str]:
    for what, specs in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        if not specs:
            yield f"{what}: there is none"
        for spec in specs:
            if not spec.shape or spec.shape[0] != "batch":
                yield f"{what}: the first dimension of {spec.name} isn't batch"
            if any(isinstance(size, int) and size < 1 for size in spec.shape):
                yield f"{what}: {spec.name} has a dimension below 1"


def _odd_encoders(manifest: Manifest) -> Iterator[str]:
    known = {spec.name for spec in manifest.inputs}
    fed = [target for use in manifest.encoders for target in use.outputs.values()]
    for target in fed:
        if target not in known:
            yield f"encoders: there is no input {target}"
        if fed.count(target) > 1:
            yield f"encoders: input {target} is fed twice"


def _odd_labels(manifest: Manifest, outputs: Mapping[str, TensorSpec]) -> Iterator[str]:
    """Logits and class names belong to each other, one name for each logit."""
    for name in manifest.labels:
        if logits_of(name) not in outputs:
            yield f"labels: there is no output {logits_of(name)} for {name}"
    for name, names in manifest.labels.items():
        if not names or not all(names) or len(set(names)) < len(names):
            yield f"labels: {name} has no names, an empty one or one twice"
    labelled = {logits_of(name): names for name, names in manifest.labels.items()}
    for output, spec in outputs.items():
        if not output.endswith(_LOGITS):
            continue
        if output not in labelled:
            yield f"labels: {output} has no class names"
        elif _inner(spec) != (len(labelled[output]),):
            yield f"labels: {output} gives {_inner(spec)} numbers for {len(labelled[output])} class names"
    if manifest.task == "sentiment" and set(manifest.labels.get("sentiment", POLARITIES)) != set(POLARITIES):
        yield f"labels: sentiment is {', '.join(POLARITIES)}"


def _odd_chain(manifest: Manifest, outputs: Mapping[str, TensorSpec]) -> Iterator[str]:
    """Emissions and the chain that reads them belong to each other."""
    chain, emissions = manifest.chain, outputs.get("aspect_emissions")
    if (chain is None) != (emissions is None):
        yield "chain: it and the output aspect_emissions come together"
    if chain is None or emissions is None:
        return
    if chain.labels != bio_labels(POLARITIES):
        yield "chain: its labels are O, then B- and I- of negative, neutral and positive"
    k = len(chain.labels)
    if {k} != {len(row) for row in (chain.start, chain.end, chain.transitions, *chain.transitions)}:
        yield f"chain: {k} labels need {k} start, {k}×{k} transition and {k} end scores"
    if len(emissions.shape) != 3 or emissions.shape[2] != k:
        yield f"outputs: aspect_emissions gives {k} numbers for each token"
    if "copy_mask" not in {spec.name for spec in manifest.inputs}:
        yield "inputs: aspect_emissions are read at the copy's tokens, which copy_mask marks"


def logits_of(label: str) -> str:
    """The output whose classes `labels[label]` names."""
    return "anp_logits" if label == "anps" else f"{label}{_LOGITS}"


def _inner(spec: TensorSpec) -> tuple[int | str, ...]:
    """The shape of one row."""
    return spec.shape[1:]
