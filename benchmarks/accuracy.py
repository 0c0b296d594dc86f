"""How right is each network? Several seeds, each read once on the official test split of MNIST.

python benchmarks/accuracy.py reference [--seeds 3] [--runs runs/accuracy]

The rows are the configs below, chosen on held-out training images. A run that is there is not trained again.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from script import make_parser, print_spread, record

from digitsum import mnist
from digitsum.config import Config
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.evaluation import SHARES, Evaluation, evaluate
from digitsum.networks import NETWORKS, DigitSumNet
from digitsum.training.loop import fit

REFERENCE = Config(data="mnist", augment=False, epochs=5)
EXACT = Config(
    data="mnist",
    train_fraction=0.98,
    damage=True,
    network="exact",
    epochs=32,
    learning_rate=4e-3,
    weight_decay=0.05,
    average=0.995,
)
ROWS = {
    "reference": REFERENCE,
    "concat": Config(data="mnist", train_fraction=0.98, width=48, epochs=16, average=0.995),
    "exact": EXACT,
    "exact-longer": replace(EXACT, damage=False, epochs=42),
    "exact-wide": replace(EXACT, width=40, epochs=36),
    "exact-from-sums": replace(EXACT, digit_weight=0.0, sum_weight=1.0),
    "concat-from-sums": replace(REFERENCE, digit_weight=0.0),
    "exact-plain": replace(EXACT, augment=False, damage=False, epochs=12),
    "exact-5000": replace(EXACT, data="mnist5k", damage=False, epochs=80),
    "tiny": replace(EXACT, damage=False, width=5, epochs=40),
    "smallest": replace(EXACT, damage=False, width=3, epochs=40),
    "too-small": replace(EXACT, damage=False, width=2, epochs=40),
}
FIGURES = (*SHARES, "digit_ece", "sum_ece")


def main() -> None:
    """Print a line a seed, then their mean and standard deviation."""
    parser = make_parser(__doc__)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"))
    options = parser.parse_args()
    config = ROWS[options.row]
    parameters = sum(weight.numel() for weight in NETWORKS[config.network](config.width).parameters())
    print(f"{options.row}: {parameters:,} parameters, {config.epochs} epochs of {config.data}")
    names = [*FIGURES, "sum, epoch 1*", "minutes"]
    print("seed" + "".join(f"{name.removesuffix('_accuracy'):>15}" for name in names))
    lines = []
    for seed in range(options.seeds):
        run = options.runs / options.row / f"seed{seed}"
        lines.append(measure(replace(config, seed=seed), run))
        _print(f"{seed:>4}", lines[-1])
    print_spread(lines, _print)
    print("* on the held-out images")


def measure(config: Config, run: Path) -> np.ndarray:
    """Train a run and read the official test split: figures in per cent, then minutes of training."""
    fit(config, run)
    log = np.genfromtxt(run / "metrics.csv", delimiter=",", names=True)
    evaluation = read_test_split(DigitSumNet.from_pretrained(run))
    figures = [getattr(evaluation, name) for name in FIGURES]
    return np.array(
        [*(100 * share for share in [*figures, log["sum_accuracy"][0]]), log["seconds"].sum() / 60]
    )


def read_test_split(network: DigitSumNet) -> Evaluation:
    """Evaluate a network on the official test split of MNIST."""
    return evaluate(network, loader(DigitSumDataset(mnist.load("mnist", "test"))), "mnist", "test")


def _print(name: str, values: np.ndarray) -> None:
    print(name + "".join(f"{value:15.3f}" for value in values), flush=True)


if __name__ == "__main__":
    record(main)
