"""The HTTP service: routes, limits, problem details and timings around a `Service`."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..grid import Cell
from ..model import HyperX
from ..predict import Prediction
from .batching import Batcher, Job, Metrics, Refused
from .schemas import (
    Fault,
    GridAnswer,
    LanguagesAnswer,
    PredictAnswer,
    PredictRequest,
    Problem,
    Settings,
)
from .service import Service

PAGE = Path(__file__).with_name("page")
PAGE_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PROBLEM = "application/problem+json"
PROTECTED = ("/v1", "/metrics")
"""Which paths need the token; the page, the description and the probes do not."""
CLIENT_GONE = 499
"""The status, in the log alone, of a request whose client has gone; nginx's."""

_MEANINGS = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    413: "The body is too large.",
    415: "The body is of another type than JSON.",
    422: "The request is not valid; `errors` says where.",
    429: "The queue is full. `Retry-After` says when to try again.",
    500: "A fault of the service or of the model.",
    503: "The service ends, or no batch had room in time. `Retry-After` says when to try again.",
    504: "The request took too long.",
}


def create_app(
    model: HyperX, settings: Settings | None = None, run: Path | None = None, name: str = "model"
) -> FastAPI:
    """Make the service of a model.

    Args:
        model: in evaluation mode; the service uses it alone.
        settings: limits, token and the like.
        run: the run's folder, for scores and what to expect of cells without any.
        name: what the model is called where its results do not say.

    Returns:
        The application; `app.state.service` and `app.state.batcher` are what it serves with.

    Raises:
        RunError: a file of the run is malformed.
    """
    settings = settings or Settings()
    service, metrics = Service(model, settings, run, name), Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher = Batcher(
            service.answer,
            metrics,
            batch_tokens=service.batch_tokens,
            queue_tokens=service.queue_tokens,
            gather=settings.gather / 1000,
            timeout=settings.timeout,
        )
        app.state.batcher = batcher
        with service.warm():
            batcher.start()
            yield
            await batcher.close()

    app = FastAPI(
        title="hyperlect",
        version=__version__,
        summary="Labels for texts in any task and language of one model.",
        lifespan=lifespan,
        docs_url=None,  # its pages load scripts from another host
        redoc_url=None,
    )
    app.state.service, app.state.metrics, app.state.settings = service, metrics, settings
    app.include_router(router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _not_of_the_form)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(_Gate, settings=settings)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After", "Server-Timing", "X-Compute-Tokens"],
        )
    app.openapi = lambda: _description(app)  # type: ignore[method-assign]
    return app


# --- problems


def problem(
    status: int, detail: str, errors: Iterable[Fault] = (), headers: Mapping[str, str] | None = None
) -> Response:
    """Make the answer to a request that failed (RFC 9457)."""
    title = HTTPStatus(status).phrase if status != CLIENT_GONE else "Client Closed Request"
    content = Problem(title=title, status=status, detail=detail, errors=list(errors) or None)
    body = json.dumps(content.model_dump(exclude_none=True), ensure_ascii=False)
    # A client can send half of a surrogate pair, which UTF-8 cannot write.
    return Response(body.encode("utf-8", "replace"), status, headers, PROBLEM)


async def _refused(request: Request, error: Any) -> Response:
    wait = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return problem(error.status, error.detail, error.faults, wait)


async def _not_of_the_form(request: Request, error: Any) -> Response:
    _count_invalid(request)
    if request.method == "POST" and "json" not in request.headers.get("content-type", ""):
        return problem(415, "Send JSON, with the header Content-Type: application/json.")
    faults = []
    for fault in error.errors():
        if fault["type"] == "json_invalid":
            detail = f"The body is not JSON: {fault['ctx']['error']} at character {fault['loc'][1]}"
            return problem(400, f"{detail}.")
        place, *path = fault["loc"]
        escaped = (str(key).replace("~", "~0").replace("/", "~1") for key in path)
        pointer = "".join(f"/{key}" for key in escaped)
        pointer = pointer if place == "body" else f"{place}:{pointer}"
        faults.append(Fault(pointer=pointer, detail=fault["msg"]))
    return problem(422, "The request is not of the form that the description says.", faults)


