"""The table of encoder families: where adapters act in each, and where its MLM head lies.

A family that is not here is not supported; adding one is adding a row (and a row to the table of
tiny models in the tests, which check it in every way).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..errors import BackboneError, nearest


@dataclass(frozen=True)
class MlmNames:
    """Paths of the parts of a family's own masked-language-modelling head, inside its MLM model.

    Attributes:
        dense, norm: the transformation before the decoder.
        bias: the decoder's bias.
        activation: the configuration field that names the non-linearity, or its fixed name.
    """

    dense: str
    norm: str
    bias: str
    activation: str


@dataclass(frozen=True)
class Family:
    """One encoder architecture.

    Attributes:
        model_type: transformers' name for it (`config.model_type`).
        title: the name that people know.
        layer: path of layer {i} in the base model.
        feed_forward: path of the module whose output is the feed-forward block's, after dropout
            and before the residual sum.
        mlm: where its MLM head lies.
        pooler: whether the base model takes ``add_pooling_layer=False``.
    """

    model_type: str
    title: str
    layer: str
    feed_forward: str
    mlm: MlmNames
    pooler: bool = False

    def insertion_points(self, encoder: nn.Module, layers: int, insertion: str) -> list[nn.Module]:
        """Return the module of each layer whose output the adapter changes.

        Args:
            encoder: the base model.
            layers: how many layers it has.
            insertion: "feed_forward" (as published) or "layer" (after the whole layer).
        """
        path = self.layer if insertion == "layer" else self.feed_forward
        return [encoder.get_submodule(path.format(i=index)) for index in range(layers)]


_BERT_LAYER = "encoder.layer.{i}"
_BERT_OUTPUT = "encoder.layer.{i}.output.dropout"
_BERT_MLM = MlmNames(
    dense="cls.predictions.transform.dense",
    norm="cls.predictions.transform.LayerNorm",
    bias="cls.predictions.bias",
    activation="hidden_act",
)
_ROBERTA_MLM = MlmNames(
    dense="lm_head.dense", norm="lm_head.layer_norm", bias="lm_head.bias", activation="=gelu"
)

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        Family("bert", "BERT and MiniLM", _BERT_LAYER, _BERT_OUTPUT, _BERT_MLM, pooler=True),
        Family("xlm-roberta", "XLM-R", _BERT_LAYER, _BERT_OUTPUT, _ROBERTA_MLM, pooler=True),
        Family("roberta", "RoBERTa", _BERT_LAYER, _BERT_OUTPUT, _ROBERTA_MLM, pooler=True),
        Family("deberta-v2", "DeBERTa-v2 and v3", _BERT_LAYER, _BERT_OUTPUT, _BERT_MLM),
        Family(
            "modernbert",
            "ModernBERT",
            "layers.{i}",
            "layers.{i}.mlp",
            MlmNames("head.dense", "head.norm", "decoder.bias", "classifier_activation"),
        ),
        Family(
            "distilbert",
            "DistilBERT",
            "transformer.layer.{i}",
            "transformer.layer.{i}.ffn",
            MlmNames("vocab_transform", "vocab_layer_norm", "vocab_projector.bias", "activation"),
        ),
    )
}


def family_of(model_type: str) -> Family:
    """Return the family of a model type. Raises `BackboneError` that lists the supported ones."""
    try:
        return FAMILIES[model_type]
    except KeyError:
        supported = ", ".join(f"{f.title} ({f.model_type})" for f in FAMILIES.values())
        raise BackboneError(
            f'Encoders of the type "{model_type}" are not supported.'
            f"{nearest(model_type, FAMILIES)} Supported: {supported}."
        ) from None
