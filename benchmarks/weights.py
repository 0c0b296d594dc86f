"""Make the trained networks that come with the package, each with its model card: `make weights`.

python benchmarks/weights.py exact concat [--runs runs/weights]

They are seed 0 of the rows of accuracy.py, trained on MNIST's training split only.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from accuracy import ROWS

from digitsum import mnist
from digitsum.evaluation import Evaluation, evaluate
from digitsum.networks import NETWORKS, DigitSumNet
from digitsum.pairs import DigitSumDataset, loader
from digitsum.training import fit

ASSETS = Path(__file__).parents[1] / "src" / "digitsum" / "assets"
CARD = """# {name}: the trained {network} network that comes with digitsum

`digitsum.load("{name}")` gives it, offline. Inputs: images, uint8 [N, 1, 28, 28], 0 background, 255 ink;
addends, one-hot float32 [N, 10]. Outputs: log P(digit) [N, 10] and log P(sum) [N, 19].

- Made by `python benchmarks/weights.py {name}`; the settings are in `config.json`, the figures in full in
  `evaluation.json`.
- Data: {train_images:,} images of MNIST's training split, each distorted anew every epoch. The official
  test split was neither trained on nor used to choose anything.
- Seed {seed}, {parameters:,} parameters, {minutes:.0f} minutes of training on 2 cores.

On the official test split, {images:,} images x 10 addends, read once:

| figure | share | 95 % interval |
|---|---|---|
| digit right | {digit_accuracy:.2%} | {digit_ci95[0]:.2%} to {digit_ci95[1]:.2%} |
| sum right | {sum_accuracy:.2%} | {sum_ci95[0]:.2%} to {sum_ci95[1]:.2%} |
| both right | {joint_accuracy:.2%} | |
| consistent | {consistency:.2%} | |
| calibration error, digit | {digit_ece:.2%} | |
| calibration error, sum | {sum_ece:.2%} | |

## Limits

It reads one digit that was prepared as MNIST's are: light ink on black, 20 pixels high or wide, centred by
mass in 28 x 28. A photo must be prepared first. It always answers with some digit, also for a letter or for
nothing. The writers were American census staff and pupils around 1990; other hands are read less well.
"""


def main() -> None:
    """Train, measure and place what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=NETWORKS)
    parser.add_argument("--runs", type=Path, default=Path("runs/weights"))
    options = parser.parse_args()
    for name in options.names:
        make(name, options.runs / name)


def make(name: str, run: Path) -> None:
    """Train a network, or take it from a finished run folder, and place it in the package."""
    for row in fit(ROWS[name], run):
        print(
            f"{name} epoch {row['epoch']}: held out {row['digit_accuracy']:.2%}, {row['sum_accuracy']:.2%}",
            flush=True,
        )
    network = DigitSumNet.from_pretrained(run)
    evaluation = evaluate(network, loader(DigitSumDataset(mnist.load("mnist", "test"))), "mnist", "test")
    network.save_pretrained(ASSETS / name)
    evaluation.save(ASSETS / name / "evaluation.json")
    (ASSETS / name / "README.md").write_text(card(name, run, evaluation))


def card(name: str, run: Path, evaluation: Evaluation) -> str:
    """Write the model card."""
    config = ROWS[name]
    log = np.genfromtxt(run / "metrics.csv", delimiter=",", names=True)
    return CARD.format(
        name=name,
        seed=config.seed,
        train_images=round(config.train_fraction * mnist.COUNTS["train"]),
        minutes=log["seconds"].sum() / 60,
        **asdict(evaluation),
    )


if __name__ == "__main__":
    main()
