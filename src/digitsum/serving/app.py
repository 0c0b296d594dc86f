"""A web page and an HTTP interface that read pictures of digits and add.

    digitsum serve   # then open http://127.0.0.1:8000

    curl -F pictures=@seven.png -F pictures=@forty-two.jpg -F addends=1200 http://127.0.0.1:8000/predict

A request is answered whole or refused whole: one bad picture fails it, and the sentence says which. Every
refusal has the same shape, {"error": {"code": "invalid", "message": "one sentence"}}.
"""

import asyncio
import base64
import errno
import gzip
import ipaddress
import logging
import math
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib.metadata import version
from importlib.resources import files
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic_core import to_json
from starlette.datastructures import FormData, Headers
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from uvicorn.supervisors import Multiprocess

from digitsum.cores import cores
from digitsum.errors import InputError
from digitsum.prediction import MAX_ADDEND_DIGITS, Prediction, Predictor, broadcast_addends
from digitsum.reading.imaging import read_picture
from digitsum.reading.strips import Row
from digitsum.serving.limits import BUFFER, MAX_PICTURES, MAX_SECONDS, LimitedProtocol, LimitedRoute
from digitsum.serving.page import OF_ONE_DIGIT, README, STATIC, network_script
from digitsum.serving.schema import (
    ERROR_RESPONSES,
    About,
    Addends,
    AtWork,
    Health,
    OneAddend,
    Picture,
    Pictures,
    Predictions,
)
from digitsum.types import UInt8Array

THREADS = cores()  # that decode pictures and predict

