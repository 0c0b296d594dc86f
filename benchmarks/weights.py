"""Make the trained networks that come with the package, each with its model card: `make weights`.

python benchmarks/weights.py exact concat row [--runs runs]

Their settings are those of the rows of that name in accuracy.py. `exact` is trained for longer, in two
stages, and beside MNIST's training split on digits drawn from strokes (`strokes.py`), in the second stage on
more of them, and on non-digits (`non_digits.py`); its weights are the average of both stages'.
doubt.py, hands.py and ablation.py show what comes of that. `row` is trained with the settings of its
preset, then for 11 and for 15 epochs more.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import numpy as np
from accuracy import ROWS, read_test_split
from script import make_parser
from torch.optim.swa_utils import AveragedModel

from digitsum import mnist
from digitsum.config import PRESETS, Config
from digitsum.evaluation import Evaluation, RowEvaluation
from digitsum.export import to_onnx
from digitsum.files import WEIGHTS
from digitsum.networks import DigitSumNet, RowNet, load, load_row
from digitsum.runs import evaluate_on
from digitsum.training.calibration import calibrate
from digitsum.training.loop import fit
from digitsum.training.state import Row, load_parts

EXACT = replace(ROWS["exact"], epochs=40, synthetic_digits=0.1, non_digits=0.15)
STAGES = {  # each starts from the weights of the one before
    "exact": (EXACT, replace(EXACT, epochs=10, learning_rate=1.5e-3, synthetic_digits=0.3, seed=1)),
    "concat": (ROWS["concat"],),
    "row": (
        PRESETS["row"],
        *(replace(PRESETS["row"], epochs=n, learning_rate=2e-3, seed=i) for i, n in enumerate((11, 15), 1)),
    ),
}
CARD = """# {name}: the trained {network} network that comes with digitsum

`digitsum.load("{name}")` gives it, offline. Inputs: images, uint8 [N, 1, 28, 28], 0 background, 255 ink;
addends, one-hot float32 [N, 10]. Outputs: log P(digit) [N, 10] and log P(sum) [N, 19].

- Made by `python benchmarks/weights.py {name}`; the settings, of several stages those of the last, are in
  `config.json`, the figures in full in `evaluation.json`.
- Data: {train_images:,} images of MNIST's training split, each distorted anew every epoch{damaged}. The
  official test split was neither trained on nor used to choose any setting.
{added}- {epochs}.
- {parameters:,} parameters, {minutes:.0f} minutes of training on one core.

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
ADDED = """\
- To each batch were added: synthetic digits, drawn from stroke templates of many countries' handwriting,
  {synthetic_digits} of its size, and non-digits, {non_digits:.0%} of it, for which all ten should be equally
  probable: scribbles, Latin and Cyrillic letters of fonts, rings that are dented or have strokes in them or
  around them, digits that are struck out, two digits in one frame, turned and mirrored digits, digits with
  their quarters shuffled.
"""
ROW_CARD = """# row: the trained network of rows that comes with digitsum

`digitsum.load_row("row")` gives it, offline, and `Predictor("row")` reads pictures with it. Input: strips,
uint8 [N, 1, 32, W], 0 paper, 255 ink, as `digitsum.read_row` makes them. Output: log P(symbol) of each step
along them, [N, W / 4, 12]: the digits 0 to 9, a mark, nothing.

- Made by `python benchmarks/weights.py row`; the settings are in `config.json`, the figures in full in
  `evaluation.json`.
- Data: {drawn:,} synthetic rows an epoch, each drawn anew, in {epochs}, of
  {train_images:,} images of MNIST's training split and, {synthetic_digits:.0%} of the rows, of digits
  that are drawn from stroke templates (`strokes.py`); how they are written, joined, marked, ruled and
  damaged is in `rows.py` and `row_damage.py`. The official test split was neither trained on nor used to
  choose any setting.
- {parameters:,} parameters, {minutes:.0f} minutes of training on two cores that did other things as well.

On {rows:,} synthetic rows of the official test split and of new drawings:

| figure | share | 95 % interval |
|---|---|---|
| number right | {number_accuracy:.2%} | {number_ci95[0]:.2%} to {number_ci95[1]:.2%} |
| digits wrong, missing or too many | {digit_error_rate:.2%} | |
| uncertain | {uncertain:.2%} | |
| wrong and certain | {certain_and_wrong:.2%} | |
| calibration error of the number | {number_ece:.2%} | |

## Limits

Many of those rows are damaged as no picture that people bring is: how right it is on real ones is what
`python benchmarks/real.py` shows. It tells no mark from another, nor a Z from a 2 or a | from a 1.
"""


