"""Which rows a training step takes: by length, by cell, and mixed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hyperlect.data.sampling import (
    BATCHES_PER_POOL,
    CellSampler,
    MixedSampler,
    Sampler,
    by_length,
    cell_probabilities,
    length_grouped,
)
from hyperlect.errors import RunError
from hyperlect.grid import Cell

POS, NER, SMALL, TEXT = (
    Cell("pos", "eng"), Cell("ner", "eng"), Cell("pos", "fao"), Cell("mlm", "fao"),
)  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lengths(rows: int) -> list[int]:
    return torch.randint(3, 40, (rows,), generator=generator(rows)).tolist()


# --- by length


@pytest.mark.parametrize(("rows", "size"), [(1, 4), (4, 4), (5, 4), (1000, 16), (0, 4)])
def test_grouped_batches_hold_each_row_once(rows: int, size: int):
    sizes = torch.randint(1, 60, (rows,), generator=generator(rows)).tolist()
    batches = length_grouped(sizes, size, generator())
    assert sorted(index for batch in batches for index in batch) == list(range(rows))
    assert sorted(map(len, batches), reverse=True)[:-1] == [size] * max(0, len(batches) - 1)
    assert length_grouped(sizes, size, generator()) == batches
    if rows > 100:
        assert length_grouped(sizes, size, generator(1)) != batches


def test_grouped_batches_keep_to_a_budget_of_sub_words():
    sizes = [*torch.randint(1, 60, (1000,), generator=generator()).tolist(), 200]
    batches = length_grouped(sizes, 16, generator(), tokens=128)
    assert sorted(index for batch in batches for index in batch) == list(range(1001))
    padded = [max(sizes[i] for i in batch) * len(batch) for batch in batches]
    above = [batch for batch, size in zip(batches, padded, strict=True) if size > 128]
    assert above == [[1000]]
    assert sum(padded) / sum(sizes) < 1.1
    assert sum(padded) / len(padded) > 100  # the budget is used


def test_grouped_batches_pad_little_and_mix():
    sizes = torch.randint(5, 60, (4000,), generator=generator()).tolist()
    batches = length_grouped(sizes, 16, generator())
    padded = sum(max(sizes[i] for i in batch) * len(batch) for batch in batches)
    assert padded / sum(sizes) < 1.05
    means = [sum(sizes[i] for i in batch) / len(batch) for batch in batches[:20]]
    assert max(means) - min(means) > 15  # the batches are not sorted


def test_batches_by_length_keep_to_the_budget():
    sizes = [3, 50, 7, 7, 12, 200, 1]
    batches = by_length(sizes, 100)
    assert batches[0] == [5]  # longer than the budget: alone
    assert [index for batch in batches for index in batch] == [5, 1, 4, 2, 3, 0, 6]
    for batch in batches[1:]:
        assert max(sizes[i] for i in batch) * len(batch) <= 100
    assert by_length([5] * 5, 1000, batch_size=2) == [[0, 1], [2, 3], [4]]
    assert by_length([], 100) == []


def test_few_rows_are_not_padded_to_a_much_longer_one():
    sizes = [1000, 800, 750, 740, 200, 150, 100]
    assert by_length(sizes, 4096) == [[0, 1, 2], [3], [4, 5], [6]]
    batches = by_length(range(1, 301), 4096)
    positions = sum((1 + max(batch)) * len(batch) for batch in batches)
    assert sum(range(1, 301)) > 0.85 * positions


def test_a_few_short_rows_are_one_batch():
    assert by_length([30, 5, 12, 4, 9], 4096) == [[0, 2, 4, 1, 3]]


# --- probabilities


def test_probabilities_follow_the_temperature():
    batches = {POS: 32, NER: 1, SMALL: 243}
    even = cell_probabilities(batches, 5)
    assert even == pytest.approx({POS: 2 / 6, NER: 1 / 6, SMALL: 3 / 6})
    assert cell_probabilities(batches, 1)[POS] == pytest.approx(32 / 276)
    assert set(cell_probabilities(batches, float("inf")).values()) == {1 / 3}


def test_the_cells_of_a_task_divide_its_share():
    batches = {POS: 32, NER: 1, TEXT: 32, Cell("mlm", "isl"): 1}
    chances = cell_probabilities(batches, 5, {"mlm": 0.3})
    assert chances[TEXT] + chances[Cell("mlm", "isl")] == pytest.approx(0.3)
    assert chances[TEXT] / chances[Cell("mlm", "isl")] == pytest.approx(2)
    assert chances[POS] / chances[NER] == pytest.approx(2)
    assert sum(chances.values()) == pytest.approx(1)


def test_batches_count_and_not_rows():
    sampler = CellSampler({POS: [5] * 9, NER: [5] * 2}, batch_size=4, temperature=1)
    assert sampler.probabilities == pytest.approx({POS: 3 / 4, NER: 1 / 4})


def test_shares_may_be_all_there_is():
    assert cell_probabilities({POS: 1, NER: 4}, 5, {"pos": 0.4, "ner": 0.6}) == {POS: 0.4, NER: 0.6}


# --- both samplers

OPTIONS: dict[str, Any] = {"temperature": 5.0, "shares": {"mlm": 0.25}, "seed": 1}
MIXED_SIZES = {POS: 300, NER: 130, SMALL: 3, TEXT: 90}


def by_cell(**changes: Any) -> CellSampler:
    cells = {POS: lengths(30), NER: lengths(13), SMALL: lengths(3), TEXT: lengths(9)}
    return CellSampler(cells, **{"batch_size": 4, **OPTIONS, **changes})


def mixed(**changes: Any) -> MixedSampler:
    cells = {cell: lengths(size) for cell, size in MIXED_SIZES.items()}
    return MixedSampler(cells, **{"batch_size": 8, **OPTIONS, **changes})


each_sampler = pytest.mark.parametrize("make", [by_cell, mixed])
Make = Callable[..., Sampler]


@pytest.mark.parametrize("tokens", [None, 100])
@each_sampler
def test_an_interrupted_sampler_continues_the_sequence(make: Make, tokens: int | None):
    steps = BATCHES_PER_POOL + 15
    whole = make(tokens=tokens)
    expected = [whole.next() for _ in range(steps)]
    first = make(tokens=tokens)
    for step in range(steps):
        if step % 7 < 2:
            state = json.loads(json.dumps(first.state_dict()))
            resumed = make(tokens=tokens)
            resumed.next()  # whatever it has done before
            resumed.load_state_dict(state)
            assert resumed.step == step
            assert [resumed.next() for _ in range(steps - step)] == expected[step:]
        assert first.next() == expected[step]


@each_sampler
def test_a_state_stays_that_of_its_moment(make: Make):
    """Batches are drawn ahead of their use."""
    sampler = make()
    for _ in range(BATCHES_PER_POOL - 1):
        sampler.next()
    state = sampler.state_dict()
    written = json.dumps(state)
    following = [sampler.next() for _ in range(5)]  # into the next pool
    assert json.dumps(state) == written
    resumed = make()
    resumed.load_state_dict(state)
    assert json.dumps(resumed.state_dict()) == written
    assert resumed.step == BATCHES_PER_POOL - 1
    assert [resumed.next() for _ in range(5)] == following


@pytest.mark.parametrize("kind", [CellSampler, MixedSampler])
def test_the_seed_counts_and_the_order_of_cells_does_not(kind: Any):
    cells = {POS: lengths(30), NER: lengths(13)}
    reverse = dict(reversed(cells.items()))
    first, same, other = (
        [sampler.next() for _ in range(70)]
        for sampler in (
            kind(cells, 4, 5, seed=1),
            kind(reverse, 4, 5, seed=1),
            kind(cells, 4, 5, seed=2),
        )
    )
    assert first == same
    assert first != other


@pytest.mark.parametrize(
    "changes",
    [{"seed": 2}, {"batch_size": 5}, {"temperature": 4}, {"shares": None}, {"tokens": 50}],
    ids=lambda changes: next(iter(changes)),
)
@each_sampler
def test_a_state_of_other_settings_is_refused(make: Make, changes: dict[str, Any]):
    with pytest.raises(RunError, match="other data"):
        make(**changes).load_state_dict(make().state_dict())


def test_a_state_of_other_data_or_batching_is_refused():
    cells = {POS: [3, 4, 5]}
    state = CellSampler(cells, 2, 5).state_dict()
    for other in ({POS: [3, 4]}, {POS: [3, 5, 4]}, {NER: [3, 4, 5]}):
        with pytest.raises(RunError, match="other data"):
            CellSampler(other, 2, 5).load_state_dict(state)
    with pytest.raises(RunError, match="another batching"):
        MixedSampler(cells, 2, 5).load_state_dict(state)


# --- one cell in a batch


def test_cells_are_drawn_as_often_as_their_probability_says():
    sampler = by_cell()
    counts = Counter(sampler.next()[0][0] for _ in range(3000))
    for cell, probability in sampler.probabilities.items():
        assert counts[cell] / 3000 == pytest.approx(probability, abs=0.03)
    assert sampler.step == 3000


def test_a_cell_is_finished_before_a_row_of_it_comes_again():
    sampler = by_cell()
    drawn: dict[Cell, list[list[int]]] = {}
    for _ in range(400):
        rows = sampler.next()
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


def number_of_batches(sampler: CellSampler, cell: Cell) -> int:
    """How many batches the first epoch of a cell has."""
    rows = sampler.lengths[cell]
    shuffle = sampler._generator(cell, 0)
    return len(length_grouped(rows, sampler.batch_size, shuffle, sampler.tokens))


def test_batches_of_one_cell_keep_to_a_budget():
    sampler = by_cell(tokens=60)
    drawn: Counter[tuple[Cell, int]] = Counter()
    for _ in range(300):
        rows = sampler.next()
        drawn.update(rows)
        longest = max(sampler.lengths[cell][row] for cell, row in rows)
        assert len(rows) == 1 or longest * len(rows) <= 60
    assert len(drawn) == 30 + 13 + 3 + 9
    sizes = {cell: number_of_batches(sampler, cell) for cell in sampler.lengths}
    assert sampler.probabilities == cell_probabilities(sizes, 5.0, {"mlm": 0.25})


def test_with_a_budget_the_batches_that_are_really_made_count():
    uneven = [1500, 1100, 800, 590, 430, 310]  # no two of which go together
    sampler = CellSampler({POS: uneven, NER: [500] * 48}, 32, 1, tokens=8192)
    assert sampler.probabilities == pytest.approx({POS: 6 / 9, NER: 3 / 9})


def test_with_a_budget_probabilities_do_not_depend_on_the_shuffle():
    cells = {POS: lengths(4000), NER: lengths(13)}
    sampler, other = (CellSampler(cells, 4, 1, seed=seed, tokens=60) for seed in (1, 2))
    assert sampler.probabilities == other.probabilities
    odds = sampler.probabilities[POS] / sampler.probabilities[NER]
    batches = [number_of_batches(sampler, cell) for cell in (POS, NER)]
    assert batches[0] / batches[1] == pytest.approx(odds, rel=0.01)


# --- many cells in a batch


def test_rows_are_drawn_as_often_as_the_temperature_says():
    sampler = mixed()
    assert sampler.probabilities == cell_probabilities(MIXED_SIZES, 5.0, {"mlm": 0.25})
    counts = Counter(cell for _ in range(1000) for cell, _ in sampler.next())
    assert counts.total() == 8000
    for cell, probability in sampler.probabilities.items():
        assert counts[cell] / 8000 == pytest.approx(probability, abs=0.02)
    assert sampler.step == 1000


def test_a_share_is_one_of_the_rows():
    sampler = mixed(shares={"mlm": 0.6})
    counts = Counter(cell.task for _ in range(500) for cell, _ in sampler.next())
    assert counts["mlm"] / 4000 == pytest.approx(0.6, abs=0.03)


def test_mixed_batches_hold_several_cells():
    sampler = mixed()
    kinds = [len({cell for cell, _ in sampler.next()}) for _ in range(BATCHES_PER_POOL)]
    assert min(kinds) > 1
    assert sum(kinds) / len(kinds) > 2.5


def test_over_all_pools_a_cell_is_finished_before_a_row_of_it_comes_again():
    sampler = mixed()
    seen: Counter[tuple[Cell, int]] = Counter()
    for _ in range(40):
        for _ in range(BATCHES_PER_POOL):
            seen.update(sampler.next())
        for cell, size in MIXED_SIZES.items():
            times = [seen[cell, row] for row in range(size)]
            assert max(times) - min(times) <= 1
    assert min(seen.values()) > 3


def test_rows_of_similar_length_go_together():
    sampler = mixed(batch_size=16)
    batches = [sampler.next() for _ in range(4 * BATCHES_PER_POOL)]
    sizes = [[int(sampler.lengths[cell][row]) for cell, row in rows] for rows in batches]
    padded = sum(max(batch) * len(batch) for batch in sizes)
    assert padded / sum(map(sum, sizes)) < 1.05
    means = [sum(batch) / len(batch) for batch in sizes[:20]]
    assert max(means) - min(means) > 10  # the batches are not sorted


def test_mixed_batches_keep_to_a_budget():
    sampler = mixed(tokens=100)
    totals = []
    for _ in range(300):
        sizes = [int(sampler.lengths[cell][row]) for cell, row in sampler.next()]
        totals.append(max(sizes) * len(sizes))
        assert totals[-1] <= 100 or len(sizes) == 1
    assert sum(totals) / len(totals) > 80


def test_a_row_longer_than_the_budget_goes_alone():
    sampler = MixedSampler({POS: [5] * 20, NER: [500]}, 4, 5.0, tokens=50)
    batches = [sampler.next() for _ in range(100)]
    assert [rows for rows in batches if (NER, 0) in rows]
    assert all(rows == [(NER, 0)] for rows in batches if (NER, 0) in rows)


def test_a_large_cell_is_shuffled_once_an_epoch(monkeypatch: pytest.MonkeyPatch):
    """To shuffle 100,000 rows in every step would take longer than the step."""
    shuffles: list[int] = []
    permutation = torch.randperm

    def note(size: int, **options: Any) -> torch.Tensor:
        shuffles.append(size)
        return permutation(size, **options)

    monkeypatch.setattr(torch, "randperm", note)
    sampler = CellSampler({POS: lengths(100_000), NER: lengths(5000)}, 32, 5)
    for _ in range(500):
        sampler.next()
    assert shuffles.count(100_000) == 1
