"""The arguments of the released code, as its command line takes them, from a file and ``--set``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from ..errors import RunError, UnknownNameError, nearest
from ..languages import name, resolve
from ..recipe.document import read_document
from ..recipe.faults import Faults, translate
from ..recipe.outside import apply_override
from ..recipe.sections import Positive, Section
from ..tasks import DEPREL
from .codes import usual_code

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
UNSEEN = ("adapter_non_linearity", "after_layer_output")
"""Arguments whose defaults fit any weights, so that it shows nowhere where they are wrong."""


def _words(value: Any) -> Any:
    """Split a text at its spaces, as the released command line takes lists."""
    return value.split() if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)]


class ReleasedArguments(Section):
    """What makes a model of the released code; defaults are those of its command line."""

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
    """hyperlect's own: the inventories of tasks whose labels are not the released ones."""
    language_codes: dict[str, str] = Field(default_factory=dict)
    """hyperlect's own: usual codes for languages whose names there mean another or none."""


KNOWN = tuple(ReleasedArguments.model_fields)


def with_defaults(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Add the command line's defaults for what is not given, or None.

    Raises:
        RunError: `tasks` or `languages`, which have no default, are not given.
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    missing = [key for key in ("tasks", "languages") if not given.get(key)]
    if missing:
        raise RunError(f"The arguments of the released code lack {' and '.join(missing)}.")
    fields = ReleasedArguments.model_fields
    defaults = {key: field.get_default(call_default_factory=True) for key, field in fields.items()}
    return {**defaults, "train_task_language_pairs": (), **given}


def read_arguments(path: Path | None, changes: Sequence[str], hint: str = "") -> ReleasedArguments:
    """Read the arguments of a checkpoint.

    Args:
        path: a JSON or YAML file of them, all or some.
        changes: ``key=value`` texts, which come after the file.
        hint: stands below the faults, if there are any.

    Raises:
        RunError: with every fault: keys that are unknown or missing, values that do not fit.
    """
    faults = Faults()
    data = {} if path is None else _read(path, faults)
    for change in changes:
        apply_override(data, change, faults)
    data = {key: value for key, value in data.items() if key not in TRAINING}
    arguments = _validate(data, faults)
    _check(arguments, faults)
    what = "The list of arguments" if path is None else f"The file of arguments {path}"
    faults.raise_if_any(what, RunError, hint)
    return arguments


def _validate(data: dict[str, Any], faults: Faults) -> ReleasedArguments:
    """Note what is wrong with single keys. What is faulty is left out, so that the rest is read."""
    try:
        return ReleasedArguments.model_validate(data)
    except ValidationError as error:
        found = translate(error, data, {(): (*KNOWN, *TRAINING)}, faults)
        faulty = {loc[0] for loc, _ in found}
        sound = {key: value for key, value in data.items() if key not in faulty}
        needed = {"tasks": "mlm", "languages": "en", "train_task_language_pairs": "mlm#en"}
        return ReleasedArguments.model_validate({**needed, **sound})


def _read(path: Path, faults: Faults) -> dict[str, Any]:
    try:
        data = read_document(path.read_text(encoding="utf-8-sig"), faults)
    except UnicodeDecodeError:
        raise RunError(
            f"{path} is no text. Arguments are read from JSON or YAML; the released code's own "
            "files of them are pickles, which can run code and are never read."
        ) from None
    if not isinstance(data, dict) and not faults.found:
        faults.add((), "arguments are a block of key: value lines, or a JSON object")
    return data if isinstance(data, dict) else {}


def _check(arguments: ReleasedArguments, faults: Faults) -> None:
    """Note names that are unknown, and those that speak of others that are not listed."""
    tasks, languages = arguments.tasks, arguments.languages
    known = (*LABELS, "mlm")
    for place, task in enumerate(tasks):
        if task not in known:
            hint = nearest(task, known) or f" It has {', '.join(known)}."
            faults.add(("tasks", place), f'the released code has no task "{task}".{hint}')
    found: dict[str, str] = {}
    for place, language in enumerate(languages):
        try:
            code = resolve(usual_code(language, arguments.language_codes))
        except UnknownNameError as error:
            faults.add(("languages", place), f"{error} Or give language_codes.{language}=CODE.")
            continue
        first = found.setdefault(code, language)
        if first != language:
            message = (
                f'"{language}" is {name(code)} ({code}), as "{first}" is. Give one of them a code '
                f"of its own, as language_codes.{language}=qaa (to qtz)."
            )
            faults.add(("languages", place), message)
    if any(faults.is_broken(key) for key in ("tasks", "languages", "train_task_language_pairs")):
        return
    for place, pair in enumerate(arguments.train_task_language_pairs):
        task, _, language = pair.partition("#")
        if task not in tasks or language not in languages:
            message = f'"{pair}" is no task#language of the tasks and languages listed'
            faults.add(("train_task_language_pairs", place), message)
    for key, listed, names in (
        ("labels", arguments.labels, tasks),
        ("language_codes", arguments.language_codes, languages),
    ):
        for given in listed:
            if given not in names:
                faults.add((key, given), f"is not among those listed.{nearest(given, names)}")
