"""Features of languages: where they come from, and what a model reads of them.

A language's features are what typology knows of it, and the mean of the frozen encoder's states in
a lower layer over some lines of text in it. They need no training, so any language has some. The
hypernetwork reads their principal components: there are thousands of columns, most of them alike,
and far fewer languages to learn from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..backbone import Backbone
from ..data.encoding import each_window
from ..data.sampling import by_length, evenly
from ..data.typology import Typology
from ..errors import RunError

TYPOLOGY, TEXT = "typology", "text"
TOKENS_PER_BATCH = 4096

Row = Mapping[str, Any]


@dataclass(frozen=True)
class FeatureSource:
    """Where the features of a model's languages come from.

    Attributes:
        typology: "uriel", a CSV file, or None for no typology.
        text: the most lines of text that are read of a language; None for no text.
        layer: the layer of the encoder whose output is read of text; 0 for the embeddings.
        columns: the groups of the typology's columns → how many there are.
        digest: of the names of the typology's columns.
        licence: of the typology's data; empty where it is not known.
    """

    typology: str | None = None
    text: int | None = None
    layer: int = 2
    columns: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""
    licence: str = ""

    @classmethod
    def read(cls, typology: str | None, text: int | None, layer: int) -> FeatureSource:
        """Describe a source. Raises `DataError` where the typology cannot be read."""
        if typology is None:
            return cls(None, text, layer)
        table = Typology.read(typology)
        return cls(typology, text, layer, table.columns, table.digest, table.licence)

    def table(self) -> Typology | None:
        """Read the typology again; None where there is none.

        Raises:
            DataError: it cannot be read.
            RunError: it has other columns now.
        """
        if self.typology is None:
            return None
        table = Typology.read(self.typology, self.columns)
        if table.digest != self.digest:
            raise RunError(
                f"The columns of {self.typology} are not those that the model was trained with: "
                f"{_counts(self.columns)} then, {_counts(table.columns)} now. Restore the file, or "
                "install the packages of then (script comes with urielplus)."
            )
        return table


def _counts(columns: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in columns.items())


def text_vector(backbone: Backbone, rows: Sequence[Row], layer: int = 2) -> Tensor:
    """Return the mean of the frozen encoder's states of a lower layer over all sub-words, (h,).

    Special tokens do not count. No adapter acts. NaN without any sub-word.

    Args:
        backbone: the encoder.
        rows: encoded rows, as `encoding.encode` returns them.
        layer: whose output is read, counted from 1; 0 for the embeddings. The last one where the
            encoder has fewer.
    """
    windows = [
        window["input_ids"]
        for row in rows
        for window in (each_window(row) if "windows" in row else [row])
    ]
    tokenizer, device = backbone.tokenizer, backbone.word_embeddings.device
    special = torch.tensor(tokenizer.all_special_ids, device=device)
    total, count = torch.zeros(backbone.hidden_size, dtype=torch.float64), 0
    mode = backbone.training
    backbone.eval()
    try:
        for indices in by_length([len(ids) for ids in windows], TOKENS_PER_BATCH):
            batch = [torch.tensor(windows[i]) for i in indices]
            ids = pad_sequence(batch, True, tokenizer.pad_token_id).to(device)
            mask = pad_sequence([torch.ones_like(row) for row in batch], True).to(device)
            states = backbone.lower_states(ids, mask, layer)
            scored = mask.bool() & ~torch.isin(ids, special)
            total += states[scored].double().sum(dim=0).cpu()
            count += int(scored.sum())
    finally:
        backbone.train(mode)
    return (total / count if count else total * math.nan).float()


def evenly_from(texts: Sequence[Sequence[Row]], count: int) -> list[Row]:
    """Take at most `count` rows from several data sets of one language, evenly spaced in each."""
    shares = [len(range(number, count, len(texts))) for number in range(len(texts))]
    pairs = zip(texts, shares, strict=True)
    return [text[index] for text, share in pairs for index in evenly(len(text), share)]


class LanguageFeatures(nn.Module):
    """Reads features of languages, and reduces them to principal components.

    Args:
        source: where they come from.
        backbone: the encoder that reads text.
        components: how many components are kept.

    Attributes:
        shift: (columns,), the mean over the trained languages.
        map: (columns, components), all zero until `fit`.
    """

    def __init__(self, source: FeatureSource, backbone: Backbone, components: int) -> None:
        super().__init__()
        self.source = source
        self.columns = dict(source.columns)
        if source.text is not None:
            self.columns[TEXT] = backbone.hidden_size
        size = sum(self.columns.values())
        self.shift = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.map = nn.Parameter(torch.zeros(size, components), requires_grad=False)

    @cached_property
    def typology(self) -> Typology | None:
        """The table of typology, read at the first question. Raises as `FeatureSource.table`."""
        return self.source.table()

    def read(
        self, backbone: Backbone, language: str, texts: Sequence[Sequence[Row]] = ()
    ) -> tuple[Tensor, str]:
        """Read the features of a language.

        Args:
            backbone: the encoder that reads text.
            language: its ISO 639-3 code.
            texts: encoded rows of data sets in it, labelled or not.

        Returns:
            The features, (columns,), NaN where they are not known; and which sources know any:
            "typology", "text", "typology and text", or nothing.

        Raises:
            DataError: the typology cannot be read.
            RunError: it has other columns than those of training.
        """
        parts, sources = [], []
        if (table := self.typology) is not None:
            known = language in table
            size = sum(self.source.columns.values())
            parts.append(table.vector(language) if known else torch.full((size,), math.nan))
            sources += [TYPOLOGY] if known else []
        if self.source.text is not None:
            vector = text_vector(backbone, evenly_from(texts, self.source.text), self.source.layer)
            parts.append(vector)
            sources += [] if vector.isnan().any() else [TEXT]
        return torch.cat(parts), " and ".join(sources)

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Learn mean and components from the features of the trained languages.

        Columns are standardised; constant ones are dropped. Then each group of columns counts for
        as much as any other, and so do typology and text. The components are scaled together, so
        that their mean square over the languages is 1.

        Args:
            features: (languages, columns), NaN where a value is missing, which the mean then
                stands for.
        """
        values = features.double()
        shift = values.nanmean(dim=0).nan_to_num()
        centred = (values - shift).nan_to_num()
        deviation = centred.square().mean(dim=0).sqrt()
        varying = deviation > 1e-6
        weights = torch.where(varying, 1 / deviation.clamp(min=1e-6), 0.0)
        start = 0
        for name, size in self.columns.items():
            block = slice(start, start + size)
            start += size
            groups = 1 if name == TEXT else len(self.source.columns)
            weights[block] /= math.sqrt(max(int(varying[block].sum()), 1) * groups)
        _, lengths, directions = torch.linalg.svd(centred * weights, full_matrices=False)
        # Rounding leaves directions of no length, one of them always: the rows sum to zero.
        kept = int((lengths > 1e-6 * lengths.max()).sum()) if len(lengths) else 0
        kept = min(kept, self.map.shape[1])
        # The largest entry is positive: the sign of a direction is arbitrary.
        directions = directions[:kept]
        peaks = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
        components = (weights * directions * peaks.sign()).T
        scores = centred @ components
        scale = scores.square().mean().sqrt().clamp(min=1e-12)
        self.shift.copy_(shift)
        self.map.zero_()
        self.map[:, :kept] = (components / scale).to(self.map.dtype)

    def forward(self, features: Tensor) -> Tensor:
        """Reduce features of (…, columns) to components; a missing value adds nothing."""
        return (features.to(self.shift.device) - self.shift).nan_to_num() @ self.map
