"""trust.py on languages drawn from a line that is known."""

import numpy as np
import pandas as pd
import pytest
import trust

from hyperlect.evaluation.trust import expit, logit, relations


@pytest.fixture(scope="module")
def cells() -> pd.DataFrame:
    """Sixty languages in two runs; a language lies off the line in both."""
    generator = np.random.default_rng(3)
    rows = []
    for number in range(60):
        off = generator.normal(0, 0.2)
        promised = generator.uniform(45, 95)
        for run in ("a", "b"):
            seen = promised + generator.normal(0, 0.5)
            rest = off + generator.normal(0, 0.05)
            kind = "anchor" if number < 8 else "unseen language, untouched"
            score = expit(-0.8 + 1.3 * logit(seen) + rest)
            rows.append((run, "pos", "tagging", f"q{number:02}", kind, seen, score))
    columns = ["run", "task", "type", "language", "kind", "promised", "score"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(related=frame.index % 3 == 0, known=frame.index % 4 < 2)


def split(cells):
    return cells[cells["kind"] != "anchor"], cells[cells["kind"] == "anchor"]


def test_the_line_is_recovered(cells) -> None:
    intercept, slope, anchor, spread = trust.fit(*split(cells))
    assert intercept == pytest.approx(-0.8, abs=0.15)
    assert slope == pytest.approx(1.3, abs=0.1)
    assert anchor == pytest.approx(0, abs=0.15)
    assert spread == pytest.approx(0.2, abs=0.1)


@pytest.mark.parametrize("other_run", [False, True])
def test_ranges_hold_four_of_five_languages_left_out(cells, other_run) -> None:
    points, anchors = split(cells)
    expected, (low, high) = trust.held_out(points, anchors, other_run)
    rest = points["score"].to_numpy() - expected
    assert 0.72 <= ((low <= rest) & (rest <= high)).mean() <= 0.9
    assert np.abs(rest).mean() < 5


def test_a_language_does_not_decide_its_own_expectation(cells) -> None:
    points, anchors = split(cells)
    changed = points.copy()
    changed.loc[changed["language"] == "q20", "score"] = 1.0
    mask = (points["language"] == "q20").to_numpy()
    before, after = (trust.held_out(p, anchors, False)[0] for p in (points, changed))
    assert np.allclose(before[mask], after[mask])
    assert not np.allclose(before[~mask], after[~mask])


def test_the_report_keeps_strata_apart_and_beats_the_baselines(cells) -> None:
    rows = trust.report(*split(cells))
    errors = {row["way"]: row["error"] for row in rows if row["stratum"] == "all"}
    assert errors["line, other languages"] == min(errors.values())
    sizes = {row["stratum"]: row["cells"] for row in rows if row["way"] == "promised score"}
    assert sizes["encoder knows it"] + sizes["encoder does not"] == sizes["all"]
    assert sizes["related"] + sizes["unrelated"] == sizes["all"]
    assert trust.markdown(rows).count("\n") == 3 + len(errors)


def test_quantiles_leave_a_tenth_on_each_side() -> None:
    low, high = trust.quantiles(np.arange(99.0))
    assert (low, high) == (9.0, 89.0)


def test_what_ships_and_what_the_page_says_come_from_the_kept_cells() -> None:
    cells = pd.read_csv(trust.CELLS)
    for kind, relation in relations().items():
        of_type = cells[(cells["type"] == kind) & cells["score"].notna()]
        unseen = ~of_type["kind"].isin(["anchor", "supervised"])
        line = trust.fit(of_type[unseen], of_type[of_type["kind"] == "anchor"])
        shipped = (relation.intercept, relation.slope, relation.anchor, relation.spread)
        assert line == pytest.approx(shipped, abs=1e-3)
    page = (trust.RESULTS.parents[1] / "docs" / "trust.md").read_text(encoding="utf-8")
    assert (trust.OUT / "summary.md").read_text(encoding="utf-8") in page
