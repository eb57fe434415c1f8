"""Parsing: a head and a relation for every word of a sentence, by biaffine attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone import Backbone
from ..data.batching import TaskRows, WordIndex
from ..tasks import ROOT, ParserForm, Task
from .base import Answer, Encoded, Head, HeadOptions

# Sizes of the paper (Dozat and Manning 2017, table 1).
ARC_SIZE, RELATION_SIZE = 500, 100


class Biaffine(nn.Module):
    """x W y for each output, with a one at the end of x and, if wanted, of y; starts at zero.

    Args:
        size: of x and of y.
        outputs: how many scores for a pair.
        bias_on_second: whether y gets a one too.
    """

    def __init__(self, size: int, outputs: int, bias_on_second: bool = True) -> None:
        super().__init__()
        self.bias_on_second = bias_on_second
        self.weight = nn.Parameter(torch.zeros(outputs, size + 1, size + bias_on_second))

    def _sides(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return F.pad(x, (0, 1), value=1.0), F.pad(y, (0, int(self.bias_on_second)), value=1.0)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Score all pairs: (S, W, size) and (S, V, size) → (S, W, V, outputs)."""
        x, y = self._sides(x, y)
        return torch.einsum("swa,oab,svb->swvo", x, self.weight, y)

    def pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Score given pairs: (N, size) and (N, size) → (N, outputs)."""
        x, y = self._sides(x, y)
        # In this order the weights are read as they lie; einsum would move them at every call.
        mapped = F.linear(y, self.weight.flatten(0, 1)).view(len(y), -1, x.shape[1])
        return torch.bmm(mapped, x[:, :, None]).squeeze(2)


@dataclass(frozen=True)
class PairScores:
    """The scores of every relation for every pair of words, computed for the pairs that are needed.

    All of them take memory of the number of words squared times the number of relations, which a
    long sentence does not have.

    Attributes:
        x: (S, W, r), the words as dependents. y: (S, W + 1, r), the root and the words as heads.
        biaffine: scores a pair.
    """

    x: Tensor
    y: Tensor
    biaffine: Biaffine

    def at(self, sentences: Tensor, words: Tensor, heads: Tensor) -> Tensor:
        """Score N words with one head each, (N, R)."""
        with torch.autocast(self.x.device.type, enabled=False):
            return self.biaffine.pairs(self.x[sentences, words], self.y[sentences, heads])

    def __getitem__(self, index: Any) -> Tensor:
        """Index the scores of all pairs, (S, W, W + 1, R)."""
        with torch.autocast(self.x.device.type, enabled=False):
            return self.biaffine(self.x, self.y)[index]  # type: ignore[no-any-return]

    def of(self, sentences: slice) -> PairScores:
        """Return the scores of some sentences."""
        return PairScores(self.x[sentences], self.y[sentences], self.biaffine)


@dataclass(frozen=True)
class PairTable:
    """The scores of every relation for every pair of words, where they are computed already.

    Attributes:
        scores: (S, W, W + 1, R).
    """

    scores: Tensor

    def at(self, sentences: Tensor, words: Tensor, heads: Tensor) -> Tensor:
        """Read the scores of N words with one head each, (N, R)."""
        return self.scores[sentences, words, heads]

    def of(self, sentences: slice) -> PairTable:
        """Return the scores of some sentences."""
        return PairTable(self.scores[sentences])


@dataclass(frozen=True)
class ParseScores:
    """A parser's scores for S sentences, the longest of which has W words.

    Attributes:
        arcs: (S, W, W + 1), of each word with every head: the root (0), the words from 1. Heads
            that a shorter sentence does not have score -inf.
        relations: (S, W, W + 1, R), of each word with every head, in every relation.
        real: (S, W), boolean, where there is a word. The rest is padding.
    """

    arcs: Tensor
    relations: PairScores | PairTable
    real: Tensor

    def loss(self, heads: Tensor, relations: Tensor) -> Tensor:
        """Cross-entropy of the heads plus that of the relations at the right heads.

        Both are means over words (Dozat and Manning 2017; the released code does the same).

        Args:
            heads: (N,), of all words, sentence after sentence; 0 is the root.
            relations: (N,), the index of each word's relation.
        """
        # The number of words is known, so a GPU need not wait for it.
        sentences, words = self.real.nonzero_static(size=len(heads)).unbind(1)
        arcs = self.arcs[sentences, words].float()
        at_heads = self.relations.at(sentences, words, heads).float()
        return F.cross_entropy(arcs, heads) + F.cross_entropy(at_heads, relations)

    def split(self) -> list[ParseScores]:
        """Return the scores of each sentence, S = 1."""
        return [
            ParseScores(self.arcs[s], self.relations.of(s), self.real[s])
            for s in (slice(number, number + 1) for number in range(len(self.real)))
        ]

    def answer(self, labels: Sequence[str]) -> Answer:
        """Find the best tree of a single sentence, then the best relation of each word in it.

        If the label set has ``root``, the root of the tree has this relation, and no other word
        has it: in Universal Dependencies the two mean the same.

        Args:
            labels: the label set of relations.
        """
        words = int(self.real.sum())
        arcs = self.arcs[0, :words, : words + 1].detach().float().cpu().clone()
        arcs.diagonal(1).fill_(-torch.inf)  # no word is its own head
        heads = best_tree(arcs.double().numpy())
        places = torch.tensor([range(words), heads], device=self.arcs.device)
        scores = self.relations.at(torch.zeros_like(places[0]), *places).detach().float()
        if ROOT in labels and len(labels) > 1:
            root = labels.index(ROOT)
            scores[:, root] = -torch.inf
            scores[heads.index(0), root] = torch.inf
        relations = scores.argmax(dim=-1)
        certain = scores.softmax(dim=-1).gather(1, relations[:, None]).squeeze(1)
        attached = arcs.softmax(dim=-1)[range(words), heads]
        confidences = (certain.nan_to_num(1.0).cpu() * attached).tolist()
        return Answer(relations.tolist(), confidences, heads=heads)


class ParserHead(Head):
    """Biaffine attention over words (Dozat and Manning 2017).

    A word is the mean of its sub-words' hidden states, the root the hidden state of the sentence's
    first token. The scores of word i with head j are x_i W y_j with a one at the end of x_i (a bias
    for every head); those of relations are the same for each relation, with a one at the end of
    both.

    Args:
        hidden: the backbone's hidden size h.
        relations: the number of relations.
        form: "mlp": x and y are perceptrons of the hidden states, separate ones for arcs and for
            relations, as in the paper; "direct": they are the hidden states themselves, as in the
            released code of Hyper-X.
        dropout: rate on words, and on the output of the perceptrons, in training.
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

    @classmethod
    def start(cls, task: Task, backbone: Backbone, options: HeadOptions) -> ParserHead:
        """Make the head that training starts from."""
        return cls(backbone.hidden_size, len(task.labels), options.parser, options.dropout)

    def forward(self, hidden: Tensor, words: WordIndex) -> ParseScores:
        """Score all heads and relations of the sentences in a batch.

        Args:
            hidden: (B, T, h).
            words: the words of the sentences.
        """
        vectors = self.dropout(word_vectors(hidden, words))
        present = words.sizes > 0
        # In half precision, scores of many summands would be too coarse to compare.
        with torch.autocast(vectors.device.type, enabled=False):
            arcs = self.arcs(*self._sides("arc", vectors))[..., 0]
            relations = PairScores(*self._sides("relation", vectors), self.relations)
        arcs = arcs.masked_fill(~present[:, None], -torch.inf)
        return ParseScores(arcs, relations, present[:, 1:])

    def _sides(self, name: str, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and y: the words without and with the root."""
        if self.perceptrons is None:
            return vectors[:, 1:], vectors
        x, y = (self.perceptrons[f"{name}_{side}"](vectors) for side in ("dependent", "head"))
        x, y = (self.dropout(F.leaky_relu(z, 0.1)) for z in (x, y))
        return x[:, 1:], y

    def read(self, encoded: Encoded, rows: TaskRows) -> ParseScores:
        """Score the sentences of a batch."""
        assert rows.words is not None
        return self(encoded.hidden, rows.words)  # type: ignore[no-any-return]

    def loss(self, scores: ParseScores, rows: TaskRows) -> Tensor:
        """Return the mean loss of the words: that of heads plus that of relations."""
        assert rows.heads is not None
        assert rows.labels is not None
        return scores.loss(rows.heads, rows.labels)

    def split(self, scores: ParseScores, rows: TaskRows) -> list[ParseScores]:
        """Split scores by sentence."""
        return scores.split()

    def decode(self, scores: Sequence[ParseScores], task: Task) -> Answer:
        """Find the best tree of a sentence and the relations in it."""
        (sentence,) = scores
        return sentence.answer(task.labels)


def _orthogonal(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def word_vectors(hidden: Tensor, words: WordIndex) -> Tensor:
    """Average the sub-words of each word, and join the windows of a sentence.

    Args:
        hidden: (B, T, h).
        words: the words of S sentences, the longest of which has W words.

    Returns:
        (S, W + 1, h), the root and then the words of each sentence; zero is padding.
    """
    states = hidden.flatten(0, 1).index_select(0, words.subwords)
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    sums = states.new_zeros(words.sizes.numel(), states.shape[-1])
    sums = sums.index_add(0, words.slots, states)
    means = sums / words.sizes.flatten().clamp(min=1)[:, None]
    return means.view(*words.sizes.shape, -1)


def best_tree(scores: NDArray[np.float64]) -> list[int]:
    """Find the tree of the highest sum of scores in which exactly one word hangs on the root.

    The algorithm is that of Chu and Liu (1965) and Edmonds (1967), in the form of Tarjan (1977),
    which takes time quadratic in the number of words. A large amount is taken off the score of
    every word as the root, the same for all: then a tree with two roots never beats one with a
    single root, and those keep their order. It is needed only if the best heads of all words are no
    such tree.

    `networkx` has it too and is the twin in the tests, but takes half a minute for 200 words.
    `ufal.chu_liu_edmonds` is under the GPL, `rustworkx` has undirected trees only, `torch-struct`
    and `supar` are not maintained, and that of `stanza` is cubic.

    Args:
        scores: (words, words + 1), finite; of each word (row) with every head, the root (0) and
            the words from 1. The score of a word with itself is not read.

    Returns:
        The head of each word, counted from 1; 0 for the root.
    """
    words = len(scores)
    if not words:
        return []
    table = np.full((words + 1, words + 1), -np.inf)
    table[1:] = scores
    np.fill_diagonal(table, -np.inf)
    heads: list[int] = table[1:].argmax(axis=1).tolist()
    if not _leads_to_root(heads) or heads.count(0) > 1:
        finite = table[np.isfinite(table)]
        table[1:, 0] -= 1 + words * (np.ptp(finite) if len(finite) else 0)
        heads = _Contraction(table).heads()[1:]
    return heads


def _leads_to_root(heads: Sequence[int]) -> bool:
    """Whether every word hangs on the root, at any distance."""
    sure = {0}
    for word in range(1, len(heads) + 1):
        path: list[int] = []
        while word not in sure:
            if len(path) > len(heads):
                return False
            path.append(word)
            word = heads[word - 1]
        sure.update(path)
    return True


class _Contraction:
    """Takes the best head of node after node, and makes one node of every cycle.

    The row of a node in `table` holds the score of each head for it. A new node takes the row of
    one of its members: the best member's score for each head, less that of the member's head
    inside the cycle. `entry` says for each head which word of the node it would enter.
    """

    def __init__(self, table: NDArray[np.float64]) -> None:
        self.table = table
        nodes = len(table)
        self.node = np.arange(nodes)  # the present node that each word is in
        self.row = list(range(nodes))  # of each node
        self.entry: list[NDArray[np.int64]] = [np.full(nodes, n) for n in range(nodes)]
        self.members: list[list[int]] = [[] for _ in range(nodes)]
        self.edge: list[tuple[int, int]] = [(0, n) for n in range(nodes)]  # (head, word entered)

    def heads(self) -> list[int]:
        """Return the head of every word; that of node 0, the root, is 0."""
        finished = {0}
        for start in range(1, len(self.table)):
            path: list[int] = []
            node = int(self.node[start])
            while node not in finished:
                path.append(node)
                row = self.table[self.row[node]]
                head = int(row.argmax())
                self.edge[node] = (head, int(self.entry[node][head]))
                following = int(self.node[head])
                if following in path:
                    cycle = path[path.index(following) :]
                    del path[path.index(following) :]
                    following = self._contract(cycle)
                node = following
            finished.update(path)
        return self._expand(finished)

    def _contract(self, cycle: list[int]) -> int:
        """Make one node of a cycle, and return it."""
        rows = [self.row[node] for node in cycle]
        inner = np.array([self.table[self.row[n], self.edge[n][0]] for n in cycle])
        entering = self.table[rows] - inner[:, None]
        best = entering.argmax(axis=0)
        is_member = np.zeros(len(self.row), dtype=bool)
        is_member[cycle] = True
        inside = is_member[self.node]
        entering[:, inside] = -np.inf
        every = np.arange(len(self.table))
        self.table[rows[0]] = entering[best, every]
        self.entry.append(np.stack([self.entry[n] for n in cycle])[best, every])
        self.row.append(rows[0])
        self.members.append(cycle)
        self.edge.append((0, 0))
        self.node[inside] = len(self.row) - 1
        return len(self.row) - 1

    def _expand(self, nodes: set[int]) -> list[int]:
        """Open every contracted node again: the member that is entered gets another head."""
        heads = [0] * len(self.table)
        owner = {member: n for n, members in enumerate(self.members) for member in members}
        pending = sorted(nodes - {0})
        while pending:
            node = pending.pop()
            head, word = self.edge[node]
            if not self.members[node]:
                heads[node] = head
                continue
            entered = word
            while owner[entered] != node:
                entered = owner[entered]
            self.edge[entered] = (head, word)
            pending += self.members[node]
        return heads
