"""What the service gives a client at most: bytes, seconds, and connections and requests at a time.

uvicorn and FastAPI have no such bounds. `LimitedProtocol` guards what comes before the application,
`LimitedRoute` the request inside it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.formparsers import MultiPartParser
from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# These fit each other: one slow core answers three requests at a time, each as full as may be, in time
# (Python's threads mostly share one). A picture that is all noise takes it up to 60 ms, so they take
# 3 * 50 * 60 ms = 9 s, half of MAX_SECONDS. As PNG, 50 such pictures of 400 x 400 have 8 MB.
MAX_BODY = 10_000_000  # bytes of a request
MAX_PICTURES = 50  # of a request
MAX_SECONDS = 20.0  # from the headers of a request to its answer
MAX_REQUESTS = 64  # whole ones that one process answers at a time
MAX_BODIES = 100_000_000  # bytes of all requests that one process holds at a time

MAX_WAIT = 25.0  # seconds for a head, and again from there to the end of the answer: more than MAX_SECONDS
MAX_HEAD = 32_768  # bytes
MAX_LINES = 100  # of a head, below its first
BUFFER = 131_072  # bytes that the system keeps of a connection each way: its own bound is megabytes
MAX_CONNECTIONS = 800  # a process may have 1,024 files open on most systems

# Pictures stay in memory, within the bounds above: the system's folder for temporary files may be full, or be
# one that can't be written to.
MultiPartParser.spool_max_size = MAX_BODY
FILE = b"filename="  # once in the head of each picture

# these warn of every malformed head and body, and a client could fill the log
logging.getLogger("uvicorn.error").addFilter(lambda record: record.levelno != logging.WARNING)
logging.getLogger("python_multipart").setLevel(logging.ERROR)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's connection, ended where the client sends or takes too slowly, or sends too much.

    It has `MAX_WAIT` seconds for the head of a request, and as many for the rest, up to the end of the
    answer. Where a process has more than `MAX_CONNECTIONS`, the one that took the longest over its step
    gives way.

    The class is private to uvicorn, so `pyproject.toml` bounds its version, and a test says what has changed.
    """

    _all: ClassVar[dict["LimitedProtocol", asyncio.TimerHandle]] = {}  # the one that took the longest first

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._unread = 0
        self._wait()
        if len(self._all) > MAX_CONNECTIONS:
            oldest = next(iter(self._all))
            oldest._wait_no_longer()
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Begin to wait for the rest."""
        self._wait()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next head."""
        self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        if not self.transport.is_closing():  # else what was left to send may not take longer than before
            self._wait_no_longer()
            self._all[self] = self.loop.call_later(MAX_WAIT, self.transport.abort)

    def _wait_no_longer(self) -> None:
        if timer := self._all.pop(self, None):
            timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Count what the parser holds back: a head that isn't complete, or what stands around a body."""
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_body(self, body: bytes) -> None:
        """Hand a part of the body on."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count anew."""
        self._unread = 0
        super().on_message_complete()

    # what these raise is answered with 400

    def on_message_begin(self) -> None:
        """Begin a head; uvicorn would queue any number of requests that come before the last one's answer."""
        if self.cycle and not self.cycle.response_complete:
            raise ValueError("a request before the answer to the last")
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a line of a head, or one that follows a body."""
        if len(self.headers) == MAX_LINES:
            raise ValueError("too many lines")
        super().on_header(name, value)


class _Body:
    """Hands a request's body on, and counts it: a length that the client declares proves nothing."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._state = request.app.state
        self._size = self._pictures = 0
        self._end = b""
        self.complete = False
        # one that is a little too long is read up to the bound, to see whether it is a single picture
        declared = request.headers.get("Content-Length", "")
        if declared.isdecimal() and float(declared) > MAX_BODIES:
            raise self._too_large()

    async def receive(self) -> Message:
        message = await self._receive()
        body = message.get("body", b"")
        self._size += len(body)
        self._state.bytes += len(body)
        self._pictures += (self._end + body).count(FILE)
        self._end = (self._end + body)[1 - len(FILE) :]  # where a next one may begin
        if not message.get("more_body", False) and not self.complete:
            self.complete = True
            self._state.requests += 1
        if self._size > MAX_BODY:
            raise self._too_large()
        if self._state.bytes > MAX_BODIES or self._state.requests > MAX_REQUESTS:
            raise HTTPException(429, "too many requests at a time; try again soon", {"Retry-After": "1"})
        return message

    def _too_large(self) -> HTTPException:
        what, remedy = ("picture", "a smaller one") if self._pictures == 1 else ("request", "fewer pictures")
        return HTTPException(413, f"the {what} has more than {MAX_BODY / 1e6:g} MB; send {remedy}")

    def let_go(self) -> None:
        self._state.bytes -= self._size
        self._state.requests -= self.complete


class LimitedRoute(APIRoute):
    """A route with a bound on the requests at a time, on the bytes and on the seconds of each.

    A request that is still on its way counts by its bytes alone, so that one sent slowly keeps no other out.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap what parses the body and calls the function."""
        handle = super().get_route_handler()

        async def within_limits(request: Request) -> Response:
            body = _Body(request)
            try:
                async with asyncio.timeout(MAX_SECONDS):
                    return await handle(Request(request.scope, body.receive))
            except TimeoutError as error:
                if body.complete:
                    raise HTTPException(
                        504, f"no answer in {MAX_SECONDS:g} seconds; send less at a time"
                    ) from error
                raise HTTPException(408, f"the request didn't arrive in {MAX_SECONDS:g} seconds") from error
            finally:
                body.let_go()

        return within_limits