async def _http_error(request: Request, error: Any) -> Response:
    if error.status_code in (400, 413):
        _count_invalid(request)
    return problem(error.status_code, str(error.detail), headers=error.headers)


def _count_invalid(request: Request) -> None:
    """Count a request for predictions that did not get as far as its route."""
    if request.url.path == "/v1/predict":
        metrics: Metrics = request.app.state.metrics
        metrics.requests.labels("batch").inc()
        metrics.failures.labels("validation").inc()


async def _failed(request: Request, error: Exception) -> Response:
    return problem(500, f"{type(error).__name__}. The log of the service says more.")


class _Gate:
    """Checks the token before anything is read, and the size of the body while it is.

    Args:
        app: what is behind it.
        settings: with token and size.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.most = app, settings.request_bytes
        self.token = settings.token and settings.token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if self.token is not None and path.startswith(PROTECTED):
            scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self.token):
                detail = "Send the token of the service as Authorization: Bearer …"
                response = problem(401, detail, headers={"WWW-Authenticate": "Bearer"})
                await response(scope, receive, send)
                return
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.most:
                raise HTTPException(413, f"The body must have at most {self.most:,} bytes.")
            return message

        await self.app(scope, limited, send)


def _description(app: FastAPI) -> dict[str, Any]:
    """Describe the service (OpenAPI), with the limits and the tasks of this one."""
    if app.openapi_schema is None:
        settings, service = app.state.settings, app.state.service
        schema = FastAPI.openapi(app)
        components = schema["components"]["schemas"]
        of_problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components.update(of_problem.pop("$defs"), Problem=of_problem)
        components["PredictRequest"]["properties"]["items"]["maxItems"] = settings.items
        item = components["Item"]["properties"]
        names = [task.name for task in service.tasks]
        one, several = item["task"]["anyOf"]
        one["enum"] = several["items"]["enum"] = names
        item["task"]["examples"] = names[:1]
        several |= {"minItems": 1, "maxItems": settings.items}
        for name in ("text", "pair"):
            item[name]["anyOf"][0]["maxLength"] = settings.characters
        if settings.token:
            scheme = {"type": "http", "scheme": "bearer"}
            schema["components"]["securitySchemes"] = {"token": scheme}
            for path, operations in schema["paths"].items():
                for operation in operations.values() if path.startswith(PROTECTED) else ():
                    operation["security"] = [{"token": []}]
    return FastAPI.openapi(app)  # which keeps it


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a route can answer with."""
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


# --- routes

router = APIRouter()


@router.post(
    "/v1/predict",
    response_model=PredictAnswer,
    responses=_problems(*_MEANINGS),
    tags=["predictions"],
)
async def predict(request: Request, body: PredictRequest) -> Response:
    """Label texts. Tasks and languages may be mixed in one request.

    Times are in the headers `Server-Timing` and, in milliseconds, `X-Total-Time`, `X-Queue-Time`
    and `X-Inference-Time`.
    """
    state = request.app.state
    metrics: Metrics = state.metrics
    begun = time.perf_counter()
    method = "single" if len(body.items) == 1 else "batch"
    metrics.requests.labels(method).inc()
    try:
        by_item = await run_in_threadpool(state.service.entries, body.items)
        entries = [entry for of_item in by_item for entry in of_item]
        job = await _unless_gone(request, state.batcher.submit(entries))
    except Exception as error:
        metrics.failures.labels(error.label if isinstance(error, Refused) else "backend").inc()
        raise
    if job is None:
        metrics.failures.labels("cancelled").inc()
        return problem(CLIENT_GONE, "The client has gone.")
    predictions = [job.answers[place] for place in range(len(entries))]
    content = _answer(state.service, predictions, [len(of_item) for of_item in by_item])
    for entry in entries:
        metrics.input_length.observe(entry.tokens)
    seconds = time.perf_counter() - begun
    metrics.duration.observe(seconds)
    metrics.successes.labels(method).inc()
    return JSONResponse(content, headers=_timings(job, seconds))


