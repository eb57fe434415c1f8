import json

import pytest
from common import machine
from measures import page
from measures.plot import bounds, draw
from measures.rows import Row, timed_row
from speed import FILES

TIMES = {"ours": [1.1, 1.2, 1.3], "theirs": [1.0, 1.0, 1.0]}
ROWS = [
    timed_row("a step", "another | step", "≤ 1.05", TIMES, ("ours", "theirs"), batch="4 sentences"),
    Row("throughput", "the plain way", 12.0, "≥ 10", 3),
    Row("a thing aside", "nothing", 0.5, None, 1, extra=True),
]


@pytest.fixture
def rows():
    return [row.to_dict(machine()) for row in ROWS]


def test_the_page_tells_goals_and_what_is_missed(rows):
    text = page.page({"cpu": rows})
    assert "| a step | another \\| step | **1.20** | 1.15 – 1.25 | ≤ 1.05 | **no** |" in text
    assert "| throughput | the plain way | **12.0** |  | ≥ 10 | yes |" in text
    assert text.index("throughput") < text.index("### Also measured") < text.index("a thing aside")
    assert "| a step | ours 1,200, theirs 1,000 ms | 4 sentences |" in text


def test_the_picture_is_drawn(rows, tmp_path):
    draw(rows, tmp_path / "images" / "performance.png")
    assert (tmp_path / "images" / "performance.png").read_bytes().startswith(b"\x89PNG")


def test_a_goal_bounds_a_ratio_from_above_or_below():
    assert bounds({"goal": "≤ 1.05"}, 0.1, 20.0) == (0.1, 1.05)
    assert bounds({"goal": "≥ 10"}, 0.1, 20.0) == (10.0, 20.0)


def test_the_page_in_the_repository_is_that_of_the_results():
    results = {kind: json.loads(p.read_text("utf-8")) for kind, p in FILES.items() if p.exists()}
    written = page.PAGE.read_text(encoding="utf-8") if page.PAGE.exists() else None
    assert written == (page.page(results) if results else None), "run: benchmarks/speed.py --page"
