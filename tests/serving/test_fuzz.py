"""Requests made at random from the service's own description: none makes it fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import positive_data_acceptance

from .services import Running, running

MODES = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
ROUTES = [
    ("/v1/predict", "POST", 60),
    ("/v1/languages", "GET", 20),
    ("/v1/grid", "GET", 5),
    ("/healthz", "GET", 5),
    ("/readyz", "GET", 5),
    ("/metrics", "GET", 5),
    ("/", "GET", 5),
]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with running() as service:
        yield service


@pytest.fixture(scope="module")
def described(service: Running) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def test_all_routes_are_tried(described: Any) -> None:
    operations = [result.ok() for result in described.get_all_operations()]
    routes = {(operation.path, operation.method.upper()) for operation in operations}
    assert routes == {(path, method) for path, method, _ in ROUTES}


SETTINGS = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("path", "method", "examples"), ROUTES)
def test_no_request_makes_it_fail_or_answer_otherwise_than_described(
    described: Any, path: str, method: str, examples: int, mode: Any
) -> None:
    operation = described[path][method]
    statuses = []

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(SETTINGS, max_examples=examples)
    def check(case: Any) -> None:
        response = case.call()
        statuses.append(response.status_code)
        # A text that fits the description may still name no language, or hold no word.
        case.validate_response(response, excluded_checks=[positive_data_acceptance])

    try:
        check()
    except Unsatisfiable:  # a route without parameters cannot be called wrongly
        assert mode is schemathesis.GenerationMode.NEGATIVE
    assert all(status < 500 for status in statuses)


def test_any_text_in_any_cell_is_answered_or_refused(service: Running) -> None:
    tasks = st.sampled_from(["pos", "ner", "topic", "dep"])
    languages = st.sampled_from(["eng", "isl", "fao", "deu", "zh-Hant"])
    texts = st.one_of(
        st.fixed_dictionaries({"text": st.text()}),
        st.fixed_dictionaries({"words": st.lists(st.text(), max_size=5)}),
    )
    items = st.lists(st.tuples(texts, tasks, languages), min_size=1, max_size=3)
    answered = []

    @given(items=items)
    @settings(SETTINGS, max_examples=80)
    def check(items: list[Any]) -> None:
        body = [{**text, "task": task, "language": code} for text, task, code in items]
        response = service.predict(*body)
        assert response.status_code in (200, 422), response.text
        answered.append(response.status_code == 200)
        if answered[-1]:
            assert len(response.json()["items"]) == len(items)

    check()
    assert any(answered)
