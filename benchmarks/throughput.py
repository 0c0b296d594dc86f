"""How much of the chip does training use, and what does loading cost? Three ways, side by side.

python benchmarks/throughput.py [--rounds 3] [--processes]

Three ways to feed the same training step, in turn, the quickest of several rounds each:

- bare: batches are gathered from tensors, nothing else
- loader: DigitSumDataset, SubsetRandomSampler and DataLoader, as `digitsum train` has them
- per sample: torch's DataLoader alone, which asks for one image at a time and collates them

"Share of the chip" is the time that the counted floating-point operations of the forward and backward pass
would take at the rate of a large bfloat16 matrix product, over the time that training took. Then: loading
alone, and the time and memory for 5,000, 60,000 and 600,000 images.

With --processes it is instead what an epoch of `exact` on the embedded images takes on one process and on
two, in turn, each with one core: the least of four epochs.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from script import make_parser, record
from timing import quickest
from torch.nn.functional import nll_loss, one_hot
from torch.utils.data import DataLoader, SubsetRandomSampler
from torch.utils.flop_counter import FlopCounterMode

from digitsum import mnist
from digitsum.config import Config
from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, Item, loader
from digitsum.networks import NETWORKS, DigitSumNet
from digitsum.training.optim import make_optimizer, set_rate

BATCH = 128
IMAGES = 12_800  # a round of training
SIZE = 3072  # of the matrices whose product is the chip's rate
Batches = Callable[[], Iterable[Item]]


def main() -> None:
    """Print three tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", action="store_true", help="one and two, in place of the three ways")
    options = parser.parse_args()
    if options.processes:
        print_speed_up(options.rounds)
    else:
        print_ways(options.rounds)


def print_ways(rounds: int) -> None:
    """Print the three tables of the ways to load."""
    dataset = DigitSumDataset(mnist.load("mnist"))
    ways: dict[str, Batches] = {
        "bare": lambda: bare(dataset),
        "loader": lambda: loader(dataset, BATCH, SubsetRandomSampler(range(IMAGES))),
        "per sample": lambda: per_sample(dataset),
    }
    rate = quickest([matrix_product], rounds)[0]
    print(f"bfloat16 matrix product: {2 * SIZE**3 / rate / 1e9:.0f} GFLOP/s\n")
    print("training      way          images/s  share of the chip  times bare")
    for name in ("exact", "concat", "fast"):
        network = NETWORKS[name]()
        ideal = flops(network, dataset) * rate / (2 * SIZE**3)  # seconds an image
        step = training_step(network)
        seconds = quickest([partial(run, step, way) for way in ways.values()], rounds)
        for way, second in zip(ways, seconds, strict=True):
            share = ideal * IMAGES / second
            print(
                f"{name:<12}  {way:<10}  {IMAGES / second:9.0f}  {share:17.0%}  {second / seconds[0]:10.2f}"
            )
    print("\nloading alone  images/s")
    seconds = quickest([partial(run, ignore, way) for way in ways.values()], rounds)
    for way, second in zip(ways, seconds, strict=True):
        print(f"{way:<13}  {IMAGES / second:8.0f}")
    print("\n images  addends, s  an epoch's loading, s  pixels, MB  memory beside them, MB")
    for count in (5_000, 60_000, 600_000):
        print("{:>7}  {:10.2f}  {:21.2f}  {:10.0f}  {:22.0f}".format(count, *scaling(count)), flush=True)


def print_speed_up(rounds: int) -> None:
    """Print what an epoch takes on one process and on two."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    print("seconds of an epoch, at least: one process, two, speed-up")
    for _ in range(rounds):
        for processes, least in seconds.items():
            least.append(epoch_seconds(processes))
        print("  ".join(f"{least[-1]:.2f}" for least in seconds.values()), end="  ")
        print(f"{seconds[1][-1] / seconds[2][-1]:.2f}", flush=True)
    print(f"of all: {min(seconds[1]) / min(seconds[2]):.2f}")


def epoch_seconds(processes: int) -> float:
    """Train `exact` for a few epochs with one core a process, and return the least seconds of one."""
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "digitsum", "train", "--network=exact", "--epochs=4"]
        subprocess.run(  # noqa: S603
            [*command, f"--out={run}", f"--devices={processes}"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return float(np.genfromtxt(run / "metrics.csv", delimiter=",", names=True)["seconds"].min())


def matrix_product() -> torch.Tensor:
    """Multiply two large matrices."""
    return torch.full((SIZE, SIZE), 0.5, dtype=torch.bfloat16) @ torch.full(
        (SIZE, SIZE), 0.5, dtype=torch.bfloat16
    )


def bare(dataset: DigitSumDataset) -> Iterator[Item]:
    """Gather batches from the tensors."""
    addends = one_hot(dataset.addends, 10).float()
    for batch in torch.randperm(IMAGES).split(BATCH):
        yield (dataset.images[batch], addends[batch]), (dataset.digits[batch], dataset.sums[batch])


def per_sample(dataset: DigitSumDataset) -> DataLoader[Item]:
    """Load image by image."""
    return DataLoader(dataset, BATCH, sampler=SubsetRandomSampler(range(IMAGES)))


def training_step(network: DigitSumNet) -> Callable[[Item], None]:
    """Make the function that trains with a batch, as `fit` does without distortions."""
    optimizer = make_optimizer(network, Config(network=network.name))  # type: ignore[arg-type]
    set_rate(optimizer, 1e-3)

    def step(batch: Item) -> None:
        (image, addend), (digit, sum_) = batch
        with torch.autocast("cpu", torch.bfloat16):
            log_digit, log_sum = network(image, addend)
        loss = nll_loss(log_digit, digit) + Config.sum_weight * nll_loss(log_sum, sum_)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def flops(network: DigitSumNet, dataset: DigitSumDataset) -> float:
    """Count the floating-point operations of the forward and backward pass of one image."""
    (image, addend), (digit, sum_) = dataset[:BATCH]
    with FlopCounterMode(display=False) as counter:
        log_digit, log_sum = network(image, addend)
        (nll_loss(log_digit, digit) + nll_loss(log_sum, sum_)).backward()
    total: int = counter.get_total_flops()
    return total / BATCH


def run(action: Callable[[Item], object], batches: Batches) -> None:
    """Do something with each batch."""
    for batch in batches():
        action(batch)


def ignore(batch: Item) -> None:
    """Do nothing."""


def scaling(count: int) -> tuple[float, float, float, float]:
    """Assign addends and load images: seconds of both, megabytes of pixels and of what is beside them."""
    digits = mnist.load()
    images = np.resize(digits.images, (count, 1, 28, 28))
    labels = np.resize(digits.labels, count)
    before, start = peak_memory(), time.perf_counter()
    dataset = DigitSumDataset(Digits(images, labels))
    assigned = time.perf_counter()
    for batch in loader(dataset, BATCH, SubsetRandomSampler(range(count))):
        ignore(batch)
    return assigned - start, time.perf_counter() - assigned, images.nbytes / 1e6, peak_memory() - before


def peak_memory() -> float:
    """Return the most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    record(main)
