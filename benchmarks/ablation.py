"""What does each part of the training of the package's weights buy? `exact`, with and without it.

python benchmarks/ablation.py [--epochs 8] [--runs runs/ablation]

It is trained as weights.py does it, at a shorter schedule, whole and without one part each; one seed. All
figures are per cent. MNIST is the official test split; the others are those of doubt.py, hands.py and
robustness.py: the share of non-digits, of kinds never trained on, which get a certain answer; the share of
another country's digits that are right, and of the errors among them that are certain; the mean of all
corruptions.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import read_test_split
from doubt import measure as measure_doubt
from doubt import reported
from hands import measure as measure_hands
from robustness import CORRUPTIONS, corrupt
from robustness import measure as measure_corrupted
from script import make_parser, record
from weights import EXACT, train

from digitsum import mnist
from digitsum.data.digits import Digits
from digitsum.export import to_onnx
from digitsum.networks import DigitSumNet, load
from digitsum.prediction import Predictor
from digitsum.search import CERTAIN

WITHOUT: dict[str, dict[str, Any]] = {
    "everything": {},
    "without non-digits": {"non_digits": 0.0},
    "without synthetic digits": {"synthetic_digits": 0.0},
    "without damage": {"damage": False},
}
HEADS = ("MNIST", "uncertain", "non-digits: certain", "hands", "errors certain", "robustness")


def main() -> None:
    """Print a row for each training."""
    parser = make_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    options = parser.parse_args()
    print(f"| training | {' | '.join(HEADS)} |\n|---{'|---' * len(HEADS)}|")
    for name, change in WITHOUT.items():
        run = options.runs / name.replace(" ", "-")
        train(replace(EXACT, epochs=options.epochs, **change), run)
        cells = " | ".join(f"{100 * share:.2f}" for share in measure(run))
        print(f"| {name} | {cells} |", flush=True)


def measure(run: Path) -> tuple[float, ...]:
    """Return the shares of a row."""
    network, test = load(run), mnist.load("mnist", "test")
    to_onnx(network, run / "model.onnx")
    predictor = Predictor(run)
    digits, _ = predictor.probabilities(test.images, np.zeros(len(test.labels), np.int64))
    certain = [measure_doubt(predictor, things)[0] / len(things) for things in reported().values()]
    right, sure = measure_hands(predictor)
    return (
        read_test_split(network).digit_accuracy,
        float(np.mean(digits.max(axis=1) < CERTAIN)),
        float(np.mean(certain)),
        float(np.mean(right)),
        float(np.mean(sure[~right])),
        robustness(network, test),
    )


def robustness(network: DigitSumNet, test: Digits) -> float:
    """Return the mean accuracy of the digit over all corruptions and strengths."""
    images = torch.from_numpy(test.images)
    shares = [
        measure_corrupted([network], Digits(corrupt(images, name, strength).numpy(), test.labels))[0]
        for name, (_, strengths) in CORRUPTIONS.items()
        for strength in strengths
    ]
    return float(np.mean(shares)) / 100


if __name__ == "__main__":
    record(main)
