"""Each row is scored by the head of its task, whatever it stands beside."""

from __future__ import annotations

import pytest
import torch

from hyperlect.data.batching import Batch, collate
from hyperlect.data.encoding import encode_inputs
from hyperlect.errors import HyperlectError
from hyperlect.grid import Cell
from hyperlect.heads import MlmHead, ParserHead, SequenceHead, TokenHead
from hyperlect.model import HyperX, HyperXConfig, HyperXOutput
from hyperlect.model.scoring import make_head
from hyperlect.tasks import PARSERS, Task, TaskType
from tests.tiny import tiny_backbone

from .made import IDS, MASK, MLM, NER, POS, TASKS, TOPIC, make

DEP = Task("dep", TaskType.PARSING, ("det", "nsubj", "root"))
SENTENCES = [["the", "cat", "sees", "Oslo"], ["Anna", "xyz"], ["old"] * 40]


def run(model: HyperX, batch: Batch) -> HyperXOutput:
    return model(
        batch.input_ids,
        batch.attention_mask,
        task=batch.tasks,
        language=batch.languages,
        token_type_ids=batch.token_type_ids,
        positions=batch.positions,
        words=batch.words,
    )


def batch_of(model: HyperX, cells: list[Cell], sentences: list[list[str]]) -> Batch:
    rows = [
        encode_inputs([words], model.task(cell.task), model.tokenizer, 32)[0]
        for cell, words in zip(cells, sentences, strict=True)
    ]
    return collate(rows, cells, model.tasks, model.tokenizer)


@pytest.mark.parametrize("form", PARSERS)
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_sentence_is_parsed_the_same_in_any_company(form: str, family: str) -> None:
    """Alone or beside other tasks, languages and lengths; a long one goes through in windows."""
    model = make(family, tasks=(*TASKS, DEP), parser=form).double()
    cells = [Cell("dep", "isl"), Cell("pos", "eng"), Cell("dep", "eng"), Cell("dep", "tur")]
    sentences = [SENTENCES[0], ["a", "dog"], SENTENCES[2], SENTENCES[1]]
    together = batch_of(model, cells, sentences)
    assert len(together.cells) > len(cells)
    out = run(model, together)
    assert out.task_logits.keys() == {"pos"}
    found = out.parses["dep"]
    assert found.real.sum(dim=1).tolist() == [4, 40, 2]
    for place, number in enumerate((0, 2, 3)):
        words = len(sentences[number])
        alone = run(model, batch_of(model, [cells[number]], [sentences[number]])).parses["dep"]
        close = {"rtol": 1e-8, "atol": 1e-8}
        torch.testing.assert_close(found.arcs[place, :words, : words + 1], alone.arcs[0], **close)
        torch.testing.assert_close(
            found.relations[place, :words, : words + 1], alone.relations[0], **close
        )
        assert alone.arcs.std() > 0.01


def test_every_parameter_of_a_parser_learns() -> None:
    for form in PARSERS:
        model = make(tasks=(*TASKS, DEP), parser=form)
        scores = run(model, batch_of(model, [Cell("dep", "eng")], [SENTENCES[0]])).parses["dep"]
        scores.loss(torch.tensor([2, 3, 0, 3]), torch.tensor([0, 1, 2, 1])).backward()
        assert all(parameter.grad.any() for parameter in model.heads["dep"].parameters())
        assert any(parameter.grad.any() for parameter in model.adapters.parameters())


def test_a_parser_without_words_and_trees_taken_for_labels_are_errors() -> None:
    model = make(tasks=(*TASKS, DEP))
    with pytest.raises(HyperlectError, match="task dep is of words"):
        model(IDS, MASK, task="dep", language="eng")
    out = run(model, batch_of(model, [Cell("dep", "eng")], [SENTENCES[0]]))
    with pytest.raises(HyperlectError, match="task dep scores trees: read parses"):
        _ = out.logits


def test_each_type_of_task_has_its_head() -> None:
    backbone = tiny_backbone()
    config = HyperXConfig((POS,), ("eng",), parser="direct", head_dropout=0.3)
    kinds = [(POS, TokenHead), (NER, TokenHead), (TOPIC, SequenceHead), (MLM, MlmHead)]
    for task, kind in [*kinds, (DEP, ParserHead)]:
        head = make_head(task, backbone, config)
        assert type(head) is kind
        assert isinstance(head, MlmHead) or head.dropout.p == 0.3
    assert make_head(DEP, backbone, config).perceptrons is None
