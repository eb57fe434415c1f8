"""Loading an encoder from a hub id, a folder, or the built-in wheel; whole, or not at all."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from ..errors import BackboneError, HyperlectError, Problems
from ..run_folder import expanded, hub_is_reachable, is_hub_id
from .backbone import Backbone, MlmStart, longest_input
from .builtin import builtin_folder, builtin_limits
from .families import MlmNames, family_of

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
    from transformers import AutoTokenizer

    with _located(reference, revision) as (source, options, config):
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        encoder, mlm_start = _load_encoder(source, options, config)
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
    if reference.startswith(BUILTIN):
        return builtin_limits(reference.removeprefix(BUILTIN))
    with _located(reference, revision) as (_, _, config):
        return int(config.num_hidden_layers), longest_input(config)


@contextlib.contextmanager
def _located(reference: str, revision: str | None) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Find an encoder, and explain whatever transformers raises inside the block.

    Yields:
        The name that transformers takes, the options it is read with, and its configuration.
    """
    from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig, __version__

    source, options = _source(reference, revision)
    try:
        # transformers does not say which families are supported here, so read the type first.
        model_type = PretrainedConfig.get_config_dict(source, **options)[0].get("model_type")
        if model_type is None:
            raise BackboneError(
                f'The backbone "{reference}" cannot be loaded. Its config.json is missing, or has '
                "no model_type."
            )
        family = family_of(model_type)
        if model_type not in CONFIG_MAPPING:
            raise BackboneError(
                f'The backbone "{reference}" needs transformers {family.since} or later for '
                f"{family.title}. Version {__version__} is installed."
            )
        # Else a folder or repository with code of its own makes transformers ask whether to run it.
        options["trust_remote_code"] = False
        yield source, options, AutoConfig.from_pretrained(source, **options)
    except HyperlectError:
        raise
    except Exception as error:  # transformers raises errors of any class
        reason = textwrap.shorten(str(error), 300, placeholder=" …")
        if options.get("local_files_only") and isinstance(error, OSError):
            reason = "The hub cannot be reached, and its local cache does not hold this encoder."
        raise BackboneError(f'The backbone "{reference}" cannot be loaded. {reason}') from error


def _source(reference: str, revision: str | None) -> tuple[str, dict[str, Any]]:
    """Return the name that transformers takes, and the options it is read with."""
    if reference.startswith(BUILTIN):
        return str(builtin_folder(reference.removeprefix(BUILTIN))), {}
    path = expanded(reference)
    if reference and path.exists():
        return str(path), {}
    if not (is_hub_id(reference) or is_hub_id(f"hub/{reference}")):  # some have no owner
        raise BackboneError(
            f'The backbone "{reference}" cannot be loaded. There is no such folder, and it is not '
            "a hub id."
        )
    offline = not hub_is_reachable(reference)
    return reference, {"revision": revision, "local_files_only": offline}


def _load_encoder(
    source: str, options: dict[str, Any], config: Any
) -> tuple[nn.Module, MlmStart | None]:
    from transformers import AutoModel, AutoModelForMaskedLM

    has_head = any("MaskedLM" in name for name in config.architectures or [])
    # The second kind of head of DeBERTa is none for `mlm`, and transformers 5.0 cannot make it.
    has_head = has_head and getattr(config, "legacy", True)
    loader: Any = AutoModelForMaskedLM if has_head else AutoModel
    family = family_of(config.model_type)
    pooler = {"add_pooling_layer": False} if family.pooler and not has_head else {}
    with quiet():
        model, info = loader.from_pretrained(
            source,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named and refused below
            # Where peft is installed, transformers also looks for an adapter, and asks the hub.
            adapter_kwargs={"local_files_only": options.get("local_files_only", False)},
            **options,
            **pooler,
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise BackboneError(
            f'"{source}" has an adapter of peft (adapter_config.json), which would be active. '
            "Remove that file, or merge the adapter into the encoder."
        )
    encoder = model.base_model
    inside = f"{model.base_model_prefix}." if has_head else ""
    problems = Problems()
    for key in sorted(info["missing_keys"]):
        if key.startswith(inside):
            problems.add(f"{key} is missing")
    for key, shape, expected in sorted(info["mismatched_keys"]):
        problems.add(f"{key} has the shape {tuple(shape)}, not {tuple(expected)}")
    heading = f'The weights of "{source}" do not fit its configuration:'
    problems.raise_if_any(BackboneError, heading)
    # A head with missing tensors (old DeBERTa files) would be random. One with a decoder of its
    # own would change if it decoded with the word embeddings. One that is only a decoder has no
    # LayerNorm, which the head for `mlm` has. Leave them all out.
    if not has_head or info["missing_keys"] or family.mlm is None:
        return encoder, None
    decoder = model.get_output_embeddings()
    tied = decoder is not None and decoder.weight is encoder.get_input_embeddings().weight
    return encoder, _mlm_start(model, config, family.mlm) if tied else None


def _mlm_start(model: nn.Module, config: Any, names: MlmNames) -> MlmStart:
    norm: Any = model.get_submodule(names.norm)
    fixed = names.activation.removeprefix("=")
    activation = fixed if fixed != names.activation else getattr(config, names.activation)
    tensors, zeros = model.state_dict(), torch.zeros(config.hidden_size)
    state = {
        "dense.weight": tensors[f"{names.dense}.weight"],
        "dense.bias": tensors.get(f"{names.dense}.bias", zeros),
        "norm.weight": tensors[f"{names.norm}.weight"],
        "norm.bias": tensors.get(f"{names.norm}.bias", zeros),
        "bias": tensors.get(names.bias, torch.zeros(config.vocab_size)),
    }
    return MlmStart(activation, norm.eps, {n: tensor.clone() for n, tensor in state.items()})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
