"""The arguments of the released code, from a file and ``--set``; and the names of its tensors."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from ..errors import Problems, RunError, UnknownNameError, nearest, unknown
from ..languages import name as language_name
from ..languages import resolve
from ..recipe.document import Document, Pattern
from ..recipe.schema import Positive, Section
from ..tasks import DEPREL

# The labels that the released code gives its word-level tasks, in its order.
LABELS = {
    "ner": ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
    "pos": (
        *("NOUN", "PUNCT", "ADP", "NUM", "SYM", "SCONJ", "ADJ", "PART", "DET"),
        *("CCONJ", "PROPN", "PRON", "X", "_", "ADV", "INTJ", "VERB", "AUX"),
    ),
    "dep": ("_", *DEPREL),
}
# What made its training, and says nothing of the model that came of it.
TRAINING = (
    *("data_folder", "disable_progress_bar", "eval_steps", "eval_task_language_pairs"),
    *("evaluation_strategy", "fp16", "freeze_params_regex", "gradient_accumulation_steps"),
    *("learning_rate", "load_from_ckpt", "lr_scheduler_type", "max_train_samples"),
    *("max_train_steps", "no_cuda", "num_train_epochs", "output_dir"),
    *("per_device_eval_batch_size", "per_device_train_batch_size", "preprocessing_num_workers"),
    *("sampling_strategy", "save_steps", "seed", "temperature", "unfreeze_params_regex"),
    *("warmup_steps", "weight_decay"),
    "source_embedding_dim",  # follows from the others
)
PICKLES = (".bin", ".pt", ".pth", ".pkl")
UNSEEN = ("adapter_non_linearity", "after_layer_output")
"""Arguments whose defaults fit any weights, so that it shows nowhere where they are wrong."""

# Fit each other, and stand in for required arguments that are missing.
_STAND_INS: dict[Pattern, Any] = {
    ("tasks",): ["mlm"],
    ("languages",): ["en"],
    ("train_task_language_pairs",): ["mlm#en"],
}


def _words(value: Any) -> Any:
    """Split a text at its spaces, as the released command line takes lists."""
    return value.split() if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)]


class ReleasedArguments(Section):
    """What makes a model of the released code; defaults are those of its command line."""

    ignored: ClassVar[tuple[str, ...]] = TRAINING

    tasks: Names
    """Its tasks, in its order."""
    languages: Names
    """Its languages, by its names, in its order."""
    train_task_language_pairs: Names
    """What it was trained on: ner#en pos#tr …"""
    model_name_or_path: str | None = None
    """Its encoder."""
    max_length: Positive = 256
    """The longest input in sub-words."""
    condition_to_layer_id: bool = False
    """One generator for all layers, which reads an embedding of the layer."""
    project_source_embeddings: bool = False
    """Whether a perceptron projects the source embedding."""
    task_embedding_dim: Positive = 64
    """Size of the task embeddings."""
    language_embedding_dim: Positive = 64
    """Size of the language embeddings."""
    layer_id_embedding_dim: Positive = 64
    """Size of the layer embeddings."""
    projected_source_embedding_dim: Positive = 32
    """Size of the projected source embedding."""
    source_hidden_dim: Positive = 192
    """Size inside of that perceptron."""
    adapter_dim: Positive = 256
    """The bottleneck."""
    adapter_non_linearity: str = "relu"
    """Between down and up."""
    add_layer_norm_before_adapter: bool = False
    """A LayerNorm before the adapter."""
    add_layer_norm_after_adapter: bool = False
    """A LayerNorm after the adapter."""
    conditional_layer_norm: bool = False
    """Whether these are generated."""
    no_hypernet: bool = False
    """No adapters at all."""
    after_layer_output: bool = False
    """The adapter acts after the whole layer."""
    labels: dict[str, Names] = Field(default_factory=dict)
    """hyperlect's own: the label sets of tasks whose labels are not the released ones."""
    language_codes: dict[str, str] = Field(default_factory=dict)
    """hyperlect's own: usual codes for languages whose names there mean another or none."""


def completed(arguments: Mapping[str, Any]) -> ReleasedArguments:
    """Add the command line's defaults for what is missing or None; values are not checked.

    Raises:
        RunError: `tasks` or `languages`, which have no default, are missing.
    """
    values = {key: value for key, value in arguments.items() if value is not None}
    missing = [key for key in ("tasks", "languages") if not values.get(key)]
    if missing:
        raise RunError(f"The arguments of the released code lack {' and '.join(missing)}.")
    return ReleasedArguments.model_construct(**{"train_task_language_pairs": (), **values})


def language_code(language: str, codes: Mapping[str, str]) -> str:
    """Return the code of a language of the released code.

    Args:
        language: its name there, which is that of a Wikipedia.
        codes: from such names to codes, where the name means another language.

    Raises:
        UnknownNameError: there is no such language.
    """
    return resolve(codes[language]) if language in codes else resolve(language, wikipedia=True)


