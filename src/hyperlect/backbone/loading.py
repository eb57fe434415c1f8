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
from ..run_folder import hub_is_reachable, is_hub_id
from .backbone import Backbone, MlmStart, longest_input
from .builtin import builtin_folder, builtin_limits
from .families import Family, family_of

BUILTIN = "builtin:"
_FEWEST_PIECES = 8


def load_backbone(reference: str, revision: str | None = None) -> Backbone:
    """Load an encoder and its tokenizer.

    Args:
        reference: a hub id (``xlm-roberta-base``), a folder, or ``builtin:e5-small``.
        revision: a branch, tag or commit on the hub.

    Raises:
        BackboneError: it cannot be found, is of an unsupported family, or lacks weights.
    """
    from transformers import AutoConfig, AutoTokenizer

    source, options = _locate(reference, revision)
    family = family_of(_model_type(reference, source, options))
    with _explained(reference, options):
        config = AutoConfig.from_pretrained(source, **options)
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        encoder, mlm_start = _load_encoder(source, options, config, family)
    if not getattr(tokenizer, "is_fast", False):
        raise BackboneError(
            f'The backbone "{reference}" has no fast tokenizer (tokenizer.json), which word '
            "alignment needs."
        )
    # Without tokenizer files, transformers makes a tokenizer without a vocabulary.
    if len(tokenizer) < len(tokenizer.all_special_tokens) + _FEWEST_PIECES:
        raise BackboneError(
            f'The backbone "{reference}" has no tokenizer: tokenizer.json is missing or empty.'
        )
    return Backbone(encoder, tokenizer, reference, revision, mlm_start)


def encoder_limits(reference: str, revision: str | None = None) -> tuple[int, int]:
    """Return how many layers an encoder has and how many sub-words it takes, without its weights.

    Raises:
        BackboneError: it cannot be found, or is of an unsupported family.
    """
    from transformers import AutoConfig

    if reference.startswith(BUILTIN):
        return builtin_limits(reference.removeprefix(BUILTIN))
    source, options = _locate(reference, revision)
    family_of(_model_type(reference, source, options))
    with _explained(reference, options):
        config = AutoConfig.from_pretrained(source, **options)
    return int(config.num_hidden_layers), longest_input(config)


def _locate(reference: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Return the name that transformers takes, and the options it is read with."""
    if reference.startswith(BUILTIN):
        return str(builtin_folder(reference.removeprefix(BUILTIN))), {}
    path = Path(reference).expanduser()
    if reference and path.exists():
        return str(path), {}
    if not (is_hub_id(reference) or is_hub_id(f"hub/{reference}")):  # some have no owner
        raise BackboneError(
            f'The backbone "{reference}" cannot be loaded. There is no such folder, and it is not '
            "a hub id."
        )
    offline = not hub_is_reachable(reference)
    return reference, {"revision": revision, "local_files_only": offline}


def _model_type(reference: str, source: str, options: dict[str, Any]) -> str:
    """Read the model type before transformers does, which cannot list the supported ones."""
    from transformers import PretrainedConfig

    with _explained(reference, options):
        data, _ = PretrainedConfig.get_config_dict(source, **options)
        if "model_type" not in data:
            raise BackboneError(
                f'The backbone "{reference}" cannot be loaded. Its config.json is missing, or has '
                "no model_type."
            )
        return str(data["model_type"])


@contextlib.contextmanager
def _explained(reference: str, options: dict[str, Any]) -> Iterator[None]:
    """Turn the errors of transformers, which may be of any class, into one for the user."""
    try:
        yield
    except HyperlectError:
        raise
    except Exception as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" …")
        if options.get("local_files_only") and isinstance(error, OSError):
            reason = "The hub cannot be reached, and its local cache does not hold this encoder."
        raise BackboneError(f'The backbone "{reference}" cannot be loaded. {reason}') from error


def _load_encoder(
    source: str, options: dict[str, Any], config: Any, family: Family
) -> tuple[nn.Module, MlmStart | None]:
    from transformers import AutoModel, AutoModelForMaskedLM

    has_head = any("MaskedLM" in name for name in config.architectures or [])
    loader: Any = AutoModelForMaskedLM if has_head else AutoModel
    pooler = {"add_pooling_layer": False} if family.pooler and not has_head else {}
    with _quiet():
        model, info = loader.from_pretrained(
            source,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named and refused below
            **options,
            **pooler,
        )
    encoder = model.base_model
    missing = sorted(info["missing_keys"])
    inside = f"{model.base_model_prefix}." if has_head else ""
    problems = Problems()
    for key in missing:
        if key.startswith(inside):
            problems.add(f"{key} is missing")
    for key, shape, expected in sorted(info["mismatched_keys"]):
        problems.add(f"{key} has the shape {tuple(shape)}, not {tuple(expected)}")
    heading = f'The weights of "{source}" do not fit its configuration:'
    problems.raise_if_any(BackboneError, heading)
    # A head with missing tensors (old DeBERTa files) would be random. One with a decoder of its
    # own would change if it decoded with the word embeddings. Leave both out.
    decoder = model.get_output_embeddings() if has_head and not missing else None
    tied = decoder is not None and decoder.weight is encoder.get_input_embeddings().weight
    return encoder, _mlm_start(model, config, family) if tied else None


def _mlm_start(model: nn.Module, config: Any, family: Family) -> MlmStart:
    names = family.mlm
    dense: Any = model.get_submodule(names.dense)
    norm: Any = model.get_submodule(names.norm)
    owner, _, attribute = names.bias.rpartition(".")
    bias = getattr(model.get_submodule(owner), attribute, None)
    fixed = names.activation.removeprefix("=")
    activation = fixed if fixed != names.activation else getattr(config, names.activation)
    zeros = torch.zeros(config.hidden_size)
    state = {
        "dense.weight": dense.weight,
        "dense.bias": zeros if dense.bias is None else dense.bias,
        "norm.weight": norm.weight,
        "norm.bias": zeros if norm.bias is None else norm.bias,
        "bias": torch.zeros(config.vocab_size) if bias is None else bias,
    }
    return MlmStart(activation, norm.eps, {n: t.detach().clone() for n, t in state.items()})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the bars and remarks of transformers; problems are checked and raised here."""
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
