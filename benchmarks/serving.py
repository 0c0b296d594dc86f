"""What does the service do under load? Lost and wrong answers, latencies, and its memory.

python benchmarks/serving.py [--requests 5000] [--at-a-time 32] [--model exact]

`digitsum serve` runs in a process of its own, and this one asks: each request is one embedded image with an
addend, and each answer is compared with what `Predictor` says. Memory is the server's resident set,
as Linux tells it.
"""

import argparse
import io
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import numpy as np
from PIL import Image

from digitsum import mnist
from digitsum.prediction import Predictor

IMAGES = 500  # different ones, asked for again and again
TOLERANCE = 1e-5  # of a probability, which another number of threads may round otherwise


class Reply(NamedTuple):
    """What came of one request: milliseconds, and the answer, None where there is none."""

    latency: float
    answer: dict[str, Any] | None


def main() -> None:
    """Print how many requests were lost or answered wrongly, latencies, the rate, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    parser.add_argument("--at-a-time", type=int, default=32)
    parser.add_argument("--model", default="exact")
    options = parser.parse_args()
    images = mnist.load().images[:IMAGES, 0]
    server, url = start(options.model)
    try:
        replies, memory, seconds = load(url, images, options.requests, options.at_a_time, server.pid)
    finally:
        server.terminate()
        server.communicate()
    report(replies, wrong(replies, images, Predictor(options.model)), seconds, memory)


def start(model: str) -> tuple[subprocess.Popen[str], str]:
    """Start the server on a free port, and give it and its address."""
    command = [sys.executable, "-m", "digitsum", "serve", "--port", "0", "--model", model]
    server = subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert server.stderr
    for line in server.stderr:
        if found := re.search(r"running on (http://\S+)", line):
            return server, found[1]
    raise OSError("the server didn't start")


def load(
    url: str, images: mnist.UInt8Array, requests: int, at_a_time: int, pid: int
) -> tuple[list[Reply], list[float], float]:
    """Ask in two halves, and give the replies, the memory before, between and after, and the seconds."""
    pictures = [png(image) for image in images]
    memory = [rss(pid)]
    replies: list[Reply] = []
    start = time.perf_counter()
    with httpx2.Client(base_url=url, timeout=60) as client, ThreadPoolExecutor(at_a_time) as pool:
        for half in (range(requests // 2), range(requests // 2, requests)):
            replies += pool.map(lambda i: ask(client, pictures[i % len(pictures)], i % 10), half)
            memory.append(rss(pid))
    return replies, memory, time.perf_counter() - start


def ask(client: httpx2.Client, picture: bytes, addend: int) -> Reply:
    """Ask once, and never again."""
    start = time.perf_counter()
    try:
        response = client.post("/predict", files={"pictures": picture}, data={"addends": addend})
        answer = response.raise_for_status().json()["predictions"][0]
    except httpx2.HTTPError as error:
        print(f"lost: {error}", file=sys.stderr)
        answer = None
    return Reply(1000 * (time.perf_counter() - start), answer)


def png(image: mnist.UInt8Array) -> bytes:
    """Write an image as a PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def rss(pid: int) -> float:
    """Give a process' resident memory in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def wrong(replies: list[Reply], images: mnist.UInt8Array, predictor: Predictor) -> int:
    """Count the answers that aren't the predictor's."""
    indices = np.arange(len(replies))
    expected = predictor.predict_all(images[indices % len(images)], indices % 10)
    return sum(
        reply.answer is not None
        and not (
            (reply.answer["digit"], reply.answer["sum"]) == (prediction.digit, prediction.sum)
            and np.allclose(reply.answer["sum_probabilities"], prediction.sum_probabilities, atol=TOLERANCE)
        )
        for reply, prediction in zip(replies, expected, strict=True)
    )


def report(replies: list[Reply], wrong: int, seconds: float, memory: list[float]) -> None:
    """Print the table."""
    latencies = [reply.latency for reply in replies]
    print(f"requests        {len(replies):9,}")
    print(f"lost            {sum(reply.answer is None for reply in replies):9,}")
    print(f"wrong           {wrong:9,}")
    print(f"requests/s      {len(replies) / seconds:9.1f}")
    print(
        "latency, ms     {:9.1f}  p50\n                {:9.1f}  p99".format(
            *np.quantile(latencies, (0.5, 0.99))
        )
    )
    for when, megabytes in zip(("start", "middle", "end"), memory, strict=True):
        print(f"memory, MB      {megabytes:9.1f}  {when}")


if __name__ == "__main__":
    main()
