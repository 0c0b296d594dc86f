"""What do Dataset, sampler, DataLoader, Fabric, logging and checkpoints cost? An epoch beside a bare loop.

python benchmarks/throughput.py [--epochs 5]

Both train the same network on the same 48,000 images with the same optimizer and precision, in turn. The
epoch of `fit` contains the exhaustive evaluation of 12,000 held-out images and the writing of its files.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import nll_loss, one_hot

from digitsum import mnist
from digitsum.config import Config
from digitsum.networks import ConcatNet
from digitsum.pairs import DigitSumDataset
from digitsum.training import fit


def main() -> None:
    """Print the seconds of each epoch of both, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    config = Config(data="mnist", augment=False, epochs=options.epochs)
    train = DigitSumDataset(mnist.load("mnist"))
    seconds = []
    print("epoch  bare loop, s  fit, s")
    with tempfile.TemporaryDirectory() as folder:
        bare, ours = bare_epochs(train, config), fit(config, Path(folder))
        for epoch in range(1, options.epochs + 1):
            seconds.append((next(bare), next(ours)["seconds"]))
            print(f"{epoch:>5}  {seconds[-1][0]:12.2f}  {seconds[-1][1]:6.2f}", flush=True)
    print("median {:12.2f}  {:6.2f}".format(*np.median(seconds, axis=0)))


def bare_epochs(train: DigitSumDataset, config: Config) -> Iterator[float]:
    """Train on tensors, nothing else, and yield each epoch's seconds."""
    network = ConcatNet(config.width)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    addends = one_hot(train.addends, 10).float()
    while True:
        start = time.perf_counter()
        for batch in torch.randperm(48_000).split(config.batch_size):
            with torch.autocast("cpu", torch.bfloat16):
                log_digit, log_sum = network(train.images[batch], addends[batch])
            loss = nll_loss(log_digit, train.digits[batch]) + nll_loss(log_sum, train.sums[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield time.perf_counter() - start


if __name__ == "__main__":
    main()
