"""What does the service do under load? Lost and wrong answers, rates, latencies, its CPU time and memory.

python benchmarks/serving.py [--requests 5000] [--at-a-time 32] [--model row]

`digitsum serve` runs in a process of its own, and this one asks for one embedded image a request; then, a
fifth as often, for one drawn large on a page of 400 x 400, and for a number, five images in a row; then
three times at once for as many pages as a request may hold, clean and noisy. Every answer is compared with
`Predictor`'s.

The client is Python's http.client, which sends bodies made before: load generators compare no answers, and
a client that makes each body anew costs as much as the service. Its share of both processes' CPU time is
printed. CPU times and memory, the resident set, are as Linux tells them.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection, HTTPException
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
import pandas as pd
from pictures import encode
from PIL import Image
from script import make_parser, record

from digitsum import mnist
from digitsum.errors import InputError
from digitsum.prediction import Prediction, Predictor
from digitsum.serving.limits import MAX_PICTURES
from digitsum.types import Array, UInt8Array

IMAGES = 500  # different ones
PAGE = 400  # pixels, the side of a page
LENGTH = 5  # digits of a number
NOISE = 20  # grey levels of 255, the standard deviation
FULL = 3  # full requests at a time
TOLERANCE = 1e-5  # of a probability, which another number of threads may round otherwise


class Question(NamedTuple):
    """A request's body and content type, and the answers that are expected."""

    body: bytes
    kind: str
    expected: Sequence[Prediction]


class Reply(NamedTuple):
    """What came of a question: seconds, and the answers, None where there are none."""

    question: Question
    seconds: float
    answers: list[dict[str, Any]] | None


class Load(NamedTuple):
    """What came of many: the replies, their seconds, CPU seconds, and megabytes before, between and after."""

    replies: list[Reply]
    seconds: float
    server_cpu: float
    client_cpu: float
    memory: list[float]


