"""The bounds on connections, over real sockets."""

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from inspect import getsource, signature
from pathlib import Path

import pytest
import uvicorn
from service import serving
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from digitsum.serving import app, limits

# What `LimitedProtocol` uses of a class that is private to uvicorn, beside what it overrides
READ = {"transport", "loop", "headers", "cycle"}
READ_OF_A_CYCLE = {"response_complete"}

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX: "
FORM = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: "
)
# a body without a picture: refused as soon as it is whole, without a prediction
ADDEND = b'--x\r\nContent-Disposition: form-data; name="addends"\r\n\r\n7\r\n--x--\r\n'
WHOLE = FORM + b"%d\r\n\r\n" % len(ADDEND) + ADDEND
LARGE = b"GET /swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"  # more than a megabyte

HANGS = 60.0  # seconds, many times what any wait here takes

Connect = Callable[..., socket.socket]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving() as address:
        yield int(address.rpartition(":")[2])


@pytest.fixture
def connect(port: int, caplog: pytest.LogCaptureFixture) -> Iterator[Connect]:
    opened = []

    def connect(sent: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port), timeout=HANGS)
        opened.append(connection)
        connection.sendall(sent)
        return connection

    yield connect
    for connection in opened:
        connection.close()
    until(lambda: not limits.LimitedProtocol._all)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def changes(protocol: type[HttpToolsProtocol], cycle: type[RequestResponseCycle]) -> list[str]:
    """Sentences about what isn't as `LimitedProtocol` takes it for granted."""
    own = vars(limits.LimitedProtocol).items()
    takes = {name: [*signature(method).parameters] for name, method in own if name[0] != "_"}
    said = []
    for name, expected in (takes | {"send_400_response": ["self", "msg"]}).items():
        method = getattr(protocol, name, None)
        if not method:
            said.append(f"{protocol.__name__}.{name} is gone")
        elif (found := [*signature(method).parameters]) != expected:
            said.append(f"{protocol.__name__}.{name} takes {', '.join(found)}, not {', '.join(expected)}")
    for kind, names in ((protocol, READ), (cycle, READ_OF_A_CYCLE)):
        assigned = set(re.findall(r"self\.(\w+)(?:: [^=\n]+)? = ", getsource(kind.__init__)))
        said += [f"{kind.__name__} has no {name}" for name in sorted(names - assigned)]
    return said


def test_uvicorns_private_class_is_what_the_limits_extend() -> None:
    remedy = f"in uvicorn {uvicorn.__version__}: mend limits.py, then the bound on uvicorn in pyproject.toml"
    assert not changes(HttpToolsProtocol, RequestResponseCycle), remedy


def test_what_changes_in_uvicorns_private_class_is_said() -> None:
    class Changed(HttpToolsProtocol):
        send_400_response = None  # type: ignore[assignment]

        def __init__(self) -> None:
            self.transport = None
            self.loop = None
            self.headers = None

        def on_header(self, name: bytes) -> None: ...  # type: ignore[override]

    assert changes(Changed, RequestResponseCycle) == [
        "Changed.on_header takes self, name, not self, name, value",
        "Changed.send_400_response is gone",
        "Changed has no cycle",
    ]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HANGS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def rest(connection: socket.socket) -> bytes:
    """All that still comes until the other side ends the connection."""
    parts = []
    try:
        while part := connection.recv(100_000):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def status(connection: socket.socket) -> int:
    return int(connection.recv(10_000).split()[1])


def trickle(connection: socket.socket) -> None:
    """Send a byte now and then until the other side ends the connection."""
    end = time.monotonic() + HANGS
    connection.settimeout(0.02)
    while time.monotonic() < end:
        try:
            connection.sendall(b"a")
            if not connection.recv(10_000):
                return
        except TimeoutError:
            pass
        except OSError:
            return
    raise AssertionError("the connection isn't ended")


WAITING = {
    "half a head": HALF,
    "half a body": FORM + b"1000\r\n\r\n",
    "half a body unasked for": HEALTH[:-2] + b"Content-Length: 1000\r\n\r\n",
}


