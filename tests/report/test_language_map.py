"""Languages beside each other: neighbours, agreement with typology, and their maps."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from hyperlect.errors import DataError
from hyperlect.report import language_map, write_report
from hyperlect.report.data import ADDED, Embeddings
from hyperlect.report.language_map import (
    FEWEST,
    PERMUTATIONS,
    agreement,
    describe_languages,
    draw_map,
    nearest,
    place_labels,
    project,
)

from .runs import write_run
from .test_page import Page
from .test_plots import texts

FAMILIES = {
    **dict.fromkeys(("eng", "deu", "isl", "fra", "spa"), "Indo-European"),
    **dict.fromkeys(("fin", "ekk"), "Uralic"),
}
CODES = list(FAMILIES)


def apart(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(vectors[:, None] - vectors, axis=2)


def distances_between(codes: list[str], values: NDArray[np.float64]) -> pd.DataFrame:
    return pd.DataFrame(values, codes, codes)


def vectors(seed: int, count: int = len(CODES)) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(count, 5))


class Table:
    """A typology in which a language is a vector, and belongs to families."""

    licence = "CC BY 9"

    def __init__(self, rows: dict[str, NDArray[np.float64]]) -> None:
        self.rows = {c: row / np.linalg.norm(row) for c, row in rows.items()}

    def __contains__(self, code: str) -> bool:
        return code in self.rows

    def similarity(self, code: str, others: list[str]) -> dict[str, float]:
        return {other: float(self.rows[code] @ self.rows[other]) for other in others}

    def families(self, codes: list[str]) -> dict[str, str]:
        return {code: FAMILIES[code] for code in codes}


def install(monkeypatch: pytest.MonkeyPatch, table: Table | None) -> None:
    """Put a typology in the place of URIEL, or have none installed."""

    def read(source: str) -> Any:
        if table is None:
            raise DataError("URIEL is not installed.")
        return table

    monkeypatch.setattr(language_map, "Typology", SimpleNamespace(read=read))


def embeddings(kinds: dict[str, str] | None = None, codes: list[str] = CODES) -> Embeddings:
    labelled = dict.fromkeys(codes, "labelled")
    return Embeddings(codes, vectors(1, len(codes)), labelled | (kinds or {}))


# Neighbours and agreement


def test_neighbours_come_in_order_and_without_the_language_itself() -> None:
    line = np.array([[0.0], [1.0], [5.0], [2.5]])
    distances = distances_between(list("abcd"), apart(line))
    assert nearest(distances, "a") == ["b", "d", "c"]
    assert nearest(distances, "c", 1) == ["d"]
    assert nearest(distances, "z") == []


def test_neighbours_do_not_depend_on_the_length_of_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    angles = np.radians([0, 10, 90, 120, 210, 300])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rows = np.concatenate([rows, -rows])  # so that the mean is zero whatever is stretched
    rows[[0, 6]] *= 7
    codes = [f"q{letter}a" for letter in "abcdefghijkl"]
    known = describe_languages(Embeddings(codes, rows, {}))
    assert nearest(known.learned, "qaa", 1) == ["qba"]
    assert nearest(known.learned, "qba", 1) == ["qaa"]


def test_equal_distances_agree_fully_and_random_ones_do_not() -> None:
    one = distances_between(CODES, apart(vectors(2)))
    same = agreement(one, distances_between(CODES, 2 * one.values**3))  # which keeps their order
    assert same is not None
    assert same.correlation == pytest.approx(1)
    assert same.p < 0.01
    assert same.p >= 1 / (1 + PERMUTATIONS)
    opposite = agreement(one, distances_between(CODES, one.values.max() - one.values))
    assert opposite is not None
    assert (opposite.correlation, opposite.p) == (pytest.approx(-1), pytest.approx(1, abs=0.01))


def test_agreement_is_called_by_chance_as_often_as_its_level_says() -> None:
    codes = list("abcdefghij")
    chances = []
    for seed in range(100):
        pair = [distances_between(codes, apart(vectors(100 + 2 * seed + i, 10))) for i in (0, 1)]
        result = agreement(*pair)
        assert result is not None
        chances.append(result.p)
    assert 2 <= sum(p < 0.1 for p in chances) <= 20
    assert 0.4 < np.mean(chances) < 0.6


def test_agreement_needs_languages_and_distances_that_differ() -> None:
    few = CODES[: FEWEST - 1]
    assert agreement(*[distances_between(few, apart(vectors(i, len(few)))) for i in (1, 2)]) is None
    alike = distances_between(CODES, 1 - np.eye(len(CODES)))
    assert agreement(alike, distances_between(CODES, apart(vectors(1)))) is None


def test_languages_are_compared_with_those_that_typology_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = dict(zip(CODES, vectors(1), strict=True))
    del rows["isl"]
    install(monkeypatch, Table(rows))
    known = describe_languages(embeddings({"ekk": ADDED, "fin": "text only"}))
    assert known.typology is not None
    assert list(known.typology) == list(rows)
    assert nearest(known.typology, "isl") == []
    assert known.agreement is not None
    assert known.agreement.languages == len(CODES) - 2  # nor does what was added count
    assert known.families["fra"] == known.families["eng"] == "Indo-European"  # and no branch of it
    assert known.families["ekk"] == "Uralic"
    assert list(known.marked) == ["Indo-European", "Uralic"]
    assert len(set(known.marked.values())) == 2


@pytest.mark.parametrize("languages", [None, 2])
def test_without_typology_there_are_vectors_alone(
    languages: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dict(zip(CODES[: languages or 0], vectors(1), strict=False))
    install(monkeypatch, Table(rows) if languages else None)
    known = describe_languages(embeddings())
    assert known.typology is None
    assert (known.agreement, known.families) == (None, {})
    assert len(nearest(known.learned, "eng")) == 3


def test_a_vector_without_a_direction_is_as_far_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A language added at the mean of the others lies there."""
    install(monkeypatch, None)
    rows = np.concatenate([vectors(1), vectors(1).mean(axis=0, keepdims=True)])
    known = describe_languages(Embeddings([*CODES, "qaa"], rows, {}))
    assert np.allclose(known.learned.values[-1, :-1], np.sqrt(2))


