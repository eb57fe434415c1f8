"""The arguments of the released code, from a file and ``--set``; and the names of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from ..errors import Problems, RunError, UnknownNameError, nearest
from ..languages import name as language_name
from ..languages import resolve
from ..recipe.document import Document
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
NEEDED = ("tasks", "languages", "train_task_language_pairs")
UNSEEN = ("adapter_non_linearity", "after_layer_output")
"""Arguments whose defaults fit any weights, so that it shows nowhere where they are wrong."""


def _words(value: Any) -> Any:
    """Split a text at its spaces, as the released command line takes lists."""
    return value.split() if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)]
TaskName = Literal["ner", "pos", "dep", "mlm"]
Tasks = Annotated[tuple[TaskName, ...], BeforeValidator(_words), Field(min_length=1)]


class ReleasedArguments(Section):
    """What makes a model of the released code; defaults are those of its command line."""

    ignored: ClassVar[tuple[str, ...]] = TRAINING

    tasks: Tasks = ()
    """Its tasks, in its order."""
    languages: Names = ()
    """Its languages, by its names, in its order."""
    train_task_language_pairs: Names = ()
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
    else:
        document = Document.read(path, what="The file of arguments", error=RunError)
    for change in changes:
        document.override(change)
    return check_arguments(document, NEEDED, hint)


def check_arguments(document: Document, needed: Sequence[str], hint: str = "") -> ReleasedArguments:
    """Return the arguments that a document holds, with the command line's defaults for the rest.

    Args:
        document: the arguments.
        needed: which ones are required.
        hint: comes first in the error.

    Raises:
        RunError: as `read_arguments` does.
    """
    for key in TRAINING:
        document.data.pop(key, None)
    arguments = document.validate(ReleasedArguments)
    assert arguments is not None  # every argument has a default
    missing = [key for key in needed if key not in arguments.model_fields_set]
    for key in missing:
        if not document.is_broken(key):
            document.add((key,), "is required")
    _check_languages(arguments, document)
    if not missing:
        _check_references(arguments, document)
    document.raise_if_any(hint)
    return arguments


def _check_languages(arguments: ReleasedArguments, document: Document) -> None:
    """Note names of no language, and two names of one."""
    names: dict[str, str] = {}
    for place, language in enumerate(arguments.languages):
        try:
            code = language_code(language, arguments.language_codes)
        except UnknownNameError as error:
            message = f"{error} Or give language_codes.{language}=CODE."
            document.add(("languages", place), message)
            continue
        first = names.setdefault(code, language)
        if first != language:
            what = f'"{language}" is {language_name(code)} ({code}), as "{first}" is'
            remedy = f"Give one of them a code of its own: language_codes.{language}=qaa (to qtz)."
            document.add(("languages", place), f"{what}. {remedy}")


def _check_references(arguments: ReleasedArguments, document: Document) -> None:
    """Note tasks and languages that are named and not listed."""
    tasks, languages = arguments.tasks, arguments.languages
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


Tensors = Mapping[str, Tensor]
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
        what = f"after_layer_output cannot be true of a checkpoint that holds {name}"
        reason = "layers hold the hypernetwork only where adapters act inside them"
        raise RunError(f"{what}: {reason}.")
    layer = "" if arguments.condition_to_layer_id else f".{inside[1]}"
    return f"{_HYPERNET}{layer}.{inside[2]}"


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, in type and shape too."""
    return one.dtype == other.dtype and torch.equal(one, other)


def decoder_is_tied(state: Tensors) -> bool:
    """Whether `mlm` decodes with the word embeddings, as it does there where it is the first task.

    They have one name among parameters then, and both in a state dict.
    """
    if DECODER not in state:
        return True
    return _EMBEDDINGS in state and same(state[DECODER], state[_EMBEDDINGS])


def rename(state: Tensors, arguments: ReleasedArguments, layers: int) -> dict[str, Tensor]:
    """Give every tensor the name it has here. One that fits nowhere keeps its own.

    Args:
        state: under the released code's names, without repeats.
        arguments: its arguments, which order tasks and languages.
        layers: how many the encoder has.

    Raises:
        RunError: rows of a tensor are missing or differ in shape, every one named.
    """
    renamed: dict[str, Tensor] = {}
    left = {name: tensor for name, tensor in state.items() if name not in _UNREAD}
    problems = Problems()
    for key, source in _sources(arguments, layers).items():
        names = [source] if isinstance(source, str) else source
        rows = {name: left.pop(name) for name in names if name in left}
        if not rows:
            continue
        shape = next(iter(rows.values())).shape
        for name in names:
            if name not in rows:
                problems.add(f"{name} is missing")
            elif rows[name].shape != shape:
                shapes = f"{tuple(rows[name].shape)}, others {tuple(shape)}"
                problems.add(f"{name} has the shape {shapes}")
        if not problems:
            tensors = list(rows.values())
            renamed[key] = tensors[0] if isinstance(source, str) else torch.stack(tensors)
    problems.raise_if_any(RunError, "These tensors are not of a model of the released code:")
    for name, tensor in left.items():
        in_encoder = name.startswith(ENCODER) and not name.startswith(_HYPERNET)
        renamed[f"backbone.{name}" if in_encoder else name] = tensor
    return renamed


def _sources(arguments: ReleasedArguments, layers: int) -> dict[str, str | list[str]]:
    """Map the tensors of adapters and heads to their names there: one, or one for each row."""
    shared = arguments.condition_to_layer_id
    rows = {
        "task": [f"task_embeddings.{task}" for task in arguments.tasks],
        "language": [f"lang_embeddings.{language}" for language in arguments.languages],
        "layer": [f"layer_id_embeddings.layer:{layer}" for layer in range(layers) if shared],
    }
    sources: dict[str, str | list[str]] = {}
    for table, names in rows.items():
        sources[f"adapters.source.embeddings.{table}"] = [f"{_SOURCE}.{name}" for name in names]
    places = [_HYPERNET] if shared else [f"{_HYPERNET}.{layer}" for layer in range(layers)]
    for kind in _PARTS:
        for step in (0, 2):
            name = f"{_SOURCE}.source_embedding_MLP.{step}.{kind}"
            sources[f"adapters.source.project.{step}.{kind}"] = name
        for (module, here), output in product(_GENERATORS.items(), _PARTS):
            names = [f"{place}.{module.format(output)}.{kind}" for place in places]
            key = f"adapters.generator.maps.{here}_{output}.{kind}"
            sources[key] = names[0] if shared else names
        for module, here in _NORMS.items():
            names = [f"{place}.{module}.{kind}" for place in places]
            sources[f"adapters.generator.norms.{here}_{kind}"] = names
    for task, (name, here) in product(arguments.tasks, _HEADS.items()):
        sources[f"heads.{task}.{here}"] = f"{HEADS}{task}.{name}"
    return sources


def label_counts(state: Tensors) -> dict[str, int]:
    """Return how many labels each head scores, by task; `mlm` has none."""
    scored = re.compile(rf"{HEADS}([^.]+)\.(cls|biaffine_rels)\.weight")
    matches = ((scored.fullmatch(name), tensor) for name, tensor in state.items())
    return {match[1]: len(tensor) for match, tensor in matches if match}
