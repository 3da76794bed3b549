"""The bundle's manifest: the interface between export, which writes it, and the worker, which reads it.

A bundle is a folder `models/<name>/<version>/` with `manifest.json`, `model.onnx` and, where text is read,
`tokenizer.json`. `load` checks the sha256 of every file before anything is parsed and hands out the bytes it hashed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MANIFEST_VERSION = 1
Positive = Annotated[float, Field(gt=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TensorSpec(_Frozen):
    """One input or output of `model.onnx`. `shape` holds numbers and symbolic names (`batch` comes first)."""

    name: str
    dtype: Literal["uint8", "int64", "float32"]
    shape: tuple[int | str, ...]


class ImageSpec(_Frozen):
    """How pixels reach the model: `image`, uint8 B×height×width×3 RGB, stretched to the rectangle.

    Normalisation (`mean`, `std` on [0, 1] values) is part of the ONNX graph, so that an eighth of the bytes cross to
    the device and serving can't normalise differently; the numbers stand here for readers.
    """

    height: Annotated[int, Field(gt=0, le=8192)]
    width: Annotated[int, Field(gt=0, le=8192)]
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]


class TextSpec(_Frozen):
    """How text reaches the model: `input_ids`, `attention_mask`, int64 B×L, L ≤ max_tokens.

    `[CLS] field [SEP] field [SEP] …` over the non-empty `fields` in order, each tokenised without special tokens,
    cut at max_tokens. `caption` and `faces` are what MVLA's providers say; serving has neither and skips them. A batch
    is padded to its longest member, rounded up to a multiple of `pad_to_multiple`.
    """

    fields: tuple[Literal["headline", "body", "cta", "brand", "caption", "faces", "ocr"], ...]
    max_tokens: Annotated[int, Field(gt=1)]
    pad_to_multiple: Annotated[int, Field(gt=0)] = 16
    tokenizer: str = "tokenizer.json"


class EncoderUse(_Frozen):
    """A shared encoder bundle whose outputs feed this head. `outputs` maps encoder output → head input.

    A head that uses encoders also reads those encoders' own inputs by name (`attention_mask`, say), where it lists
    an input of that name that no encoder output feeds; with a text encoder also `copy_mask`, int64 B×L, 1 at the tokens
    of the copy (`text.copy_mask`).
    """

    name: str
    version: str
    digest: str
    outputs: dict[str, str]


class Calibration(_Frozen):
    """How a raw output becomes the probability that is served.

    platt: σ(a · logit(p) + b) on a probability. temperature: softmax(logits / t) over the last axis.
    """

    kind: Literal["identity", "platt", "temperature"]
    a: float = 1.0
    b: float = 0.0
    t: Positive = 1.0


class ChainSpec(_Frozen):
    """The linear chain (`viterbi.Chain`) over `aspect_emissions`: scores of K labels at the start, from one to the next
    (K×K, from × to) and at the end. labels: `O`, then `B-` and `I-` of each polarity."""

    labels: tuple[str, ...]
    start: tuple[float, ...]
    transitions: tuple[tuple[float, ...], ...]
    end: tuple[float, ...]


class Tolerance(_Frozen):
    """Largest absolute difference from the fp32 torch reference that the parity gate lets through."""

    max_abs: float


class Manifest(_Frozen):
    """`manifest.json`. Sections that say nothing for a model are empty.

    Outputs by task (raw, before calibration):
      attractiveness: `score` B in [0, 1]; `heatmap` B×H×W, sums to 1 per sample.
      sentiment: `sentiment_logits` B×3 (labels["sentiment"]); of models that give more than a polarity also
        `topics_logits`, `emotions_logits` B×K (independent sigmoids), `anp_logits` B×K (softmax), each with its
        labels (`topics`, `emotions`, `anps`), and `aspect_emissions` B×L×K, which `chain` reads.
      ctr: `ctr`, `share_likelihood`, `attention` B in [0, 1]; `<name>_logits` B×K for the class heads named in
        `labels`; `keywords_logits` B×K (independent sigmoids).
      encoder: anything; consumers name the outputs.
    """

    manifest_version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    version: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,31}$")]
    task: Literal["attractiveness", "sentiment", "ctr", "encoder"]
    architecture: str
    precision: Literal["fp32", "fp16", "bf16", "int8", "fp8"]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: dict[str, tuple[str, ...]] = {}
    image: ImageSpec | None = None
    text: TextSpec | None = None
    encoders: tuple[EncoderUse, ...] = ()
    chain: ChainSpec | None = None
    calibration: dict[str, Calibration] = {}
    base_rate: Positive | None = None
    """Mean observed CTR of the training rows; `ctr.relative` is the value divided by it."""
    bucket_edges: dict[str, tuple[float, ...]] = {}
    """Per output the upper edges of its buckets but the last; `ctr`: (low|medium, medium|high), as relative CTR."""
    tolerances: dict[str, Tolerance] = {}
    training: dict[str, object] = {}
    """What it was trained on: data, licence, seed, command, rows."""
    metrics: dict[str, float] = {}
    versions: dict[str, str] = {}
    files: dict[str, str]
    """Relative POSIX path → sha256 of every file of the bundle but `manifest.json` and what lies under `engines/`."""
