"""The frozen pretrained encoder, loaded from a hub id, a folder, or the built-in wheel."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BackboneError, HyperlectError, Problems
from .builtin import builtin_folder
from .families import Family, family_of

BUILTIN = "builtin:"


@dataclass(frozen=True)
class MlmStart:
    """An encoder's own pretrained MLM head, from which a head for `mlm` can start.

    Attributes:
        activation: its non-linearity.
        eps: epsilon of its LayerNorm.
        state: its tensors under the names of `heads.mlm.MlmHead`.
    """

    activation: str
    eps: float
    state: dict[str, Tensor]


class Backbone(nn.Module):
    """An encoder with its tokenizer and family; frozen unless its LayerNorms are to be trained.

    Args:
        encoder: a transformers base model of a supported family.
        tokenizer: its tokenizer (None for models built from bare weights).
        reference: what it was loaded from: a hub id, a folder, or ``builtin:e5-small``.
        revision: the revision on the hub, where one was asked for.
        mlm_start: its pretrained MLM head, if it brings one.

    Raises:
        BackboneError: the family is not supported.
    """

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: Any = None,
        reference: str = "",
        revision: str | None = None,
        mlm_start: MlmStart | None = None,
    ) -> None:
        super().__init__()
        config: Any = encoder.config
        self.family: Family = family_of(config.model_type)
        self.encoder = encoder.requires_grad_(False)
        self.tokenizer = tokenizer
        self.reference = reference
        self.revision = revision
        self.mlm_start = mlm_start
        self.hidden_size: int = config.hidden_size
        self.layers: int = config.num_hidden_layers
        self.vocabulary: int = config.vocab_size

    @property
    def max_length(self) -> int:
        """The longest input in sub-words, special tokens counted."""
        config: Any = self.encoder.config
        # RoBERTa numbers positions from padding_idx + 1, so some of the table is never used.
        unused = config.pad_token_id + 1 if "roberta" in self.family.model_type else 0
        limit = int(config.max_position_embeddings) - unused
        return min(limit, getattr(self.tokenizer, "model_max_length", limit) or limit)

    @property
    def word_embeddings(self) -> Tensor:
        """The input embeddings, (vocabulary, h); the MLM decoder is tied to them."""
        embeddings: Any = self.encoder
        return embeddings.get_input_embeddings().weight  # type: ignore[no-any-return]

    def layer_norms(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the encoder's LayerNorm parameters by name."""
        for path, module in self.encoder.named_modules():
            if "LayerNorm" in type(module).__name__:
                for name, parameter in module.named_parameters(recurse=False):
                    yield f"{path}.{name}", parameter

    def train_layer_norms(self) -> None:
        """Let the LayerNorms be trained, as the released code does."""
        for _, parameter in self.layer_norms():
            parameter.requires_grad_(True)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Encode; returns the last hidden states (B, T, h) and, on request, those of all layers.

        Args:
            input_ids, attention_mask, token_type_ids: (B, T).
            output_hidden_states: also return the embeddings' and every layer's output.
        """
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if not output_hidden_states:
            return self.encoder(**inputs).last_hidden_state, None
        with self._recorded() as states:
            last = self.encoder(**inputs).last_hidden_state
        # As in transformers, the last one is what the encoder returns (after any final norm).
        return last, (*states[:-1], last)

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[list[Tensor]]:
        """Collect the first layer's input and every layer's output.

        transformers would collect them before the hooks of adapters that act after a whole layer;
        hooks that are registered last see what the next layer sees.
        """
        states: list[Tensor] = []

        def enter(_module: nn.Module, arguments: Any, keywords: Any) -> None:
            states.append(arguments[0] if arguments else keywords["hidden_states"])

        def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
            states.append(output if isinstance(output, Tensor) else output[0])

        modules = self.family.insertion_points(self.encoder, self.layers, "layer")
        handles = [modules[0].register_forward_pre_hook(enter, with_kwargs=True)]
        handles += [module.register_forward_hook(leave) for module in modules]
        try:
            yield states
        finally:
            for handle in handles:
                handle.remove()


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
