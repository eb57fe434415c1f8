"""Models of the released code → `HyperX`, and their checkpoint folders → run folders.

The released code writes ``{task}_model/pytorch_model.bin`` for every task, each with a copy of the
encoder and the hypernetwork, and pickles of its arguments beside them. One file of the whole model
is read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from ..backbone import Backbone, MlmStart, encoder_digest, load_backbone
from ..errors import BackboneError, Problems, RunError, counted
from ..grid import Cell
from ..heads import MlmHead
from ..hypernet import HypernetConfig
from ..model import HyperX, HyperXConfig
from ..recipe.document import Document
from ..run_folder import ORIGIN, expanded, load_exactly, load_tensors, require_unused, write_json
from ..tasks import OUTSIDE, Task, TaskType
from .names import (
    DECODER,
    ENCODER,
    HEADS,
    LABELS,
    UNSEEN,
    ReleasedArguments,
    check_arguments,
    decoder_is_tied,
    label_counts,
    language_code,
    read_arguments,
    rename,
    same,
    without_repeats,
)

_TYPES = {"ner": TaskType.SPANS, "pos": TaskType.TAGGING, "dep": TaskType.PARSING}
# Names of non-linearities that differ from those of hyperlect.
_ACTIVATIONS = {"swish": "silu", "gelu_python": "gelu", "leakyrelu": "leaky_relu"}


def from_released(
    arguments: Mapping[str, Any], encoder_config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> HyperX:
    """Build a `HyperX` from a model of the released code.

    Args:
        arguments: the released code's arguments by its own names (``adapter_dim``,
            ``condition_to_layer_id``, …); what is missing has its command line's default. Two
            more are hyperlect's own: ``labels``, the label sets of tasks whose labels are not the
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
        ``labels`` names them. Trained cells are those of ``train_task_language_pairs``. Saving the
        model records the argument ``model_name_or_path`` as its backbone.

    Raises:
        RunError: ``tasks`` or ``languages`` are missing; tensors are missing, left over or
            mis-shaped, every one named; or hyperlect cannot do what the arguments say.
    """
    values = {key: value for key, value in arguments.items() if value is not None}
    document = Document(values, what="The list of arguments", error=RunError)
    released = check_arguments(document, ("tasks", "languages"))
    tensors = ((name.removeprefix("param/"), tensor) for name, tensor in state.items())
    names = without_repeats(tensors, released)
    tied = decoder_is_tied(names)
    if tied:
        names.pop(DECODER, None)
    counts, codes = encoder_config.get("num_labels", {}), released.language_codes
    pairs = [pair.split("#") for pair in released.train_task_language_pairs]
    try:
        config = HyperXConfig(
            tasks=tuple(_task(n, counts, released.labels.get(n)) for n in released.tasks),
            languages=tuple(language_code(name, codes) for name in released.languages),
            trained=tuple(Cell(task, language_code(name, codes)) for task, name in pairs),
            method="head" if released.no_hypernet else "hyperx",
            hypernet=_hypernet_config(released),
            train_layer_norms=True,
            head_dropout=encoder_config.get("hidden_dropout_prob", 0.1),
            parser="direct",
            max_length=released.max_length,
            tied_decoder=tied,
        )
    except ValueError as error:
        raise RunError(f"Arguments of the released code are not supported: {error}.") from error
    model = HyperX(_backbone(released, encoder_config), config)
    renamed = rename(names, released, model.backbone.layers)
    load_exactly(dict(model.named_parameters()), renamed)
    model.backbone.digest = encoder_digest(model.backbone.encoder)  # it was made without weights
    return model.eval()


def _backbone(released: ReleasedArguments, encoder_config: Mapping[str, Any]) -> Backbone:
    bert = BertConfig(**{key: v for key, v in encoder_config.items() if key != "num_labels"})
    head = MlmHead(bert.hidden_size, bert.vocab_size)  # for its shapes: the weights are loaded
    start = MlmStart(bert.hidden_act, bert.layer_norm_eps, head.state_dict())
    encoder = BertModel(bert, add_pooling_layer=False)
    return Backbone(encoder, reference=released.model_name_or_path or "", mlm_start=start)


def _task(name: str, counts: Mapping[str, int], labels: Sequence[str] | None) -> Task:
    if name == "mlm":
        return Task(name, TaskType.MLM)
    count = counts.get(name, len(LABELS[name]))
    if labels is None:
        labels = LABELS[name] if count == len(LABELS[name]) else [str(n) for n in range(count)]
    # Labels that are not IOB2 tags, but numbers, cannot be scored as spans.
    iob2 = all(label == OUTSIDE or label[:2] in ("B-", "I-") for label in labels)
    task_type = TaskType.TAGGING if name == "ner" and not iob2 else _TYPES[name]
    return Task(name, task_type, tuple(labels))


def _hypernet_config(released: ReleasedArguments) -> HypernetConfig:
    kind: Any = "generated" if released.conditional_layer_norm else "ordinary"
    projection = released.projected_source_embedding_dim
    activation = released.adapter_non_linearity.lower()
    return HypernetConfig(
        bottleneck=released.adapter_dim,
        projection=projection if released.project_source_embeddings else None,
        task_embedding=released.task_embedding_dim,
        language_embedding=released.language_embedding_dim,
        layer_embedding=released.layer_id_embedding_dim,
        source_hidden=released.source_hidden_dim,
        sources=("task", "language", *(("layer",) if released.condition_to_layer_id else ())),
        pre_norm=kind if released.add_layer_norm_before_adapter else "none",
        post_norm=kind if released.add_layer_norm_after_adapter else "none",
        insertion="layer" if released.after_layer_output else "feed_forward",
        activation=_ACTIVATIONS.get(activation, activation),  # type: ignore[arg-type]
    )


FORMAT_VERSION = 1

_FILE = "pytorch_model.bin"
_SUFFIXES = (".bin", ".pt", ".pth", ".safetensors")
# The rest of what the released code and its trainer write; all of it is pickles.
_ARGUMENTS = re.compile(r"(hyperx|trainer|training)_args\.bin")
_OTHER = re.compile(r"(optimizer|scheduler|scaler|rng_state.*)\.(pt|pth|bin)")


class Conversion(NamedTuple):
    """What came of converting a checkpoint.

    Attributes:
        model: as the run holds it.
        unread: the pickles beside the weights, which were not read.
        assumed: arguments that were not given, and the defaults of the released code that were
            taken for them although they fit any weights.
    """

    model: HyperX
    unread: tuple[Path, ...]
    assumed: Mapping[str, Any]

    @property
    def task(self) -> str:
        """A task to predict with."""
        tasks = self.model.tasks
        return next((name for name in tasks if tasks[name].type is not TaskType.MLM), "TASK")


@dataclass(frozen=True)
class Checkpoint:
    """What lies in a checkpoint folder.

    Attributes:
        folder: the folder.
        weights: its files of tensors.
        pickles: files of arguments, which are not read.
    """

    folder: Path
    weights: tuple[Path, ...]
    pickles: tuple[Path, ...]

    @property
    def hint(self) -> str:
        """Where its arguments are, and how to give them instead."""
        if not self.pickles:
            return ""
        names = ", ".join(map(str, self.pickles))
        remedy = "Give the arguments with --arguments FILE or --set."
        return f"Pickles can run code and are never read: {names}. {remedy}"

    def tensors(self, tasks: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        """Read file after file, giving each tensor the name it has in the whole model.

        Raises:
            RunError: a file cannot be read, holds other things than tensors, or is of no task;
                a task has no file.
        """
        missing, whole = set(tasks), False
        for path in self.weights:
            state = _read(path)
            owners = [name.removesuffix("_model") for name in (path.stem, path.parent.name)]
            owner = next((name for name in owners if name in tasks), None)
            prefix = f"{HEADS}{owner}."
            if any(name.startswith((ENCODER, HEADS)) for name in state):
                prefix, whole = "", True
            elif owner is None:
                hint = f"Put it into a folder TASK_model; the tasks are {', '.join(tasks)}."
                raise RunError(f"{path} is the model of one task, but of which? {hint}")
            else:
                missing.discard(owner)
            yield from ((f"{prefix}{name}", tensor) for name, tensor in state.items())
        if missing and not whole:
            lacking = [task for task in tasks if task in missing]
            files = ", ".join(f"{task}_model/{_FILE}" for task in lacking)
            raise RunError(f"{self.folder} lacks the weights of {', '.join(lacking)}: {files}.")


def find_checkpoint(folder: Path) -> Checkpoint:
    """Look what is in a checkpoint folder.

    Raises:
        RunError: there is no such folder, or no weights in it.
    """
    if not folder.is_dir():
        what = "is a file; name the folder it lies in" if folder.is_file() else "does not exist"
        raise RunError(f"{folder} {what}. A checkpoint is a folder with TASK_model/{_FILE}.")
    steps = sorted(folder.glob("checkpoint-*/"))
    inside = (*sorted(folder.glob("*")), *sorted(folder.glob("*/*")))
    files = [path for path in inside if path.suffix in _SUFFIXES and path.parent not in steps]
    files = [path for path in files if not _OTHER.fullmatch(path.name)]
    pickles = [path for path in files if path.parent == folder and _ARGUMENTS.fullmatch(path.name)]
    weights = tuple(path for path in files if path not in pickles)
    if not weights:
        names = ", ".join(path.name for path in steps)
        hint = f" Name one of its checkpoints: {names}." if steps else ""
        raise RunError(f"{folder} holds no weights: no TASK_model/{_FILE}.{hint}")
    return Checkpoint(folder, weights, tuple(pickles))


def _read(path: Path) -> Mapping[str, Tensor]:
    """Read one file of tensors, and nothing else than tensors."""
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # it may raise anything, and its own message advises to unpickle
        raise RunError(
            f"{path} cannot be read as a file of tensors alone. If it holds more (a whole model, "
            "arguments), save its state_dict() by itself where you trust it."
        ) from error
    if not isinstance(state, Mapping):
        raise RunError(f"{path} holds a {type(state).__name__}, not a state dict.")
    problems = Problems()
    for name, value in state.items():
        if not isinstance(value, Tensor):
            problems.add(f"{name} is a {type(value).__name__}")
    problems.raise_if_any(RunError, f"{path} holds other things than tensors:")
    return state


def convert_checkpoint(
    folder: Path,
    run: Path,
    backbone: str | None = None,
    revision: str | None = None,
    arguments: Path | None = None,
    changes: Sequence[str] = (),
) -> Conversion:
    """Turn a checkpoint folder of the released code into a run folder.

    Args:
        folder: the checkpoint. Its tensors are read with torch's ``weights_only`` reader, its
            pickled arguments never.
        run: the folder to make; it must not exist yet, or be empty.
        backbone: the encoder it was trained on: a hub id or a folder. By default the argument
            ``model_name_or_path``.
        revision: of the encoder on the hub.
        arguments: a JSON or YAML file of the released code's arguments.
        changes: ``key=value`` arguments, which come after the file.

    Raises:
        RunError: the run folder is in use, arguments are unknown or missing, or the tensors are
            not those of such a model on this encoder; every fault is named.
        BackboneError: the encoder cannot be loaded, or is not a BERT.
    """
    require_unused(run)
    checkpoint = find_checkpoint(folder)
    released = read_arguments(arguments, changes, checkpoint.hint)
    loaded = _load_backbone(released, backbone, revision)
    state = without_repeats(checkpoint.tensors(released.tasks), released)
    model = _build(released, loaded, state)
    model.save_pretrained(run)
    origin = {
        "format_version": FORMAT_VERSION,
        "checkpoint": str(folder),
        "files": [path.relative_to(folder).as_posix() for path in checkpoint.weights],
        "arguments": released.model_dump(),
    }
    write_json(run / ORIGIN, origin, indent=2)
    unseen = () if released.no_hypernet else UNSEEN
    named = released.model_fields_set
    assumed = {key: getattr(released, key) for key in unseen if key not in named}
    return Conversion(model, checkpoint.pickles, assumed)


def _load_backbone(
    released: ReleasedArguments, reference: str | None, revision: str | None
) -> Backbone:
    reference = reference or released.model_name_or_path
    if not reference:
        raise RunError("Name the encoder that the checkpoint was trained on: --backbone ID|FOLDER.")
    folder = expanded(reference)
    if folder.is_dir():
        reference = str(folder.absolute())  # the run may be used from anywhere
    loaded = load_backbone(reference, revision)
    if loaded.family.model_type != "bert":
        what = f"{reference} is {loaded.family.title}"
        raise BackboneError(f"{what}. The released code knows BERT only; name a BERT.")
    if "mlm" in released.tasks and loaded.mlm_start is None:
        what = "has no whole MLM head, so a run cannot tell what the head of mlm computes"
        hint = "Name the encoder as it was published, or save it as BertForMaskedLM."
        raise BackboneError(f"{reference} {what}. {hint}")
    return loaded


def _build(released: ReleasedArguments, loaded: Backbone, state: dict[str, Tensor]) -> HyperX:
    """Build the model, and compare its encoder with the backbone."""
    counts = label_counts(state)
    problems = Problems()
    for task, count in counts.items():
        known = released.labels.get(task, LABELS.get(task, ()))
        if task in released.tasks and len(known) != count:
            source = "labels lists" if task in released.labels else "the released code has"
            problems.add(f"{task} scores {counted(count, 'label')}; {source} {len(known)}")
    heading = "Name all labels in their order, as labels.TASK=[…] among the arguments:"
    problems.raise_if_any(RunError, heading)
    encoder: Any = loaded.encoder
    config = {**encoder.config.to_dict(), "num_labels": counts}
    arguments = {**released.model_dump(), "model_name_or_path": loaded.reference}
    model = from_released(arguments, config, state)
    model.backbone.revision, model.backbone.digest = loaded.revision, loaded.digest
    if not _norms_differ(model.backbone, loaded):
        for _, parameter in model.backbone.layer_norms():
            parameter.requires_grad_(False)
        model.config = replace(model.config, train_layer_norms=False)
    return model


def _norms_differ(converted: Backbone, loaded: Backbone) -> bool:
    """Whether LayerNorms were trained. Raises `RunError` if anything else of the encoder was."""
    original = dict(loaded.encoder.named_parameters())
    norms = {name for name, _ in loaded.layer_norms()}
    parameters = converted.encoder.named_parameters()
    changed = [name for name, tensor in parameters if not same(tensor, original[name])]
    problems = Problems()
    for name in changed:
        if name not in norms:
            problems.add(f"{ENCODER}{name}")
    problems.raise_if_any(
        RunError,
        f"The checkpoint's encoder is not {loaded.reference}, and a run keeps changes of its "
        "LayerNorms only. If that is another encoder, name the right one (--backbone, --revision). "
        "If it was trained, save the checkpoint's own as a folder with its tokenizer "
        "(save_pretrained), and name that. These differ:",
    )
    return bool(changed)
