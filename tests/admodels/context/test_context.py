"""What the providers say of real photographs and of a made creative, and what they say when they can't work."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from transformers import (
    AutoTokenizer,
    BertConfig,
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    ResNetConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

from admodels.backbones import minilm_folder
from admodels.context import ContextUnavailableError, describe
from admodels.context.captions import Captions
from admodels.context.faces import Face, Faces, sentence
from admodels.context.ocr import Ocr
from admodels.context.regions import Detector, Grid, region_finder

PHOTOGRAPHS = Path(__file__).resolve().parents[3] / "data" / "osie" / "images"


@pytest.fixture(scope="module")
def faces() -> Faces:
    return Faces()


def photograph(number: int) -> Image.Image:
    with Image.open(PHOTOGRAPHS / f"{number}.webp") as image:
        return image.convert("RGB")


def test_two_faces_are_found_where_they_are(faces: Faces) -> None:
    found = faces.find(photograph(1023))  # two people, left of and in the middle
    assert len(found) == 2
    assert [round(face.x + face.w / 2, 1) for face in sorted(found, key=lambda f: f.x)] == [0.2, 0.5]
    assert found[0].confidence >= found[1].confidence
    assert faces(photograph(1023)).count("face") == 2


def test_no_face_says_nothing(faces: Faces) -> None:
    assert faces(Image.new("RGB", (300, 200), "white")) == ""


def test_at_most_as_many_as_asked_for() -> None:
    assert len(Faces(limit=1).find(photograph(1023))) == 1


def test_a_face_in_words() -> None:
    assert sentence(Face(0.0, 0.2, 0.5, 0.6, 3.0, smiling=True)) == "a large smiling face on the left."
    assert sentence(Face(0.45, 0.2, 0.1, 0.05, 3.0, smiling=False)) == "a small face in the middle."
    assert sentence(Face(0.8, 0.0, 0.2, 0.2, 3.0, smiling=False)) == "a face on the right."


def test_an_opencv_without_cascades_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.data, "haarcascades", "/nowhere/")
    with pytest.raises(ContextUnavailableError, match=r"has no haarcascade_frontalface_default.xml; install opencv"):
        Faces()


def test_ocr_reads_an_ad_and_an_absent_provider_says_nothing() -> None:
    image = Image.new("RGB", (400, 200), "white")
    ImageDraw.Draw(image).text((30, 60), "SUMMER SALE", "black", ImageFont.load_default(40))
    said = describe(image, {"ocr": Ocr()})
    assert said == {"caption": "", "faces": "", "ocr": "SUMMER SALE"}
    with pytest.raises(ContextUnavailableError, match="tesseract lacks xxx"):
        Ocr("eng+xxx")
    with pytest.raises(ValueError, match="no segment named 'mood'; segments are caption, faces, ocr"):
        describe(image, {"mood": Ocr()})


def test_models_that_can_not_be_had_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for make in (Captions, Detector):
        for name in ("example/none-such", tmp_path):
            with pytest.raises(ContextUnavailableError, match=r"can't be had.*hub can't be reached.*local folder"):
                make(name)  # type: ignore[arg-type]


def test_without_a_detector_regions_are_a_grid_and_say_so() -> None:
    finder = region_finder(None)
    assert isinstance(finder, Grid)
    assert finder.identity == "grid 2x2+3x3"
    assert finder(photograph(1023)).boxes.shape == (13, 4)


def test_a_detector_from_a_folder_gives_its_most_confident_boxes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage4"])
    config = DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2, num_queries=6,
        id2label={0: "cup", 1: "car"},
    )  # fmt: skip
    DetrForObjectDetection(config).save_pretrained(tmp_path)
    DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(tmp_path)
    boxes, names = Detector(tmp_path, limit=4, threshold=0.0)(photograph(1023))
    assert boxes.shape == (4, 4)
    assert boxes.dtype == np.float32
    assert ((boxes >= 0) & (boxes <= 1)).all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    assert set(names) <= {"cup", "car"}


def test_a_captioner_from_a_folder_speaks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vision = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    words = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, words)
    config.decoder_start_token_id, config.pad_token_id = tokenizer.cls_token_id, tokenizer.pad_token_id
    VisionEncoderDecoderModel(config).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    captions = Captions(tmp_path, max_tokens=5)
    said = captions(photograph(1023))
    assert said
    assert captions(photograph(1023)) == said
