"""Loading an encoder from a hub id, a folder, or the built-in wheel; whole, or not at all."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import BackboneError, HyperlectError, Problems
from .backbone import Backbone, MlmStart
from .builtin import builtin_folder
from .families import Family, family_of

BUILTIN = "builtin:"


def load_backbone(reference: str, revision: str | None = None) -> Backbone:
    """Load an encoder and its tokenizer.

    Args:
        reference: a hub id (``xlm-roberta-base``), a folder, or ``builtin:e5-small``.
        revision: a branch, tag or commit on the hub.

    Raises:
        BackboneError: it cannot be found, is of an unsupported family, or lacks weights.
    """
    from transformers import AutoConfig, AutoTokenizer, PretrainedConfig

    source = reference
    if reference.startswith(BUILTIN):
        source = str(builtin_folder(reference.removeprefix(BUILTIN)))
    elif reference.startswith("~"):
        source = str(Path(reference).expanduser())
    with _explained(reference, source):
        written, _ = PretrainedConfig.get_config_dict(source, revision=revision)
        # Before transformers reads it, which may not know the type, and cannot list ours.
        family = family_of(written["model_type"]) if "model_type" in written else None
        config = AutoConfig.from_pretrained(source, revision=revision)
        family = family or family_of(config.model_type)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        encoder, mlm_start = _load_encoder(source, revision, config, family)
    if not getattr(tokenizer, "is_fast", False):
        raise BackboneError(
            f'The backbone "{reference}" has no fast tokenizer (tokenizer.json), which word '
            "alignment needs."
        )
    # Where there are no tokenizer files, transformers makes a tokenizer without a vocabulary.
    if len(tokenizer) < len(tokenizer.all_special_tokens) + 8:
        raise BackboneError(
            f'The backbone "{reference}" brings no tokenizer: tokenizer.json is missing or empty.'
        )
    return Backbone(encoder, tokenizer, reference, revision, mlm_start)


@contextlib.contextmanager
def _explained(reference: str, source: str) -> Iterator[None]:
    """Turn what transformers raises, which may be anything, into an error for the person."""
    try:
        yield
    except HyperlectError:
        raise
    except Exception as error:
        missing_folder = source.startswith((".", "/")) and not Path(source).exists()
        said = textwrap.shorten(str(error), 300, placeholder=" …")
        hint = "There is no such folder." if missing_folder else said
        raise BackboneError(f'The backbone "{reference}" cannot be loaded. {hint}') from error


def _load_encoder(
    source: str, revision: str | None, config: Any, family: Family
) -> tuple[nn.Module, MlmStart | None]:
    from transformers import AutoModel, AutoModelForMaskedLM

    has_head = any("MaskedLM" in name for name in config.architectures or [])
    loader: Any = AutoModelForMaskedLM if has_head else AutoModel
    extra = {"add_pooling_layer": False} if family.pooler and not has_head else {}
    with _quiet():
        model, info = loader.from_pretrained(
            source,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named and refused below
            **extra,
        )
    encoder = model.base_model
    missing = sorted(info["missing_keys"])
    inside = f"{model.base_model_prefix}." if has_head else ""
    problems = Problems()
    for key in missing:
        if key.startswith(inside):
            problems.add(f"{key} is missing")
    for key, found, wanted in sorted(info["mismatched_keys"]):
        problems.add(f"{key} has the shape {tuple(found)}, not {tuple(wanted)}")
    heading = f'The weights of "{source}" do not fit its configuration:'
    problems.raise_if_any(BackboneError, heading)
    # A head that is only partly there (old DeBERTa files) would be random, and one with a decoder
    # of its own would not be itself with the word embeddings as decoder: leave both.
    decoder = model.get_output_embeddings() if has_head and not missing else None
    whole = decoder is not None and decoder.weight is encoder.get_input_embeddings().weight
    return encoder, _mlm_start(model, config, family) if whole else None


def _mlm_start(model: nn.Module, config: Any, family: Family) -> MlmStart:
    names = family.mlm
    dense: Any = model.get_submodule(names.dense)
    norm: Any = model.get_submodule(names.norm)
    owner, _, attribute = names.bias.rpartition(".")
    bias = getattr(model.get_submodule(owner), attribute, None)
    activation = (
        names.activation[1:]
        if names.activation.startswith("=")
        else getattr(config, names.activation)
    )
    zeros = torch.zeros(config.hidden_size)
    state = {
        "dense.weight": dense.weight,
        "dense.bias": zeros if dense.bias is None else dense.bias,
        "norm.weight": norm.weight,
        "norm.bias": zeros if norm.bias is None else norm.bias,
        "bias": torch.zeros(config.vocab_size) if bias is None else bias,
    }
    state = {name: tensor.detach().clone() for name, tensor in state.items()}
    return MlmStart(activation, norm.eps, state)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' loading bars and remarks; what matters is checked and raised here."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
