from __future__ import annotations

from pathlib import Path

from datasets import Dataset, concatenate_datasets, load_from_disk

from hyperlect.data.arrow import arrow_column, content_digest

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


def test_a_digest_is_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    ROWS.save_to_disk(str(tmp_path / "rows"))
    loaded = load_from_disk(str(tmp_path / "rows"))
    pieces = concatenate_datasets([loaded.select([0, 1]), ROWS.select([2, 3])])
    shuffled = ROWS.select([3, 1, 0, 2]).select([2, 1, 3, 0])
    for same in (loaded, pieces, shuffled):
        assert content_digest(same) == content_digest(ROWS)
    changed = Dataset.from_dict({"text": ["a", "b", "c", "d"], "ids": [[1], [3, 2], [], [4]]})
    others = (changed, ROWS.select([1, 0, 2, 3]), ROWS.select([0, 1, 2]))
    assert content_digest(ROWS) not in {content_digest(other) for other in others}
