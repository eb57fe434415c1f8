from __future__ import annotations

import json
import time
from collections import Counter

import pytest
import torch

from hyperlect.data.sampling import CellSampler, cell_probabilities
from hyperlect.errors import RecipeError, RunError
from hyperlect.grid import Cell

POS, NER, SMALL, TEXT = (
    Cell("pos", "eng"), Cell("ner", "eng"), Cell("pos", "fao"), Cell("mlm", "fao"),
)  # fmt: skip


def lengths(rows: int) -> list[int]:
    return torch.randint(3, 40, (rows,), generator=torch.Generator().manual_seed(rows)).tolist()


def sampler(seed: int = 1, **changes) -> CellSampler:
    options = {"batch_size": 4, "temperature": 5.0, "shares": {"mlm": 0.25}, "seed": seed}
    cells = {POS: lengths(30), NER: lengths(13), SMALL: lengths(3), TEXT: lengths(9)}
    return CellSampler(cells, **{**options, **changes})


def test_probabilities_follow_the_temperature():
    batches = {POS: 32, NER: 1, SMALL: 243}
    even = cell_probabilities(batches, 5)
    assert even == pytest.approx({POS: 2 / 6, NER: 1 / 6, SMALL: 3 / 6})
    assert cell_probabilities(batches, 1)[POS] == pytest.approx(32 / 276)
    assert set(cell_probabilities(batches, float("inf")).values()) == {1 / 3}


def test_a_share_is_set_apart():
    batches = {POS: 32, NER: 1, TEXT: 32, Cell("mlm", "isl"): 1}
    found = cell_probabilities(batches, 5, {"mlm": 0.3})
    assert found[TEXT] + found[Cell("mlm", "isl")] == pytest.approx(0.3)
    assert found[TEXT] / found[Cell("mlm", "isl")] == pytest.approx(2)
    assert found[POS] / found[NER] == pytest.approx(2)
    assert sum(found.values()) == pytest.approx(1)


def test_the_number_of_batches_counts_not_the_number_of_rows():
    found = CellSampler({POS: [5] * 9, NER: [5] * 2}, batch_size=4, temperature=1).probabilities
    assert found == pytest.approx({POS: 3 / 4, NER: 1 / 4})


def test_impossible_shares_are_told_together():
    with pytest.raises(RecipeError) as error:
        cell_probabilities({POS: 1, NER: 0}, 0, {"pos": 1.5, "topic": 0.2})
    text = str(error.value)
    for part in ("temperature is 0", "ner:eng has no rows", "share of pos is 1.5", "topic has a"):
        assert part in text
    assert "leave nothing for ner" in text
    with pytest.raises(RecipeError, match=r"must sum to 1, not 0\.5"):
        cell_probabilities({POS: 1}, 5, {"pos": 0.5})
    with pytest.raises(RecipeError, match="no cell"):
        cell_probabilities({}, 5)
    assert cell_probabilities({POS: 1, NER: 4}, 5, {"pos": 0.4, "ner": 0.6}) == {POS: 0.4, NER: 0.6}


def test_cells_are_drawn_as_often_as_they_should_be():
    made = sampler()
    counts = Counter(made.next()[0][0] for _ in range(3000))
    for cell, probability in made.probabilities.items():
        assert counts[cell] / 3000 == pytest.approx(probability, abs=0.03)
    assert made.step == 3000


