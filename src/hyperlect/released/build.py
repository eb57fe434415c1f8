"""A model from the arguments and the state dict of one of the released code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import BertConfig, BertModel

from ..backbone import Backbone, MlmStart, encoder_digest
from ..errors import RunError
from ..grid import Cell
from ..heads import MlmHead
from ..hypernet import HypernetConfig
from ..model import HyperX, HyperXConfig
from ..run_folder import load_exactly
from ..tasks import OUTSIDE, Task, TaskType
from .arguments import LABELS, with_defaults
from .codes import usual_code
from .names import DECODER, decoder_is_tied, rename, without_repeats

_TYPES = {"ner": TaskType.SPANS, "pos": TaskType.TAGGING, "dep": TaskType.PARSING}
# Names of non-linearities that differ from those of hyperlect.
_ACTIVATIONS = {"swish": "silu", "gelu_python": "gelu", "leakyrelu": "leaky_relu"}


def from_released(
    arguments: Mapping[str, Any], encoder_config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> HyperX:
    """Build a `HyperX` from a model of the released code.

    Args:
        arguments: the released code's arguments by its own names (``adapter_dim``,
            ``condition_to_layer_id``, …); what is not given has its command line's default. Two
            more are hyperlect's own: ``labels``, the inventories of tasks whose labels are not the
            released ones, and ``language_codes``, from its names of languages to usual codes, where
            those names mean another language elsewhere or none.
        encoder_config: the configuration of its BERT, with ``num_labels`` by task.
        state: its parameters or its state dict under its own names
            (``encoder.encoder.hypernet.…``). The encoder may be repeated under each task
            (``taskmodels_dict.ner.bert.…``), and the hypernetwork in each layer, as in its
            checkpoints.

    Returns:
        A model in evaluation mode whose LayerNorms are trainable, as they are there. Labels have
        the released code's names where their number is the released one, else numbers, unless
        they are given. Trained cells are those of ``train_task_language_pairs``. Saving the
        model records the argument ``model_name_or_path`` as its backbone.

    Raises:
        RunError: ``tasks`` or ``languages`` are not given; tensors are missing, left over or
            mis-shaped, every one named; or hyperlect cannot do what the arguments say.
    """
    arguments = with_defaults(arguments)
    tensors = ((name.removeprefix("param/"), tensor) for name, tensor in state.items())
    names = without_repeats(tensors, arguments)
    tied = decoder_is_tied(names)
    if tied:
        names.pop(DECODER, None)
    num_labels = encoder_config.get("num_labels", {})
    labels, codes = arguments["labels"], arguments["language_codes"]
    pairs = [pair.split("#") for pair in arguments["train_task_language_pairs"]]
    try:
        config = HyperXConfig(
            tasks=tuple(_task(name, num_labels, labels.get(name)) for name in arguments["tasks"]),
            languages=tuple(usual_code(name, codes) for name in arguments["languages"]),
            trained=tuple(Cell(task, usual_code(name, codes)) for task, name in pairs),
            method="head" if arguments["no_hypernet"] else "hyperx",
            hypernet=_hypernet_config(arguments),
            train_layer_norms=True,
            head_dropout=encoder_config.get("hidden_dropout_prob", 0.1),
            parser="direct",
            max_length=arguments["max_length"],
            tied_decoder=tied,
        )
    except ValueError as error:
        raise RunError(
            f"These arguments of the released code are not supported: {error}."
        ) from error
    model = HyperX(_backbone(arguments, encoder_config), config)
    target = dict(model.named_parameters())
    load_exactly(target, rename(names, arguments, model.backbone.layers, target))
    model.backbone.digest = encoder_digest(model.backbone.encoder)  # it was made without weights
    return model.eval()


def _backbone(arguments: Mapping[str, Any], encoder_config: Mapping[str, Any]) -> Backbone:
    sizes = {key: value for key, value in encoder_config.items() if key != "num_labels"}
    bert = BertConfig(**sizes)
    head = MlmHead(bert.hidden_size, bert.vocab_size)  # for its shapes: the weights are loaded
    start = MlmStart(bert.hidden_act, bert.layer_norm_eps, head.state_dict())
    encoder = BertModel(bert, add_pooling_layer=False)
    reference = arguments["model_name_or_path"] or ""
    return Backbone(encoder, reference=reference, mlm_start=start)


def _task(name: str, num_labels: Mapping[str, int], given: Sequence[str] | None) -> Task:
    if name == "mlm":
        return Task(name, TaskType.MLM)
    if name not in LABELS:
        raise RunError(f'The released code has no task "{name}"; it has {", ".join(LABELS)}, mlm.')
    count = num_labels.get(name, len(LABELS[name]))
    if given is None:
        released = LABELS[name] if count == len(LABELS[name]) else None
        given = released or tuple(map(str, range(count)))
    # What is no IOB2 tag, as a number, cannot be scored as spans.
    iob2 = all(label == OUTSIDE or label[:2] in ("B-", "I-") for label in given)
    task_type = TaskType.TAGGING if name == "ner" and not iob2 else _TYPES[name]
    return Task(name, task_type, tuple(given))


def _hypernet_config(arguments: Mapping[str, Any]) -> HypernetConfig:
    def norm(place: str) -> str:
        if not arguments[f"add_layer_norm_{place}_adapter"]:
            return "none"
        return "generated" if arguments["conditional_layer_norm"] else "ordinary"

    projected = arguments["project_source_embeddings"]
    layered = arguments["condition_to_layer_id"]
    activation = arguments["adapter_non_linearity"].lower()
    return HypernetConfig(
        bottleneck=arguments["adapter_dim"],
        projection=arguments["projected_source_embedding_dim"] if projected else None,
        task_embedding=arguments["task_embedding_dim"],
        language_embedding=arguments["language_embedding_dim"],
        layer_embedding=arguments["layer_id_embedding_dim"],
        source_hidden=arguments["source_hidden_dim"],
        sources=("task", "language", "layer") if layered else ("task", "language"),
        norm_before=norm("before"),  # type: ignore[arg-type]
        norm_after=norm("after"),  # type: ignore[arg-type]
        insertion="layer" if arguments["after_layer_output"] else "feed_forward",
        activation=_ACTIVATIONS.get(activation, activation),
    )
