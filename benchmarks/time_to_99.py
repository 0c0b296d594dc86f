"""How soon are both outputs 99 % right? `digitsum train --preset fast` beside two well-known recipes.

python benchmarks/time_to_99.py [--seeds 10] [--beginner]

The seconds are those of training alone: reading the data and measuring on the official test split of MNIST
aren't counted. Each way has a process of its own, as what `fit` tells malloc would help the recipe too, and
they take turns. The recipes, written anew from their figures, answer with the digit only:

- fast recipe: convolution 24 of 5 x 5, pool, convolution 32 of 3 x 3, pool, linear 256, linear 10; Adam at
  0.01 with betas 0.7 and 0.9, one cycle, batches of 256, one epoch, float32.
- beginner's example (--beginner, minutes): convolutions 32 and 64 of 3 x 3, pool, dropout, linear 128,
  dropout, linear 10; Adadelta at 1 with a decay of 0.7 an epoch, batches of 64 from a loader that prepares
  image by image, float32; stopped after the epoch in which its digit is 99 % right, at the latest after 14.
"""

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from accuracy import read_test_split
from script import make_parser, record
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from digitsum import mnist
from digitsum.config import PRESETS
from digitsum.data.digits import Digits
from digitsum.networks import MEAN, STD, load
from digitsum.training.loop import fit

EPOCHS = 14  # of the beginner's example


def main() -> None:
    """Print each seed's seconds and accuracies, then their means and the ratio."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--beginner", action="store_true")
    options = parser.parse_args()
    print("      ------ preset fast ------   --- fast recipe ---")
    print("seed  seconds   digit       sum   seconds       digit")
    lines = []
    alone = partial(ProcessPoolExecutor, max_workers=1, mp_context=get_context("spawn"))
    with alone() as ours, alone() as theirs:
        for seed in range(options.seeds):
            lines.append([*ours.submit(preset, seed).result(), *theirs.submit(fast_recipe, seed).result()])
            print_line(f"{seed:>4}", lines[-1])
    print_line("mean", np.mean(lines, axis=0))
    medians = np.median(lines, axis=0)
    print(f"the recipe takes {medians[3] / medians[0]:.1f} times as long as the preset (medians)")
    if options.beginner:
        print("beginner's example, seconds in all and digit, %, after each epoch:")
        for seconds, digit in beginner(0):
            print(f"      {seconds:7.1f}  {digit:6.2f}", flush=True)
        print(f"it takes {seconds / medians[0]:.0f} times as long as the preset")


def print_line(name: str, figures: list[float] | np.ndarray) -> None:
    """Print a row of the table."""
    print("{}  {:7.2f}  {:6.2f}    {:6.2f}   {:7.2f}      {:6.2f}".format(name, *figures), flush=True)


def preset(seed: int) -> tuple[float, float, float]:
    """Train as `digitsum train --preset fast --seed SEED` does: seconds, digit and sum right, per cent."""
    with tempfile.TemporaryDirectory() as run:
        seconds = sum(row["seconds"] for row in fit(replace(PRESETS["fast"], seed=seed), Path(run)))
        evaluation = read_test_split(load(run))
    return seconds, 100 * evaluation.digit_accuracy, 100 * evaluation.sum_accuracy


def fast_recipe(seed: int) -> tuple[float, float]:
    """Train the fast recipe: seconds and digit right, per cent."""
    train, test = mnist.load("mnist"), mnist.load("mnist", "test")
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Conv2d(1, 24, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(24, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 5 * 5, 256), nn.ReLU(), nn.Linear(256, 10)),
    )
    images, labels = scale(torch.from_numpy(train.images)), torch.from_numpy(train.labels)
    batches = list(zip(images.split(256), labels.split(256), strict=True))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, betas=(0.7, 0.9))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=len(batches))
    start = time.perf_counter()
    for image, label in batches:
        optimizer.zero_grad()
        cross_entropy(network(image), label).backward()
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - start
    return seconds, digit_accuracy(network, test)


class PreparedOneByOne(Dataset[tuple[Tensor, int]]):
    """The usual data set: an item is one image, scaled when it is asked for."""

    def __init__(self, digits: Digits) -> None:
        self.digits = digits

    def __len__(self) -> int:
        return len(self.digits.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return scale(torch.from_numpy(self.digits.images[index])), int(self.digits.labels[index])


def beginner(seed: int) -> Iterator[tuple[float, float]]:
    """Train the beginner's example: seconds in all and digit right, per cent, after each epoch."""
    train, test = mnist.load("mnist"), mnist.load("mnist", "test")
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)),
        *(nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)),
    )
    batches = DataLoader(PreparedOneByOne(train), batch_size=64, shuffle=True)
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    seconds, digit = 0.0, 0.0
    for epoch in range(EPOCHS):
        network.train()
        start = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = 0.7**epoch
        for image, label in batches:
            optimizer.zero_grad()
            cross_entropy(network(image), label).backward()
            optimizer.step()
        seconds += time.perf_counter() - start
        digit = digit_accuracy(network.eval(), test)
        yield seconds, digit
        if digit >= 99:
            return


def scale(image: Tensor) -> Tensor:
    """Scale pixels as everyone does."""
    return (image.float() / 255 - MEAN) / STD


@torch.no_grad()
def digit_accuracy(network: nn.Module, digits: Digits) -> float:
    """Return the share of right digits, per cent."""
    answers = [network(scale(images)).argmax(dim=1) for images in torch.from_numpy(digits.images).split(500)]
    return 100 * (torch.cat(answers) == torch.from_numpy(digits.labels)).double().mean().item()


if __name__ == "__main__":
    record(main)