def read_arguments(path: Path | None, changes: Sequence[str], hint: str = "") -> ReleasedArguments:
    """Read the arguments of a checkpoint.

    Args:
        path: a JSON or YAML file of them, all or some.
        changes: ``key=value`` texts, which come after the file.
        hint: comes first in the error.

    Raises:
        RunError: with every fault: keys that are unknown or missing, values that do not fit.
    """
    if path is None:
        document = Document({}, what="The list of arguments", error=RunError)
    elif path.suffix in PICKLES:
        raise RunError(
            f"{path} is a pickle, which can run code and is never read. Write the arguments as "
            "JSON or YAML."
        )
    else:
        document = Document.read(path, what="The file of arguments", error=RunError)
    for change in changes:
        document.override(change)
    for key in TRAINING:
        document.data.pop(key, None)
    arguments = document.validate(ReleasedArguments, _STAND_INS)
    if arguments is not None:
        _check(arguments, document)
    document.raise_if_any(hint)
    assert arguments is not None
    return arguments


def _check(arguments: ReleasedArguments, document: Document) -> None:
    """Note names that are unknown, and those that speak of others that are not listed."""
    tasks, languages = arguments.tasks, arguments.languages
    known = (*LABELS, "mlm")
    for place, task in enumerate(tasks):
        if task not in known:
            document.add(("tasks", place), str(unknown("task of the released code", task, known)))
    names: dict[str, str] = {}
    for place, language in enumerate(languages):
        try:
            code = language_code(language, arguments.language_codes)
        except UnknownNameError as error:
            remedy = f"Or give language_codes.{language}=CODE."
            document.add(("languages", place), f"{error} {remedy}")
            continue
        first = names.setdefault(code, language)
        if first != language:
            message = (
                f'"{language}" is {language_name(code)} ({code}), as "{first}" is. Give one of '
                f"them a code of its own, as language_codes.{language}=qaa (to qtz)."
            )
            document.add(("languages", place), message)
    if any(map(document.is_broken, ("tasks", "languages", "train_task_language_pairs"))):
        return
    for place, pair in enumerate(arguments.train_task_language_pairs):
        task, _, language = pair.partition("#")
        if task not in tasks or language not in languages:
            message = f'"{pair}" is not a task#language of the tasks and languages listed'
            document.add(("train_task_language_pairs", place), message)
    for key, listed in (("labels", tasks), ("language_codes", languages)):
        for entry in getattr(arguments, key):
            if entry not in listed:
                message = f"is not one of those listed.{nearest(entry, listed)}"
                document.add((key, entry), message)


ENCODER = "encoder."
HEADS = "taskmodels_dict."
DECODER = f"{HEADS}mlm.cls.predictions.decoder.weight"
_PARTS = ("weight", "bias")
_HYPERNET = "encoder.encoder.hypernet"
_SOURCE = f"{_HYPERNET}_source_controller"
_EMBEDDINGS = f"{ENCODER}embeddings.word_embeddings.weight"
# What an encoder may hold and no model of the released code reads.
_UNREAD = ("encoder.embeddings.position_ids", *(f"encoder.pooler.dense.{p}" for p in _PARTS))

# Modules of the released code → what they make of the adapter: the generators, a map for each
# weight and each bias, and the ordinary LayerNorms.
_GENERATORS = {
    "meta_down_sampler.{}_generator.0": "down",
    "meta_up_sampler.{}_generator.0": "up",
    "post_layernorm_hypernet.{}_generator": "after",
    "pre_layernorm_hypernet.{}_generator": "before",
}
_NORMS = {"post_layer_norm": "after", "pre_layer_norm": "before"}
_HEADS = {
    "cls.weight": "linear.weight",
    "cls.bias": "linear.bias",
    "biaffine_arcs.weight": "arcs.weight",
    "biaffine_rels.weight": "relations.weight",
    "cls.predictions.bias": "bias",
    "cls.predictions.transform.dense.weight": "dense.weight",
    "cls.predictions.transform.dense.bias": "dense.bias",
    "cls.predictions.transform.LayerNorm.weight": "norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "norm.bias",
    "cls.predictions.decoder.weight": "decoder",
}


def without_repeats(
    tensors: Iterable[tuple[str, Tensor]], arguments: ReleasedArguments
) -> dict[str, Tensor]:
    """Keep one of every tensor that the released code holds under several names.

    Args:
        tensors: under their names there; repeats are dropped at once, which saves memory.
        arguments: the released code's.

    Returns:
        The tensors under the names that `rename` takes, whichever of their names they came under.

    Raises:
        RunError: copies differ, every one named; or layers hold the hypernetwork although the
            arguments say that they do not.
    """
    kept: dict[str, Tensor] = {}
    problems = Problems()
    for name, tensor in tensors:
        main = _main_name(name, arguments)
        if not same(kept.setdefault(main, tensor), tensor):
            problems.add(f"{name} differs from another copy of {main}")
    problems.raise_if_any(RunError, "Tensors that are one in the released code are not equal:")
    return kept