def main() -> None:
    """Train, measure and place what is named."""
    parser = make_parser(__doc__)
    parser.add_argument("names", nargs="+", choices=STAGES)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    options = parser.parse_args()
    for name in options.names:
        runs = [options.runs / "weights" / name / str(i) for i, _ in enumerate(STAGES[name], 1)]
        for config, run, start in zip(STAGES[name], runs, [None, *runs], strict=False):
            train(replace(config, start_from=start and str(start)), run)
        place(name, runs)


def train(config: Config, run: Path) -> None:
    """Train a run to its end, and say where it stands; a finished one is left as it is."""

    def show(row: Row) -> None:
        right = row.get("digit_accuracy", row.get("number_accuracy"))
        print(f"{run} epoch {row['epoch']}: {right:.2%} held out", flush=True)

    fit(config, run, on_epoch=show)


def average(name: str, runs: list[Path]) -> DigitSumNet:
    """Average the weights of all stages (Wortsman et al., 2021, arXiv:2109.01903), and calibrate that."""
    networks = [load(run) for run in runs]
    if len(networks) == 1:
        return networks[0]
    averaged = AveragedModel(networks[0], use_buffers=True)
    for network in networks:
        averaged.update_parameters(network)
    outcome = cast("DigitSumNet", averaged.module)
    outcome.config = networks[-1].config
    calibrate(outcome, load_parts(STAGES[name][-1])[1])
    return outcome


def place(name: str, runs: list[Path]) -> None:
    """Measure the network that was trained in these stages, and place it in the package."""
    network: DigitSumNet | RowNet
    evaluation: Evaluation | RowEvaluation
    if name == "row":
        network, evaluation = load_row(runs[-1]), evaluate_on(runs[-1], "mnist", "test")
        text = row_card(runs, evaluation)
    else:
        network = average(name, runs)
        evaluation = read_test_split(network)
        text = card(name, runs, evaluation)
    network.save_pretrained(WEIGHTS / name)
    evaluation.save(WEIGHTS / name / "evaluation.json")
    to_onnx(network, WEIGHTS / name / "model.onnx", evaluation)
    (WEIGHTS / name / "README.md").write_text(text)


def row_card(runs: list[Path], evaluation: Evaluation | RowEvaluation) -> str:
    """Write the model card of the network of rows."""
    stages = STAGES["row"]
    config = stages[-1]
    return ROW_CARD.format(
        epochs=f"{' + '.join(str(stage.epochs) for stage in stages)} epochs (seeds 0 to {config.seed})",
        drawn=config.rows,
        train_images=round(config.train_fraction * mnist.COUNTS["train"]),
        synthetic_digits=config.synthetic_digits,
        minutes=minutes(runs),
        **asdict(evaluation),
    )


def minutes(runs: list[Path]) -> float:
    """Return how long the epochs of all stages took."""
    logs = [np.genfromtxt(run / "metrics.csv", delimiter=",", names=True) for run in runs]
    return float(sum(log["seconds"].sum() for log in logs) / 60)


def card(name: str, runs: list[Path], evaluation: Evaluation) -> str:
    """Write the model card."""
    stages = STAGES[name]
    config, synthetic = stages[0], ", then ".join(f"{stage.synthetic_digits:.0%}" for stage in stages)
    return CARD.format(
        name=name,
        epochs=" and ".join(f"{stage.epochs} epochs (seed {stage.seed})" for stage in stages)
        + (", whose weights are averaged" if stages[1:] else ""),
        train_images=round(config.train_fraction * mnist.COUNTS["train"]),
        minutes=minutes(runs),
        damaged=", and every other one damaged" if config.damage else "",
        added=ADDED.format(synthetic_digits=synthetic, non_digits=config.non_digits)
        if config.non_digits
        else "",
        **asdict(evaluation),
    )


if __name__ == "__main__":
    main()
