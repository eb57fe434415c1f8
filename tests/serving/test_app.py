"""The service over HTTP: answers, limits, problems, and what clients do to it."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx")

from hyperlect.model import HyperX
from hyperlect.serving.schemas import PredictAnswer, Problem

from ..test_predict import LANGUAGES, random_model
from .services import Held, Running, running, until

ITEM = {"text": "Anna sees Oslo", "task": "ner", "language": "isl"}


@pytest.fixture(scope="module")
def service() -> Any:
    with running() as service:
        yield service


def assert_same(answer: Any, expected: Any) -> None:
    """Compare what was answered with a prediction; padding changes the last digits."""
    assert answer.keys() == expected.keys()
    for key, value in expected.items():
        numbers = key in ("confidences", "scores")
        assert answer[key] == (pytest.approx(value, abs=2e-4) if numbers else value)


def contents(response: Any) -> list[list[dict[str, Any]]]:
    assert response.status_code == 200, response.text
    PredictAnswer.model_validate(response.json())
    return [item["predictions"] for item in response.json()["items"]]


def without_confidence(prediction: dict[str, Any]) -> dict[str, Any]:
    for span in prediction.get("spans", ()):
        del span["confidence"]
    return prediction


def test_every_answer_is_that_of_a_single_prediction(service: Running) -> None:
    items = [
        {"text": "Anna sees the old river in Oslo.", "task": ["pos", "ner"], "language": "is"},
        {"words": ["the", "cat", "sees"] * 40, "task": "dep", "language": "eng"},
        {"text": "the dog", "pair": "a cat", "task": "nli", "language": "Faroese"},
        {"text": "", "task": "topic", "language": "kmr"},
        {"words": ["Anna"], "task": ["topic", "ner"], "language": "eng"},
    ]
    answers = contents(service.predict(*items))
    model = random_model()
    assert len(answers) == len(items)
    for item, answer in zip(items, answers, strict=True):
        value: Any = item.get("words") or item["text"]
        value = (value, item["pair"]) if "pair" in item else value
        tasks = [item["task"]] if isinstance(item["task"], str) else item["task"]
        assert [prediction["task"] for prediction in answer] == tasks
        for task, prediction in zip(tasks, answer, strict=True):
            (single,) = model.predict([value], task, str(item["language"]))
            expected = without_confidence(single.to_dict())
            assert_same(without_confidence(prediction), expected)


def test_clients_of_all_cells_at_once_get_their_own_answers(service: Running) -> None:
    model = random_model()

    def call(number: int) -> bool:
        task, language = ("pos", "ner")[number % 2], (*LANGUAGES, "tur")[number % 4]
        words = ["the", "cat", *("x" * (number % 5)), f"{number}"]
        item = {"words": words, "task": task, "language": language}
        ((prediction,),) = contents(service.predict(item))
        (single,) = model.predict([words], task, language)
        assert_same(without_confidence(prediction), without_confidence(single.to_dict()))
        return True

    with ThreadPoolExecutor(32) as clients:
        assert all(clients.map(call, range(128)))
    assert service.metric("te_batch_next_size_count") < service.metric("te_request_success")


@pytest.mark.parametrize(
    ("items", "pointer"),
    [
        ([{**ITEM, "task": "nre"}], "/items/0/task"),
        ([{**ITEM, "task": []}], "/items/0/task"),
        ([{**ITEM, "task": "mlm"}], "/items/0/task"),
        ([ITEM, {**ITEM, "language": "Faroish"}], "/items/1/language"),
        ([{**ITEM, "text": " "}], "/items/0/text"),
        ([{**ITEM, "words": ["a"]}], "/items/0"),
        ([{"task": "ner", "language": "isl"}], "/items/0"),
        ([{"words": [], "task": "ner", "language": "isl"}], "/items/0/words"),
        ([{**ITEM, "pair": "b"}], "/items/0/pair"),
        ([{**ITEM, "task": "nli"}], "/items/0/pair"),
        ([{"words": ["a"], "pair": "b", "task": "nli", "language": "isl"}], "/items/0/pair"),
        ([{**ITEM, "text": "a" * 10_001}], "/items/0"),
        ([{**ITEM, "texts": "a"}], "/items/0/texts"),
        ([{**ITEM, "text": 3}], "/items/0/text"),
        ([ITEM] * 65, "/items"),
        ([{**ITEM, "task": ["ner"] * 65}], "/items"),
        ([], "/items"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    service: Running, items: list[Any], pointer: str
) -> None:
    response = service.predict(*items)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate(response.json())
    assert problem.status == 422
    assert pointer in [fault.pointer for fault in problem.errors or ()]


def test_all_faults_are_named_at_once(service: Running) -> None:
    response = service.predict({**ITEM, "task": "x"}, ITEM, {**ITEM, "language": "Faroish"})
    pointers = [fault["pointer"] for fault in response.json()["errors"]]
    assert pointers == ["/items/0/task", "/items/2/language"]


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status"),
    [
        ("GET", "/nothing", b"", "", 404),
        ("DELETE", "/v1/predict", b"", "", 405),
        ("POST", "/v1/predict", b'{"items"', "application/json", 400),
        ("POST", "/v1/predict", b"\xff\xfe{", "application/json", 400),
        ("POST", "/v1/predict", b"[" * 100_000, "application/json", 400),
        ("POST", "/v1/predict", b"items=3", "application/x-www-form-urlencoded", 415),
        ("POST", "/v1/predict", b"x" * (2**20 + 1), "application/json", 413),
        ("GET", "/v1/languages?every=often", b"", "", 422),
    ],
)
def test_errors_are_problem_details_everywhere(
    service: Running, method: str, path: str, body: bytes, kind: str, status: int
) -> None:
    headers = {"content-type": kind} if kind else {}
    response = service.client.request(method, path, content=body, headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert Problem.model_validate(response.json()).status == status


def test_a_body_without_a_length_is_bounded_too(service: Running) -> None:
    chunks = (b" " * 2**16 for _ in range(20))
    headers = {"content-type": "application/json"}
    response = service.client.post("/v1/predict", content=chunks, headers=headers)
    assert response.status_code == 413


def test_half_of_a_surrogate_pair_is_a_fault_of_the_request(service: Running) -> None:
    for key in ("text", "task", "language"):
        body = json.dumps({"items": [{**ITEM, key: "\ud800"}]}).encode()
        headers = {"content-type": "application/json"}
        response = service.client.post("/v1/predict", content=body, headers=headers)
        assert response.status_code in (400, 422)
        Problem.model_validate(response.json())


def test_a_full_queue_answers_429_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    with running(batch_tokens=8, queue_tokens=16) as service, ThreadPoolExecutor(16) as clients:
        first = clients.submit(service.predict, ITEM)
        until(lambda: bool(held.texts))
        others = [clients.submit(service.predict, ITEM) for _ in range(8)]
        until(lambda: service.metric("te_request_failure") > 0)
        until(lambda: sum(call.done() for call in others) == 8 - service.waiting)
        refused = [call.result() for call in others if call.done()]
        assert refused
        assert {response.status_code for response in refused} == {429}
        assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
        held.released.set()
        taken = [first, *(call for call in others if call.result().status_code == 200)]
        assert [call.result().status_code for call in taken] == [200] * (9 - len(refused))
        assert service.predict(ITEM).status_code == 200
        assert service.metric("te_request_failure") == len(refused)


def test_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    with running(timeout=0.3) as service, ThreadPoolExecutor(2) as clients:
        late = clients.submit(service.predict, ITEM)
        until(lambda: bool(held.texts))
        waiting = service.predict(ITEM)
        assert waiting.status_code == 503
        assert int(waiting.headers["retry-after"]) >= 1
        assert late.result().status_code == 504
        held.released.set()
        until(lambda: service.predict(ITEM).status_code == 200)


def test_a_token_is_required_for_data_and_not_for_probes() -> None:
    with running(token="secret") as service:
        for path in ("/v1/grid", "/v1/languages", "/metrics"):
            for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret"}):
                response = service.client.get(path, headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert Problem.model_validate(response.json()).status == 401
            right = service.client.get(path, headers={"authorization": "bearer secret"})
            assert right.status_code == 200
        assert service.client.post("/v1/predict", content=b"{").status_code == 401
        answer = service.predict(ITEM, headers={"authorization": "Bearer secret"})
        assert answer.status_code == 200
        for path in ("/", "/healthz", "/readyz", "/openapi.json"):
            assert service.client.get(path).status_code == 200
        paths = service.client.get("/openapi.json").json()["paths"]
        assert "security" in paths["/v1/predict"]["post"]
        assert "security" not in paths["/healthz"]["get"]


def test_the_end_finishes_what_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    with running(batch_tokens=8) as service, ThreadPoolExecutor(8) as clients:
        calls = [clients.submit(service.predict, ITEM) for _ in range(6)]
        until(lambda: bool(held.texts) and service.metric("te_request_count") == 6)
        service.server.should_exit = True
        held.released.set()
        assert [call.result().status_code for call in calls] == [200] * 6
        service.thread.join(60)
        assert not service.thread.is_alive()


def test_nothing_is_lost_when_a_client_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(monkeypatch)
    with running(batch_tokens=8) as service, ThreadPoolExecutor(4) as clients:
        first = clients.submit(service.predict, {**ITEM, "text": "first"})
        until(lambda: bool(held.texts))
        body = json.dumps({"items": [{**ITEM, "text": "gone"}] * 5}).encode()
        head = "POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2]))) as gone:
            gone.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: service.waiting == 5)
        until(lambda: service.waiting == 0)
        last = clients.submit(service.predict, {**ITEM, "text": "last"})
        until(lambda: service.waiting == 1)
        held.released.set()
        assert contents(first.result())[0][0]["text"] == "first"
        assert contents(last.result())[0][0]["text"] == "last"
        assert held.texts == [["first"], ["last"]]


def test_an_item_that_breaks_a_batch_breaks_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    predict = HyperX.predict

    def fragile(model: Any, inputs: list[Any], *rest: Any, **options: Any) -> Any:
        if "poison" in inputs:
            raise RuntimeError("no")
        return predict(model, inputs, *rest, **options)

    monkeypatch.setattr(HyperX, "predict", fragile)
    texts = [f"text {number}" for number in range(15)] + ["poison"]
    with running(gather=200.0) as service, ThreadPoolExecutor(16) as clients:
        items = ({**ITEM, "text": text} for text in texts)
        *good, bad = clients.map(service.predict, items)
        assert [contents(r)[0][0]["text"] for r in good] == texts[:-1]
        assert bad.status_code == 500
        assert Problem.model_validate(bad.json()).status == 500
        assert service.client.get("/healthz").status_code == 200
        assert service.metric("te_batch_next_size_count") < 16


def test_times_are_in_the_headers_and_in_the_metrics() -> None:
    with running() as service:
        headers = service.predict(ITEM, ITEM).headers
        for name in ("x-total-time", "x-queue-time", "x-inference-time", "x-compute-tokens"):
            assert int(headers[name]) >= 0
        assert headers["server-timing"].startswith("queue;dur=")
        assert service.predict({**ITEM, "task": "x"}).status_code == 422
        assert service.predict().status_code == 422
        counts = {
            "te_request_count": 3,
            "te_request_success": 1,
            "te_request_failure": 2,
            "te_request_duration_count": 1,
            "te_request_queue_duration_count": 1,
            "te_request_inference_duration_count": 1,
            "te_request_input_length_count": 2,
            "te_batch_next_size_sum": 2,
            "te_batch_next_tokens_count": 1,
            "te_queue_size": 0,
        }
        assert {name: service.metric(name) for name in counts} == counts


def test_other_sites_may_call_it_only_if_they_are_named() -> None:
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    for origins, allowed in (((), None), (("https://a.example",), "https://a.example")):
        with running(origins=origins) as service:
            for method in ("OPTIONS", "POST"):
                response = service.client.request(method, "/v1/predict", headers=headers)
                assert response.headers.get("access-control-allow-origin") == allowed


def test_the_description_has_limits_tasks_and_examples_that_work(service: Running) -> None:
    schema = service.client.get("/openapi.json").json()
    schemas = schema["components"]["schemas"]
    assert schemas["PredictRequest"]["properties"]["items"]["maxItems"] == 64
    names = ["pos", "ner", "topic", "nli", "dep"]
    assert schemas["Item"]["properties"]["task"]["anyOf"][0]["enum"] == names
    (example,) = schemas["PredictRequest"]["examples"]
    assert len(contents(service.predict(*example["items"]))) == len(example["items"])
    assert "HTTPValidationError" not in schemas
    for path in schema["paths"].values():
        for route in path.values():
            for status, response in route["responses"].items():
                kinds = list(response.get("content", ()))
                assert status == "200" or kinds == ["application/problem+json"]


def test_there_is_a_page(service: Running) -> None:
    response = service.client.get("/")
    assert response.headers["content-type"].startswith("text/html")
    assert "http" not in response.text  # nothing of another host
