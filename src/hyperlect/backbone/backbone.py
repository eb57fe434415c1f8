"""The frozen pretrained encoder."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BackboneError
from ..hardware import Arithmetic, arithmetic, fast_precision
from ..run_folder import read_json, write_json
from .families import Family, OfThread, family_of


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


def encoder_digest(encoder: nn.Module, sampled: bool = False) -> str:
    """Return a digest that tells encoders with tensors of the same shapes apart.

    It reads every number, by the CRC-32 of each tensor: other digests take twice as long or more.
    Names do not count, since they differ between versions of transformers. On the meta device
    there are no values to read.

    Args:
        encoder: any.
        sampled: whether to read about a thousand values of each tensor, as version 0.1 did.
    """
    digests = []
    for tensor in encoder.state_dict().values():
        if tensor.is_meta:
            continue
        step = max(1, tensor.numel() // 1000) if sampled else 1
        values = tensor.detach().flatten()[::step].float().cpu().contiguous().numpy()
        digest = hashlib.sha256(repr(tuple(tensor.shape)).encode())
        digest.update(values.tobytes() if sampled else zlib.crc32(values).to_bytes(4, "big"))
        digests.append(digest.hexdigest())
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def longest_input(config: Any) -> int:
    """Return how many sub-words an encoder takes by its configuration."""
    unused = config.pad_token_id + 1 if family_of(config.model_type).padded_positions else 0
    return int(config.max_position_embeddings) - unused


class _Reached(Exception):
    """Ends a forward pass at the layer whose input was wanted."""


OF_ALL_ROWS = ("relative_pos", "rel_embeddings")
"""Arguments of layers without a batch dimension (DeBERTa)."""

_PREPARING = threading.RLock()
"""Held while an encoder is changed for bf16, or restored."""


@dataclass(frozen=True)
class Shared:
    """Rows of a batch that are the same up to some layer.

    Attributes:
        layer: the first one, from 0, whose output differs; the number of layers if none does.
        until_output: whether its attention and the first half of its feed-forward block do not,
            since an adapter acts on the output of that block.
        distinct: (U,), int64, the first of all rows with the same input.
        copies: (B,), int64, which of these U each row has.
    """

    layer: int
    until_output: bool
    distinct: Tensor
    copies: Tensor


class Backbone(nn.Module):
    """An encoder with its tokenizer and family; frozen unless its LayerNorms are to be trained.

    Args:
        encoder: a transformers base model of a supported family.
        tokenizer: its tokenizer (None for models built from bare weights).
        reference: where it was loaded from: a hub id, a folder, or ``builtin:e5-small``.
        revision: the revision on the hub, if one was asked for.
        mlm_start: its pretrained MLM head, if it has one.

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
        self.encoder: Any = encoder.requires_grad_(False)
        self.tokenizer = tokenizer
        self.reference = reference
        self.revision = revision
        self.mlm_start = mlm_start
        self.digest = encoder_digest(encoder)
        self._sampled_digest = encoder_digest(encoder, sampled=True)
        self.hidden_size: int = config.hidden_size
        self.layers: int = config.num_hidden_layers
        self.vocabulary: int = config.vocab_size
        self._recomputed = False
        self._rounded = 0
        self._restore = contextlib.ExitStack()
        self._compiled: Callable[..., Any] | None = None
        self._copies: dict[str, tuple[Any, Tensor]] = {}
        # They stay: torch calls hooks while other threads run, and none may come or go meanwhile.
        self._in_thread = OfThread()
        layers = self.family.insertion_points(encoder, self.layers, "layer")
        around = (self._around_output(layer) for layer in range(self.layers))
        for module in dict.fromkeys([*layers, *around]):
            module.register_forward_pre_hook(self._before, with_kwargs=True)

    def _around_output(self, layer: int) -> nn.Module:
        """Return the module around the output of a layer's feed-forward block.

        In some families it reads that block's inner states and the residual; in the others it is
        the layer itself.
        """
        path = self.family.feed_forward.format(i=layer).rpartition(".")[0]
        return self.encoder.get_submodule(path)  # type: ignore[no-any-return]

    def _before(self, module: nn.Module, arguments: Any, keywords: Any) -> Any:
        """The hook before every layer: it calls what this thread asked for, mostly nothing.

        That may replace the arguments and the keywords.
        """
        watch = self._in_thread.active
        return None if watch is None else watch(module, arguments, keywords)

    def has_digest(self, digest: str | None) -> bool:
        """Whether a digest is that of the encoder as it was loaded, or was that in version 0.1."""
        return digest in (self.digest, self._sampled_digest)

    @property
    def max_length(self) -> int:
        """The longest input in sub-words, special tokens counted."""
        limit = longest_input(self.encoder.config)
        return min(limit, getattr(self.tokenizer, "model_max_length", limit) or limit)

    @property
    def word_embeddings(self) -> Tensor:
        """The input embeddings, (vocabulary, h)."""
        return self.encoder.get_input_embeddings().weight  # type: ignore[no-any-return]

    def layer_norms(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of the encoder's LayerNorms by name; RMSNorms count as such."""
        for path, module in self.encoder.named_modules():
            if type(module).__name__.endswith(("LayerNorm", "RMSNorm")):
                for name, parameter in module.named_parameters(recurse=False):
                    yield f"{path}.{name}", parameter

    def top_parameters(self, layers: int | None) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters of the top `layers` layers; of the whole encoder for None."""
        first = self.layers - (layers or 0)
        paths = [f"{self.family.layer.format(i=i)}." for i in range(first, self.layers)]
        for name, parameter in self.encoder.named_parameters():
            if layers is None or name.startswith(tuple(paths)):
                yield name, parameter

    def save_pretrained(self, folder: str | Path, model: Any = None) -> None:
        """Write the encoder as it is now, and its tokenizer, as a transformers folder.

        Versions 4 of transformers read it too. They do not know the classes and fields of
        tokenizers that version 5 writes.

        Args:
            folder: is made.
            model: a transformers model to write in place of the encoder.
        """
        folder = Path(folder)
        (model or self.encoder).save_pretrained(folder)
        for file in folder.glob("*.safetensors"):  # safetensors lets the owner alone read them
            file.chmod((folder / "config.json").stat().st_mode)
        if self.tokenizer is None:
            return
        self.tokenizer.save_pretrained(folder)
        path = folder / "tokenizer_config.json"
        config = read_json(path)
        if isinstance(config.get("extra_special_tokens"), list):
            config["additional_special_tokens"] = config.pop("extra_special_tokens")
        names = list(self.tokenizer.model_input_names)
        config |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}
        write_json(path, config, indent=2)

    @contextlib.contextmanager
    def arithmetic(self, precision: Arithmetic) -> Iterator[None]:
        """Compute in one precision inside the block.

        Backward passes must be inside too, with autocast switched off: it would round gradients of
        what was computed in fp32. Blocks in bf16 may overlap in several threads, but not with a
        block in another precision.

        In bf16, the frozen matrices of the encoder are replaced by copies in bf16 for the time of
        the block. Autocast would cast them again at every use, which was measured to take a sixth
        of a training step on a CPU. Every product is the same to the last bit. The copies are kept
        and take half the encoder's memory once more. On a CPU attention is then computed as plain
        matrix products: torch's fused kernel was measured to take up to three times as long in
        bf16, and its backward pass seven times as long as in fp32.

        Args:
            precision: see `hardware.arithmetic`; "auto" is bf16 where the hardware is fast in it,
                else fp32.
        """
        device = self.word_embeddings.device.type
        precision = fast_precision(device) if precision == "auto" else precision
        rounded = self._in_bf16(device) if precision == "bf16" else contextlib.nullcontext()
        with arithmetic(device, precision), rounded:
            yield

    @contextlib.contextmanager
    def _in_bf16(self, device: str) -> Iterator[None]:
        """Prepare the encoder for bf16; the last of overlapping blocks restores it."""
        with _PREPARING:
            if not self._rounded:
                with contextlib.ExitStack() as restore:  # if the memory does not suffice, at once
                    for name, parameter in self._frozen_matrices():
                        restore.callback(setattr, parameter, "data", parameter.data)
                        parameter.data = self._copy(name, parameter, torch.bfloat16)
                    attention = self.encoder.config._attn_implementation
                    if device == "cpu" and attention != "eager":
                        restore.callback(self.encoder.set_attn_implementation, attention)
                        self.encoder.set_attn_implementation("eager")
                    self._restore = restore.pop_all()
            self._rounded += 1
        try:
            yield
        finally:
            with _PREPARING:
                self._rounded -= 1
                if not self._rounded:
                    self._restore.close()

    def _copy(self, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a copy in another precision, the same one until the tensor changes."""
        version = None if tensor.is_inference() else tensor._version
        stamp = (dtype, tensor.data_ptr(), version)
        if self._copies.get(name, (None,))[0] != stamp:
            with torch.inference_mode(False):  # in evaluation too: training reads it after that
                self._copies[name] = stamp, tensor.detach().to(dtype)
        return self._copies[name][1]

    def _frozen_matrices(self) -> Iterator[tuple[str, nn.Parameter]]:
        for path, module in self.encoder.named_modules():
            if isinstance(module, nn.Linear):
                for name, parameter in module.named_parameters(recurse=False):
                    if not parameter.requires_grad and parameter.dtype != torch.bfloat16:
                        yield f"{path}.{name}", parameter

    @property
    def output_embeddings(self) -> Tensor:
        """The word embeddings as the decoder of `mlm` reads them, in the precision of the block."""
        table, device = self.word_embeddings, self.word_embeddings.device.type
        if table.requires_grad or not torch.is_autocast_enabled(device):
            return table
        return self._copy("output", table, torch.get_autocast_dtype(device))

    def compile_encoder(self, notice: Callable[[str], None]) -> None:
        """Run the encoder, adapters included, through `torch.compile`.

        It pays on GPUs and in long runs. Compiling takes minutes; inputs of any length share one
        result. An encoder that cannot be compiled runs as it is.

        Args:
            notice: called once, with one line, if it cannot be compiled.
        """
        # The method, since a compiled module would be a second submodule with the same weights.
        compiled: Any = torch.compile(self.encoder.forward, dynamic=True)

        def run(**inputs: Any) -> Any:
            try:
                return compiled(**inputs)
            except Exception as error:  # an error of the inputs comes again in the next line
                self._compiled = None
                output = self.encoder(**inputs)
                reason = str(error).strip().partition("\n")[0]
                notice(f"torch.compile does not work here and is not used: {reason}")
                return output

        self._compiled = run

    def checkpoint_activations(self, contexts: Callable[[], Any]) -> None:
        """In training keep only the input of each layer, and compute the rest a second time.

        Args:
            contexts: what `torch.utils.checkpoint` calls for the contexts of its two runs.

        Raises:
            BackboneError: the family cannot do this.
        """
        # transformers renames the method within version 5.
        renamed = getattr(self.encoder, "activation_checkpointing_enable", None)
        enable = renamed or self.encoder.gradient_checkpointing_enable
        try:
            enable({"use_reentrant": False, "context_fn": contexts})
        except ValueError as error:
            title = self.family.title
            raise BackboneError(f"{title} cannot recompute activations: {error}") from error
        self._recomputed = True

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training or evaluation; see `torch.nn.Module.train`."""
        super().train(mode)
        if self._recomputed:
            # The layers read this to decide whether to checkpoint. Their dropouts have a mode of
            # their own, so a backbone without dropout can be checkpointed too.
            for layer in self.family.insertion_points(self.encoder, self.layers, "layer"):
                layer.training = True
        return self

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        output_hidden_states: bool = False,
        shared: Shared | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Encode; returns the last hidden states (B, T, h) and, on request, those of all layers.

        Args:
            input_ids, attention_mask, token_type_ids: (B, T).
            output_hidden_states: also return the embeddings' and every layer's output.
            shared: rows that are the same up to some layer, which are computed once up to there.
                It is not used with `output_hidden_states`, nor in a compiled encoder.
        """
        if shared is not None and not output_hidden_states and self._compiled is None:
            of_all = (input_ids, attention_mask, token_type_ids)
            rows = [None if t is None else t.index_select(0, shared.distinct) for t in of_all]
            with self._repeated(shared):
                hidden, _ = self.forward(*rows)  # type: ignore[arg-type]
            at_end = shared.layer >= self.layers
            return hidden.index_select(0, shared.copies) if at_end else hidden, None
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if not output_hidden_states:
            run = self._compiled or self.encoder
            return run(**inputs).last_hidden_state, None
        states = self._states(inputs)
        return states[-1], tuple(states)

    def _states(self, inputs: Mapping[str, Any], until: int | None = None) -> list[Tensor]:
        """Return what each layer reads, and last the encoder's output; end before layer `until`.

        transformers would read the outputs of layers before the hooks of adapters that act after a
        whole one. What the next layer is given has them all. As in transformers, the last state
        comes after any final norm.
        """
        states: list[Tensor] = []
        layers = self.family.insertion_points(self.encoder, self.layers, "layer")

        def note(module: nn.Module, arguments: Any, keywords: Any) -> None:
            if module in layers:
                states.append(arguments[0] if arguments else keywords["hidden_states"])
                if len(states) - 1 == until:
                    raise _Reached

        with self._in_thread.holding(note), contextlib.suppress(_Reached):
            states.append(self.encoder(**inputs).last_hidden_state)
        return states

    @contextlib.contextmanager
    def _repeated(self, shared: Shared) -> Iterator[None]:
        """Give the layers from the first one that differs every row, not the distinct ones."""
        count = len(shared.distinct)

        def repeat(value: Any) -> Any:
            if isinstance(value, tuple | list):
                return type(value)(map(repeat, value))
            # What has other leading sizes is repeated already, or the same for all rows.
            if isinstance(value, Tensor) and value.dim() > 1 and len(value) == count:
                return value.index_select(0, shared.copies)
            return value

        modules = self.family.insertion_points(self.encoder, self.layers, "layer")[shared.layer :]
        if modules and shared.until_output:
            modules[0] = self._around_output(shared.layer)

        def widen(module: nn.Module, arguments: Any, keywords: Any) -> Any:
            if module not in modules:
                return None
            changed = {n: v if n in OF_ALL_ROWS else repeat(v) for n, v in keywords.items()}
            return tuple(map(repeat, arguments)), changed

        with self._in_thread.holding(widen):
            yield

    @torch.no_grad()
    def lower_states(self, input_ids: Tensor, attention_mask: Tensor, layer: int) -> Tensor:
        """Return the output of a lower layer, (B, T, h), without computing those above it.

        Args:
            input_ids, attention_mask: (B, T).
            layer: counted from 1; 0 for the embeddings. The last one where there are fewer.
        """
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        return self._states(inputs, until=layer)[-1]