def test_no_row_comes_again_before_all_have_come():
    made = sampler()
    drawn: dict[Cell, list[list[int]]] = {}
    for _ in range(400):
        rows = made.next()
        ((cell, _), *_) = rows
        assert {other for other, _ in rows} == {cell}
        drawn.setdefault(cell, []).append([row for _, row in rows])
    for cell, size in ((POS, 30), (NER, 13), (SMALL, 3), (TEXT, 9)):
        per_epoch = -(-size // 4)
        epochs = [
            drawn[cell][start : start + per_epoch]
            for start in range(0, len(drawn[cell]) - per_epoch + 1, per_epoch)
        ]
        assert len(epochs) > 3
        for epoch in epochs:
            assert sorted(row for rows in epoch for row in rows) == list(range(size))
        if size > 4:
            assert len({json.dumps(epoch) for epoch in epochs}) > 1


def test_interrupted_anywhere_the_sequence_is_the_same():
    whole = sampler()
    expected = [whole.next() for _ in range(60)]
    going = sampler()
    for step in range(60):
        state = json.loads(json.dumps(going.state_dict()))
        resumed = sampler()
        resumed.next()  # whatever it has done before
        resumed.load_state_dict(state)
        assert resumed.step == step
        assert [resumed.next() for _ in range(60 - step)] == expected[step:]
        going.next()


def test_the_order_of_cells_does_not_matter_and_the_seed_does():
    cells = {POS: lengths(30), NER: lengths(13)}
    turned = dict(reversed(cells.items()))
    first, same, other = (
        [made.next() for _ in range(30)]
        for made in (
            CellSampler(cells, 4, 5, seed=1),
            CellSampler(turned, 4, 5, seed=1),
            CellSampler(cells, 4, 5, seed=2),
        )
    )
    assert first == same
    assert first != other


@pytest.mark.parametrize(
    "changes",
    [{"seed": 2}, {"batch_size": 5}, {"temperature": 4}, {"shares": None}, {"tokens": 50}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_state_of_other_settings_is_refused(changes):
    with pytest.raises(RunError, match="other data"):
        sampler(**changes).load_state_dict(sampler().state_dict())


def test_a_state_from_before_more_was_drawn():
    """What is read ahead need not be thrown away: a state may be that of an earlier moment."""
    made = sampler()
    made.next()
    position, expected = made.position(), json.dumps(made.state_dict())
    following = [made.next() for _ in range(20)]
    assert json.dumps(made.state_dict(position)) == expected
    resumed = sampler()
    resumed.load_state_dict(made.state_dict(position))
    assert [resumed.next() for _ in range(20)] == following


def test_a_budget_of_sub_words():
    made = sampler(tokens=60)
    drawn: Counter[tuple[Cell, int]] = Counter()
    for _ in range(300):
        rows = made.next()
        drawn.update(rows)
        longest = max(made.lengths[cell][row] for cell, row in rows)
        assert len(rows) == 1 or longest * len(rows) <= 60
    assert len(drawn) == 30 + 13 + 3 + 9
    sizes = {cell: len(made._epoch(number)) for number, cell in enumerate(made._cells)}
    assert made.probabilities == cell_probabilities(sizes, 5.0, {"mlm": 0.25})


def test_with_a_budget_the_batches_count_that_are_really_made():
    uneven = [1500, 1100, 800, 590, 430, 310]  # no two of which go together
    cells = {POS: uneven, NER: [500] * 48}
    found = CellSampler(cells, 32, 1, tokens=8192)
    assert found.probabilities == pytest.approx({POS: 6 / 9, NER: 3 / 9})


def test_with_a_budget_no_shuffle_decides_how_probable_a_large_cell_is():
    cells = {POS: lengths(4000), NER: lengths(13)}
    many, other = (CellSampler(cells, 4, 1, seed=seed, tokens=60) for seed in (1, 2))
    assert many.probabilities == other.probabilities
    made = len(many._epoch(many._cells.index(POS)))
    few = len(many._epoch(many._cells.index(NER)))
    odds = many.probabilities[POS] / many.probabilities[NER]
    assert made / few == pytest.approx(odds, rel=0.01)


def test_a_state_of_other_data_is_refused():
    state = CellSampler({POS: [3, 4, 5]}, 2, 5).state_dict()
    for other in ({POS: [3, 4]}, {POS: [3, 5, 4]}, {NER: [3, 4, 5]}):
        with pytest.raises(RunError, match="other data"):
            CellSampler(other, 2, 5).load_state_dict(state)


def test_a_large_cell_is_quick():
    made = CellSampler({POS: lengths(100_000), NER: lengths(5000)}, 32, 5)
    start = time.perf_counter()
    for _ in range(500):
        made.next()
    assert (time.perf_counter() - start) / 500 < 0.005
