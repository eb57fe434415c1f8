"""HyperX: a frozen backbone, the network that writes its adapters, and the heads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast, overload

import torch
from torch import Tensor, nn

from ..backbone import AdapterHooks, Backbone, LoraHooks, Shared
from ..data.batching import Batch, TaskRows, WordIndex
from ..errors import BackboneError, HyperlectError, RunError, unknown
from ..grid import Cell
from ..hardware import Arithmetic
from ..heads import HEADS, Encoded, FactorisedHead, Head, HeadOptions, Latents
from ..hypernet import UNTRAINED, AdapterWeights, Hypernet, LayerStacks, RowGroups
from ..hypernet.generator import SourceEmbedding
from ..hypernet.language import LanguageBase
from ..methods import METHODS
from ..predict import Inputs, Prediction, predict
from ..run_folder import (
    MODEL,
    WEIGHTS,
    load_exactly,
    load_tensors,
    load_tensors_and_metadata,
    locate,
    save_tensors,
)
from ..tasks import Task, TaskType
from .config import Configured, HyperXConfig, config_digest, malformed, read_config, write_config
from .features import LanguageFeatures

Index = tuple[int, int]
"""The rows of a cell's task and language."""

CACHE_BYTES = 2**28
GENERATED_TOGETHER = 4
"""How many cells' weights are generated at a time for the cache. Small groups use the same memory
again; large ones touch new pages, which costs more than the arithmetic."""


Changes = Mapping[Index, Mapping[str, Tensor]]
"""What is added to the weights of some cells, each by its name and with leading dimension (L,)."""


def generate(
    adapters: nn.Module, cells: Sequence[Index], changes: Changes | None = None
) -> AdapterWeights:
    """Generate the weights of some cells in one product, leading dimensions (C, L).

    It always computes in fp32: in bf16 the gradients of several micro-batches would be summed in
    bf16, and weights would depend on whether they are cached.
    """
    tasks, languages = _indices(adapters, cells)
    with torch.autocast(tasks.device.type, enabled=False):
        weights: AdapterWeights = adapters(tasks, languages)
    changes = changes or {}
    wanted = {cell: changes[cell] for cell in cells if cell in changes}
    return add_changes(weights, tasks, languages, wanted)


def generate_by_layer(
    adapters: nn.Module, cells: Sequence[Index], changes: Changes
) -> Callable[[int], AdapterWeights]:
    """Return a function that generates the weights of some cells for one layer, leading (C,).

    Only a hypernetwork writes layers alone; other adapters are selected at once.
    """
    if not isinstance(adapters, Hypernet):
        return generate(adapters, cells, changes).unbind(1).__getitem__
    tasks, languages = _indices(adapters, cells)
    with torch.autocast(tasks.device.type, enabled=False):
        write = adapters.by_layer(tasks, languages)

    def of_layer(layer: int) -> AdapterWeights:
        with torch.autocast(tasks.device.type, enabled=False):
            weights = write(layer)
        wanted = {c: {n: t[layer] for n, t in changes[c].items()} for c in cells if c in changes}
        return add_changes(weights, tasks, languages, wanted)

    return of_layer


def _indices(adapters: nn.Module, cells: Sequence[Index]) -> list[Tensor]:
    """Return the rows of the tasks and of the languages of cells, where the adapters are."""
    device = next(adapters.parameters()).device
    return list(torch.tensor(cells).to(device, non_blocking=True).unbind(1))


def add_changes(
    weights: AdapterWeights, tasks: Tensor, languages: Tensor, changes: Changes
) -> AdapterWeights:
    """Add the changes of cells to generated weights, leading dimensions (C, L).

    Args:
        weights: what was generated.
        tasks, languages: (C,), the rows of the cells.
        changes: of any cells.
    """
    for (task, language), change in changes.items():
        chosen = ((tasks == task) & (languages == language)).float()
        tensors = {
            name: tensor + chosen.view(-1, *(1,) * (tensor.dim() - 1)) * change[name]
            for name, tensor in weights.items()
        }
        weights = AdapterWeights(**tensors)
    return weights


def _mixed(table: Tensor, mixture: Sequence[tuple[int, float]]) -> Tensor:
    """Return the weighted sum of rows of a table."""
    return torch.stack([table[index] * weight for index, weight in mixture]).sum(dim=0)


def _change_name(cell: Cell) -> str:
    """Name the change of a cell among the parameters. No code of a language has a hyphen."""
    return f"{cell.language}-{cell.task}"


