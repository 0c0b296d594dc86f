"""Make the trained networks that come with the package, each with its model card: `make weights`.

python benchmarks/weights.py exact concat [--runs runs/weights]

Their settings are those of the rows of that name in accuracy.py. `exact` is trained for longer, and beside
MNIST's training split on digits drawn from strokes (`strokes.py`) and on things that are no digit
(`outliers.py`). doubt.py, hands.py and ablation.py show what comes of that.
"""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from accuracy import ROWS, read_test_split

from digitsum import mnist
from digitsum.config import Config
from digitsum.evaluation import Evaluation
from digitsum.export import to_onnx
from digitsum.files import ASSETS
from digitsum.networks import load
from digitsum.training import Row, fit

CONFIGS = {
    "exact": replace(ROWS["exact"], epochs=40, hands=0.1, outliers=0.15),
    "concat": ROWS["concat"],
}
CARD = """# {name}: the trained {network} network that comes with digitsum

`digitsum.load("{name}")` gives it, offline. Inputs: images, uint8 [N, 1, 28, 28], 0 background, 255 ink;
addends, one-hot float32 [N, 10]. Outputs: log P(digit) [N, 10] and log P(sum) [N, 19].

- Made by `python benchmarks/weights.py {name}`; the settings are in `config.json`, the figures in full in
  `evaluation.json`.
- Data: {train_images:,} images of MNIST's training split, each distorted{damaged} anew every epoch. The
  official test split was neither trained on nor used to choose any setting.
{added}- Seed {seed}, {parameters:,} parameters, {minutes:.0f} minutes of training on one core.

On the official test split, {images:,} images x 10 addends:

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
nothing, and may be sure of it (`python benchmarks/doubt.py {name}`). The writers of MNIST were American
census staff and pupils around 1990; other hands are read less well (`python benchmarks/hands.py {name}`).
"""
ADDED = """- To each batch were added: digits drawn from strokes in the forms in which the world writes them,
  {hands:.0%} of it, and things that are no digit, {outliers:.0%} of it, for which all ten should be equally
  probable: scribbles, Latin and Cyrillic letters of fonts, rings that are dented or have strokes in them or
  around them, digits that are struck out, two digits in one frame, turned and
  mirrored digits, digits with their quarters shuffled.
"""


def main() -> None:
    """Train, measure and place what is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=CONFIGS)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    for name in options.names:
        run = options.runs / "weights" / name
        train(CONFIGS[name], run)
        place(name, run)


def train(config: Config, run: Path) -> None:
    """Train a run to its end, and say where it stands; a finished one is left as it is."""

    def show(row: Row) -> None:
        print(f"{run} epoch {row['epoch']}: {row['digit_accuracy']:.2%} held out", flush=True)

    fit(config, run, on_epoch=show)


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
        damaged=", and every other one damaged," if config.damage else "",
        added=ADDED.format(hands=config.hands, outliers=config.outliers) if config.outliers else "",
        **asdict(evaluation),
    )


if __name__ == "__main__":
    main()
