"""Parsing: scores of heads and relations, their loss, and the best tree."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from hyperlect.data.batching import TaskRows, WordIndex
from hyperlect.heads import Encoded, ParserHead, ParseScores, best_tree
from hyperlect.heads.parsing import Biaffine, PairScores, word_vectors
from hyperlect.tasks import PARSERS, Task, TaskType
from tests.hypernet import twin
from tests.released.twin import word_numbers

PARITY = Path(__file__).parents[1] / "parity" / "paper_default.safetensors"
LABELS = ("nsubj", "obj", "punct", "root")
DEP = Task("dep", TaskType.PARSING, LABELS)
WORDS = torch.tensor([[0, 1, 1, 2, 3, -1], [0, 1, 2, -1, -1, -1]])
INDEX = WordIndex.of(WORDS)
HEADS, RELATIONS = torch.tensor([2, 0, 2, 0, 1]), torch.tensor([0, 3, 1, 3, 2])
Matrix = NDArray[np.float64]


def parser(form: str, hidden: int = 8, dropout: float = 0.0) -> ParserHead:
    """Return a head whose scores are not all zero."""
    torch.manual_seed(1)
    head = ParserHead(hidden, len(LABELS), form, dropout)  # type: ignore[arg-type]
    return twin.liven(head)


def trees(scores: ParseScores, labels: tuple[str, ...] = LABELS) -> list[tuple[Any, list[int]]]:
    """The heads and the relations of each sentence."""
    answers = [sentence.answer(labels) for sentence in scores.split()]
    return [(answer.heads, answer.labels) for answer in answers]


# --- parity with the released code


def released(dtype: torch.dtype) -> tuple[dict[str, Tensor], ParseScores]:
    """The released code's tensors, and what the head makes of its hidden states."""
    tensors = load_file(PARITY)
    out = {k.removeprefix("out/dep:tr/"): v for k, v in tensors.items() if "out/dep:tr" in k}
    out |= {k.removeprefix("input/"): v.long() for k, v in tensors.items() if "input/" in k}
    head = ParserHead(48, 5, "direct").to(dtype)
    with torch.no_grad():
        for name in ("arcs", "relations"):
            weight = tensors[f"param/taskmodels_dict.dep.biaffine_{name[:3]}s.weight"]
            getattr(head, name).weight.copy_(weight)
    words = WordIndex.of(word_numbers(out["word_starts"]))
    return out, head(out["last_hidden_state"].to(dtype), words)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-6)])
def test_scores_are_those_of_the_released_code(dtype: torch.dtype, tolerance: float) -> None:
    out, scores = released(dtype)
    assert scores.real.sum(dim=1).tolist() == [8, 4, 2]
    for mine, theirs in ((scores.arcs, "arc_preds"), (scores.relations, "rel_preds")):
        for sentence, words in enumerate((8, 4, 2)):
            expected = out[theirs][sentence, :words, : words + 1].to(dtype)
            found = mine[sentence, :words, : words + 1]
            assert (found - expected).abs().max() <= tolerance * out[theirs].abs().max()
            assert expected.abs().max() > 1


def test_the_loss_is_that_of_the_released_code_but_for_the_padding_it_counts() -> None:
    out, scores = released(torch.float64)
    heads, relations = (out[name][scores_real(out)] for name in ("labels_arcs", "labels_rels"))
    # There, heads that are padding score zero instead of being none.
    padded = F.pad(scores.arcs, (0, 6), value=-torch.inf)
    counted = ParseScores(padded.masked_fill(padded.isinf(), 0.0), scores.relations, scores.real)
    assert counted.arcs.shape == (3, 8, 15)
    assert counted.loss(heads, relations).item() == pytest.approx(out["loss"].item(), rel=1e-6)
    assert scores.loss(heads, relations) < counted.loss(heads, relations)


def scores_real(out: dict[str, Tensor]) -> Tensor:
    return out["labels_arcs"] >= 0


# --- scores


def test_words_are_means_of_their_sub_words_and_the_root_is_the_first_token() -> None:
    hidden = torch.randn(2, 6, 4)
    vectors = word_vectors(hidden, INDEX)
    first = torch.stack([hidden[0, 0], hidden[0, 1:3].mean(0), hidden[0, 3], hidden[0, 4]])
    torch.testing.assert_close(vectors[0], first)
    torch.testing.assert_close(vectors[1, :3], hidden[1, :3])
    assert not vectors[1, 3].any()


