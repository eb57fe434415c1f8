import json

import pytest
from measures.rows import Row, in_order, timed_row, write_rows


@pytest.mark.parametrize(
    ("goal", "ratio", "met"),
    [("≤ 1.05", 1.05, True), ("≤ 1.05", 1.06, False), ("≥ 10", 12.0, True), ("≥ 10", 9.0, False)],
)
def test_a_goal_is_met_or_not(goal, ratio, met):
    assert Row("a", "b", ratio, goal, 1).met is met


def test_a_row_without_a_goal_meets_none():
    assert Row("a", "b", 1.0, None, 1).met is None


def test_the_ratio_is_the_median_over_pairs():
    # A slow spell hits both runs of the second pair.
    times = {"ours": [1.1, 11.0, 1.2], "theirs": [1.0, 10.0, 1.0]}
    row = timed_row("a", "b", "≤ 1.15", times, ("ours", "theirs"), batch="4 sentences")
    assert row.ratio == pytest.approx(1.1)
    assert row.met
    assert row.runs == 3
    assert row.details["milliseconds"] == {"ours": 1200.0, "theirs": 1000.0}
    assert row.details["batch"] == "4 sentences"


def test_results_hold_the_rows_of_the_table_first(tmp_path):
    rows = [Row("extra", "b", 1.0, None, 1, extra=True), Row("c", "d", 1 / 3, "≤ 0.5", 5)]
    assert [row.measure for row in in_order(rows)] == ["c", "extra"]
    write_rows(rows, tmp_path / "speed.json")
    data = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    first = data[0]
    assert {"measure", "against", "ratio", "goal", "met", "runs", "machine"} <= first.keys()
    assert (first["ratio"], first["goal"], first["met"]) == (0.3333, "≤ 0.5", True)
    assert first["machine"]["torch"]
