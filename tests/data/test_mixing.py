"""Batches of rows of many cells."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from hyperlect.data.lengths import BATCHES_PER_POOL
from hyperlect.data.mixing import MixedSampler
from hyperlect.data.sampling import CellSampler, cell_probabilities
from hyperlect.errors import RunError
from hyperlect.grid import Cell
from tests.data.test_sampling import NER, POS, SMALL, TEXT, lengths

SIZES = {POS: 300, NER: 130, SMALL: 3, TEXT: 90}


def sampler(seed: int = 1, **changes) -> MixedSampler:
    options = {"batch_size": 8, "temperature": 5.0, "shares": {"mlm": 0.25}, "seed": seed}
    cells = {cell: lengths(size) for cell, size in SIZES.items()}
    return MixedSampler(cells, **{**options, **changes})


def test_rows_are_drawn_as_often_as_the_temperature_says():
    made = sampler()
    assert made.probabilities == cell_probabilities(SIZES, 5.0, {"mlm": 0.25})
    counts = Counter(cell for _ in range(1000) for cell, _ in made.next())
    assert counts.total() == 8000
    for cell, probability in made.probabilities.items():
        assert counts[cell] / 8000 == pytest.approx(probability, abs=0.02)
    assert made.step == 1000


def test_a_share_is_one_of_the_rows():
    made = sampler(shares={"mlm": 0.6})
    counts = Counter(cell.task for _ in range(500) for cell, _ in made.next())
    assert counts["mlm"] / 4000 == pytest.approx(0.6, abs=0.03)


def test_batches_hold_several_cells():
    made = sampler()
    kinds = [len({cell for cell, _ in made.next()}) for _ in range(BATCHES_PER_POOL)]
    assert min(kinds) > 1
    assert sum(kinds) / len(kinds) > 2.5


def test_no_row_comes_again_before_all_have_come():
    """In the pools one by one, in which the order of the rows is lost, and over all of them."""
    made = sampler()
    seen: Counter[tuple[Cell, int]] = Counter()
    for _ in range(40):
        for _ in range(BATCHES_PER_POOL):
            seen.update(made.next())
        for cell, size in SIZES.items():
            times = [seen[cell, row] for row in range(size)]
            assert max(times) - min(times) <= 1
    assert min(seen.values()) > 3


def test_rows_of_like_length_go_together():
    made = sampler(batch_size=16)
    batches = [made.next() for _ in range(4 * BATCHES_PER_POOL)]
    sizes = [[int(made.lengths[cell][row]) for cell, row in rows] for rows in batches]
    padded = sum(max(batch) * len(batch) for batch in sizes)
    assert padded / sum(map(sum, sizes)) < 1.05
    means = [sum(batch) / len(batch) for batch in sizes[:20]]
    assert max(means) - min(means) > 10  # and the batches come in any order


def test_a_budget_of_sub_words():
    made = sampler(tokens=100)
    totals = []
    for _ in range(300):
        sizes = [int(made.lengths[cell][row]) for cell, row in made.next()]
        totals.append(max(sizes) * len(sizes))
        assert totals[-1] <= 100 or len(sizes) == 1
    assert sum(totals) / len(totals) > 80


def test_a_row_longer_than_the_budget_goes_alone():
    made = MixedSampler({POS: [5] * 20, NER: [500]}, 4, 5.0, tokens=50)
    batches = [made.next() for _ in range(100)]
    assert [rows for rows in batches if (NER, 0) in rows]
    assert all(rows == [(NER, 0)] for rows in batches if (NER, 0) in rows)


@pytest.mark.parametrize("tokens", [None, 100])
def test_interrupted_anywhere_the_sequence_is_the_same(tokens: int | None):
    steps = 2 * BATCHES_PER_POOL + 5
    whole = sampler(tokens=tokens)
    expected = [whole.next() for _ in range(steps)]
    going = sampler(tokens=tokens)
    for step in range(steps):
        state = json.loads(json.dumps(going.state_dict()))
        resumed = sampler(tokens=tokens)
        resumed.next()  # whatever it has done before
        resumed.load_state_dict(state)
        assert resumed.step == step
        ahead = steps - step if step % 10 == 0 else min(3, steps - step)
        assert [resumed.next() for _ in range(ahead)] == expected[step : step + ahead]
        assert going.next() == expected[step]


def test_a_state_from_before_more_was_drawn():
    made = sampler()
    for _ in range(BATCHES_PER_POOL - 1):
        made.next()
    position = made.position()
    following = [made.next() for _ in range(5)]  # into the next pool
    resumed = sampler()
    resumed.load_state_dict(json.loads(json.dumps(made.state_dict(position))))
    assert resumed.step == BATCHES_PER_POOL - 1
    assert [resumed.next() for _ in range(5)] == following


def test_the_seed_decides_and_the_order_of_cells_does_not():
    cells = {POS: lengths(30), NER: lengths(13)}
    turned = dict(reversed(cells.items()))
    first, same, other = (
        [made.next() for _ in range(70)]
        for made in (
            MixedSampler(cells, 4, 5, seed=1),
            MixedSampler(turned, 4, 5, seed=1),
            MixedSampler(cells, 4, 5, seed=2),
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


def test_a_state_of_unmixed_batches_is_refused():
    cells = {POS: lengths(30)}
    with pytest.raises(RunError, match="another batching"):
        MixedSampler(cells, 4, 5).load_state_dict(CellSampler(cells, 4, 5).state_dict())