def test_the_windows_of_a_sentence_are_joined() -> None:
    hidden = torch.randn(3, 4, 4)
    index = WordIndex.of(torch.tensor([[0, 1, 2, -1], [-1, 3, 3, -1], [0, 1, -1, -1]]))
    assert index.lengths == (3, 1)
    vectors = word_vectors(hidden, index)
    joined = torch.stack([*hidden[0, :3], hidden[1, 1:3].mean(0)])
    torch.testing.assert_close(vectors[0], joined)


@pytest.mark.parametrize("form", PARSERS)
def test_scores_are_the_formula(form: str) -> None:
    head = parser(form)
    hidden = torch.randn(2, 6, 8)
    scored = head(hidden, INDEX)
    vectors = word_vectors(hidden, INDEX)
    one = torch.ones(1)
    for name, scores in (("arc", scored.arcs[..., None]), ("relation", scored.relations)):
        weight = head.arcs.weight if name == "arc" else head.relations.weight
        for dependent, other in ((1, 0), (1, 2), (3, 1), (3, 3)):
            x, y = vectors[0, dependent], vectors[0, other]
            if form == "mlp":
                x = F.leaky_relu(head.perceptrons[f"{name}_dependent"](x), 0.1)
                y = F.leaky_relu(head.perceptrons[f"{name}_head"](y), 0.1)
            y = y if name == "arc" else torch.cat([y, one])
            expected = torch.stack([torch.cat([x, one]) @ w @ y for w in weight])
            actual = scores[0, dependent - 1, other]
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", PARSERS)
def test_padding_changes_nothing(form: str) -> None:
    """Neither scores, loss, trees nor gradients depend on what stands beside a sentence."""
    head = parser(form)
    hidden = torch.randn(2, 6, 8)
    other = torch.cat([hidden, torch.full((2, 3, 8), 1e3)], dim=1)
    other[1, 3:] = -7.0
    wide = WordIndex.of(F.pad(WORDS, (0, 3), value=-1))
    alone = head(hidden[1:, :3], WordIndex.of(WORDS[1:, :3]))
    together, padded = head(hidden, INDEX), head(other, wide)
    for scores in (together, padded):
        torch.testing.assert_close(scores.arcs[1, :2, :3], alone.arcs[0])
        torch.testing.assert_close(scores.relations[1, :2, :3], alone.relations[0])
        assert scores.arcs[1, :, 3:].isinf().all()
    losses = [scores.loss(HEADS, RELATIONS) for scores in (together, padded)]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss, list(head.parameters())) for loss in losses]
    for first, second in zip(*gradients, strict=True):
        assert first.isfinite().all()
        torch.testing.assert_close(first, second)
    assert trees(together)[1] == trees(padded)[1] == trees(alone)[0]


def test_sentences_are_read_split_and_decoded_one_by_one() -> None:
    head = parser("mlp")
    rows = TaskRows(torch.arange(2), INDEX.lengths, words=INDEX, labels=RELATIONS, heads=HEADS)
    encoded = Encoded(torch.randn(2, 6, 8), torch.ones(2, 6), torch.empty(0))
    scores = head.read(encoded, rows)
    torch.testing.assert_close(head.loss(scores, rows), scores.loss(HEADS, RELATIONS))
    answers = [head.decode([sentence], DEP) for sentence in head.split(scores, rows)]
    assert [(answer.heads, answer.labels) for answer in answers] == trees(scores)
    assert [len(answer.labels) for answer in answers] == [3, 2]


@pytest.mark.parametrize("form", PARSERS)
def test_training_learns_the_trees(form: str) -> None:
    torch.manual_seed(1)
    head = ParserHead(8, len(LABELS), form)  # type: ignore[arg-type]
    hidden = torch.randn(2, 6, 8)
    heads, relations = torch.tensor([3, 1, 0, 0, 1]), torch.tensor([0, 1, 3, 3, 2])
    start = head(hidden, INDEX).loss(heads, relations)
    # All heads, and all relations, are equally likely.
    uniform = (3 * torch.tensor(4.0).log() + 2 * torch.tensor(3.0).log()) / 5
    torch.testing.assert_close(start, uniform + torch.tensor(float(len(LABELS))).log())
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        head(hidden, INDEX).loss(heads, relations).backward()
        optimizer.step()
    assert trees(head(hidden, INDEX)) == [([3, 1, 0], [0, 1, 3]), ([0, 1], [3, 2])]


