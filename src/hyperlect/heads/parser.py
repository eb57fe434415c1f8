"""The parser: a head and a relation for every word of a sentence, by biaffine attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.rows import ROOT_WORD
from ..tasks import ROOT, ParserForm
from .trees import best_tree

# Sizes of the paper (Dozat and Manning 2017, table 1).
ARC_SIZE, RELATION_SIZE = 500, 100


@dataclass(frozen=True)
class ParseScores:
    """What a parser thinks of S sentences, of which the longest has W words.

    Attributes:
        arcs: (S, W, W + 1), of each word with every head: the root (0), the words from 1. Heads
            that a shorter sentence does not have score -inf.
        relations: (S, W, W + 1, R), of each word with every head, in every relation.
        real: (S, W), boolean, where there is a word. What the rest holds means nothing.
    """

    arcs: Tensor
    relations: Tensor
    real: Tensor

    def loss(self, heads: Tensor, relations: Tensor) -> Tensor:
        """Cross-entropy of the heads plus that of the relations at the right heads.

        Both are means over words (Dozat and Manning 2017; the released code does the same).

        Args:
            heads: (N,), of all words, sentence after sentence; 0 is the root.
            relations: (N,), the index of each word's relation.
        """
        sentences, words = self.real.nonzero(as_tuple=True)
        arcs, at_heads = self.arcs[sentences, words], self.relations[sentences, words, heads]
        return F.cross_entropy(arcs.float(), heads) + F.cross_entropy(at_heads.float(), relations)

    def decode(self, labels: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Find the best tree of each sentence, then the best relation of each word with its head.

        Where the inventory has ``root``, the root of the tree has this relation, and no other word
        has: in Universal Dependencies the two mean the same.

        Args:
            labels: the inventory of relations.

        Returns:
            For each sentence the heads (0 is the root) and the indices of relations.
        """
        root = labels.index(ROOT) if ROOT in labels else None
        arcs = self.arcs.detach().cpu().double().numpy()
        found = []
        for sentence, words in enumerate(self.real.sum(dim=1).tolist()):
            heads = best_tree(arcs[sentence, :words, : words + 1])
            scores = self.relations[sentence, range(words), heads].detach().float()
            if root is not None and len(labels) > 1:
                scores[:, root] = -torch.inf
                scores[heads.index(0), root] = torch.inf
            found.append((heads, scores.argmax(dim=-1).tolist()))
        return found


class ParserHead(nn.Module):
    """Biaffine attention over words (Dozat and Manning 2017).

    A word is the mean of its sub-words' hidden states, the root the hidden state of the sentence's
    first token. The scores of word i with head j are x_i W y_j with a one at the end of x_i (a bias
    for every head), those of relations are the same for each relation, with a one at the end of
    both.

    Args:
        hidden: the backbone's hidden size h.
        relations: how many relations.
        form: "mlp": x and y are made from hidden states by perceptrons of their own, for arcs and
            for relations, as in the paper; "direct": they are the hidden states themselves, as in
            the released code of Hyper-X.
        dropout: rate on words, and on what the perceptrons make of them, while training.
    """

    def __init__(
        self, hidden: int, relations: int, form: ParserForm = "mlp", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.perceptrons: nn.ModuleDict | None = None
        sizes = {"arc": hidden, "relation": hidden}
        if form == "mlp":
            sizes = {"arc": ARC_SIZE, "relation": RELATION_SIZE}
            self.perceptrons = nn.ModuleDict(
                {
                    f"{name}_{side}": _orthogonal(hidden, size)
                    for name, size in sizes.items()
                    for side in ("dependent", "head")
                }
            )
        self.arcs = Biaffine(sizes["arc"], 1, bias_on_second=False)
        self.relations = Biaffine(sizes["relation"], relations)

    def forward(self, hidden: Tensor, words: Tensor) -> ParseScores:
        """Score all heads and relations of the sentences in a batch.

        Args:
            hidden: (B, T, h).
            words: (B, T), int64: which word of its sentence each sub-word belongs to, from 1; 0 is
                the root, and -1 is what belongs to no word. A row without a root goes on with the
                sentence of the row before: it is another window of the same sentence.
        """
        vectors, there = word_vectors(hidden, words)
        vectors = self.dropout(vectors)
        # In half precision, scores of many summands would be too coarse to compare.
        with torch.autocast(vectors.device.type, enabled=False):
            arcs = self.arcs(*self._sides("arc", vectors))[..., 0]
            relations = self.relations(*self._sides("relation", vectors))
        arcs = arcs.masked_fill(~there[:, None], -torch.inf)
        return ParseScores(arcs, relations, there[:, 1:])

    def _sides(self, name: str, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """What x and y are made from: the words, without and with the root."""
        if self.perceptrons is None:
            return vectors[:, 1:], vectors
        x, y = (self.perceptrons[f"{name}_{side}"](vectors) for side in ("dependent", "head"))
        x, y = (self.dropout(F.leaky_relu(z, 0.1)) for z in (x, y))
        return x[:, 1:], y


class Biaffine(nn.Module):
    """x W y for each output, with a one at the end of x and, if wanted, of y; starts at zero.

    Args:
        size: of x and of y.
        outputs: how many scores a pair.
        bias_on_second: whether y gets a one too.
    """

    def __init__(self, size: int, outputs: int, bias_on_second: bool = True) -> None:
        super().__init__()
        self.bias_on_second = bias_on_second
        self.weight = nn.Parameter(torch.zeros(outputs, size + 1, size + bias_on_second))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Score all pairs: (S, W, size) and (S, V, size) → (S, W, V, outputs)."""
        x = F.pad(x, (0, 1), value=1.0)
        if self.bias_on_second:
            y = F.pad(y, (0, 1), value=1.0)
        return torch.einsum("swa,oab,svb->swvo", x, self.weight, y)


def _orthogonal(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def word_vectors(hidden: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Average the sub-words of each word, and put the windows of a sentence together.

    Args:
        hidden, words: as in `ParserHead.forward`.

    Returns:
        (S, W + 1, h), the root and then the words of each sentence, zero where there is none; and
        (S, W + 1), boolean, where there is any.
    """
    sentence = (words == ROOT_WORD).any(dim=1).cumsum(dim=0) - 1
    count, width = int(sentence[-1]) + 1, int(words.max()) + 1
    belongs = words >= ROOT_WORD
    slots = (sentence[:, None] * width + words)[belongs]
    own = hidden[belongs]
    own = own.to(torch.promote_types(own.dtype, torch.float32))
    sizes = torch.bincount(slots, minlength=count * width)
    sums = own.new_zeros(count * width, own.shape[-1]).index_add(0, slots, own)
    means = sums / sizes.clamp(min=1)[:, None]
    return means.view(count, width, -1), (sizes > 0).view(count, width)
