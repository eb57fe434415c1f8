"""Expected scores: evidence without labels, the line, its shift by the run's own cells."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hyperlect.data.encoding import encode
from hyperlect.data.pieces import PieceTable
from hyperlect.errors import RunError
from hyperlect.evaluation import Evidence, Trust, evidence, fill
from hyperlect.evaluation import trust as module
from hyperlect.evaluation.trust import Anchor, Relation, expit, logit, withheld
from hyperlect.grid import Cell
from hyperlect.heads import SpanHead
from hyperlect.tasks import Task, TaskType

from ..data.made import tagged
from ..model.models import NER, POS, tiny_model
from ..model.test_features import model_of

SENTENCES = ["the/DET old/NOUN cat/NOUN sees/VERB", "a/DET dog/NOUN"] * 6
RELATION = Relation(-0.5, 1.4, 0.1, 0.2, 6.0, 8.0, 4.0, 50, 40, 2)


@pytest.fixture
def relation(monkeypatch: pytest.MonkeyPatch) -> Relation:
    fitted = {"tagging": RELATION, "spans": RELATION}
    monkeypatch.setattr(module, "relations", lambda: fitted)
    return RELATION


# --- evidence


def test_evidence_is_a_ratio_of_sums_with_its_standard_error() -> None:
    generator = np.random.default_rng(1)
    whole = generator.integers(2, 30, size=400).astype(float)
    part = whole * generator.beta(8, 2, size=400)
    gathered = Evidence.of(list(zip(part, whole, strict=True)))
    assert gathered.promised == pytest.approx(100 * part.sum() / whole.sum())
    drawn = generator.integers(400, size=(2000, 400))
    bootstrap = (100 * part[drawn].sum(axis=1) / whole[drawn].sum(axis=1)).std()
    assert gathered.error == pytest.approx(bootstrap, rel=0.1)
    assert gathered.sentences == 400
    assert Evidence.of([(0.0, 0.0)] * 12).promised == 0


def test_spans_promise_the_f1_of_labels_drawn_from_the_probabilities() -> None:
    """Sentences of one word: whether it is a span is drawn, and counts are compared."""
    torch.manual_seed(1)
    task = Task("ner", TaskType.SPANS, ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    logits = torch.randn(3000, 1, 5)
    logits[..., [2, 4]] = -30.0  # a span of one word has no I-
    answers = [SpanHead(1, 5).decode([scores], task) for scores in logits]
    promised = np.array([answer.promised for answer in answers]).sum(axis=0)
    drawn = torch.distributions.Categorical(logits=logits[:, 0]).sample().tolist()
    predicted = [answer.labels[0] for answer in answers]
    right = sum(a == b != 0 for a, b in zip(drawn, predicted, strict=True))
    either = sum(label != 0 for label in (*drawn, *predicted))
    assert promised == pytest.approx([2 * right, either], rel=0.05)


def test_no_labels_are_read() -> None:
    model = tiny_model()
    rows = [
        encode(tagged(*sentences), model.task("pos"), model.tokenizer, model.max_length)
        for sentences in (SENTENCES, [s.replace("DET", "NOUN") for s in SENTENCES])
    ]
    first, second = (fill(model, {Cell("pos", "tur"): encoded})[0] for encoded in rows)
    assert first.promised == second.promised
    assert first.details != second.details


def test_predictions_and_evaluation_give_the_same_evidence() -> None:
    model = tiny_model()
    data = tagged(*SENTENCES)
    rows = encode(data, model.task("pos"), model.tokenizer, model.max_length)
    (result,) = fill(model, {Cell("pos", "tur"): rows})
    gathered = evidence(model, model.predict(data["words"], "pos", "tur"))
    assert gathered.promised == pytest.approx(result.promised, abs=0.001)
    assert gathered.sentences == len(SENTENCES)


def test_evidence_is_that_of_the_vector_before_it_was_fitted(relation: Relation) -> None:
    """A vector that was fitted to sentences is confident in them, and not right."""
    model = tiny_model(hypernet={"language_dropout": 0.2})
    sentences = [["the", "old", "cat"], ["a", "dog"]] * 8
    rows = encode(tagged(*SENTENCES), model.task("pos"), model.tokenizer, model.max_length)
    cells = {Cell("pos", "fao"): rows}
    before = evidence(model, model.predict(sentences, "pos", "fao"))
    (scored_before,) = fill(model, cells, trust=Trust())
    for source, kept in (("fitted to 20 raw sentences", True), ("mean of isl", False)):
        model.add_language("fao", {"isl": 1.0}, source)
        after = evidence(model, model.predict(sentences, "pos", "fao"))
        (scored,) = fill(model, cells, trust=Trust())
        assert (after.promised == pytest.approx(before.promised, abs=1e-3)) is kept
        assert (scored.expected == scored_before.expected) is kept
        assert scored.promised != scored_before.promised


def test_unknown_sub_words_are_counted_and_warned_of(relation: Relation) -> None:
    model = tiny_model()
    known, strange = (
        evidence(model, model.predict([words] * 10, "pos", "tur"))
        for words in (["the", "cat"], ["ⴰⵣⵓⵍ", "cat"])
    )
    assert known.unknown == 0
    assert strange.unknown == 0.5
    assert "50%" in str(Trust().sentence(POS, strange))
    assert "%" not in str(Trust().sentence(POS, known))


# --- withholding


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_withheld_vector_is_what_stands_for_an_untrained_language(dropout: float) -> None:
    model = tiny_model(hypernet={"language_dropout": dropout})
    before = {name: table.clone() for name, table in model.language_parameters().items()}
    own = model.adapter_weights("pos", "isl").up_weight
    with withheld(model, "isl"):
        names, vectors = model.language_vectors()
        row = vectors[names.index("isl")]
        others = [vector for name, vector in zip(names, vectors, strict=True) if name != "isl"]
        expected = torch.zeros_like(row) if dropout else torch.stack(others).mean(dim=0)
        torch.testing.assert_close(row, expected)
        changed = model.adapter_weights("pos", "isl").up_weight
        if dropout:
            torch.testing.assert_close(changed, model.adapter_weights("pos", "fao").up_weight)
    assert not torch.equal(own, changed)
    for name, table in model.language_parameters().items():
        assert torch.equal(table, before[name])


def test_a_vector_is_withheld_from_cached_weights_and_from_frozen_models_too() -> None:
    model = tiny_model(hypernet={"language_dropout": 0.1})
    with torch.no_grad():
        for change in model.change_cell("pos", "isl").values():
            change += 0.1
    model.requires_grad_(False)
    with withheld(model, "isl"):
        (expected,) = model.predict(["a b c"], "pos", "isl")
    with model.cached_weights():

        def predicted() -> tuple[float, ...]:
            (prediction,) = model.predict(["a b c"], "pos", "isl")
            return prediction.confidences

        before = predicted()
        with withheld(model, "isl"):
            changed = predicted()
        assert predicted() == before != changed == expected.confidences


@pytest.mark.parametrize("base", ["features", "neighbours"])
def test_with_a_base_a_withheld_vector_is_what_the_features_say(tmp_path: Path, base: str) -> None:
    """That is what dropout of languages leaves in training."""
    model = model_of(tmp_path, base)
    source = model.adapters.source
    row = torch.tensor([model.config.language_index("isl")])
    with torch.no_grad(), source.base.in_use():
        table = source.embeddings["language"]
        dropped = source.base.vectors(table, row, torch.tensor([True]))[0]
        before = source.all_vectors().clone()
        with withheld(model, "isl"):
            torch.testing.assert_close(source.all_vectors()[row[0]], dropped)
        assert torch.equal(source.all_vectors(), before)
    assert not torch.allclose(before[row[0]], dropped)


def test_a_language_without_a_vector_can_be_withheld_too() -> None:
    for model in (tiny_model(), tiny_model(method="adapters")):
        before = {name: p.clone() for name, p in model.own_parameters().items()}
        with withheld(model, "fao"):
            pass
        assert all(torch.equal(p, before[n]) for n, p in model.own_parameters().items())


# --- the line


def test_the_expectation_follows_the_line(relation: Relation) -> None:
    expected = Trust().expect(POS, Evidence(80.0, 0.0, 50))
    assert expected is not None
    score = expit(relation.intercept + relation.slope * logit(80.0))
    assert expected.score == pytest.approx(score, abs=0.01)
    assert math.isclose(logit(expit(0.7)), 0.7)


def on_the_line(*rests: float) -> Trust:
    """A run whose development cells lie so far above where the line has such cells."""
    line = RELATION.intercept + RELATION.anchor + RELATION.slope * logit(80.0)
    return Trust(tuple(Anchor("pos", "isl", 80.0, expit(line + rest)) for rest in rests))


def width(trust: Trust) -> float:
    expected = trust.expect(POS, Evidence(80.0, 0.0, 50))
    assert expected is not None
    return expected.high - expected.low


def test_a_run_with_few_anchors_has_a_wider_range(relation: Relation) -> None:
    """So has a run that was made before there were any."""
    gathered, own = Evidence(80.0, 0.0, 50), on_the_line(0.1, -0.1, 0.0)
    assert width(own) == pytest.approx(relation.below + relation.above, abs=0.02)
    for few in (Trust(), on_the_line(0.0), on_the_line(0.1, -0.1)):
        assert width(few) == pytest.approx(1.5 * width(own), abs=0.03)
        assert "wider" in str(few.sentence(POS, gathered))
    assert "3 dev cells of this run." in str(own.sentence(POS, gathered))


def test_a_run_whose_anchors_scatter_more_has_a_wider_range(relation: Relation) -> None:
    spread = relation.spread
    even, chance, scattered = (
        on_the_line(-times * spread, 0.0, times * spread) for times in (1.0, 1.6, 2.0)
    )
    assert width(chance) == width(even)
    assert width(scattered) == pytest.approx(2 * width(even), abs=0.03)


def test_anchors_shift_the_line_where_more_than_chance_is_between(relation: Relation) -> None:
    error = relation.spread / math.sqrt(6)
    for rest, shift in ((0.0, 0.0), (error / 2, 0.0), (1.0, 1.0 - error), (-1.0, error - 1.0)):
        moved = on_the_line(*[rest] * 6)
        assert moved.shift("pos", relation) == pytest.approx(shift, abs=1e-6)
        assert moved.shift("ner", relation) == 0


def test_few_sentences_widen_the_range_and_very_few_give_none(relation: Relation) -> None:
    many, few = (Trust().expect(POS, Evidence(70.0, error, 12)) for error in (0.1, 6.0))
    assert many is not None
    assert few is not None
    assert few.high - few.low > many.high - many.low
    assert few.score == many.score
    assert Trust().expect(POS, Evidence(70.0, 0.1, 9)) is None


def test_ranges_stay_between_0_and_100(relation: Relation) -> None:
    for promised in (0.0, 100.0):
        expected = Trust().expect(NER, Evidence(promised, 0.0, 50))
        assert expected is not None
        assert 0 <= expected.low <= expected.score <= expected.high <= 100


def test_a_type_of_task_without_a_line_gets_nothing(relation: Relation) -> None:
    task = Task("nli", TaskType.PAIRS, ("a", "b"))
    assert Trust().expect(task, Evidence(70.0, 0.1, 50)) is None
    assert Trust().sentence(task, Evidence(70.0, 0.1, 50)) is None


def test_the_shipped_lines_rise_and_have_ranges() -> None:
    shipped = module.relations()
    assert {"tagging", "spans", "classification"} <= shipped.keys()
    for fitted in shipped.values():
        assert fitted.slope > 0
        assert min(fitted.below, fitted.above) > 0
        assert fitted.languages >= 20


# --- results and files


def test_cells_without_training_data_have_an_expectation(relation: Relation) -> None:
    model = tiny_model()
    rows = encode(tagged(*SENTENCES), model.task("pos"), model.tokenizer, model.max_length)
    cells = {Cell("pos", code): rows for code in ("eng", "isl", "fao")}
    supervised, *unseen = fill(model, cells, trust=Trust())
    assert supervised.expected is None
    assert supervised.promised is not None
    assert all(result.expected is not None for result in unseen)
    for result in unseen:
        low, high = result.expected.low, result.expected.high
        assert result.as_expected == (low <= result.score <= high)
    assert all(result.expected is None for result in fill(model, cells))
    (withheld_,) = fill(model, {Cell("pos", "eng"): rows}, untrained=True)
    assert withheld_.promised != supervised.promised


def test_trust_is_kept_in_the_run(tmp_path: Path) -> None:
    kept = Trust(on_the_line(0.2).anchors, PieceTable({"isl": [5, 6]}, {"isl": 0.5}))
    kept.write(tmp_path)
    assert Trust.read(tmp_path).anchors == kept.anchors
    assert Trust.read(tmp_path).pieces.likeness([5]) == {"isl": 2.0}
    assert Trust.read(tmp_path / "none") == Trust()


@pytest.mark.parametrize(
    "change", [{"format_version": 2}, {"anchors": [{"task": "pos"}]}, {"pieces": {"x": 1}}]
)
def test_a_malformed_file_is_an_error_that_names_it(tmp_path: Path, change: dict[str, object]):
    on_the_line(0.2).write(tmp_path)
    data = json.loads((tmp_path / "trust.json").read_text(encoding="utf-8"))
    (tmp_path / "trust.json").write_text(json.dumps(data | change), encoding="utf-8")
    with pytest.raises(RunError, match=r"trust\.json"):
        Trust.read(tmp_path)
