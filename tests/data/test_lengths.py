from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hyperlect.data.encoding import encode
from hyperlect.data.lengths import by_length, length_grouped, row_lengths
from hyperlect.tasks import Task, TaskType
from tests.data.made import tagged
from tests.tiny import wordpiece_tokenizer

POS = Task("pos", TaskType.TAGGING, ("DET", "NOUN"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_row_lengths(tmp_path: Path):
    tokenizer = wordpiece_tokenizer()
    encoded = encode(tagged("the/DET cat/NOUN", "a/DET"), POS, tokenizer, 64, tmp_path)
    assert row_lengths(encoded) == [4, 3]
    assert row_lengths(encoded.select([1])) == [3]


@pytest.mark.parametrize(("rows", "size"), [(1, 4), (4, 4), (5, 4), (1000, 16), (0, 4)])
def test_length_grouped_takes_each_row_once(rows: int, size: int):
    lengths = torch.randint(1, 60, (rows,), generator=generator(rows)).tolist()
    batches = length_grouped(lengths, size, generator())
    assert sorted(index for batch in batches for index in batch) == list(range(rows))
    assert sorted(map(len, batches), reverse=True)[:-1] == [size] * max(0, len(batches) - 1)
    assert length_grouped(lengths, size, generator()) == batches
    if rows > 100:
        assert length_grouped(lengths, size, generator(1)) != batches


def test_length_grouped_keeps_to_a_budget_of_sub_words():
    lengths = [*torch.randint(1, 60, (1000,), generator=generator()).tolist(), 200]
    batches = length_grouped(lengths, 16, generator(), tokens=128)
    assert sorted(index for batch in batches for index in batch) == list(range(1001))
    padded = [max(lengths[i] for i in batch) * len(batch) for batch in batches]
    assert [batch for batch, size in zip(batches, padded, strict=True) if size > 128] == [[1000]]
    assert sum(padded) / sum(lengths) < 1.1
    assert sum(padded) / len(padded) > 100  # and the budget is used


def test_length_grouped_pads_little_and_mixes():
    lengths = torch.randint(5, 60, (4000,), generator=generator()).tolist()
    batches = length_grouped(lengths, 16, generator())
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padded / sum(lengths) < 1.05
    means = [sum(lengths[i] for i in batch) / len(batch) for batch in batches[:20]]
    assert max(means) - min(means) > 15  # not sorted across batches


def test_by_length_keeps_to_the_budget():
    lengths = [3, 50, 7, 7, 12, 200, 1]
    batches = by_length(lengths, 100)
    assert batches[0] == [5]  # longer than the budget: alone
    assert [index for batch in batches for index in batch] == [5, 1, 4, 2, 3, 0, 6]
    for batch in batches[1:]:
        assert max(lengths[i] for i in batch) * len(batch) <= 100
    assert by_length([5] * 5, 1000, batch_size=2) == [[0, 1], [2, 3], [4]]
    assert by_length([], 100) == []


def test_few_rows_are_not_padded_to_a_much_longer_one():
    lengths = [1000, 800, 750, 740, 200, 150, 100]
    assert by_length(lengths, 4096) == [[0, 1, 2], [3], [4, 5], [6]]
    batches = by_length(range(1, 301), 4096)
    positions = sum((1 + max(batch)) * len(batch) for batch in batches)
    assert sum(range(1, 301)) > 0.85 * positions


def test_a_handful_of_short_rows_is_one_batch():
    assert by_length([30, 5, 12, 4, 9], 4096) == [[0, 2, 4, 1, 3]]