class WeightCache:
    """Generated weights of the cells that were used last. Threads may share it.

    Once it is full, it takes the weights of a cell when these were asked for twice of late. So
    cells that come in turn, more of them than it can hold, do not push each other out.

    Args:
        adapters: writes the weights of (C,) tasks and languages, leading dimensions (C, L).
        limit: how many bytes it may hold.
    """

    def __init__(self, adapters: nn.Module, limit: int = CACHE_BYTES) -> None:
        self.adapters = adapters
        self.limit = limit
        self._lock = threading.Lock()
        self._weights: OrderedDict[Index, AdapterWeights] = OrderedDict()
        self._refused: OrderedDict[Index, None] = OrderedDict()
        self._most: int | None = None  # how many cells; the weights of all are of one size

    def __len__(self) -> int:
        return len(self._weights)

    def get(
        self, cells: Sequence[Index], changes: Changes | None = None
    ) -> list[AdapterWeights | None]:
        """Return the weights of distinct cells, leading dimension (layers,).

        Missing ones are generated where they are kept, with `changes` as for `generate`; the others
        are None.
        """
        with self._lock:
            missing = [cell for cell in cells if cell not in self._weights]
            is_first = self._most is None  # nobody knows yet how many cells fit
            room = len(missing) if self._most is None else self._most - len(self._weights)
            kept = [cell for n, cell in enumerate(missing) if n < room or cell in self._refused]
            for start in range(0, len(kept), GENERATED_TOGETHER):
                if start and is_first and len(self._weights) >= (self._most or 0):
                    break
                some = kept[start : start + GENERATED_TOGETHER]
                generated = generate(self.adapters, some, changes)
                self._most = self.limit // generated[0].nbytes
                for number, cell in enumerate(some):
                    # A copy: a view would keep the weights of all the others in memory.
                    self._weights[cell] = generated[number].apply(Tensor.clone)
                    self._refused.pop(cell, None)
            weights = [self._weights.get(cell) for cell in cells]
            for cell, of_cell in zip(cells, weights, strict=True):
                table: OrderedDict[Index, Any] = self._refused if of_cell is None else self._weights
                table[cell] = of_cell
                table.move_to_end(cell)
            for table in (self._weights, self._refused):
                while len(table) > (self._most or 0):
                    table.popitem(last=False)
        return weights

    def forget(self, languages: Iterable[int]) -> None:
        """Drop the weights of languages by their rows."""
        with self._lock:
            for cell in [cell for cell in self._weights if cell[1] in languages]:
                del self._weights[cell]


FEATURES = ("adapters.source.base.features", "adapters.source.base.anchors")
"""The parameters with a row for each language that hold what is known of it; never trained."""
LANGUAGE_ROWS = (
    "adapters.source.embeddings.language",
    *FEATURES,
    "adapters.languages.weights.",
    "latents.means.language",
    "latents.log_variances.language",
)
"""How the names of the parameters with a row for each language begin."""

_DESCRIBING = threading.RLock()
"""Held while a model has languages for the time of a block."""

CONFIG_DIGEST, FILE_DIGEST = "config", "model.json"
"""In the weights file: the digests of the configuration that they were trained with. Version 0.1
knew only the first, which is that of tasks, labels and languages."""


@dataclass(frozen=True)
class HyperXOutput:
    """The output of a forward pass.

    Attributes:
        last_hidden_state: (B, T, h).
        scores: of each task of the batch, over its own rows in their order: the logits, (N, labels)
            at its positions or (rows, T, labels) for word-level tasks and `mlm`, (rows, labels) for
            sentence-level ones; for parsing `ParseScores`.
        hidden_states: the embeddings' and every layer's output, (B, T, h) each, on request.
    """

    last_hidden_state: Tensor
    scores: Mapping[str, Any]
    hidden_states: tuple[Tensor, ...] | None = None

    @property
    def logits(self) -> Tensor:
        """The logits of a batch of one task.

        Raises:
            HyperlectError: there are several tasks, or the one has trees in place of labels.
        """
        names = ", ".join(self.scores)
        if len(self.scores) > 1:
            raise HyperlectError(f"The batch holds several tasks ({names}). Read scores.")
        (logits,) = self.scores.values()
        if not isinstance(logits, Tensor):
            raise HyperlectError(f"The task {names} scores trees. Read scores.")
        return logits