def _main_name(name: str, arguments: ReleasedArguments) -> str:
    """Return the name that stands for all those of a tensor.

    The encoder is part of each task's model. Where adapters act inside the layers, a forward pass
    leaves in every layer the generator it was given: the only one, or its own. The decoder of `mlm`
    has the head's bias.
    """
    name = re.sub(rf"^{HEADS}[^.]+\.bert\.", ENCODER, name)
    name = re.sub(rf"^({HEADS}mlm\.cls\.predictions)\.decoder\.bias$", r"\1.bias", name)
    inside = re.fullmatch(rf"{ENCODER}encoder\.layer\.(\d+)\.output\.hypernet\.(.+)", name)
    if inside is None:
        return name
    if arguments.after_layer_output:
        raise RunError(
            f"after_layer_output cannot be true of a checkpoint that holds {name}: layers hold the "
            "hypernetwork only where adapters act inside them."
        )
    layer = "" if arguments.condition_to_layer_id else f".{inside[1]}"
    return f"{_HYPERNET}{layer}.{inside[2]}"


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, in type and shape too."""
    return one.dtype == other.dtype and torch.equal(one, other)


def decoder_is_tied(state: Mapping[str, Tensor]) -> bool:
    """Whether `mlm` decodes with the word embeddings, as it does there where it is the first task.

    They have one name among parameters then, and both in a state dict.
    """
    if DECODER not in state:
        return True
    return _EMBEDDINGS in state and same(state[DECODER], state[_EMBEDDINGS])


def rename(
    state: Mapping[str, Tensor],
    arguments: ReleasedArguments,
    layers: int,
    wanted: Collection[str] = (),
) -> dict[str, Tensor]:
    """Give every tensor the name it has here.

    Args:
        state: under the released code's names, without repeats.
        arguments: its arguments, which order tasks and languages.
        layers: how many the encoder has.
        wanted: names here; if anything is wrong, those that are missing are named too.

    Raises:
        RunError: tensors fit nowhere or are missing from what becomes one tensor, every one named.
    """
    places = {name: (key, row) for name, key, row in _places(arguments, layers)}
    renamed: dict[str, Tensor] = {}
    stacks: dict[str, dict[int, tuple[str, Tensor]]] = defaultdict(dict)
    problems = Problems()
    for name, tensor in state.items():
        if name.startswith(ENCODER) and not name.startswith(_HYPERNET):
            renamed |= {} if name in _UNREAD else {f"backbone.{name}": tensor}
        elif name not in places:
            problems.add(f"{name} is unexpected")
        else:
            key, row = places[name]
            if row is None:
                renamed[key] = tensor
            else:
                stacks[key][row] = name, tensor
    for key, rows in stacks.items():
        for row in [row for place, row in places.values() if place == key and row not in rows]:
            problems.add(f"{key} lacks its row {row}")
        shape = next(iter(rows.values()))[1].shape
        for name, tensor in rows.values():
            if tensor.shape != shape:
                shapes = f"{tuple(tensor.shape)}, others {tuple(shape)}"
                problems.add(f"{name} has the shape {shapes}")
    if problems:  # the same fault seen from the other side
        for key in sorted(set(wanted) - renamed.keys() - stacks.keys()):
            problems.add(f"{key} is missing")
    problems.raise_if_any(RunError, "These tensors are not of a model of the released code:")
    for key, rows in stacks.items():
        renamed[key] = torch.stack([rows[row][1] for row in sorted(rows)])
    return renamed


def _places(arguments: ReleasedArguments, layers: int) -> Iterator[tuple[str, str, int | None]]:
    """List the tensors of adapters and heads: name there, name here, row where several are one."""
    shared = arguments.condition_to_layer_id
    tables = {
        "task_embeddings": ("task", arguments.tasks),
        "lang_embeddings": ("language", arguments.languages),
        "layer_id_embeddings": ("layer", [f"layer:{i}" for i in range(layers) if shared]),
    }
    for table, (source, entries) in tables.items():
        for row, entry in enumerate(entries):
            yield f"{_SOURCE}.{table}.{entry}", f"adapters.source.embeddings.{source}", row
    for step, kind in product((0, 2), _PARTS):
        key = f"adapters.source.project.{step}.{kind}"
        yield f"{_SOURCE}.source_embedding_MLP.{step}.{kind}", key, None
    for layer, kind in product([None] if shared else range(layers), _PARTS):
        place = _HYPERNET if layer is None else f"{_HYPERNET}.{layer}"
        for (module, here), output in product(_GENERATORS.items(), _PARTS):
            key = f"adapters.generator.maps.{here}_{output}.{kind}"
            yield f"{place}.{module.format(output)}.{kind}", key, layer
        for module, here in _NORMS.items():
            yield f"{place}.{module}.{kind}", f"adapters.generator.norms.{here}_{kind}", layer or 0
    for task in arguments.tasks:
        for name, here in _HEADS.items():
            yield f"{HEADS}{task}.{name}", f"heads.{task}.{here}", None


def label_counts(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Return how many labels each head scores, by task; `mlm` has none."""
    scored = re.compile(rf"{HEADS}([^.]+)\.(cls|biaffine_rels)\.weight")
    matches = ((scored.fullmatch(name), tensor) for name, tensor in state.items())
    return {match[1]: len(tensor) for match, tensor in matches if match}
