"""How fast are the answers? Predictor beside torch, the exhaustive evaluation, and the cold start.

python benchmarks/inference.py [--rounds 5]

Everything is timed in turn, `exact` and `concat` as they come with the package. A prediction is one image, an
array, with its addend; torch answers in eager mode, in float32, on all cores.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from script import make_parser, record
from timing import quickest
from torch.nn.functional import one_hot

from digitsum import mnist
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.evaluation import evaluate
from digitsum.networks import DigitSumNet, load
from digitsum.prediction import Predictor

NETWORKS = ("exact", "concat")
BATCHES = (1, 64, 1024)
SINGLE = 1000  # predictions of one image


def main() -> None:
    """Print four tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    for name in NETWORKS:
        print_answers(name, rounds)
    print("\nexhaustive evaluation, 100,000 trials, beside 10,000 forward passes")
    for name in NETWORKS:
        passes, trials = quickest(exhaustive(load(name)), rounds)
        print(f"{name:<22} {trials:.2f} s beside {passes:.2f} s, {trials / passes:.2f} times")
    print("\ncold start, a fresh process")
    for command, seconds in cold_starts(rounds):
        print(f"{command:<40} {seconds:.2f} s")


def print_answers(name: str, rounds: int) -> None:
    """Print the latencies of single predictions, and the images per second of batches."""
    images = mnist.load().images
    addends = np.arange(len(images)) % 10
    ways = {
        "Predictor, 1 thread": Predictor(name, threads=1).probabilities,
        "Predictor, 2 threads": Predictor(name, threads=2).probabilities,
        "torch": torch_answers(load(name)),
    }
    table = [np.percentile(latencies(answer, images, addends), [50, 99]) for answer in ways.values()]
    speeds = [
        size
        / np.array(
            quickest([partial(answer, images[:size], addends[:size]) for answer in ways.values()], rounds)
        )
        for size in BATCHES
    ]
    print(f"\n{name:<22} p50, ms  p99, ms" + "".join(f"  images/s at {size:>4}" for size in BATCHES))
    for way, (p50, p99), *speed in zip(ways, table, *speeds, strict=True):
        print(f"{way:<22} {p50:7.2f}  {p99:7.2f}" + "".join(f"  {each:16.0f}" for each in speed))


def torch_answers(network: DigitSumNet) -> Callable[[np.ndarray, np.ndarray], object]:
    """Make the function that answers as `Predictor.probabilities` does, with torch."""

    @torch.no_grad()
    def answer(images: np.ndarray, addends: np.ndarray) -> object:
        addend = one_hot(torch.from_numpy(addends), 10).float()
        return [output.exp().numpy() for output in network(torch.from_numpy(images), addend)]

    return answer


def latencies(
    answer: Callable[[np.ndarray, np.ndarray], object], images: np.ndarray, addends: np.ndarray
) -> list[float]:
    """Time predictions of one image after the other, milliseconds, without the first ten."""
    seconds = []
    for i in range(SINGLE + 10):
        start = time.perf_counter()
        answer(images[i : i + 1], addends[i : i + 1])
        seconds.append(time.perf_counter() - start)
    return [1000 * second for second in seconds[10:]]


def exhaustive(network: DigitSumNet) -> tuple[Callable[[], object], Callable[[], object]]:
    """Make the two functions to compare: plain forward passes, and all ten addends of each image."""
    dataset = DigitSumDataset(mnist.load("mnist", "test"))

    @torch.no_grad()
    def forward() -> None:
        for (image, addend), _ in loader(dataset):
            network(image, addend)

    return forward, lambda: evaluate(network, loader(dataset), "mnist", "test")


def cold_starts(rounds: int) -> list[tuple[str, float]]:
    """Time commands in fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "digit.png"
        Image.fromarray(mnist.load().images[0, 0]).save(picture)
        python = Path(sys.executable)
        commands = {
            "python -c 'import digitsum'": [python, "-c", "import digitsum"],
            "digitsum --help": [python.with_name("digitsum"), "--help"],
            "digitsum predict digit.png --addend 7": [
                *(python.with_name("digitsum"), "predict", picture, "--addend", "7")
            ],
        }
        actions = [
            partial(subprocess.run, command, check=True, capture_output=True) for command in commands.values()
        ]
        return list(zip(commands, quickest(actions, rounds), strict=True))


if __name__ == "__main__":
    record(main)