POLICY = (  # the page may load its own files and ask its own service, nothing else
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; connect-src 'self';"
    b" base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = [  # of every answer
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
SWAGGER = Path(str(files("fastapi_swagger") / "resources"))  # of which only the files of Swagger UI are used
PAGES = {  # path: content and type. Read once: a file open for a slow client is one less for the others
    "/": ((STATIC / "page.html").read_bytes(), "text/html"),
    "/page.css": ((STATIC / "page.css").read_bytes(), "text/css"),
    "/page.js": ((STATIC / "page.js").read_bytes(), "text/javascript"),
    "/network.js": (network_script("service.js"), "text/javascript"),
    "/strip.js": ((STATIC / "strip.js").read_bytes(), "text/javascript"),
    "/readme.txt": (README, "text/plain"),
    "/docs": ((STATIC / "docs.html").read_bytes(), "text/html"),
    "/docs.js": ((STATIC / "docs.js").read_bytes(), "text/javascript"),
    "/swagger-ui.css": ((SWAGGER / "swagger-ui.css").read_bytes(), "text/css"),
    "/swagger-ui-bundle.js": ((SWAGGER / "swagger-ui-bundle.js").read_bytes(), "text/javascript"),
}

ERROR_CODES = {
    400: "malformed",
    404: "not_found",
    405: "method_not_allowed",
    408: "slow_upload",
    413: "too_large",
    421: "misdirected",
    422: "invalid",
    429: "busy",
    500: "failed",
    504: "timeout",
}
HTTP_MESSAGES = {  # where the framework's own are none
    404: "there is nothing at this address",
    405: "this address doesn't take that method",
}
VALIDATION_MESSAGES = {  # by pydantic's name of what is wrong, where its own words are odd
    "too_long": f"there should be at most {MAX_PICTURES} in a request",
    "string_too_long": f"input should have at most {MAX_ADDEND_DIGITS} digits",
    **dict.fromkeys(("string_type", "string_pattern_mismatch"), "input should be a whole number, 0 or more"),
}
WRONG_HOST = (
    "this service answers its own machine alone: ask it as localhost or 127.0.0.1 (or, as behind a proxy, by"
    " a name that it is started with: --allow-origin https://that.name)"
)

# Middleware


class Metrics:
    """What `/metrics` shows, of this process or, with several workers, of all of them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "digitsum_requests", "Requests by route and status", ["route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "digitsum_request_seconds", "Seconds a request took", ["route"], registry=self._registry
        )
        self.predictions = Counter(
            "digitsum_predictions", "Pictures answered", ["uncertain"], registry=self._registry
        )

    def text(self) -> bytes:
        """Return all values in Prometheus' text format."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]
        return generate_latest(of_all)


class MetricsMiddleware:
    """Counts and times every request, and adds the security headers to its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] += SECURITY_HEADERS
            await send(message)

        try:
            await self.app(scope, receive, observed)
        finally:
            # of a route, not of whatever path a client thinks of: every label is kept for ever
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)


class AllowedHosts:
    """Answers requests that ask for one of the given names alone, or, without any, for whatever name.

    A page elsewhere can have its own name lead to an address that only this machine reaches, and its browser
    then lets it read the answers: DNS rebinding. What names no host at all comes from no browser.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self.app = app
        self.names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.names and scope["type"] == "http":
            host = Headers(scope=scope).get("host", self.names[0])
            if re.sub(r":\d*$", "", host).lower() not in self.names:
                await error_response(421, WRONG_HOST)(scope, receive, send)
                return
        await self.app(scope, receive, send)


# Routes

limited_router = APIRouter(route_class=LimitedRoute)
router = APIRouter()


@limited_router.post("/predict", response_model=Predictions, responses=ERROR_RESPONSES)
async def predict(request: Request, pictures: Pictures, addends: Addends) -> Response:
    """Read the number on each picture, a digit or a row of digits, and add its addend."""
    try:
        each = list(map(int, broadcast_addends(addends, len(pictures))))
        # each in a job of its own: a request whose time is over leaves at most one of them running
        rows = [
            await _run(request, _read, request.app.state.predictor, await file.read(), i, len(pictures))
            for i, file in enumerate(pictures, 1)
        ]
    except InputError as error:
        raise HTTPException(422, str(error)) from error
    found = await _run(request, request.app.state.predictor.predict_rows, rows, each)
    answers = [_answer(answer, i, len(pictures)) for i, answer in enumerate(found, 1)]
    for answer in answers:
        request.app.state.metrics.predictions.labels(str(answer.uncertain).lower()).inc()
    predictions = [_with_seen(*one) for one in zip(answers, rows, strict=True)]
    # a test checks the answers against the schema, so that not each has to be
    return Response(to_json({"predictions": predictions}), media_type="application/json")


async def _run(request: Request, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function in one of the threads that decode and predict."""
    return await asyncio.get_running_loop().run_in_executor(request.app.state.pool, function, *arguments)


def _read(predictor: Predictor, picture: bytes, number: int, count: int) -> UInt8Array | Row:
    try:
        row: UInt8Array | Row = predictor.read(picture)
        return row
    except InputError as error:
        raise _numbered(error, number, count) from error


def _answer(answer: Prediction | InputError, number: int, count: int) -> Prediction:
    if isinstance(answer, InputError):
        error = _numbered(InputError(f"the picture can't be read: {answer}"), number, count)
        raise HTTPException(422, str(error)) from answer
    return answer


def _numbered(error: InputError, number: int, count: int) -> InputError:
    """Say of which picture an error is, where there are several."""
    return error if count == 1 else InputError(f"number {number} of {count}: {error}")


def _with_seen(answer: Prediction, row: UInt8Array | Row) -> dict[str, Any]:
    """Return what JSON can hold of an answer, with what the network saw."""
    return answer.to_dict() | {"seen": _seen(row.strip if isinstance(row, Row) else row)}


def _seen(image: UInt8Array) -> dict[str, Any]:
    pixels = base64.b64encode(image.tobytes()).decode()
    return {"height": len(image), "width": image.shape[1], "pixels": pixels}


@limited_router.post("/networks", response_model=AtWork, responses=ERROR_RESPONSES)
async def networks(request: Request, picture: Picture, addend: OneAddend) -> Response:
    """Show how `exact` and `concat`, the networks of one digit, come by their outputs."""
    try:
        answer = await _run(request, _at_work, request.app.state.networks, await picture.read(), addend)
    except InputError as error:
        raise HTTPException(422, str(error)) from error
    return Response(to_json(answer), media_type="application/json")


def _at_work(networks: dict[str, Predictor], picture: bytes, addend: int) -> dict[str, Any]:
    image = read_picture(picture)
    outputs = {name: network.outputs(image, addend) for name, network in networks.items()}
    answer = {name: {each: found[each].tolist() for each in found} for name, found in outputs.items()}
    return answer | {"seen": _seen(image)}


@router.get("/health")
async def health() -> Health:
    """Return whether the service is there."""
    return Health(status="ok")


@router.get("/model")
async def model(request: Request) -> About:
    """Return which network answers, and how right it was when it was evaluated."""
    return About(**request.app.state.predictor.about)


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Return the counts of requests and predictions, for Prometheus."""
    return PlainTextResponse(request.app.state.metrics.text())


packed = cache(gzip.compress)


async def _page(content: bytes, kind: str, request: Request) -> Response:
    # asked for again each time: an old program on a new page may not work
    headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if "gzip" not in request.headers.get("Accept-Encoding", ""):
        return Response(content, media_type=kind, headers=headers)
    return Response(packed(content), media_type=kind, headers=headers | {"Content-Encoding": "gzip"})


for path, page in PAGES.items():
    router.add_api_route(path, partial(_page, *page), methods=["GET", "HEAD"], include_in_schema=False)


# Errors


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Answer with the one shape of all errors."""
    error = {"code": ERROR_CODES[status], "message": HTTP_MESSAGES.get(status, message)}
    return JSONResponse({"error": error}, status, headers)


async def _http_error(_: Request, error: StarletteHTTPException) -> JSONResponse:
    return error_response(error.status_code, error.detail, dict(error.headers or {}))


async def _validation_error(_: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    _, field, *index = first["loc"]
    place = field + "".join(f"[{i}]" for i in index)
    said = first["msg"]
    if first["type"] == "missing" and isinstance(error.body, FormData) and error.body:
        said = f"field required; the form has {_listed(error.body)}"
    elif first["type"] in VALIDATION_MESSAGES:
        said = VALIDATION_MESSAGES[first["type"]]
    elif field == "pictures" and first["type"] == "value_error":  # text, or no file chosen
        said = "input should be a file, as curl sends it with pictures=@photo.jpg"
    return error_response(422, f"{place}: {said[0].lower()}{said[1:]}")


def _listed(names: Iterable[str]) -> str:
    """Return the first names, cut and quoted, as they come from a client."""
    return ", ".join(repr(name[:30]) for name in islice(names, 3))


async def _internal_error(_: Request, __: Exception) -> JSONResponse:
    # the framework sends this from outside `MetricsMiddleware`, and then logs the error with its traceback
    answer = error_response(500, "the service failed; its log says why")
    answer.raw_headers += SECURITY_HEADERS
    return answer


# The application


def create_app(
    model: str | Path = "row", allow_origins: Sequence[str] = (), names: Sequence[str] = ()
) -> FastAPI:
    """Make the web application.

    Parameters
    ----------
    model
        As for `Predictor`. It is loaded when the application starts.
    allow_origins
        Of the pages elsewhere that a browser lets ask and read the answers, as "https://example.org"; "*":
        of all pages.
    names
        By which it may be asked, in lower case and without a port, as "localhost" and "[::1]"; a request that
        asks by another is answered with 421. Empty: any.

    Examples
    --------
    >>> from fastapi.testclient import TestClient
    >>> with TestClient(create_app()) as client:
    ...     client.get("/health").json()
    {'status': 'ok'}
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.predictor = Predictor(model, threads=1)  # requests run side by side already
        app.state.networks = {name: Predictor(name, threads=1) for name in OF_ONE_DIGIT}
        app.state.pool = ThreadPoolExecutor(THREADS, "predict")
        try:
            # beside them, numpy's own threads would only wait for each other, spinning
            with threadpool_limits(1, "blas"):
                yield
        finally:  # nobody waits for an answer any more, and a model whose loop never ends keeps its thread
            app.state.pool.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(
        title="digitsum",
        description="Reads handwritten digits and adds.",
        version=version("digitsum"),
        lifespan=lifespan,
        docs_url=None,  # the framework's own pages load scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,  # the names that generated clients take
    )
    app.state.metrics = Metrics()
    app.state.requests = app.state.bytes = 0  # that `LimitedRoute` holds
    app.include_router(limited_router)
    app.include_router(router)
    if allow_origins:
        app.add_middleware(CORSMiddleware, allow_origins=allow_origins, allow_methods=["GET", "POST"])
    app.add_middleware(AllowedHosts, names)
    app.add_middleware(MetricsMiddleware, app.state.metrics)
    app.add_exception_handler(StarletteHTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _internal_error)
    return app


def serve(
    model: str | Path = "row",
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    allow_origins: Sequence[str] = (),
) -> None:
    """Serve until the process is told to stop (TERM or INT); what was accepted is answered first.

    The process then ends, within `MAX_SECONDS`, whatever its threads still do: a model whose loop never ends
    doesn't keep it.

    Parameters
    ----------
    model, allow_origins
        As for `create_app`.
    host, port
        Where to listen; port 0: a free one. A loopback address, as 127.0.0.1 is, answers only to `host`, to
        localhost, 127.0.0.1 and [::1], and to the hosts of `allow_origins`, with any port: else a page
        elsewhere could have its own name lead there, and read the answers. "*" among these allows any name.
    workers
        Processes that answer.

    Raises
    ------
    InputError
        There is no such model, or a wrong origin.
    OSError
        The port is taken, or can't be listened at.
    """
    # what is wrong ends here, with one sentence, and not in each worker with a traceback
    Predictor(model)
    _check_origins(allow_origins)
    logging.getLogger("digitsum").setLevel(logging.ERROR)  # clients could fill the log with warnings
    listener = _listen(host, port)
    config = uvicorn.Config(
        partial(create_app, model, allow_origins, _names(listener, host, allow_origins)),
        factory=True,
        http=LimitedProtocol,
        ws="none",
        access_log=False,  # `/metrics` counts, and the page asks several times a second
        proxy_headers=False,  # nothing here asks who the client is
        workers=workers,
        timeout_graceful_shutdown=math.ceil(MAX_SECONDS),
    )
    message = "Uvicorn running on http://%s:%d (Press CTRL+C to quit)"
    logging.getLogger("uvicorn.error").info(message, _shown(host), listener.getsockname()[1])
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal that stopped it again, and that would look like a failure; `sys.exit`
        # would wait for threads
        signal.signal(number, lambda *_: os._exit(0))
    if workers == 1:
        uvicorn.Server(config).run([listener])
        return
    with TemporaryDirectory() as os.environ["PROMETHEUS_MULTIPROC_DIR"]:
        Multiprocess(config, [listener]).run()


def _check_origins(origins: Sequence[str]) -> None:
    """Refuse what no browser would name as the origin of a page, such as an address with a path."""
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"https?://[^/?#@\s]+", origin):
            raise InputError(f"an origin is like https://example.org, without a path, or *, not {origin}")


def _names(listener: socket.socket, host: str, origins: Sequence[str]) -> list[str]:
    """Return the names to answer to: none, which allows any, where other machines reach the address."""
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback or "*" in origins:
        return []
    hosts = [str(urlsplit(origin).hostname) for origin in origins]
    return [_shown(name.lower()) for name in (host, "localhost", "127.0.0.1", "::1", *hosts)]


def _shown(host: str) -> str:
    """Return a host as an address of the web has it."""
    return f"[{host}]" if ":" in host else host


def _listen(host: str, port: int) -> socket.socket:
    """Take the port: uvicorn, where it can't, says so in its log and ends the process."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = f"can't be listened at: {error.strerror}; choose another --host or --port"
        if error.errno == errno.EADDRINUSE:
            reason = "is taken by another program: choose another --port"
        raise OSError(f"{_shown(host)}:{port} {reason}") from error
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        listener.setsockopt(socket.SOL_SOCKET, option, BUFFER)  # which its connections inherit
    return listener
