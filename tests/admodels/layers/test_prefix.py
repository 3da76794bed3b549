"""BERT's layers with and without a prefix, against transformers' own and against plain attention."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from admodels.backbones import bert_layers
from admodels.layers.prefix import PrefixLayers
from admodels.masking import additive_mask

SIZES = {
    "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 20,
}  # fmt: skip
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])


@pytest.mark.parametrize(("kind", "config"), [(BertModel, BertConfig), (RobertaModel, RobertaConfig)])
def test_without_a_prefix_it_is_transformers_own_stack(kind: type, config: type) -> None:
    torch.manual_seed(0)
    network = kind(config(**SIZES, attn_implementation="eager"), add_pooling_layer=False).eval()
    ids = torch.randint(5, 30, (2, 5))
    expected = network(input_ids=ids, attention_mask=MASK).last_hidden_state
    layers = PrefixLayers(network.encoder.layer)
    ours = layers(network.embeddings(input_ids=ids), additive_mask(MASK))
    torch.testing.assert_close(ours[0], expected[0])
    torch.testing.assert_close(ours[1, :2], expected[1, :2])


def test_the_prefix_stands_before_the_keys_and_values() -> None:
    torch.manual_seed(0)
    layers = PrefixLayers(bert_layers(width=8, layers=1, heads=2, hidden=16, dropout=0.0)).eval()
    layer, hidden, prefix = layers.layers[0], torch.randn(2, 5, 8), torch.randn(2, 3, 16)
    own = layer.attention.self
    keys = torch.cat([prefix[:, :, :8], own.key(hidden)], 1)
    values = torch.cat([prefix[:, :, 8:], own.value(hidden)], 1)
    seen = torch.cat([torch.ones(2, 3), MASK], 1).bool()[:, None, None]
    split = [x.view(2, -1, 2, 4).transpose(1, 2) for x in (own.query(hidden), keys, values)]
    mixed = nn.functional.scaled_dot_product_attention(*split, attn_mask=seen).transpose(1, 2).reshape(2, 5, 8)
    attended = layer.attention.output(mixed, hidden)
    expected = layer.output(layer.intermediate(attended), attended)
    torch.testing.assert_close(layers(hidden, additive_mask(MASK), [prefix]), expected, atol=1e-5, rtol=1e-5)


def test_layers_of_another_kind_are_refused() -> None:
    network = DistilBertModel(DistilBertConfig(vocab_size=9, dim=8, n_layers=1, n_heads=2, hidden_dim=8))
    with pytest.raises(ValueError, match="layers of BERT's kind, not TransformerBlock"):
        PrefixLayers(network.transformer.layer)
    with pytest.raises(ValueError, match="width 10 isn't a multiple of heads 4"):
        bert_layers(width=10, heads=4)