@pytest.mark.parametrize("sent", [b"", *WAITING.values()], ids=["nothing", *WAITING])
def test_a_connection_that_is_still_is_ended(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(limits, "MAX_WAIT", 0.3)
    rest(connect(sent))


@pytest.mark.parametrize("sent", WAITING.values(), ids=WAITING)
def test_a_connection_that_trickles_is_ended(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(limits, "MAX_WAIT", 0.3)
    trickle(connect(sent))


def test_half_a_head_after_an_answer_is_ended(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_WAIT", 0.3)
    connection = connect(HEALTH)
    assert status(connection) == 200
    connection.sendall(HALF)
    trickle(connection)


def test_a_connection_that_asks_again_and_again_is_given_its_time_anew(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers, wait = [], limits.LimitedProtocol._wait

    def noted(connection: limits.LimitedProtocol) -> None:
        wait(connection)
        timers.append(connection._all[connection])

    monkeypatch.setattr(limits.LimitedProtocol, "_wait", noted)
    connection = connect()
    for request, answer in 3 * ((HEALTH, 200), (WHOLE + b"\r\n", 422)):  # as some clients end a body
        connection.sendall(request)
        assert status(connection) == answer
    until(lambda: len(timers) == 1 + 2 * 6)  # at first, then at the end of each head and of each answer
    assert [timer.cancelled() for timer in timers] == 12 * [True] + [False]


def test_a_connection_whose_answer_is_never_read_is_ended(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_WAIT", 0.3)
    connect(LARGE)
    until(lambda: bool(limits.LimitedProtocol._all))
    (served,) = limits.LimitedProtocol._all
    until(lambda: served.flow.write_paused)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # Linux says twice as much
        assert served.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, option) <= 300_000
    opened = {each.resolve() for each in Path("/proc/self/fd").glob("*")}
    assert not [file for file in opened if file.is_relative_to(app.SWAGGER)]
    until(lambda: not limits.LimitedProtocol._all)


def test_a_connection_that_is_lost_amid_its_answer_is_forgotten(connect: Connect) -> None:
    connection = connect(LARGE)
    until(lambda: any(each.flow.write_paused for each in limits.LimitedProtocol._all))
    connection.close()
    until(lambda: not limits.LimitedProtocol._all)
    time.sleep(0.1)  # in which the application goes on with its answer
    assert not limits.LimitedProtocol._all


@pytest.mark.parametrize(
    "sent",
    [
        HALF + b"a" * 100_000,
        b"GET /" + b"a" * 100_000,
        HEALTH[:-2] + 100 * b"X: y\r\n" + b"\r\n",
    ],
    ids=["a long line", "a long address", "many lines"],
)
def test_a_head_that_is_too_long_is_refused(connect: Connect, sent: bytes) -> None:
    connection = connect(sent)
    assert b"HTTP/1.1 400 Bad Request" in rest(connection)


def test_trailers_of_a_body_count_as_a_head(connect: Connect) -> None:
    head = HEALTH[:-2] + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    connection = connect(head)
    assert status(connection) == 200
    connection.sendall(b"0\r\nX: " + b"a" * 20_000)
    connection.sendall(b"a" * 20_000)
    assert b"HTTP/1.1 400 Bad Request" in rest(connection)


def test_a_request_before_the_answer_to_the_last_is_refused(connect: Connect) -> None:
    assert b"HTTP/1.1 400 Bad Request" in rest(connect(HEALTH + HEALTH))


def test_of_too_many_connections_the_one_that_is_still_the_longest_gives_way(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 3)
    asked, half, idle = connect(), connect(HALF), connect()
    until(lambda: len(limits.LimitedProtocol._all) == 3)
    asked.sendall(HEALTH)
    assert status(asked) == 200  # so the half head is now the oldest
    newest = connect(HEALTH)
    assert status(newest) == 200
    assert rest(half) == b""
    for connection in (asked, idle):
        connection.sendall(HEALTH)
        assert status(connection) == 200


def test_bodies_on_their_way_keep_no_other_request_out(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_REQUESTS", 1)
    for _ in range(5):
        connect(WHOLE[:-10])
    assert status(connect(WHOLE)) == 422


def test_bodies_that_hold_too_many_bytes_together_are_refused(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_BODIES", 2 * len(ADDEND))
    first, _second, third = (connect(WHOLE[:-10]) for _ in range(3))
    assert status(third) == 429
    first.close()
    until(lambda: len(limits.LimitedProtocol._all) == 2)
    assert status(connect(WHOLE)) == 422
