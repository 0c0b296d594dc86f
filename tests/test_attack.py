"""The service, attacked by a thousand connections, beside which it is asked as by honest clients."""

import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from digitsum import mnist
from digitsum.prediction import Predictor

CONNECTIONS = 1000
SECONDS = 10
FILES = 1024  # that the service may have open, as on most systems
PAUSE = 0.05  # seconds between two requests of the others
GROWTH = 100  # megabytes of the service's memory, several times what the bounds let it take

HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10000\r\n\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="addends"\r\n\r\n'


class Attack(NamedTuple):
    """What each connection sends at first, and then once a second, on a share of the connections."""

    first: bytes
    again: bytes
    share: float = 1.0


IDLE = Attack(b"", b"")
HALF_HEAD = Attack(b"GET /health" + HEAD + b"X: ", b"x")
ATTACKS = {
    "half a head, fewer": [HALF_HEAD._replace(share=0.5)],
    "half a head, and as many idle": [HALF_HEAD, IDLE],
    "half a body": [Attack(b"POST /predict" + HEAD + FORM + PART, b"x")],
    "never reads": [Attack(b"GET /swagger-ui-bundle.js" + HEAD + b"\r\n", b"\r\n")],
    "a head without an end": [Attack(b"GET /health" + HEAD + b"X: ", 20_000 * b"x")],
    "a thousand requests at once": [Attack(b"", 1000 * (b"GET /health" + HEAD + b"\r\n"))],
}


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The benchmark of the service, which starts it and compares its answers."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return import_module("serving")


@pytest.fixture
def _few_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
@pytest.mark.usefixtures("_few_files", "semaphores")
@pytest.mark.parametrize("attacks", ATTACKS.values(), ids=ATTACKS)
def test_others_are_answered_rightly_while_the_service_is_attacked(
    serving: Any, attacks: list[Attack]
) -> None:
    with serving.served("exact") as (pid, port), ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        replies, memory = list(others(serving, port, 2)), serving.rss(pid)
        running = [pool.submit(attack, port, each) for each in attacks]
        replies += others(serving, port, SECONDS)
        for each, opened in zip(attacks, running, strict=True):
            assert opened.result() >= CONNECTIONS * each.share
        assert serving.rss(pid) - memory < GROWTH
    assert len(replies) > SECONDS
    assert all(reply.answers is not None for reply in replies)
    assert not any(map(serving.is_wrong, replies))


def others(serving: Any, port: int, seconds: float) -> Iterator[Any]:
    """Ask as honest clients do, each on its own connection."""
    predictor, images = Predictor(threads=1), mnist.load().images[: serving.IMAGES, 0]
    questions = [serving.question([image], i % 10, predictor) for i, image in enumerate(images)]
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield from serving.ask(port, questions, [number])
        number += 1
        time.sleep(PAUSE)


# The attack, in a process of its own


def attack(port: int, what: Attack) -> int:
    """Hold the connections, and return how many were opened."""
    resource.setrlimit(resource.RLIMIT_NOFILE, 2 * resource.getrlimit(resource.RLIMIT_NOFILE)[1:])
    held: set[socket.socket] = set()
    opened, end = 0, time.monotonic() + SECONDS
    while (now := time.monotonic()) < end:
        for connection in [each for each in held if is_ended(each, what.again)]:
            held.remove(connection)
            connection.close()
        while len(held) < CONNECTIONS * what.share and time.monotonic() < now + 1:
            held.add(connect(port, what.first))
            opened += 1
        time.sleep(max(0, now + 1 - time.monotonic()))
    return opened


def connect(port: int, first: bytes) -> socket.socket:
    """Open a connection and send what the attack sends at first."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setblocking(False)
    is_ended(connection, first)
    return connection


def is_ended(connection: socket.socket, sent: bytes) -> bool:
    """Send once more, and tell whether the service has ended the connection."""
    try:
        connection.send(sent)
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
