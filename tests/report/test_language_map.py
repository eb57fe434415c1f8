from __future__ import annotations

import itertools

import numpy as np

from hyperlect.report.data import Embeddings
from hyperlect.report.labels import place_labels
from hyperlect.report.language_map import draw_map, project


def test_projection_keeps_the_distances_of_points_that_lie_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(12, 2)) * [5.0, 1.0]
    turned, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    vectors = flat @ turned[:2] + 3.0
    projection = project(vectors)
    assert sum(projection.explained) > 1 - 1e-9
    assert projection.explained[0] > projection.explained[1]
    for one, two in itertools.combinations(range(12), 2):
        original = np.linalg.norm(vectors[one] - vectors[two])
        assert np.isclose(np.linalg.norm(projection.points[one] - projection.points[two]), original)


def test_projection_agrees_with_the_eigenvalues_of_the_covariance() -> None:
    vectors = np.random.default_rng(1).normal(size=(30, 6))
    values = np.sort(np.linalg.eigvalsh(np.cov(vectors.T)))[::-1]
    assert np.allclose(project(vectors).explained, values[:2] / values.sum())


def test_projection_of_equal_vectors_is_the_origin() -> None:
    projection = project(np.ones((4, 5)))
    assert projection.explained == (0.0, 0.0)
    assert not projection.points.any()


def test_the_sign_of_a_component_does_not_depend_on_the_order_of_languages() -> None:
    vectors = np.random.default_rng(2).normal(size=(9, 4))
    assert np.allclose(project(vectors).points[::-1], project(vectors[::-1]).points)


def test_labels_keep_apart_where_there_is_room() -> None:
    rng = np.random.default_rng(3)
    points = rng.uniform([40, 40], [860, 560], size=(75, 2))
    spots = place_labels(points, ["abc"] * 75, (900, 600))
    halves = np.array([3 * 5.5 / 2, 5.5])  # a little less than the room that is kept free
    centres = np.array([(spot.x, spot.y) for spot in spots])
    apart = np.abs(centres[:, None] - centres[None]) >= 2 * halves
    overlapping = ~apart.any(axis=-1)
    assert overlapping.sum() == 75  # each only with itself
    assert (centres > 0).all()
    assert (centres < [900, 600]).all()


def test_map_names_every_language_and_states_the_variance() -> None:
    vectors = np.random.default_rng(4).normal(size=(5, 3))
    languages = ["eng", "deu", "isl", "fao", "swe"]
    embeddings = Embeddings(languages, vectors, {"eng": "labelled", "isl": "text only"})
    projection = project(vectors)
    drawing = draw_map(embeddings, projection, 400, str.upper, "here", "wide")
    for code in languages:
        assert f">{code.upper()}</text>" in drawing
    assert f"{projection.explained[0]:.0%}" in drawing
    assert 'id="here-title"' in drawing