def test_dropout_is_on_words_and_perceptrons() -> None:
    for form in PARSERS:
        head = parser(form, dropout=0.5)
        hidden = torch.randn(2, 6, 8)
        assert not torch.equal(head(hidden, INDEX).arcs, head(hidden, INDEX).arcs)
        head.eval()
        assert torch.equal(head(hidden, INDEX).arcs, head(hidden, INDEX).arcs)


# --- relations of the pairs that are needed


def test_relations_of_chosen_pairs_equal_those_of_all_pairs() -> None:
    """In values and in gradients."""
    torch.manual_seed(1)
    biaffine = twin.liven(Biaffine(5, 7)).double()
    x, y = (torch.randn(3, n, 5).double().requires_grad_() for n in (6, 7))
    pairs = PairScores(x, y, biaffine)
    sentences, words, heads = (torch.randint(n, (40,)) for n in (3, 6, 7))
    chosen, every = pairs.at(sentences, words, heads), pairs[sentences, words, heads]
    torch.testing.assert_close(chosen, every)
    inputs = [x, y, biaffine.weight]
    for mine, plain in zip(
        torch.autograd.grad(chosen.square().sum(), inputs),
        torch.autograd.grad(every.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, plain)


def test_relations_of_all_pairs_are_never_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For 1,500 words and 40 relations they would take 360 MB, and as much for gradients."""
    words = 1500
    shapes = []
    forward = Biaffine.forward

    def note(self: Biaffine, x: Tensor, y: Tensor) -> Tensor:
        shapes.append((len(self.weight), x.shape[1], y.shape[1]))
        return forward(self, x, y)

    monkeypatch.setattr(Biaffine, "forward", note)
    torch.manual_seed(1)
    head = twin.liven(ParserHead(16, 40, "direct"))
    task = Task("dep", TaskType.PARSING, tuple(map(str, range(40))))
    index = WordIndex.of(torch.arange(words + 1)[None])
    heads = torch.arange(words)
    rows = TaskRows(torch.arange(1), index.lengths, words=index, labels=heads % 40, heads=heads)
    encoded = Encoded(torch.randn(1, words + 1, 16), torch.ones(1, words + 1), torch.empty(0))
    scores = head.read(encoded, rows)
    head.loss(scores, rows).backward()
    answer = head.decode(head.split(scores, rows), task)
    assert answer.heads is not None
    assert is_tree(answer.heads)
    assert head.relations.weight.grad.any()
    assert shapes == [(1, words, words + 1)]


# --- answers


def test_only_the_root_has_its_relation() -> None:
    arcs = torch.full((1, 3, 4), -9.0)
    arcs[0, 0, 0] = arcs[0, 1, 0] = arcs[0, 2, 1] = 5.0  # two words would be roots
    arcs[0, 1, 1] = 4.0
    relations = torch.zeros(1, 3, 4, len(LABELS))
    relations[..., 3] = 1.0
    relations[..., 0, 3] = -1.0
    relations[0, 2, 1, 2] = 0.5
    biaffine = Biaffine(4, len(LABELS))  # of one-hot vectors: its weights are the scores
    with torch.no_grad():
        biaffine.weight[:, :3, :4] = relations[0].permute(2, 0, 1)
    pairs = PairScores(torch.eye(4)[None, :3], torch.eye(4)[None], biaffine)
    scores = ParseScores(arcs, pairs, torch.ones(1, 3, dtype=torch.bool))
    assert trees(scores) == [([0, 1, 1], [3, 0, 2])]
    assert trees(scores, ("a", "b", "c", "d")) == [([0, 1, 1], [0, 3, 3])]


def test_the_confidence_of_a_word_is_that_of_head_and_relation_together() -> None:
    head = parser("mlp")
    scores = head(torch.randn(2, 6, 8), INDEX)
    for sentence, of_sentence in enumerate(scores.split()):
        answer = of_sentence.answer(("a", "b", "c", "d"))
        words = len(answer.labels)
        arcs = scores.arcs[sentence, :words, : words + 1].detach().clone()
        arcs[range(words), range(1, words + 1)] = -torch.inf  # no word is its own head
        arcs = arcs.softmax(-1)
        relations = scores.relations[sentence, :words, : words + 1].softmax(-1)
        expected = [
            (arcs[word, head_] * relations[word, head_, label]).item()
            for word, (head_, label) in enumerate(zip(answer.heads, answer.labels, strict=True))
        ]
        assert answer.confidences == pytest.approx(expected, rel=1e-4)


def test_what_cannot_be_otherwise_is_certain() -> None:
    """A single word hangs on the root, and the root has its relation."""
    scores = parser("mlp")(torch.randn(1, 3, 8), WordIndex.of(torch.tensor([[0, 1, -1]])))
    answer = scores.answer(LABELS)
    assert (answer.heads, answer.labels) == ([0], [LABELS.index("root")])
    assert answer.confidences == pytest.approx([1.0])
    before = scores.arcs.clone()
    scores.answer(LABELS)
    assert torch.equal(scores.arcs, before)


# --- the best tree


def is_tree(heads: list[int]) -> bool:
    """Whether every word leads to the root, and one word hangs on it."""
    for word in range(1, len(heads) + 1):
        steps = 0
        while word and steps <= len(heads):
            word, steps = heads[word - 1], steps + 1
        if word:
            return False
    return heads.count(0) == 1


def total(scores: Matrix, heads: list[int]) -> float:
    return float(sum(scores[word, head] for word, head in enumerate(heads)))


def random_scores(kind: str, size: int, seed: int) -> Matrix:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(size, size + 1))
    match kind:
        case "every word wants to be the root":
            scores[:, 0] += 10
        case "tied":  # few values, so that many trees have the same sum
            scores = generator.integers(0, 3, size=(size, size + 1)).astype(float)
        case "one tree stands out":
            for word in range(size):
                scores[word, generator.integers(0, word + 1) if word else 0] += 50
        case "large":
            scores *= 1e6
        case "small":
            scores *= 1e-6
        case "circles":  # two by two, and then two pairs by two pairs
            for word in range(size):
                scores[word, (word ^ 1) + 1 if (word ^ 1) < size else 0] += 50
                scores[word, (word ^ 2) + 1 if (word ^ 2) < size else 0] += 20
    return scores


KINDS = (
    "random",
    "one tree stands out",
    "every word wants to be the root",
    "tied",
    "large",
    "small",
    "circles",
)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_no_tree_has_a_higher_score(kind: str, size: int) -> None:
    trees = list(filter(is_tree, map(list, itertools.product(range(size + 1), repeat=size))))
    for seed in range(5):
        scores = random_scores(kind, size, seed)
        heads = best_tree(scores)
        assert is_tree(heads)
        highest = max(total(scores, tree) for tree in trees)
        assert total(scores, heads) == pytest.approx(highest, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [8, 20, 33])
@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_is_as_good_as_that_of_networkx(kind: str, size: int) -> None:
    scores = random_scores(kind, size, seed=size)
    penalty = 1 + 2 * size * np.ptp(scores)
    graph = networkx.DiGraph()
    for word, head in itertools.product(range(1, size + 1), range(size + 1)):
        if word != head:
            graph.add_edge(head, word, weight=scores[word - 1, head] - penalty * (head == 0))
    tree = {word: head for head, word in networkx.maximum_spanning_arborescence(graph).edges}
    expected = [tree[word] for word in range(1, size + 1)]
    heads = best_tree(scores)
    assert is_tree(heads)
    assert total(scores, heads) == pytest.approx(total(scores, expected), rel=1e-9)
    if kind != "tied":
        assert heads == expected


def test_a_tree_stays_although_other_scores_tie() -> None:
    heads = [2, 0, 2, 3]
    scores = np.zeros((4, 5))
    scores[range(4), heads] = 1
    assert best_tree(scores) == heads
    assert is_tree(best_tree(np.zeros((6, 7))))


@pytest.mark.parametrize("size", [40, 2000])
def test_circles_inside_circles_are_opened(size: int) -> None:
    """Every word wants the one before it, and the first any other: circles grow word by word."""
    scores = np.full((size, size + 1), -100.0)
    for word in range(2, size + 1):
        scores[word - 1, word - 1] = 100
        scores[0, word] = 100 - word / size
    scores[-1, 0] = 0
    assert best_tree(scores) == [size, *range(1, size - 1), 0]


@pytest.mark.parametrize("kind", ["random", "tied", "circles"])
def test_a_sentence_of_two_thousand_words_has_a_tree(kind: str) -> None:
    """In cubic time they would take minutes."""
    scores = random_scores(kind, 2000, seed=1)
    heads = best_tree(scores)
    assert is_tree(heads)


def test_no_words_have_no_tree() -> None:
    assert best_tree(np.empty((0, 1))) == []


def test_scores_that_are_nan_do_not_crash() -> None:
    assert len(best_tree(np.full((3, 4), np.nan))) == 3
