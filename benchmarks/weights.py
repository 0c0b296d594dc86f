"""Make the trained networks that come with the package, each with its model card: `make weights`.

python benchmarks/weights.py exact concat [--runs runs/weights]

Each is a student of three exact networks, the seeds 0 to 2 of that row of accuracy.py: what the three read in
a distorted image, on average, takes the place of its label. All are trained on MNIST's training split only.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from accuracy import ROWS, read_test_split
from torch import Tensor

from digitsum import mnist
from digitsum.config import Config
from digitsum.evaluation import Evaluation
from digitsum.networks import DigitSumNet
from digitsum.training import Teacher, fit

ASSETS = Path(__file__).parents[1] / "src" / "digitsum" / "assets"
TEACHERS = 3
STUDENTS = {
    "exact": replace(ROWS["exact"], epochs=24),
    "concat": replace(ROWS["concat"], damage=True, epochs=12),
}
CARD = """# {name}: the trained {network} network that comes with digitsum

`digitsum.load("{name}")` gives it, offline. Inputs: images, uint8 [N, 1, 28, 28], 0 background, 255 ink;
addends, one-hot float32 [N, 10]. Outputs: log P(digit) [N, 10] and log P(sum) [N, 19].

- Made by `python benchmarks/weights.py {name}`; the settings are in `config.json`, the figures in full in
  `evaluation.json`.
- Data: {train_images:,} images of MNIST's training split, each distorted anew every epoch. The official
  test split was neither trained on nor used to choose anything.
- Taught by three exact networks, whose mean reading took the place of the digit's label.
- Seed {seed}, {parameters:,} parameters, {minutes:.0f} minutes of training on one core.

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
    parser.add_argument("names", nargs="+", choices=STUDENTS)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    members = []
    for seed in range(TEACHERS):
        run = options.runs / "accuracy" / "exact" / f"seed{seed}"
        train(replace(ROWS["exact"], seed=seed), run)
        members.append(DigitSumNet.from_pretrained(run).eval())
    for name in options.names:
        place(name, options.runs / "weights" / name, ensemble(members))


def ensemble(members: list[DigitSumNet]) -> Teacher:
    """Make one teacher of several exact networks: the mean of what they read."""

    def read(image: Tensor) -> Tensor:
        return torch.stack([member.encode(image).exp() for member in members]).mean(dim=0)

    return read


def train(config: Config, run: Path, teacher: Teacher | None = None) -> None:
    """Train a run to its end, and say where it stands; a finished one is left as it is."""
    for row in fit(config, run, teacher):
        print(f"{run} epoch {row['epoch']}: {row['digit_accuracy']:.2%} held out", flush=True)


def place(name: str, run: Path, teacher: Teacher) -> None:
    """Train a student, measure it and place it in the package."""
    train(STUDENTS[name], run, teacher)
    network = DigitSumNet.from_pretrained(run)
    evaluation = read_test_split(network)
    network.save_pretrained(ASSETS / name)
    evaluation.save(ASSETS / name / "evaluation.json")
    (ASSETS / name / "README.md").write_text(card(name, run, evaluation))


def card(name: str, run: Path, evaluation: Evaluation) -> str:
    """Write the model card."""
    config = STUDENTS[name]
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