async def _unless_gone(request: Request, work: Any) -> Job | None:
    """Wait for a job; drop it, and return None, where its client goes first."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    job, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({job, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return job.result() if job.done() else None
    finally:
        for task in (job, leaving):
            task.cancel()


def _answer(service: Service, predictions: list[Prediction], counts: list[int]) -> dict[str, Any]:
    """Lay predictions out by item, each with the score to expect of its cell."""
    expected = service.expectations(predictions)
    answers = []
    for prediction in predictions:
        answers.append(answer := prediction.to_dict())
        if expectation := expected.get(Cell(prediction.task, prediction.language)):
            answer["expected"] = expectation.model_dump()
    remaining = iter(answers)
    return {"items": [{"predictions": list(islice(remaining, count))} for count in counts]}


def _timings(job: Job, seconds: float) -> dict[str, str]:
    """Return the standard header, and some of those that text-embeddings-inference has."""
    times = {"queue": job.queued, "inference": job.inference, "total": seconds}
    return {
        "Server-Timing": ", ".join(f"{name};dur={1000 * s:.1f}" for name, s in times.items()),
        **{f"X-{name.title()}-Time": str(round(1000 * s)) for name, s in times.items()},
        "X-Compute-Tokens": str(sum(entry.tokens for entry in job.entries)),
    }


@router.get("/v1/grid", responses=_problems(401, 500), tags=["what to ask for"])
def grid(request: Request) -> GridAnswer:
    """Tasks, languages and cells, with the scores that the run has."""
    answer: GridAnswer = request.app.state.service.grid()
    return answer


@router.get("/v1/languages", responses=_problems(401, 422, 500), tags=["what to ask for"])
def languages(request: Request, every: bool = False) -> LanguagesAnswer:
    """Languages with their names, their direction and the kinds of their cells.

    With `every`, there are about 600 more, which the run does not know.
    """
    return LanguagesAnswer(languages=request.app.state.service.languages(every))


@router.get("/healthz", responses=_problems(503), tags=["operation"])
def healthz(request: Request) -> dict[str, str]:
    """Whether the process works; if not, restart it."""
    if not request.app.state.batcher.alive:
        raise Refused(503, "unhealthy", "The model's thread has ended.")
    return {"status": "ok"}


@router.get("/readyz", responses=_problems(503), tags=["operation"])
def readyz(request: Request) -> dict[str, str]:
    """Whether requests are taken."""
    if not request.app.state.batcher.ready:
        raise Refused(503, "unhealthy", "The service is not ready.", 1)
    return {"status": "ok"}


@router.get(
    "/metrics", response_class=PlainTextResponse, responses=_problems(401, 500), tags=["operation"]
)
def metrics(request: Request) -> Response:
    """Counts and times, for Prometheus."""
    text = generate_latest(request.app.state.metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


@router.get("/", response_class=HTMLResponse, tags=["operation"])
def page() -> FileResponse:
    """The page."""
    return FileResponse(PAGE / "page.html", media_type="text/html", headers=PAGE_HEADERS)


@router.get("/page/{name}", include_in_schema=False)
def page_file(name: str) -> FileResponse:
    """Send a style sheet, a script or the icon of the page."""
    file = PAGE / name
    if file.suffix not in PAGE_TYPES or file.parent != PAGE or not file.is_file():
        raise HTTPException(404)
    return FileResponse(file, media_type=PAGE_TYPES[file.suffix], headers=PAGE_HEADERS)
