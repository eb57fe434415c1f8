from __future__ import annotations

from pathlib import Path

from datasets import Dataset, concatenate_datasets, load_from_disk

from hyperlect.data.arrow import arrow_column

ROWS = Dataset.from_dict({"text": ["a", "b", "c", "d"], "ids": [[1], [2, 3], [], [4]]})


def test_a_column_is_what_the_data_set_holds(tmp_path: Path) -> None:
    assert arrow_column(ROWS, "ids").to_pylist() == [[1], [2, 3], [], [4]]
    ROWS.save_to_disk(str(tmp_path / "rows"))
    loaded = load_from_disk(str(tmp_path / "rows"))
    joined = concatenate_datasets([loaded, ROWS])
    assert arrow_column(joined, "text").to_pylist() == list("abcdabcd")


def test_selected_rows_alone_and_in_their_order() -> None:
    assert arrow_column(ROWS.select([2, 0]), "text").to_pylist() == ["c", "a"]
    assert arrow_column(ROWS.select(range(1, 3)), "text").to_pylist() == ["b", "c"]
