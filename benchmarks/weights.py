"""Make the trained networks that come with the package, each with its model card: `make weights`.

python benchmarks/weights.py exact concat [--runs runs/weights]

`exact` is a student of three exact networks, the seeds 0 to 2 of that row of accuracy.py: what the three
read in a distorted image, on average, takes the place of its label. `concat` is seed 0 of its row. All are
trained on MNIST's training split only. What the three teachers reach together is printed as well: a student
should not be expected to do better.
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
from digitsum.export import to_onnx
from digitsum.files import ASSETS
from digitsum.networks import DigitSumNet, ExactNet, load
from digitsum.training import Row, Teacher, fit

TEACHERS = 3
CONFIGS = {"exact": replace(ROWS["exact"], epochs=24), "concat": ROWS["concat"]}
CARD = """# {name}: the trained {network} network that comes with digitsum

`digitsum.load("{name}")` gives it, offline. Inputs: images, uint8 [N, 1, 28, 28], 0 background, 255 ink;
addends, one-hot float32 [N, 10]. Outputs: log P(digit) [N, 10] and log P(sum) [N, 19].

- Made by `python benchmarks/weights.py {name}`; the settings are in `config.json`, the figures in full in
  `evaluation.json`.
- Data: {train_images:,} images of MNIST's training split, each distorted anew every epoch. The official
  test split was neither trained on nor used to choose anything.
- Taught by {taught_by}.
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
    parser.add_argument("names", nargs="+", choices=CONFIGS)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    for name in options.names:
        run = options.runs / "weights" / name
        train(CONFIGS[name], run, make_teacher(options.runs / "accuracy") if name == "exact" else None)
        place(name, run)


class Ensemble(ExactNet):
    """Several exact networks as one: the mean of what they read, and the exact sum of that."""

    name = "ensemble"

    def __init__(self, members: list[DigitSumNet]) -> None:
        super().__init__(width=1)
        self.members = members

    def encode(self, image: Tensor) -> Tensor:
        """Give log P(digit)."""
        readings = [member.encode(image).exp() for member in self.members]
        return torch.stack(readings).mean(dim=0).log()


def make_teacher(runs: Path) -> Teacher:
    """Train the teachers, where they aren't there yet, and say how right they are together."""
    for seed in range(TEACHERS):
        train(replace(ROWS["exact"], seed=seed), runs / "exact" / f"seed{seed}")
    ensemble = Ensemble([load(runs / "exact" / f"seed{seed}") for seed in range(TEACHERS)])
    print(
        f"the teachers together: digit {read_test_split(ensemble).digit_accuracy:.2%} right on the test split"
    )
    return lambda image: ensemble.encode(image).exp()


def train(config: Config, run: Path, teacher: Teacher | None = None) -> None:
    """Train a run to its end, and say where it stands; a finished one is left as it is."""

    def show(row: Row) -> None:
        print(f"{run} epoch {row['epoch']}: {row['digit_accuracy']:.2%} held out", flush=True)

    fit(config, run, teacher, show)


def place(name: str, run: Path) -> None:
    """Measure a trained network and place it in the package."""
    network = load(run)
    evaluation = read_test_split(network)
    network.save_pretrained(ASSETS / name)
    evaluation.save(ASSETS / name / "evaluation.json")
    to_onnx(network, ASSETS / name / "model.onnx", evaluation)
    (ASSETS / name / "README.md").write_text(card(name, run, evaluation))


def card(name: str, run: Path, evaluation: Evaluation) -> str:
    """Write the model card."""
    config = CONFIGS[name]
    log = np.genfromtxt(run / "metrics.csv", delimiter=",", names=True)
    return CARD.format(
        name=name,
        seed=config.seed,
        train_images=round(config.train_fraction * mnist.COUNTS["train"]),
        minutes=log["seconds"].sum() / 60,
        taught_by=f"{TEACHERS} exact networks, whose mean reading replaced the label"
        if name == "exact"
        else "labels",
        **asdict(evaluation),
    )


if __name__ == "__main__":
    main()
