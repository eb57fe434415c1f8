"""HyperX: a frozen backbone, the network that writes its adapters, and the heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import languages as codes
from ..backbone import AdapterSlots, Backbone, load_backbone
from ..errors import RunError, unknown
from ..grid import Grid
from ..heads import MlmHead, SequenceHead, TokenHead
from ..hypernet import UNTRAINED, AdapterWeights, Hypernet, OrdinaryAdapters
from ..prediction import Prediction, predict
from ..tasks import Task, TaskType
from ..weights import load_exactly, load_tensors, locate, save_tensors
from .config import HyperXConfig, read_config, write_config

CONFIG_FILE, WEIGHTS_FILE = "model.json", "model.safetensors"


@dataclass(frozen=True)
class HyperXOutput:
    """What a forward pass gives.

    Attributes:
        last_hidden_state: (B, T, h).
        logits: the task head's: (N, labels) at `positions` or (B, T, labels) for word-level tasks
            and `mlm`; (B, labels) for sentence-level ones.
        hidden_states: the embeddings' and every layer's output, (B, T, h) each, on request.
    """

    last_hidden_state: Tensor
    logits: Tensor
    hidden_states: tuple[Tensor, ...] | None = None


class HyperX(nn.Module):
    """One model for every task and language (Üstün et al. 2022).

    Args:
        backbone: the encoder; it stays frozen, and with adapters off it is exactly itself.
        config: tasks, languages and variants.
    """

    def __init__(self, backbone: Backbone, config: HyperXConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.config = config
        self.tasks: dict[str, Task] = {task.name: task for task in config.tasks}
        self.languages: list[str] = list(config.languages)
        text_tasks = [t.name for t in config.tasks if t.type is TaskType.MLM]
        self.grid = Grid(config.trained, text_tasks)
        self.adapters = self._make_adapters()
        self.heads = nn.ModuleDict({task.name: self._make_head(task) for task in config.tasks})
        points = backbone.family.insertion_points(
            backbone.encoder, backbone.layers, config.hypernet.insertion
        )
        self.slots = AdapterSlots(points, config.hypernet.activation, config.hypernet.norm_eps)
        if config.train_layer_norms:
            backbone.train_layer_norms()

    def _make_adapters(self) -> Hypernet | OrdinaryAdapters | None:
        sizes = {"hidden": self.backbone.hidden_size, "layers": self.backbone.layers}
        counts = {"tasks": len(self.tasks)}
        if self.config.method == "head":
            return None
        if self.config.method == "adapters":
            return OrdinaryAdapters(self.config.hypernet, **sizes, **counts)
        return Hypernet(self.config.hypernet, **sizes, **counts, languages=len(self.languages))

    def _make_head(self, task: Task) -> nn.Module:
        hidden, dropout = self.backbone.hidden_size, self.config.head_dropout
        if task.type is TaskType.MLM:
            return MlmHead.start(self.backbone, tied=self.config.tied_decoder)
        head = TokenHead if task.type.reads_words else SequenceHead
        return head(hidden, len(task.labels), dropout)

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

    def task(self, name: str) -> Task:
        """Return a task of this model. Raises `UnknownNameError` that lists them."""
        if name not in self.tasks:
            raise unknown("task", name, self.tasks)
        return self.tasks[name]

    def language_index(self, language: str) -> int:
        """Return the row of a language's vector, `UNTRAINED` where it has none of its own.

        Raises:
            UnknownNameError: it is not a language code at all.
        """
        if language in self.languages:
            return self.languages.index(language)
        code = codes.resolve(language)
        return self.languages.index(code) if code in self.languages else UNTRAINED

    def language_source(self, language: str) -> str:
        """Say whose vector stands for a language: its own, or the mean of the trained ones.

        "not used" in models that read no language: most baselines.
        """
        row = self.language_index(language)
        if not self._reads_language:
            return "not used"
        return "own vector" if row != UNTRAINED else "mean of the trained languages"

    @property
    def _reads_language(self) -> bool:
        return self.config.method == "hyperx" and "language" in self.config.hypernet.sources

    def generate(self, cells: Sequence[tuple[str, str]]) -> AdapterWeights | None:
        """Generate the adapter weights of some cells, leading dimensions (cells, layers).

        Returns None for a model without adapters. Gradients flow into the hypernetwork.

        Raises:
            UnknownNameError: no such task, or no such language.
        """
        names = list(self.tasks)
        tasks = [names.index(self.task(task).name) for task, _ in cells]
        rows = [self.language_index(language) for _, language in cells]
        if self.adapters is None:
            return None
        index = torch.tensor([tasks, rows], device=self.device)
        weights: AdapterWeights = self.adapters(index[0], index[1])
        return weights

    @torch.no_grad()
    def adapter_weights(self, task: str, language: str) -> AdapterWeights:
        """Return the adapter weights of one cell, leading dimension (layers,).

        Raises:
            RunError: this is a model without adapters.
        """
        weights = self.generate([(task, language)])
        if weights is None:
            raise RunError("This run trained heads alone: it has no adapter weights.")
        return weights[0]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        task: str,
        language: str,
        token_type_ids: Tensor | None = None,
        positions: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> HyperXOutput:
        """Encode a batch of one cell and score it with the task's head.

        Args:
            input_ids, attention_mask, token_type_ids: (B, T).
            task, language: the batch's cell. A language that was not trained uses the mean of the
                trained language vectors (see `language_source`).
            positions: (B, T), boolean; score only there (word-level tasks and `mlm`).
            output_hidden_states: also return every layer's output.

        Raises:
            UnknownNameError: no such task, or no such language.
        """
        weights = self.generate([(task, language)])
        with self.slots.filled(None if weights is None else weights[0]):
            hidden, every = self.backbone(
                input_ids, attention_mask, token_type_ids, output_hidden_states
            )
        head = self.heads[self.task(task).name]
        if isinstance(head, MlmHead):
            logits = head(hidden, positions, self.backbone.word_embeddings)
        else:
            logits = head(hidden, attention_mask, positions)
        return HyperXOutput(hidden, logits, every)

    def predict(
        self, inputs: Iterable[str | Sequence[str]], task: str, language: str, **options: Any
    ) -> list[Prediction]:
        """Predict for sentences given as strings or as lists of words; see `prediction.predict`."""
        return predict(self, inputs, task, language, **options)

    def language_vectors(self) -> tuple[list[str], Tensor]:
        """Return the languages and their vectors, (languages, e); empty without language input."""
        if isinstance(self.adapters, Hypernet) and self._reads_language:
            table = self.adapters.source.embeddings["language"]
            return list(self.languages), table.detach().cpu()
        return [], torch.empty(0, 0)

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Switch to evaluation (no dropout, no gradients) inside the block."""
        training = self.training
        self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.train(training)

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained and saved: adapters, heads, and LayerNorms if they are trained."""
        own = {
            name: parameter
            for name, parameter in self.named_parameters()
            if not name.startswith("backbone.")
        }
        if self.config.train_layer_norms:
            own |= {f"backbone.encoder.{name}": p for name, p in self.backbone.layer_norms()}
        return own

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
        reference = (self.backbone.reference, self.backbone.revision)
        write_config(folder / CONFIG_FILE, reference, self.config)
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
            RunError: the folder is incomplete or malformed, of another format version, or a tensor
                is missing, unexpected or mis-shaped.
            BackboneError: the backbone cannot be loaded.
        """
        folder = locate(source, revision, (CONFIG_FILE, WEIGHTS_FILE))
        reference, config = read_config(folder / CONFIG_FILE)
        model = cls(load_backbone(*reference), config)
        load_exactly(model.own_parameters(), load_tensors(folder / WEIGHTS_FILE))
        return model.eval().to(device or "cpu")
