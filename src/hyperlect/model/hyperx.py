"""HyperX: a frozen backbone, the network that writes its adapters, and the heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import AdapterSlots, Backbone
from ..errors import BackboneError, RunError
from ..grid import Cell
from ..heads import Latents
from ..hypernet import AdapterWeights, Grouping, Hypernet, OrdinaryAdapters, StackedAdapters
from ..methods import TUNING
from ..prediction import Prediction, predict
from ..rows import row_cells
from ..run_folder import load_exactly, load_tensors, locate, save_tensors
from .config import Encoder, HyperXConfig, read_config, write_config
from .generation import Generation, generate
from .inventory import Inventory
from .output import HyperXOutput
from .scoring import make_head, score_rows

CONFIG_FILE, WEIGHTS_FILE = "model.json", "model.safetensors"


class HyperX(nn.Module, Inventory):
    """One model for every task and language (Üstün et al. 2022).

    Args:
        backbone: the encoder; it stays frozen, and with adapters off it is exactly itself.
        config: tasks, languages and variants.

    Raises:
        BackboneError: more layers are to have adapters than there are.
    """

    def __init__(self, backbone: Backbone, config: HyperXConfig) -> None:
        nn.Module.__init__(self)
        Inventory.__init__(self, config)
        self.backbone = backbone
        if self.adapted_layers.start < 0 or not self.adapted_layers:
            said = "lower hypernet.top_layers, or leave hypernet.skip_last_layer out"
            raise BackboneError(f"The backbone has {backbone.layers} layers: {said}.")
        self.adapters = self._make_adapters()
        self.heads = nn.ModuleDict(
            {task.name: make_head(task, backbone, config) for task in config.tasks}
        )
        self.latents: Latents | None = None
        if config.method == "factorised":
            self.latents = Latents(len(self.tasks), len(self.languages))
        self.generation = Generation()
        points = backbone.family.insertion_points(
            backbone.encoder, backbone.layers, config.hypernet.insertion
        )
        points = [points[layer] for layer in self.adapted_layers]
        self.slots = AdapterSlots(points, config.hypernet.activation, config.hypernet.norm_eps)
        for _, parameter in self._trained_backbone():
            parameter.requires_grad_(True)

    def _make_adapters(self) -> Hypernet | OrdinaryAdapters | StackedAdapters | None:
        sizes = {"hidden": self.backbone.hidden_size, "layers": len(self.adapted_layers)}
        counts = {"tasks": len(self.adapted_tasks)}
        if self.config.method in (*TUNING, "head"):
            return None
        if self.config.method == "adapters":
            return OrdinaryAdapters(self.config.hypernet, **sizes, **counts)
        kind = StackedAdapters if self.config.method == "mad-x" else Hypernet
        return kind(self.config.hypernet, **sizes, **counts, languages=len(self.languages))

    @property
    def adapted_layers(self) -> range:
        """Which of the backbone's layers, counted from 0 at the bottom, have adapters."""
        hypernet, layers = self.config.hypernet, self.backbone.layers
        return range(layers - (hypernet.top_layers or layers), layers - hypernet.skip_last_layer)

    @property
    def tokenizer(self) -> Any:
        """The backbone's tokenizer."""
        return self.backbone.tokenizer

    @property
    def max_length(self) -> int:
        """The longest input in sub-words, special tokens counted."""
        return min(self.config.max_length or self.backbone.max_length, self.backbone.max_length)

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return self.backbone.word_embeddings.device

    def generate(self, cells: Sequence[tuple[str, str]]) -> AdapterWeights | None:
        """Generate the adapter weights of some cells, leading dimensions (cells, layers).

        With mad-x (cells, layers, 2), the language's adapter before the task's; what there is none
        of is zero. Returns None for a model without adapters. Gradients flow into the hypernetwork.

        Raises:
            UnknownNameError: no such task, or no such language.
        """
        index = [self.index(Cell(*cell)) for cell in cells]
        return None if self.adapters is None else generate(self.adapters, index)

    @torch.no_grad()
    def adapter_weights(self, task: str, language: str) -> AdapterWeights:
        """Return the adapter weights of one cell, leading dimension (layers,); see `generate`.

        Raises:
            RunError: this is a model without adapters.
            HyperlectError: the model's method does not apply to the cell.
        """
        self.require_applicable([Cell(task, language)])
        weights = self.generate([(task, language)])
        if weights is None:
            raise RunError(f"{self.config.method} has no adapter weights.")
        return weights[0]

    @contextmanager
    def generated_once(self, cells: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Generate the weights of these cells once for all forward passes inside the block.

        For gradient accumulation: the backward passes inside stop at the weights, and what they
        leave there goes through the hypernetwork in one pass at the end. Cells that are not
        listed may not be used in the block.
        """
        if self.adapters is None:
            yield
            return
        distinct = dict.fromkeys(self.index(Cell(*cell)) for cell in cells)
        with self.generation.once(self.adapters, list(distinct)):
            yield

    @contextmanager
    def _adapted(self, cells: Sequence[Cell]) -> Iterator[None]:
        """Fill the slots with the weights of each row's cell."""
        own = [self.index(cell) for cell in cells]
        if self.adapters is None:
            yield
            return
        number = {index: place for place, index in enumerate(dict.fromkeys(own))}
        keep = not (self.training or torch.is_grad_enabled())
        layers = self.generation.layers(self.adapters, list(number), keep)
        grouping = Grouping.of([number[i] for i in own], self.device) if len(number) > 1 else None
        with self.slots.filled(layers, grouping):
            yield

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        task: str | Sequence[str],
        language: str | Sequence[str],
        token_type_ids: Tensor | None = None,
        positions: Tensor | None = None,
        words: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> HyperXOutput:
        """Encode a batch of any cells, and score the rows of each task with its head.

        Args:
            input_ids, attention_mask, token_type_ids: (B, T).
            task, language: the batch's cell, or one name a row. A language that was not trained
                uses the mean of the trained language vectors (see `language_source`).
            positions: (B, T), boolean; score only there (taggers and `mlm`).
            words: (B, T), int64: for parsing, which word each sub-word belongs to, as in
                `heads.ParserHead.forward`.
            output_hidden_states: also return every layer's output.

        Raises:
            UnknownNameError: no such task, or no such language; names the rows.
            HyperlectError: there are more or fewer names than rows, or no words to parse.
        """
        cells = row_cells(task, language, len(input_ids), self.task, self.language_index)
        with self._adapted(cells):
            hidden, every = self.backbone(
                input_ids, attention_mask, token_type_ids, output_hidden_states
            )
        latents = None
        if self.latents is not None:
            latents = self.latents.of_rows([self.index(cell) for cell in cells])
        read = (hidden, attention_mask, positions, words, latents)
        scores = score_rows(self.heads, cells, self.backbone.word_embeddings, *read)
        return HyperXOutput(hidden, *scores, hidden_states=every)

    def predict(
        self,
        inputs: Iterable[str | Sequence[str]],
        task: str | Sequence[str],
        language: str | Sequence[str],
        **options: Any,
    ) -> list[Prediction]:
        """Predict for sentences given as strings or as lists of words; see `prediction.predict`."""
        return predict(self, inputs, task, language, **options)

    def language_vectors(self) -> tuple[list[str], Tensor]:
        """Return the languages and their vectors, (languages, e); empty without language input."""
        if isinstance(self.adapters, Hypernet) and self.reads_language:
            table = self.adapters.source.embeddings["language"]
            return list(self.languages), table.detach().cpu()
        return [], torch.empty(0, 0)

    def checkpoint_activations(self) -> None:
        """Compute activations again in the backward pass rather than keep them all.

        Raises:
            BackboneError: the backbone's family cannot.
        """
        self.backbone.checkpoint_activations(self.slots.kept)

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Switch to evaluation (no dropout, no gradients) inside the block."""
        before = self.training, self.backbone.training  # whose dropout has a switch of its own
        if any(before):  # it takes a while to tell all modules
            self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            if any(before):
                self.train(before[0])
                self.backbone.train(before[1])

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained and saved: adapters, heads, and LayerNorms if they are trained."""
        own = {n: p for n, p in self.named_parameters() if not n.startswith("backbone.")}
        return own | {f"backbone.encoder.{name}": p for name, p in self._trained_backbone()}

    def _trained_backbone(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the encoder's parameters that are trained: none, its LayerNorms, or its layers."""
        if self.config.method in TUNING:
            yield from self.backbone.top_parameters(self.config.hypernet.top_layers)
        if self.config.train_layer_norms:
            yield from self.backbone.layer_norms()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.json and model.safetensors (without the backbone's weights).

        Raises:
            RunError: the backbone was not loaded from anywhere, so it could not be found again.
        """
        if not self.backbone.reference:
            raise RunError(
                "This model's backbone exists in memory only. Save it, and give its folder or hub "
                "id as the backbone's reference, so that the model can be loaded again."
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder / CONFIG_FILE, Encoder.of(self.backbone), self.config)
        save_tensors(self.own_parameters(), folder / WEIGHTS_FILE)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, revision: str | None = None, device: str | None = None
    ) -> HyperX:
        """Load a trained model from a run folder or a hub id.

        Args:
            source: the folder that holds model.json, or a hub id.
            revision: a branch, tag or commit on the hub.
            device: where to put it ("cpu", "cuda", "mps"); the CPU by default.

        Raises:
            RunError: the folder is incomplete or malformed, of another format version, a tensor is
                missing, unexpected or mis-shaped, or the encoder is not the one trained on.
            BackboneError: the backbone cannot be loaded.
        """
        folder = locate(source, revision, (CONFIG_FILE, WEIGHTS_FILE))
        encoder, config = read_config(folder / CONFIG_FILE)
        model = cls(encoder.load(folder / CONFIG_FILE), config)
        load_exactly(model.own_parameters(), load_tensors(folder / WEIGHTS_FILE))
        encoder.require(model.backbone.digest, source)
        return model.eval().to(device or "cpu")
