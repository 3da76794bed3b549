"""Encoders by name: shapes that the heads are built from, weights from files, errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from admodels import backbones

REPOSITORY = Path(__file__).parents[2]
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def mobilenet(weights: Path | None) -> backbones.ImageEncoder:
    levels = (0, 1, 2, 3, 4)
    return backbones.image_encoder("mobilenetv2_100", size=64, levels=levels, weights=weights, **PLAIN).eval()


def test_the_image_encoder_hands_on_maps_of_falling_size() -> None:
    encoder = mobilenet(REPOSITORY / "weights" / "mobilenetv2_100.safetensors")
    maps = encoder(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    assert encoder.channels == (16, 24, 32, 96, 320)
    assert encoder.sizes == (32, 16, 8, 4, 2)
    assert [tuple(m.shape) for m in maps] == [
        (2, c, s, s) for c, s in zip(encoder.channels, encoder.sizes, strict=True)
    ]


def test_normalisation_is_part_of_the_encoder() -> None:
    encoder = backbones.image_encoder(
        "resnet18", size=64, levels=(2,), mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.5)
    ).eval()
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    pixels = (image.permute(0, 3, 1, 2) / 255 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor(
        [0.1, 0.2, 0.5]
    ).view(3, 1, 1)
    torch.testing.assert_close(encoder(image)[0], encoder.network(pixels)[0], atol=1e-4, rtol=1e-4)


def test_swins_channels_last_maps_come_out_channels_first() -> None:
    encoder = backbones.image_encoder("swin_tiny_patch4_window7_224", size=64, levels=(1, 2), **PLAIN).eval()
    maps = encoder(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert [tuple(m.shape) for m in maps] == [(1, 192, 8, 8), (1, 384, 4, 4)]


def test_missing_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(backbones.WeightsUnavailableError, match="no weights at"):
        mobilenet(tmp_path / "none.safetensors")
    save_file({"conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "some.safetensors")
    with pytest.raises(backbones.WeightsUnavailableError, match=r"some\.safetensors lacks"):
        mobilenet(tmp_path / "some.safetensors")


def test_an_unknown_text_encoder_is_refused_with_the_known_names() -> None:
    with pytest.raises(ValueError, match=r"'bert-tiny'; known: bert-base-uncased, distilbert-base-uncased"):
        backbones.text_encoder("bert-tiny")


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object, **_options: object) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr(backbones.AutoModel, "from_pretrained", unreachable)
    monkeypatch.setattr(backbones.timm, "create_model", unreachable)
    with pytest.raises(backbones.WeightsUnavailableError, match=r"roberta-base can't be loaded .* pretrained=False"):
        backbones.text_encoder("roberta-base", pretrained=True)
    with pytest.raises(backbones.WeightsUnavailableError, match="resnet18 can't be loaded"):
        backbones.image_encoder("resnet18", size=64, levels=(2,), pretrained=True, **PLAIN)
    with pytest.raises(backbones.WeightsUnavailableError, match="is no folder"):
        backbones.text_encoder(Path("nowhere"))


def test_text_tokens_do_not_depend_on_padding_and_padding_is_zero() -> None:
    encoder = backbones.text_encoder(backbones.minilm_folder()).eval()
    ids = torch.tensor([[101, 2502, 5096, 102, 0, 0], [101, 4497, 2085, 2000, 3828, 102]])
    mask = (ids != 0).long()
    with torch.no_grad():
        together, alone = encoder(ids, mask), encoder(ids[:1, :4], mask[:1, :4])
    assert encoder.width == 384
    assert together.shape == (2, 6, 384)
    torch.testing.assert_close(together[0, :4], alone[0], atol=1e-5, rtol=0)
    assert (together[0, 4:] == 0).all()
