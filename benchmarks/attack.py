"""Does the service answer others while it is attacked? Connections held, latencies, memory.

python benchmarks/attack.py [--connections 1000] [--seconds 60]

`digitsum serve` runs in a process of its own, which may have 1,024 files open, as on most systems. A second
process attacks it: it holds connections open, does on each once a second what the attack says, and opens an
ended one anew. Beside that, this process asks for the digit and the sum on an embedded image, twenty times a
second, each time on a connection of its own, and compares the answers with `Predictor`'s.

A row an attack: the connections that it opened in all, and the seconds that it could hold one at most; the
requests of the others, how many were lost or refused and how many answers wrong, and how long they took from
connecting to the answer; the service's share of a core, its memory, and what the system keeps for the
connections, of both ends, as Linux tells them. "Never reads" asks for a file of 1.4 MB.
"""

import argparse
import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from serving import IMAGES, Reply, ask, cpu, is_wrong, question, rss, served

from digitsum import mnist
from digitsum.prediction import Predictor

FILES = 1024  # that the service may have open
PAUSE = 0.05  # seconds between two requests of the others

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
    "none": [],
    "half a head, fewer": [HALF_HEAD._replace(share=0.5)],
    "half a head, and as many idle": [HALF_HEAD, IDLE],
    "half a body": [Attack(b"POST /predict" + HEAD + FORM + PART, b"x")],
    "never reads": [Attack(b"GET /swagger-ui-bundle.js" + HEAD + b"\r\n", b"\r\n")],
    "a head without an end": [Attack(b"GET /health" + HEAD + b"X: ", 20_000 * b"x")],
    "a thousand requests at once": [Attack(b"", 1000 * (b"GET /health" + HEAD + b"\r\n"))],
}


def main() -> None:
    """Print what comes of each attack, a row each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    rows = {name: bear(name, options.connections, options.seconds) for name in ATTACKS}
    print(pd.DataFrame(rows).T.to_string(float_format="{:,.1f}".format))


def bear(name: str, connections: int, seconds: float) -> dict[str, float]:
    """Start a service, attack it, ask it, and give the row of the table."""
    with served("exact") as (pid, port), ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        replies, memory, system = list(others(port, 2)), [rss(pid)], [buffers()]
        start = time.perf_counter(), cpu(pid)
        attacks = [
            pool.submit(attack, port, each, int(connections * each.share), seconds) for each in ATTACKS[name]
        ]
        replies = []
        for reply in others(port, seconds):
            replies.append(reply)
            memory.append(rss(pid))
            system.append(buffers())
        wall, used = time.perf_counter() - start[0], cpu(pid) - start[1]
        held = [each.result() for each in attacks] or [(0, 0.0)]
        memory.append(rss(pid))
    took = 1000 * np.array([reply.seconds for reply in replies])
    return {
        "opened": sum(opened for opened, _ in held),
        "held, s": max(longest for _, longest in held),
        "others": len(replies),
        "lost": sum(reply.answers is None for reply in replies),
        "wrong": sum(map(is_wrong, replies)),
        "ms: p50": np.median(took),
        "p99": np.quantile(took, 0.99),
        "largest": took.max(),
        "core, %": 100 * used / wall,
        "MB: before": memory[0],
        "most": max(memory),
        "after": memory[-1],
        "system's": max(system),
    }


def others(port: int, seconds: float) -> Iterator[Reply]:
    """Ask as honest clients do, each on its own connection."""
    predictor, images = Predictor(), mnist.load().images[:IMAGES, 0]
    questions = [question([image], i % 10, predictor) for i, image in enumerate(images)]
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield from ask(port, questions, [number])
        number += 1
        time.sleep(PAUSE)


def buffers() -> float:
    """Give the megabytes that the system keeps of connections."""
    (pages,) = re.findall(r"TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text())
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


# The attack, in a process of its own


def attack(port: int, what: Attack, connections: int, seconds: float) -> tuple[int, float]:
    """Hold the connections, and give how many were opened and the seconds that one was held at most."""
    resource.setrlimit(resource.RLIMIT_NOFILE, 2 * resource.getrlimit(resource.RLIMIT_NOFILE)[1:])
    held: dict[socket.socket, float] = {}
    opened, longest, end = 0, 0.0, time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        for connection in [each for each in held if is_ended(each, what.again)]:
            longest = max(longest, now - held.pop(connection))
            connection.close()
        while len(held) < connections and time.monotonic() < now + 1:
            held[connect(port, what.first)] = time.monotonic()
            opened += 1
        time.sleep(max(0, now + 1 - time.monotonic()))
    return opened, max([longest, *(time.monotonic() - since for since in held.values())])


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


if __name__ == "__main__":
    main()