class HyperX(Configured, nn.Module):
    """One model for every task and language (Üstün et al. 2022).

    Args:
        backbone: the encoder; it stays frozen, and without active adapters it is exactly itself.
        config: tasks, languages and variants.

    Attributes:
        tasks: the tasks by name.
        languages: those with a vector of their own, in the order of the vectors.
        grid: which cells were trained.

    Raises:
        BackboneError: more layers should have adapters than the encoder has.
    """

    def __init__(self, backbone: Backbone, config: HyperXConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        try:
            layers = config.hypernet.layers(backbone.layers)
        except ValueError as error:
            raise BackboneError(f"hypernet.{error}.") from None
        hypernet, family, widths = config.hypernet, backbone.family, None
        place = "layer" if hypernet.adapter == "lora" else hypernet.insertion
        points = family.insertion_points(backbone.encoder, backbone.layers, place)
        points = [points[layer] for layer in layers]
        if hypernet.adapter == "lora":
            targets = family.targets(hypernet.lora_targets)
            widths = {name: target.widths(points[0]) for name, target in targets.items()}
            self.hooks: AdapterHooks = LoraHooks(points, targets, hypernet.lora_scale)
        else:
            self.hooks = AdapterHooks(points, hypernet.activation, hypernet.norm_eps)
        make = METHODS[config.method].adapters
        self.adapters = make and make(
            hypernet,
            hidden=backbone.hidden_size,
            layers=len(layers),
            tasks=len(config.adapted_tasks),
            languages=len(config.languages),
            widths=widths,
        )
        self.features: LanguageFeatures | None = None
        if config.has_base and config.language_features:
            components = config.hypernet.base_components
            self.features = LanguageFeatures(config.language_features, backbone, components)
        self.heads = nn.ModuleDict({task.name: self._make_head(task) for task in config.tasks})
        factorised = config.method == "factorised"
        self.latents = Latents(len(config.tasks), len(config.languages)) if factorised else None
        self.changes = nn.ModuleDict({_change_name(c): self._no_change(c) for c in config.changed})
        self._offsets: dict[Cell, nn.Parameter] = {}
        self._first_adapted = backbone.layers if self.adapters is None else layers[0]
        self._in_block = place == "feed_forward"
        self._cache: WeightCache | None = None
        self._shared: dict[int, dict[Index, AdapterWeights]] = {}  # by thread
        for _, parameter in self._trained_backbone():
            parameter.requires_grad_(True)

    def _make_head(self, task: Task) -> Head:
        config = self.config
        kind = FactorisedHead if config.factorises(task) else HEADS[task.type]
        options = HeadOptions(config.head_dropout, config.parser, config.tied_decoder)
        return kind.start(task, self.backbone, options)

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
        """The device of the model."""
        return self.backbone.word_embeddings.device

    def generate(self, cells: Sequence[tuple[str, str]]) -> AdapterWeights | None:
        """Generate the adapter weights of some cells, leading dimensions (cells, layers).

        With mad-x (cells, layers, 2), the language's adapter before the task's; a missing one is
        zero. Returns None for a model without adapters. Gradients flow into the hypernetwork.

        Raises:
            UnknownNameError: there is no such task, or no such language.
        """
        index = [self.config.index(Cell(*cell)) for cell in cells]
        return None if self.adapters is None else generate(self.adapters, index, self.cell_changes)

    @torch.no_grad()
    def adapter_weights(self, task: str, language: str) -> AdapterWeights:
        """Return the adapter weights of one cell, leading dimension (layers,); see `generate`.

        Raises:
            RunError: the model has no adapters.
            HyperlectError: the model's method does not apply to the cell.
        """
        self.config.require_applicable([Cell(task, language)])
        weights = self.generate([(task, language)])
        if weights is None:
            raise RunError(f"The method {self.config.method} has no adapter weights.")
        return weights[0]

    def language_vectors(self) -> tuple[list[str], Tensor]:
        """Return the languages and their vectors, (languages, e); empty if none are read."""
        if isinstance(self.adapters, Hypernet) and self.config.reads("language"):
            return self.languages, self.adapters.source.all_vectors().detach().cpu()
        return [], torch.empty(0, 0)

    def language_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters with a row for each language; none if no language is read.

        Those that are not trained (features of the languages) have `requires_grad` False.
        """
        return {n: p for n, p in self.own_parameters().items() if n.startswith(LANGUAGE_ROWS)}

    @torch.no_grad()
    def add_language(
        self, language: str, like: Mapping[str, float], source: str, features: Tensor | None = None
    ) -> str:
        """Give a language a vector of its own (mad-x: an adapter): a mixture of trained ones.

        Without a mixture it starts at what the base makes of the language's features, or without
        these at what stands for an untrained language: see `language_source`. A language that has
        a vector gets another one. All other languages stay as they are.

        Args:
            language: its code.
            like: the weights of the mixture by language.
            source: where the vector comes from, for `language_source`.
            features: (columns,), as `read_features` returns them, for a model with a base. Without
                them they are mixed as the vector is.

        Returns:
            The ISO 639-3 code.

        Raises:
            UnknownNameError: it is no language, or one of the mixture has no vector.
            HyperlectError: the method reads no language, or there are features and no base.
        """
        code = self.config.language_code(language)
        tables = self.language_parameters()
        if not tables:
            raise HyperlectError(f"The method {self.config.method} reads no language.")
        for other in like:
            if self.config.language_index(other) == UNTRAINED:
                raise unknown("trained language", other, self.languages)
        mixture = [(self.config.language_index(other), weight) for other, weight in like.items()]
        if mixture:
            rows = {name: _mixed(table, mixture) for name, table in tables.items()}
        elif self.config.untrained_is_zero:
            rows = {name: torch.zeros_like(table[0]) for name, table in tables.items()}
        else:
            rows = {name: table.mean(dim=0) for name, table in tables.items()}
        if isinstance(self.adapters, Hypernet) and (base := self.adapters.source.base):
            rows |= self._rows_of_base(self.adapters.source, base, mixture, features)
        elif features is not None:
            raise HyperlectError("The model's languages have no features: it has no language_base.")
        new = self.config.language_index(code) == UNTRAINED
        for name, table in tables.items():
            if new:
                folder, _, leaf = name.rpartition(".")
                extended = torch.cat([table, rows[name][None]])
                parameter = nn.Parameter(extended, requires_grad=table.requires_grad)
                setattr(self.get_submodule(folder), leaf, parameter)
            else:
                table[self.config.language_index(code)] = rows[name]
        if new:
            self.config = replace(self.config, languages=(*self.languages, code))
        self.describe_vector(code, source)
        return code

    def describe_vector(self, language: str, source: str) -> None:
        """Say where a language's vector comes from now, for `language_source`."""
        added = {**self.config.added, self.config.language_code(language): source}
        self.config = replace(self.config, added=added)

    def _rows_of_base(
        self,
        source: SourceEmbedding,
        base: LanguageBase,
        mixture: Sequence[tuple[int, float]],
        features: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return the rows of a new language in a model with a base, by the names of the tables."""
        if features is not None:
            assert self.features is not None
            described = self.features(features)
        elif mixture:
            described = _mixed(base.features, mixture)
        else:
            described = torch.zeros_like(base.features[0])
        table: Tensor = source.embeddings["language"]
        nobody = torch.tensor([UNTRAINED], device=table.device)
        with base.in_use():
            alone = base(table, described[None], nobody)[0]
        vector = _mixed(source.all_vectors(), mixture) if mixture else alone
        return {
            "adapters.source.embeddings.language": vector - alone if base.mlp else vector,
            "adapters.source.base.features": described,
            "adapters.source.base.anchors": torch.zeros_like(base.anchors[0]),
        }

    def read_features(
        self, language: str, texts: Sequence[Sequence[Mapping[str, Any]]] = ()
    ) -> tuple[Tensor, str]:
        """Read the features of any language from the sources that the model was trained with.

        Args:
            language: its code.
            texts: encoded rows of data sets in it, labelled or not; see `encoding.encode`.

        Returns:
            The features, (columns,), for `add_language`; and what knows any: "typology", "text",
            "typology and text", or nothing, where average features stand for the language.

        Raises:
            UnknownNameError: it is no language.
            HyperlectError: the model reads no features, or the typology cannot be read.
        """
        if self.features is None:
            raise HyperlectError("The model's languages have no features: it has no language_base.")
        code = self.config.language_code(language)
        return self.features.read(self.backbone, code, texts)

    @torch.no_grad()
    def set_features(self, texts: Mapping[str, Sequence[Any]], known: Collection[str] = ()) -> None:
        """Read the features of the model's own languages before it is trained.

        Args:
            texts: the encoded training data sets by language.
            known: languages that have features already, from a run that training starts from. If
                there are any, the mean and the components stay those of that run.

        Raises:
            HyperlectError: as `read_features`.
        """
        if self.features is None:
            return
        new = [code for code in self.languages if code not in known]
        read = [self.read_features(code, texts.get(code, ()))[0] for code in new]
        if not known:
            self.features.fit(torch.stack(read))
        base = self.get_submodule("adapters.source.base")
        assert isinstance(base, LanguageBase)
        for code, features in zip(new, read, strict=True):
            base.features[self.config.language_index(code)] = self.features(features)
        for row, code in enumerate(self.languages):
            base.anchors[row] = code not in self.config.added

    @contextmanager
    def described(self, texts: Mapping[str, Sequence[Any]]) -> Iterator[None]:
        """Give languages without a vector what the base makes of their features, inside the block.

        It does nothing for a model without a base, and for languages that nothing is known of.

        Args:
            texts: language → encoded rows of data sets in it.

        Raises:
            HyperlectError: as `read_features`.
        """
        if self.features is None:
            yield
            return
        with _DESCRIBING:
            new = [code for code in texts if self.config.language_index(code) == UNTRAINED]
            if new:
                config, tables = self.config, self.language_parameters()
                try:
                    for code in new:
                        features, source = self.read_features(code, texts[code])
                        if source:
                            self.add_language(code, {}, source, features)
                    yield
                finally:
                    self.forget_weights(range(len(config.languages), len(self.languages)))
                    self.config = config
                    for name, table in tables.items():
                        folder, _, leaf = name.rpartition(".")
                        setattr(self.get_submodule(folder), leaf, table)
                return
        yield

    def forget_weights(self, languages: Iterable[int]) -> None:
        """Drop cached weights of languages by their rows, whose vectors change inside the block."""
        if self._cache is not None:
            self._cache.forget(languages)

    def source_projection(self) -> list[nn.Parameter]:
        """Return the parameters that make source embeddings from vectors; none without them."""
        source = self.adapters.source if isinstance(self.adapters, Hypernet) else None
        return list(source.project.parameters()) if source and source.project else []

    @property
    def can_change_cells(self) -> bool:
        """Whether each cell has adapter weights of its own, which `change_cell` can change."""
        of_cells = self.config.reads("task") and self.config.reads("language")
        return self.adapters is not None and of_cells

    def change_cell(self, task: str, language: str) -> dict[str, nn.Parameter]:
        """Give a cell a change, zero at first, which is added to the weights of its adapter.

        It can hold what the generator cannot write, and it changes no other cell.

        Args:
            task, language: of the cell. The language needs a vector of its own.

        Returns:
            The change of each weight by its name, leading dimension (layers,), to be trained.

        Raises:
            UnknownNameError: there is no such task, or the language has no vector.
            HyperlectError: the method has no adapters, or they depend on less than the cell.
        """
        if not self.can_change_cells:
            raise HyperlectError(f"The method {self.config.method} has no adapters of cells.")
        cell = Cell(task, self.config.language_code(language))
        if self.config.language_index(language) == UNTRAINED:
            raise unknown("trained language", language, self.languages)
        if cell not in self.config.changed:
            self.changes[_change_name(cell)] = self._no_change(cell)
            self.config = replace(self.config, changed=(*self.config.changed, cell))
        return dict(self.changes[_change_name(cell)].named_parameters())

    def unchange_cells(self, cells: Collection[Cell]) -> None:
        """Remove the changes of cells."""
        for cell in cells:
            del self.changes[_change_name(cell)]
        kept = tuple(cell for cell in self.config.changed if cell not in cells)
        self.config = replace(self.config, changed=kept)

    @torch.no_grad()
    def _no_change(self, cell: Cell) -> nn.ParameterDict:
        assert self.adapters is not None
        weights = generate(self.adapters, [self.config.index(cell)])[0]
        return nn.ParameterDict({n: torch.zeros_like(tensor) for n, tensor in weights.items()})

    @contextmanager
    def offset_cells(self, tasks: Iterable[str], language: str) -> Iterator[list[nn.Parameter]]:
        """Give cells offsets of their source embeddings inside the block, zero at first.

        An offset has far fewer numbers than a change of the adapter. At the end of the block it
        becomes one (see `change_cell`, which also says what is raised).

        Yields:
            The offset of each task's cell, (layers, p), to be trained.
        """
        try:
            for task in tasks:
                change = self.change_cell(task, language)
                layers = len(next(iter(change.values())))
                offset = torch.zeros(layers, self.config.hypernet.source_size, device=self.device)
                cell = Cell(task, self.config.language_code(language))
                self._offsets[cell] = nn.Parameter(offset)
            yield list(self._offsets.values())
            with torch.no_grad():
                for cell in self._offsets:
                    shifted = self.cell_changes[self.config.index(cell)]
                    for name, tensor in self.change_cell(*cell).items():
                        tensor.copy_(shifted[name])
        finally:
            self._offsets.clear()

    @property
    def cell_changes(self) -> Changes:
        """The changes by the rows of their cells, of cells that the configuration lists."""
        changes: dict[Index, dict[str, Tensor]] = {}
        for cell in self.config.changed:
            change: Any = self.changes[_change_name(cell)]
            changes[self.config.index(cell)] = dict(change.items())
        for cell, offset in self._offsets.items():
            assert isinstance(self.adapters, Hypernet)
            change = changes[self.config.index(cell)]
            for name, shift in self.adapters.generator.shift(offset).items():
                change[name] = change[name] + shift
        return changes

    @contextmanager
    def cached_weights(self, limit: int = CACHE_BYTES) -> Iterator[None]:
        """Keep the weights of cells inside the block, so that each is generated once.

        For inference: do not change parameters inside the block. Blocks inside the block, and
        other threads during it, share the cache.

        Args:
            limit: how many bytes of weights are kept; those used longest ago are dropped first.
        """
        if self._cache is not None or self.adapters is None:
            yield
            return
        self._cache = WeightCache(self.adapters, limit)
        try:
            yield
        finally:
            self._cache = None

    @contextmanager
    def shared_weights(
        self, cells: Iterable[tuple[str, str]], always: bool = False
    ) -> Iterator[None]:
        """Generate the weights of these cells once for all forward passes inside the block.

        For gradient accumulation: backward passes inside the block stop at the weights; at its
        end, their summed gradients go through the hypernetwork in one pass. Other cells cannot be
        used in the block.

        Args:
            cells: at least one if `always`.
            always: whether gradients of zero go through the hypernetwork where there are none.
                Processes that share one hypernetwork must all take part.
        """
        if self.adapters is None:
            yield
            return
        distinct = list(dict.fromkeys(self.config.index(Cell(*cell)) for cell in cells))
        changes = self.cell_changes
        generated = generate(self.adapters, distinct, changes).unbind() if distinct else []
        leaves = [w.apply(lambda tensor: tensor.detach().requires_grad_()) for w in generated]
        thread = threading.get_ident()
        self._shared[thread] = dict(zip(distinct, leaves, strict=True))
        try:
            yield
        finally:
            del self._shared[thread]
        outputs = [tensor for weights in generated for _, tensor in weights.items()]
        tensors = [tensor for weights in leaves for _, tensor in weights.items()]
        gradients = [torch.zeros_like(t) if always and t.grad is None else t.grad for t in tensors]
        used = [i for i, gradient in enumerate(gradients) if gradient is not None]
        if used:
            with torch.autocast(self.device.type, enabled=False):
                torch.autograd.backward([outputs[i] for i in used], [gradients[i] for i in used])

    def _layer_weights(self, cells: Sequence[Index]) -> Sequence[AdapterWeights] | LayerStacks:
        """Return the weights of each layer: of one cell, or of several with dimension (C,)."""
        adapters = self.adapters
        assert adapters is not None
        weights: list[AdapterWeights | None] = [None] * len(cells)
        changes = self.cell_changes
        if shared := self._shared.get(threading.get_ident()):
            weights = [shared[cell] for cell in cells]
        elif (cache := self._cache) is not None and not torch.is_grad_enabled():
            # The generator's maps hold p numbers for each weight, and what is kept one for each
            # cell. So with many cells it is less to read, and faster, to write all of them anew.
            size = self.config.hypernet.source_size
            if not (isinstance(adapters, Hypernet) and len(cells) >= max(size, 2)):
                weights = cache.get(cells, changes)
        if len(cells) == 1:
            return (weights[0] or generate(adapters, cells, changes)[0]).unbind()
        rest = [cell for cell, of_cell in zip(cells, weights, strict=True) if of_cell is None]
        if rest and torch.is_grad_enabled():  # in training one product is faster than one a layer
            return generate(adapters, rest, changes).unbind(1)
        return LayerStacks(weights, generate_by_layer(adapters, rest, changes) if rest else None)

    @contextmanager
    def _adapted(self, cells: Sequence[Index]) -> Iterator[None]:
        """Activate the weights of each row's cell."""
        if self.adapters is None:
            yield
            return
        number = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
        layers = self._layer_weights(list(number))
        of_rows = [number[cell] for cell in cells]
        groups = RowGroups.of(of_rows, self.device) if len(number) > 1 else None
        with self.hooks.active(layers, groups):
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
            task, language: the batch's cell, or one name for each row. What represents a language
                that was not trained, `language_source` says.
            positions: (B, T), boolean; score only there (taggers and `mlm`).
            words: (B, T), int64: for parsing, the word of each sub-word, as in `WordIndex.of`.
            output_hidden_states: also return every layer's output.

        Raises:
            UnknownNameError: there is no such task, or no such language; names the rows.
            HyperlectError: there are more or fewer names than rows, or no words to parse.
        """
        cells = self.config.cells(task, language, len(input_ids), each="row")
        tasks = {}
        for name in dict.fromkeys(cell.task for cell in cells):
            rows = [row for row, cell in enumerate(cells) if cell.task == name]
            index, kind = torch.tensor(rows, device=input_ids.device), self.tasks[name].type
            tasks[name] = TaskRows(index)
            if kind is TaskType.PARSING:
                if words is None:
                    raise HyperlectError(f"The task {name} needs to know the words: give words=….")
                tasks[name] = TaskRows(index, words=WordIndex.of(words[index], index))
            elif positions is not None and (kind.reads_words or name in self.grid.text_tasks):
                row, column = positions[index].nonzero(as_tuple=True)
                places = index[row] * input_ids.shape[1] + column
                tasks[name] = TaskRows(index, positions=places)
        batch = Batch(cells, input_ids, attention_mask, tasks, token_type_ids)
        return self.run(batch, output_hidden_states)

    def run(self, batch: Batch, output_hidden_states: bool = False) -> HyperXOutput:
        """Encode a collated batch, and score the rows of each task with its head.

        Without gradients, rows with the same sub-words are one row below the lowest adapter.
        """
        cells = [self.config.index(cell) for cell in batch.cells]
        hidden, states = self._encode(batch, cells, output_hidden_states)
        latents = None if self.latents is None else self.latents.of_rows(cells)
        vocabulary = self.backbone.word_embeddings
        if self.grid.text_tasks & batch.tasks.keys():  # else a copy in bf16 would be for nothing
            vocabulary = self.backbone.output_embeddings
        encoded = Encoded(hidden, batch.attention_mask, vocabulary, latents)
        scores = {name: self.head(name).read(encoded, rows) for name, rows in batch.tasks.items()}
        return HyperXOutput(hidden, scores, states)

    def _encode(
        self, batch: Batch, cells: Sequence[Index], output_hidden_states: bool
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """Encode with the adapters of each row's cell, in one pass or in one for each cell."""
        inputs = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
        distinct = list(dict.fromkeys(cells))
        if self.hooks.mixes_cells or len(distinct) == 1:
            distinct_rows, copies, shared = batch.distinct, batch.copies, None
            if not (distinct_rows is None or copies is None or torch.is_grad_enabled()):
                shared = Shared(self._first_adapted, self._in_block, distinct_rows, copies)
            with self._adapted(cells):
                return self.backbone(*inputs, output_hidden_states, shared)  # type: ignore[no-any-return]
        owners = torch.tensor([distinct.index(cell) for cell in cells], device=self.device)
        passes = []
        for number, cell in enumerate(distinct):
            chosen = (None if tensor is None else tensor[owners == number] for tensor in inputs)
            with self._adapted([cell]):
                last, states = self.backbone(*chosen, output_hidden_states)
            passes.append((last, *(states or ())))
        back = owners.argsort(stable=True).argsort()
        hidden, *joined = (torch.cat(several)[back] for several in zip(*passes, strict=True))
        return hidden, tuple(joined) if output_hidden_states else None

    def head(self, task: str) -> Head:
        """Return the head of a task."""
        return cast("Head", self.heads[task])

    @overload
    def predict(
        self, inputs: Inputs, task: str, language: str | Sequence[str], **options: Any
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self, inputs: Inputs, task: list[str] | tuple[str, ...], language: str, **options: Any
    ) -> list[dict[str, Prediction]]: ...

    @overload
    def predict(
        self, inputs: Inputs, task: Sequence[str], language: Sequence[str], **options: Any
    ) -> list[Prediction]: ...

    def predict(
        self,
        inputs: Inputs,
        task: str | Sequence[str],
        language: str | Sequence[str],
        *,
        precision: Arithmetic | None = None,
        **options: Any,
    ) -> list[Prediction] | list[dict[str, Prediction]]:
        """Predict for sentences given as strings or as lists of words; see `predict.predict`.

        Args:
            inputs, task, language: as there.
            precision: of the arithmetic: "fp32", "tf32", "bf16", or "auto", which is bf16 where
                the hardware is fast in it, else fp32. By default that of a block around the call
                (`Backbone.arithmetic`), or fp32.
            options: as there.
        """
        with self.backbone.arithmetic(precision) if precision else nullcontext():
            return predict(self, inputs, task, language, **options)

    def checkpoint_activations(self) -> None:
        """In training, recompute activations in the backward pass instead of keeping them.

        Raises:
            BackboneError: the backbone's family cannot do this.
        """
        self.backbone.checkpoint_activations(self.hooks.rerun_contexts)

    @contextmanager
    def eval_mode(self) -> Iterator[None]:
        """Switch to evaluation (no dropout, no gradients) inside the block."""
        modes = self.training, self.backbone.training  # the backbone's dropout has its own switch
        if any(modes):  # setting the mode of every module takes time
            self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            if any(modes):
                self.train(modes[0])
                self.backbone.train(modes[1])

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained and saved: adapters, heads, and LayerNorms if they are trained."""
        others = {n: p for n, p in self.named_parameters() if not n.startswith("backbone.")}
        return others | {f"backbone.encoder.{name}": p for name, p in self._trained_backbone()}

    def _trained_backbone(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the encoder's parameters that are trained: none, its LayerNorms, or its layers."""
        if METHODS[self.config.method].trains_encoder:
            yield from self.backbone.top_parameters(self.config.hypernet.top_layers)
        if self.config.train_layer_norms:
            yield from self.backbone.layer_norms()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model.json and model.safetensors (without the backbone's weights).

        Raises:
            RunError: the backbone was not loaded from anywhere, so it could not be found again; or
                the files cannot be written.
        """
        if not self.backbone.reference:
            raise RunError(
                "This model's backbone exists only in memory. Save it, and set its folder or hub "
                "id as the backbone's reference, so that the model can be loaded again."
            )
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder / MODEL, self.backbone, self.config)
        digests = {CONFIG_DIGEST: self.config.digest, FILE_DIGEST: config_digest(folder / MODEL)}
        save_tensors(self.own_parameters(), folder / WEIGHTS, digests)

    def push_to_hub(self, repository: str, **options: Any) -> str:
        """Put the model on the hub, with a card. For a run with results: `hyperlect.push_to_hub`.

        Args:
            repository: namespace/name.
            options: of `export.push_to_hub`, as ``private=True``.

        Returns:
            The address of the commit.

        Raises:
            HyperlectError: as `export.push_to_hub` and `save_pretrained`.
        """
        from .. import push_to_hub

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return push_to_hub(folder, repository, **options)

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
            RunError: the folder is incomplete, malformed or damaged, of another format version, a
                tensor is missing, unexpected or mis-shaped, or the encoder is not the one trained
                on.
            BackboneError: the backbone cannot be loaded.
        """
        folder = locate(source, revision, (MODEL, WEIGHTS))
        encoder, config = read_config(folder / MODEL)
        tensors, metadata = load_tensors_and_metadata(folder / WEIGHTS)
        digests = {CONFIG_DIGEST: config.digest, FILE_DIGEST: config_digest(folder / MODEL)}
        if any(metadata.get(key, digest) != digest for key, digest in digests.items()):
            raise RunError(
                f"{folder / MODEL} was changed after training, or is not the file of these "
                "weights. Only the backbone and the typology may change places. Restore the file."
            )
        backbone = encoder.load(folder / MODEL)
        with malformed(folder / MODEL):
            model = cls(backbone, config)
        load_exactly(model.own_parameters(), tensors, folder / WEIGHTS)
        encoder.require(model.backbone, source)
        return model.eval().to(device or "cpu")


def load_hypernet(folder: Path) -> tuple[HyperXConfig, Hypernet] | None:
    """Load the hypernetwork of a trained model alone: without its encoder, which takes longer.

    Args:
        folder: of a run.

    Returns:
        The model's configuration and its hypernetwork; None where the method has none.

    Raises:
        RunError: a file is missing or malformed, or the tensors do not fit.
    """
    _, config = read_config(folder / MODEL)
    if METHODS[config.method].adapters is not Hypernet:
        return None
    prefix = "adapters."
    tensors = {
        name.removeprefix(prefix): tensor
        for name, tensor in load_tensors(folder / WEIGHTS).items()
        if name.startswith(prefix)
    }
    rank, lora = config.hypernet.lora_rank, config.hypernet.adapter == "lora"
    # Each bias holds a whole weight, or (L, …) with a generator a layer.
    sizes = {
        name.removeprefix("generator.maps.").removesuffix(".bias"): tensor.shape
        for name, tensor in tensors.items()
        if name.startswith("generator.maps.") and name.endswith(".bias")
    }
    targets: tuple[str, ...] = config.hypernet.lora_targets if lora else ()
    widths = {n: (sizes[f"{n}_a"][-1] // rank, sizes[f"{n}_b"][-1] // rank) for n in targets}
    by_layer = "layer" not in config.hypernet.sources
    rows = next(iter(sizes.values())) if by_layer else tensors["source.embeddings.layer"].shape
    hypernet = Hypernet(
        config.hypernet,
        hidden=0 if lora else sizes["up_bias"][-1],
        layers=rows[0],
        tasks=len(config.adapted_tasks),
        languages=len(config.languages),
        widths=widths,
    )
    load_exactly(dict(hypernet.named_parameters()), tensors, folder / WEIGHTS)
    return config, hypernet.eval()