def main() -> None:
    """Print what comes of each load, a column each."""
    parser = make_parser(__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--at-a-time", type=int, default=32)
    parser.add_argument("--model", default="row")
    options = parser.parse_args()
    rng, predictor = np.random.default_rng(0), Predictor(options.model)
    images = list(mnist.load().images[:IMAGES, 0])
    drawn = [page(image, rng) for image in images]
    pages = [each for each in drawn if is_one_digit(each, predictor)]
    noisy = [each + rng.normal(0, NOISE, each.shape) for each in pages[:MAX_PICTURES]]
    asked = {
        kind: [question([each], i % 10, predictor) for i, each in enumerate(pictures)]
        for kind, pictures in (("images", images), ("pages", pages))
    }
    if predictor.reads_rows:
        asked["numbers"] = [number(images[i : i + LENGTH], i, predictor) for i in range(0, IMAGES, LENGTH)]
    full = {
        f"{MAX_PICTURES} {kind}": [question(each, 7, predictor)]
        for kind, each in (("pages", pages[:MAX_PICTURES]), ("noisy", noisy))
    }
    with served(options.model) as (pid, port):
        loads = {
            name: bear(pid, port, each, options.requests // (1 if name == "images" else 5), options.at_a_time)
            for name, each in asked.items()
        } | {name: bear(pid, port, each, 2 * FULL, FULL) for name, each in full.items()}
    print(
        pd.DataFrame({name: figures(load) for name, load in loads.items()}).to_string(
            float_format="{:,.1f}".format
        )
    )


# What is asked


def page(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Draw an image, uint8 [28, 28], ten times as large, black on white, somewhere on a page."""
    top, left = rng.integers(0, PAGE - 280, 2)
    drawn = np.full((PAGE, PAGE), 255, np.uint8)
    large = Image.fromarray(255 - image).resize((280, 280))
    drawn[top : top + 280, left : left + 280] = np.asarray(large)
    return drawn


def is_one_digit(page: UInt8Array, predictor: Predictor) -> bool:
    """Return whether a page is read as one digit: a broken one may be several."""
    try:
        return len(predictor.predict_number(page, 0).digits) == 1
    except InputError:
        return False


def question(pictures: Sequence[Array], addend: int, predictor: Predictor) -> Question:
    """Make the request for some pictures, all with one addend."""
    sent = [encode(picture, "PNG") for picture in pictures]
    return request(sent, addend, [predictor.predict_number(picture, addend) for picture in sent])


def number(images: Sequence[UInt8Array], addend: int, predictor: Predictor) -> Question:
    """Make the request for a number: images in a row, three times as large, black on white."""
    row = np.hstack([np.pad(image, ((0, 0), (2, 2))) for image in images])
    sent = encode(np.pad(np.kron(255 - row, np.ones((3, 3))), 40, constant_values=255), "PNG")
    return request([sent], addend, [predictor.predict_number(sent, addend)])


def request(pictures: list[bytes], addend: int, expected: Sequence[Prediction]) -> Question:
    """Make the request's body."""
    parts = [("pictures", ("picture.png", picture)) for picture in pictures]
    made = httpx2.Request("POST", "http://127.0.0.1/predict", files=parts, data={"addends": str(addend)})
    return Question(made.read(), made.headers["Content-Type"], expected)


# The server and the load


@contextmanager
def served(model: str) -> Iterator[tuple[int, int]]:
    """Start the server on a free port, and return its process' number and its port."""
    command = [sys.executable, "-m", "digitsum", "serve", "--port", "0", "--model", model]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server,  # noqa: S603
        ThreadPoolExecutor(1) as pool,
    ):
        assert server.stderr
        try:
            said = (re.search(r"running on http://\S+:(\d+)", line) for line in server.stderr)
            port = next((int(found[1]) for found in said if found), None)
            if port is None:
                raise OSError("the server didn't start")
            pool.submit(server.stderr.read)  # a full pipe would stop the server
            yield server.pid, port
        finally:
            server.terminate()


def bear(pid: int, port: int, questions: list[Question], requests: int, at_a_time: int) -> Load:
    """Ask the questions again and again, on some connections at a time, in two halves."""
    replies: list[Reply] = []
    memory, start = [rss(pid)], (time.perf_counter(), cpu(pid), time.process_time())
    with ThreadPoolExecutor(at_a_time) as pool:
        for half in np.split(np.arange(requests // 2 * 2), 2):
            parts = np.array_split(half, at_a_time)
            replies += chain(*pool.map(partial(ask, port, questions), parts))
            memory.append(rss(pid))
    end = time.perf_counter(), cpu(pid), time.process_time()
    seconds, server, client = np.subtract(end, start).tolist()
    return Load(replies, seconds, server, client, memory)


def ask(port: int, questions: list[Question], numbers: Iterable[int]) -> list[Reply]:
    """Ask the questions with these numbers on one connection, each once and never again."""
    connection, replies = HTTPConnection("127.0.0.1", port, timeout=60), []
    for number in numbers:
        asked, answers, start = questions[number % len(questions)], None, time.perf_counter()
        try:
            connection.request("POST", "/predict", asked.body, {"Content-Type": asked.kind})
            answers = json.load(connection.getresponse())["predictions"]
        except (OSError, HTTPException, ValueError, KeyError) as error:
            print(f"lost: {error!r}", file=sys.stderr)
            connection.close()
        replies.append(Reply(asked, time.perf_counter() - start, answers))
    connection.close()
    return replies


def cpu(pid: int) -> float:
    """Return the CPU seconds that a process has used."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> float:
    """Return a process' resident memory in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


# What came of it


def figures(load: Load) -> dict[str, float]:
    """Return the rows of the table."""
    count, seconds = len(load.replies), [reply.seconds for reply in load.replies]
    median, high = np.quantile(seconds, (0.5, 0.99))
    start, middle, end = load.memory
    return {
        "requests": count,
        "lost": sum(reply.answers is None for reply in load.replies),
        "wrong": sum(map(is_wrong, load.replies)),
        "requests/s": count / load.seconds,
        "server's CPU, ms a request": 1000 * load.server_cpu / count,
        "client's share of CPU, %": 100 * load.client_cpu / (load.client_cpu + load.server_cpu),
        "latency, ms: p50": 1000 * median,
        "             p99": 1000 * high,
        "             largest": 1000 * max(seconds),
        "memory, MB:  start": start,
        "             middle": middle,
        "             end": end,
    }


def is_wrong(reply: Reply) -> bool:
    """Return whether there is an answer that isn't the predictor's."""
    return reply.answers is not None and not all(
        is_right(*each) for each in zip(reply.answers, reply.question.expected, strict=True)
    )


def is_right(answer: dict[str, Any], expected: Prediction) -> bool:
    """Compare an answer with the predictor's."""
    said, shares = expected.to_dict(), ("probability", "sum_probability")
    found, right = ([each[name] for name in shares] for each in (answer, said))
    same = all(answer[name] == said[name] for name in ("number", "sum"))
    return same and np.allclose(found, right, atol=TOLERANCE)


if __name__ == "__main__":
    record(main)
