"""Filling the grid: every word scored once, every number of the right kind."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from datasets import Dataset
from torch.nn import functional as F

from hyperlect.data.encoding import encode
from hyperlect.errors import DataError, UnknownNameError
from hyperlect.evaluation import CellResult, fill
from hyperlect.evaluation.fill import MASK_SEED
from hyperlect.grid import Cell
from hyperlect.hypernet import HypernetConfig
from hyperlect.model import HyperX, HyperXConfig
from hyperlect.precision import Precision
from hyperlect.prediction import forward_rows
from hyperlect.tasks import Task, TaskType

from ..data.made import corpus, parsed, tagged
from ..tiny import tiny_backbone

SMALL = HypernetConfig(bottleneck=4, projection=6, embedding=5)
TASKS = (
    Task("pos", TaskType.TAGGING, ("DET", "NOUN", "VERB")),
    Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")),
    Task("topic", TaskType.CLASSIFICATION, ("animals", "people")),
    Task("mlm", TaskType.MLM),
    Task("dep", TaskType.PARSING, ("det", "obj", "root")),
)
TRAINED = (Cell("pos", "eng"), Cell("pos", "isl"), Cell("ner", "eng"), Cell("mlm", "fao"))
LONG = " ".join(f"{word}/{tag}" for word, tag in [("the", "DET"), ("cat", "NOUN")] * 50)


@pytest.fixture(scope="module")
def model() -> HyperX:
    torch.manual_seed(0)
    backbone = tiny_backbone()
    made = HyperX(backbone, HyperXConfig(TASKS, ("eng", "fao", "isl"), TRAINED, hypernet=SMALL))
    for head in made.heads.values():  # so that predictions vary
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def rows(model: HyperX, task: str, data: Dataset) -> Dataset:
    return encode(data, model.task(task), model.tokenizer, model.backbone.max_length)


def only(model: HyperX, cell: str, data: Dataset, **options: int) -> CellResult:
    parsed = Cell.parse(cell)
    (result,) = fill(model, {parsed: rows(model, parsed.task, data)}, **options)
    return result


def test_every_word_of_a_long_sentence_is_scored_once(model: HyperX) -> None:
    data = tagged("the/DET dog/NOUN sees/VERB", LONG, "a/DET river/NOUN")
    assert len(rows(model, "pos", data)) == 4  # the long one has several windows
    result = only(model, "pos:eng", data)
    assert (result.units, result.unit, result.examples) == (105, "words", 3)
    labels = [p.labels for p in model.predict(data["words"], "pos", "eng")]
    right = sum(
        a == b
        for gold, found in zip(data["labels"], labels, strict=True)
        for a, b in zip(gold, found, strict=True)
    )
    assert result.score == pytest.approx(100 * right / 105)


def test_scores_do_not_depend_on_how_rows_are_batched(model: HyperX) -> None:
    data = tagged(*(f"the/DET {'cat/NOUN ' * n}sees/VERB" for n in range(1, 12)))
    alone, together = (only(model, "pos:eng", data, tokens_per_batch=n) for n in (1, 4096))
    assert alone == together


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)]
)
def test_the_encoder_computes_in_the_precision_asked_for(
    model: HyperX, precision: Precision, dtype: torch.dtype
) -> None:
    data = rows(model, "pos", tagged("the/DET dog/NOUN sees/VERB", LONG, "a/DET river/NOUN"))
    seen = set()
    linear = next(m for m in model.backbone.encoder.modules() if isinstance(m, torch.nn.Linear))
    watch = linear.register_forward_hook(lambda *call: seen.add(call[-1].dtype))
    cell = Cell("pos", "eng")
    (exact,), (result,) = (fill(model, {cell: data}, precision=p) for p in ("fp32", precision))
    seen.clear()
    (again,) = fill(model, {cell: data}, precision=precision)
    watch.remove()
    assert seen == {dtype}
    assert again == result
    assert result.score == pytest.approx(exact.score, abs=5)
    assert all(parameter.dtype is torch.float32 for parameter in model.parameters())


def test_the_windows_of_a_sentence_are_decoded_as_one_sequence(model: HyperX) -> None:
    """A span may run over the edge of a window; no window begins with a stray I-."""
    data = tagged(" ".join(["Anna/B-PER"] + ["Anna/I-PER"] * 80))
    result = only(model, "ner:eng", data)
    assert (result.units, result.unit) == (1, "spans")
    (prediction,) = model.predict(data["words"], "ner", "eng")
    assert len(prediction.labels) == 81
    for before, after in zip(("O", *prediction.labels), prediction.labels, strict=False):
        assert not after.startswith("I-") or before[2:] == after[2:]


@pytest.mark.parametrize(
    ("cell", "kind", "source"),
    [
        ("pos:eng", "supervised", "own vector"),
        ("ner:isl", "unseen combination", "own vector"),
        ("pos:fao", "unseen language, text only", "own vector"),
        ("pos:dan", "unseen language, untouched", "mean of the trained languages"),
    ],
)
def test_each_result_says_its_kind_and_whose_vector(
    model: HyperX, cell: str, kind: str, source: str
) -> None:
    word = "the/DET" if cell.startswith("pos") else "Oslo/B-LOC"
    result = only(model, cell, tagged(word))
    assert f"{result.task}:{result.language}" == cell
    assert (result.kind, result.language_source) == (kind, source)
    assert result.metric == model.task(result.task).type.metric


def test_texts_are_scored(model: HyperX) -> None:
    texts = ["the cat", "Anna sees Oslo", "a dog and a cat", "not Anna"]
    labels = ["animals", "people", "animals", "people"]
    data = corpus([{"text": t, "label": label} for t, label in zip(texts, labels, strict=True)])
    result = only(model, "topic:eng", data)
    found = [p.label for p in model.predict(texts, "topic", "eng")]
    assert result.score == 100 * sum(a == b for a, b in zip(labels, found, strict=True)) / 4
    assert (result.examples, result.units, result.unit) == (4, 4, "texts")


def test_perplexity_is_that_of_a_plain_computation(model: HyperX) -> None:
    data = corpus([{"text": text} for text in ("the cat sees a dog", "Oslo and the old river")])
    result = only(model, "mlm:fao", data)
    encoded = list(rows(model, "mlm", data))
    generator = torch.Generator().manual_seed(MASK_SEED)
    surprise = []
    cells = [Cell("mlm", "fao")] * len(encoded)
    for batch, _ in forward_rows(model, encoded, cells, generator=generator):
        with torch.no_grad():  # all positions, then the masked ones by hand
            logits = model(
                batch.input_ids, batch.attention_mask, token_type_ids=batch.token_type_ids,
                task="mlm", language="fao",
            ).logits  # fmt: skip
        chances = logits.softmax(dim=-1)
        places = batch.positions.nonzero().tolist()
        for (row, column), label in zip(places, batch.labels["mlm"].tolist(), strict=True):
            assert encoded[batch.rows[row]]["input_ids"][column] == label
            surprise.append(-math.log(chances[row, column, label].item()))
    expected = math.exp(sum(surprise) / len(surprise))
    assert result.score == pytest.approx(expected, rel=1e-4)
    assert (result.units, result.unit) == (len(surprise), "masked sub-words")
    assert result.metric == "perplexity"


def test_an_even_guess_has_the_perplexity_of_the_vocabulary(model: HyperX) -> None:
    data = corpus([{"text": "the cat sees a dog"}] * 3)
    size = model.backbone.vocabulary
    plain = F.cross_entropy(torch.zeros(1, size), torch.tensor([3])).exp().item()
    assert plain == pytest.approx(size)
    head = model.heads["mlm"]
    kept = {name: p.detach().clone() for name, p in head.named_parameters()}
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    assert only(model, "mlm:fao", data).score == pytest.approx(size, rel=1e-4)
    head.load_state_dict(kept)


def test_the_same_sub_words_are_masked_each_time(model: HyperX) -> None:
    data = corpus([{"text": "the old cat and the dog sees a river in Oslo"}] * 5)
    assert only(model, "mlm:fao", data) == only(model, "mlm:fao", data)


def test_a_cell_without_rows_is_an_error_and_no_score(model: HyperX) -> None:
    empty = rows(model, "pos", tagged("the/DET")).select([])
    with pytest.raises(DataError, match="nothing to score in pos:eng"):
        fill(model, {Cell("pos", "eng"): empty})


def test_an_unknown_task_is_an_error(model: HyperX) -> None:
    with pytest.raises(UnknownNameError, match='Unknown task "nre"'):
        fill(model, {Cell("nre", "eng"): rows(model, "pos", tagged("the/DET"))})


def test_results_are_told_one_by_one_in_order(model: HyperX) -> None:
    data = rows(model, "pos", tagged("the/DET cat/NOUN"))
    cells = [Cell("pos", "isl"), Cell("pos", "dan"), Cell("pos", "eng")]
    told: list[CellResult] = []
    results = fill(model, dict.fromkeys(cells, data), done=told.append)
    assert told == results
    assert [Cell(r.task, r.language) for r in results] == cells


def test_the_model_is_left_in_the_mode_it_was_in(model: HyperX) -> None:
    model.train()
    only(model, "pos:eng", tagged("the/DET"))
    assert model.training
    model.eval()
    only(model, "pos:eng", tagged("the/DET"))
    assert not model.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_spans_found_are_counted_over_all_sentences(model: HyperX) -> None:
    data = tagged("Anna/B-PER in/O Oslo/B-LOC", "the/O cat/O")
    result = only(model, "ner:eng", data)
    spans = Counter(
        (index, span)
        for index, prediction in enumerate(model.predict(data["words"], "ner", "eng"))
        for span in prediction.spans
    )
    right = sum((i, s.label, s.start) in {(0, "PER", 0), (0, "LOC", 2)} and s.end == s.start + 1
                for i, s in spans)  # fmt: skip
    expected = 200 * right / (spans.total() + 2)
    assert result.score == pytest.approx(expected)


def test_every_word_of_every_tree_is_scored(model: HyperX) -> None:
    long = " ".join(f"cat/{i}/{'obj' if i else 'root'}" for i in range(150))
    data = parsed("the/2/det:x dog/0/root sees/2/obj", long, "Oslo/0/root")
    result = only(model, "dep:eng", data)
    assert (result.metric, result.units, result.unit) == ("LAS", 154, "words")
    assert result.examples == 3
    found = model.predict(data["words"], "dep", "eng")
    heads, both = 0, 0
    for gold, labels, tree in zip(data["heads"], data["labels"], found, strict=True):
        for i, head in enumerate(gold):
            heads += head == tree.heads[i]
            both += head == tree.heads[i] and labels[i].split(":")[0] == tree.labels[i]
    assert result.details["UAS"] == pytest.approx(100 * heads / 154)
    assert result.score == pytest.approx(100 * both / 154)
    assert heads > both > 0


def test_without_a_span_to_find_there_is_no_score(model: HyperX) -> None:
    """However well or ill the model does: 0 would pull every mean down that it is part of."""
    nothing = tagged("the/O cat/O", "a/O river/O")
    result = only(model, "ner:eng", nothing)
    assert (result.score, result.examples, result.units) == (None, 2, 0)
    assert result.note == "its data holds no span to find"
    assert result.parts == ()
    some = only(model, "ner:eng", tagged("the/O cat/B-PER", "a/O river/O"))
    assert (some.score is not None, some.units, some.note) == (True, 1, "")
