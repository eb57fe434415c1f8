from __future__ import annotations

from datasets import Dataset

from hyperlect.evaluation.sample import spread

# Examples 2, 5 and 9 are of two windows each; 0 and 7 have no rows.
OWNERS = [1, 2, 2, 3, 4, 5, 5, 6, 8, 9, 9, 10]
ROWS = Dataset.from_dict({"example": OWNERS, "row": list(range(len(OWNERS)))})


def test_examples_are_spread_evenly_and_keep_all_their_rows() -> None:
    assert spread(ROWS, 3)["example"][:] == [1, 4, 8]
    assert spread(ROWS, 4)["example"][:] == [1, 3, 5, 5, 8]
    assert spread(ROWS, 8)["example"][:] == [1, 2, 2, 3, 4, 5, 5, 6, 8, 9, 9]


def test_what_is_small_enough_stays_whole() -> None:
    assert spread(ROWS, None) is ROWS
    assert spread(ROWS, 9) is ROWS
