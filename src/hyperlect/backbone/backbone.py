"""The frozen pretrained encoder."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BackboneError
from .families import Family, family_of


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


def encoder_digest(encoder: nn.Module) -> str:
    """Return what tells an encoder from another with tensors of the same shapes.

    It is of at most some thousand values of each tensor, evenly spread, since all would take as
    long to read as to load; and not of their names, which differ between versions of transformers.
    """
    found = []
    for tensor in encoder.state_dict().values():
        values = tensor.detach().flatten()[:: max(1, tensor.numel() // 1000)].float().cpu()
        digest = hashlib.sha256(repr(tuple(tensor.shape)).encode())
        digest.update(values.numpy().tobytes())
        found.append(digest.hexdigest())
    return hashlib.sha256("".join(sorted(found)).encode()).hexdigest()


class Backbone(nn.Module):
    """An encoder with its tokenizer and family; frozen unless its LayerNorms are to be trained.

    Args:
        encoder: a transformers base model of a supported family.
        tokenizer: its tokenizer (None for models built from bare weights).
        reference: what it was loaded from: a hub id, a folder, or ``builtin:e5-small``.
        revision: the revision on the hub, where one was asked for.
        mlm_start: its pretrained MLM head, if it brings one.

    Attributes:
        digest: of the encoder as it was loaded; see `encoder_digest`.

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
        self.digest = encoder_digest(encoder)
        self._checkpointed = False
        self._compiled: Callable[..., Any] | None = None
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

    def top_parameters(self, layers: int | None) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of so many layers, counted from the top; of the whole encoder."""
        paths = [
            self.family.layer.format(i=i) for i in range(self.layers - (layers or 0), self.layers)
        ]
        beginnings = "" if layers is None else tuple(f"{path}." for path in paths)
        for name, parameter in self.encoder.named_parameters():
            if name.startswith(beginnings):
                yield name, parameter

    def compile_encoder(self, notice: Callable[[str], None]) -> None:
        """Run the encoder, adapters and all, through `torch.compile`.

        It pays on GPUs and in long runs; compiling takes minutes, and inputs of any length share
        one result. What cannot be compiled runs as it is.

        Args:
            notice: is told once, in one line, if so.
        """
        # The method, since a compiled module would be a second submodule with the same weights.
        compiled = torch.compile(self.encoder.forward, dynamic=True)

        def run(**inputs: Any) -> Any:
            try:
                return compiled(**inputs)
            except Exception as error:  # whatever it is: a fault of the inputs comes again below
                self._compiled = None
                output = self.encoder(**inputs)
                reason = str(error).strip().partition("\n")[0]
                notice(f"torch.compile does not work here, so it is not used: {reason}")
                return output

        self._compiled = run

    def attend_plainly(self) -> None:
        """Compute attention as plain matrix products, not with torch's fused kernel.

        To be used with bf16 on CPUs: the fused kernel's backward pass was measured there to take
        seven times as long as in fp32, which undoes what bf16 saves everywhere else. The results
        differ by rounding alone.
        """
        encoder: Any = self.encoder
        encoder.set_attn_implementation("eager")

    def checkpoint_activations(self, contexts: Callable[[], Any]) -> None:
        """Keep the input of each layer alone while training, and compute the rest again.

        Args:
            contexts: what `torch.utils.checkpoint` calls for the contexts of its two runs.

        Raises:
            BackboneError: the family cannot.
        """
        encoder: Any = self.encoder
        # transformers renames it within version 5.
        new = getattr(encoder, "activation_checkpointing_enable", None)
        try:
            (new or encoder.gradient_checkpointing_enable)(
                {"use_reentrant": False, "context_fn": contexts}
            )
        except ValueError as error:
            title = self.family.title
            raise BackboneError(f"{title} cannot compute activations again: {error}") from error
        self._checkpointed = True

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training or evaluation; see `torch.nn.Module.train`."""
        super().train(mode)
        if self._checkpointed:
            # The layers look here whether to checkpoint. Their dropouts have a mode of their own,
            # so a backbone without dropout can be checkpointed too.
            for layer in self.family.insertion_points(self.encoder, self.layers, "layer"):
                layer.training = True
        return self

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
            run = self._compiled or self.encoder
            return run(**inputs).last_hidden_state, None
        with self._recorded() as states:
            last = self.encoder(**inputs).last_hidden_state
        # As in transformers, the last one is what the encoder returns (after any final norm).
        return last, (*states[:-1], last)

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[list[Tensor]]:
        """Collect the first layer's input and every layer's output.

        transformers would collect them before the hooks of adapters that act after a whole layer;
        hooks that are registered last see what the next layer sees. Other threads' passes, which
        the hooks see too, are left out.
        """
        states: list[Tensor] = []
        own = threading.get_ident()

        def enter(_module: nn.Module, arguments: Any, keywords: Any) -> None:
            if threading.get_ident() == own:
                states.append(arguments[0] if arguments else keywords["hidden_states"])

        def leave(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if threading.get_ident() == own:
                states.append(output if isinstance(output, Tensor) else output[0])

        modules = self.family.insertion_points(self.encoder, self.layers, "layer")
        handles = [modules[0].register_forward_pre_hook(enter, with_kwargs=True)]
        handles += [module.register_forward_hook(leave) for module in modules]
        try:
            yield states
        finally:
            for handle in handles:
                handle.remove()