# The map


def test_projection_keeps_the_distances_of_points_that_lie_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(12, 2)) * [5.0, 1.0]
    turned, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    distances = apart(flat @ turned[:2] + 3.0)
    points, explained = project(distances)
    assert sum(explained) > 1 - 1e-9
    assert explained[0] > explained[1]
    for one, two in itertools.combinations(range(12), 2):
        assert np.isclose(np.linalg.norm(points[one] - points[two]), distances[one, two])


def test_projection_of_distances_is_that_on_principal_components() -> None:
    rows = np.random.default_rng(1).normal(size=(30, 6))
    values = np.sort(np.linalg.eigvalsh(np.cov(rows.T)))[::-1]
    assert np.allclose(project(apart(rows))[1], values[:2] / values.sum())


@pytest.mark.parametrize("count", [2, 4])
def test_projection_of_equal_languages_is_the_origin(count: int) -> None:
    points, explained = project(np.zeros((count, count)))
    assert explained == (0.0, 0.0)
    assert not points.any()


def test_the_sign_of_an_axis_does_not_depend_on_the_order_of_languages() -> None:
    rows = np.random.default_rng(2).normal(size=(9, 4))
    assert np.allclose(project(apart(rows))[0][::-1], project(apart(rows[::-1]))[0])


def test_labels_keep_apart_where_there_is_room() -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform([40, 40], [860, 560], size=(75, 2))
    middles = place_labels(points, ["abc"] * 75, (900, 600))
    halves = np.array([3 * 5.5 / 2, 5.5])  # a little less than the room that is kept free
    between = np.abs(middles[:, None] - middles[None]) >= 2 * halves
    overlapping = ~between.any(axis=-1)
    assert overlapping.sum() == 75  # each only with itself
    assert (middles > 0).all()
    assert (middles < [900, 600]).all()


def test_the_map_marks_families_by_colour_and_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Table(dict(zip(CODES, vectors(1), strict=True))))
    known = describe_languages(embeddings())
    drawing = draw_map(known, known.learned, "Languages", "here")
    signs = {family: sign for family, (sign, _) in known.marked.items()}
    assert {f"fra{signs['Indo-European']}", f"fin{signs['Uralic']}"} <= texts(drawing).keys()
    assert all(f"var(--line-{number})" in drawing for _, number in known.marked.values())
    assert f"{project(known.learned.values)[1][0]:.0%}" in drawing
    assert 'id="here-title"' in drawing


@pytest.mark.parametrize("rows", [np.eye(7, 5), np.outer(np.arange(7.0), [1, 0, 0, 0, 0])])
def test_all_languages_are_within_the_map(rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    known = describe_languages(Embeddings(CODES, rows, {}))
    places = texts(draw_map(known, distances_between(CODES, apart(rows)), "Languages", "here"))
    for code in CODES:
        assert 15 < places[code][0] < 405
        assert 15 < places[code][1] < 365


def test_a_map_without_families_has_one_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    known = describe_languages(embeddings())
    drawing = draw_map(known, known.learned, "Languages", "here")
    assert set(CODES) <= texts(drawing).keys()
    assert "var(--line-" not in drawing


# On the page


@pytest.mark.parametrize("installed", [True, False])
def test_a_page_shows_typology_or_says_how_to_get_it(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dict(zip(CODES, vectors(1), strict=True))
    install(monkeypatch, Table(rows) if installed else None)
    page = Page(write_report([write_run(tmp_path / "tiny")]))
    assert ("By typology" in page.text) == installed
    assert ("Nearest by typology" in page.text) == installed
    assert ("CC BY 9" in page.text) == installed
    assert (".[typology]" in page.text) != installed
    assert "By trained vectors" in page.text
    assert len(page.ids) == len(set(page.ids))
