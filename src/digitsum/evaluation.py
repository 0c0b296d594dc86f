"""How right a network is: every image with all ten addends, no chance, no averages of averages."""

import json
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from digitsum.files import read_json, replacing
from digitsum.networks import DigitSumNet
from digitsum.pairs import Item

Array = npt.NDArray[Any]

SHARES = ("digit_accuracy", "sum_accuracy", "joint_accuracy", "consistency")  # what a short account names


@dataclass(frozen=True)
class Evaluation:
    """An exhaustive evaluation. A trial is one (image, addend) pair; accuracies are fractions.

    Attributes
    ----------
    network, parameters, data, split
        What was evaluated, and on which images.
    images, trials
        How many images, and ten times that.
    digit_accuracy, sum_accuracy, joint_accuracy
        The share of trials with the digit, the sum, both right.
    consistency
        The share of trials whose predicted sum is the predicted digit plus the addend.
    misread, misadded
        The shares of trials with a wrong sum because the digit was wrong, and although it was right.
    digit_ci95, sum_ci95
        Wilson's 95 % intervals over images: ten trials of one image aren't independent.
    digit_nll, sum_nll
        Mean negative log-likelihood of the right answer, nats.
    digit_ece, sum_ece
        Expected calibration error, 15 bins (Guo et al., 2017, arXiv:1706.04599).
    confusion
        [10][10] counts of trials, row: the digit, column: the predicted digit.
    sum_accuracy_by_digit_and_addend
        [10][10], row: the digit, column: the addend; None where no image has the digit.
    seconds
        How long the evaluation took.
    """

    network: str
    parameters: int
    data: str
    split: str
    images: int
    trials: int
    digit_accuracy: float
    sum_accuracy: float
    joint_accuracy: float
    consistency: float
    misread: float
    misadded: float
    digit_ci95: tuple[float, float]
    sum_ci95: tuple[float, float]
    digit_nll: float
    sum_nll: float
    digit_ece: float
    sum_ece: float
    confusion: list[list[int]]
    sum_accuracy_by_digit_and_addend: list[list[float | None]]
    seconds: float

    def save(self, path: Path) -> None:
        """Write the evaluation as JSON, whole or not at all."""
        with replacing(path) as file:
            file.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            It is missing or damaged.
        """
        try:
            evaluation = cls(**read_json(path))
            for field in fields(cls):
                if field.type in (int, float) and type(getattr(evaluation, field.name)) not in (int, float):
                    raise TypeError(f"{field.name} isn't a number")
            for table in (evaluation.confusion, evaluation.sum_accuracy_by_digit_and_addend):
                if np.asarray(table, float).shape != (10, 10):
                    raise TypeError("its tables aren't 10 x 10")
            return evaluation
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(f"{path} isn't the file of an evaluation: {error}") from error


def evaluate(network: DigitSumNet, batches: Iterable[Item], data: str, split: str) -> Evaluation:
    """Try every image of `batches` with all ten addends; the addend that an item was dealt plays no part.

    `data` and `split` say what the batches hold. The network comes back in the mode it had.

    Raises
    ------
    ValueError
        There is no image.
    FloatingPointError
        An answer isn't a finite number.
    """
    start = time.perf_counter()
    trials = run_trials(network, batches)
    return Evaluation(
        network=network.config["network"],
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        data=data,
        split=split,
        **_figures(trials),
        seconds=time.perf_counter() - start,
    )


class Trials(NamedTuple):
    """What a network answered. `label` is int64 [images], the others are [images, 10], a column an addend.

    Of the probabilities only the highest (`confidence`) and the right answer's (`nll`, its negative
    logarithm, nats) are kept: the memory needed is a fraction of the images' own.
    """

    label: Array
    digit: Array
    digit_confidence: Array
    digit_nll: Array
    sum: Array
    sum_confidence: Array
    sum_nll: Array

    @property
    def digit_right(self) -> Array:
        """Whether the digit is right, bool [images, 10]."""
        right: Array = self.digit == self.label[:, None]
        return right

    @property
    def sum_right(self) -> Array:
        """Whether the sum is right, bool [images, 10]."""
        right: Array = self.sum == self.label[:, None] + np.arange(10)
        return right


@torch.no_grad()
def run_trials(network: DigitSumNet, batches: Iterable[Item]) -> Trials:
    """Answer every image of `batches` with all ten addends, encoding it once, in float32."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    rows = []
    for (image, _), (label, _) in batches:
        label = label.to(device)
        log_digit, log_sum, digit, sum_ = answer_every_addend(network, image.to(device), label)
        row = (label, *_answers(log_digit, digit), *_answers(log_sum, sum_))
        rows.append([column.cpu().numpy() for column in row])
    network.train(training)
    if not rows:
        raise ValueError("there is no image to evaluate")
    trials = Trials(*map(np.concatenate, zip(*rows, strict=True)))
    if not (np.isfinite(trials.digit_nll).all() and np.isfinite(trials.sum_nll).all()):
        raise FloatingPointError("the network's answers aren't finite: train it with a lower --learning-rate")
    return trials


def answer_every_addend(
    network: DigitSumNet, image: Tensor, label: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Answer N images with all ten addends, image by image, encoding each once.

    Returns
    -------
    tuple
        log P(digit) [10 N, 10] and log P(sum) [10 N, 19]; the right digits and sums, int64 [10 N].
    """
    encoded = network.encode(image).repeat_interleave(10, dim=0)
    digit = label.repeat_interleave(10)
    addend = torch.arange(10, device=image.device).repeat(len(image))
    return *network.answer(encoded, one_hot(addend, 10).float()), digit, digit + addend


def _answers(log_probabilities: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give the answer, its probability and the right answer's negative log-likelihood, each [images, 10]."""
    confidence, answer = log_probabilities.exp().max(dim=1)
    nll = -log_probabilities.gather(1, right[:, None])
    return answer.view(-1, 10), confidence.view(-1, 10), nll.view(-1, 10)


def _figures(trials: Trials) -> dict[str, Any]:
    label, images = trials.label, len(trials.label)
    digit_right, sum_right = trials.digit_right, trials.sum_right
    digit_accuracy, sum_accuracy = digit_right.mean(), sum_right.mean()
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (label[:, None], trials.digit), 1)
    return {
        "images": images,
        "trials": 10 * images,
        "digit_accuracy": float(digit_accuracy),
        "sum_accuracy": float(sum_accuracy),
        "joint_accuracy": float((digit_right & sum_right).mean()),
        "consistency": float((trials.sum == trials.digit + np.arange(10)).mean()),
        "misread": float((~digit_right & ~sum_right).mean()),
        "misadded": float((digit_right & ~sum_right).mean()),
        "digit_ci95": wilson_interval(digit_accuracy, images),
        "sum_ci95": wilson_interval(sum_accuracy, images),
        "digit_nll": float(trials.digit_nll.mean(dtype=float)),
        "sum_nll": float(trials.sum_nll.mean(dtype=float)),
        "digit_ece": calibration_error(trials.digit_confidence, digit_right),
        "sum_ece": calibration_error(trials.sum_confidence, sum_right),
        "confusion": confusion.tolist(),
        "sum_accuracy_by_digit_and_addend": [
            sum_right[label == digit].mean(axis=0).tolist() if np.any(label == digit) else [None] * 10
            for digit in range(10)
        ],
    }


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Give the 95 % interval of a share of `count` (Wilson, 1927); `share * count` needs not be whole.

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson_interval(0.99, 10_000)]
    [0.9879, 0.9918]
    """
    z = NormalDist().inv_cdf(0.975)
    centre = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = ((centre + sign * half) / (1 + z**2 / count) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)


def calibration_error(confidence: Array, right: Array) -> float:
    """Give the expected calibration error (Guo et al., 2017, arXiv:1706.04599).

    The mean distance between confidence and accuracy over the bins of `reliability`, weighted by how many
    trials fall into each.

    Examples
    --------
    >>> calibration_error(np.array([0.75, 0.75]), np.array([True, False]))
    0.25
    """
    table = reliability(confidence, right)
    gap = table["trials"] * (table["confidence"] - table["accuracy"]).abs()
    return float(gap.sum() / table["trials"].sum())


def reliability(confidence: Array, right: Array, bins: int = 15) -> pd.DataFrame:
    """Compare confidence with accuracy in equally wide bins of confidence, (0, 1/15] to (14/15, 1].

    Parameters
    ----------
    confidence, right
        Of one shape: the probability of each answer, and whether it is right.

    Returns
    -------
    DataFrame
        A row a bin that isn't empty: its upper `bound`, its `trials`, their mean `confidence` and `accuracy`.

    Examples
    --------
    >>> reliability(np.array([0.75, 0.75, 0.3]), np.array([True, False, True]), bins=2)
       bound  trials  confidence  accuracy
    0    0.5       1        0.30       1.0
    1    1.0       2        0.75       0.5
    """
    trials = pd.DataFrame({"confidence": confidence.ravel().astype(float), "right": right.ravel()})
    trials["bound"] = np.ceil(trials["confidence"] * bins).clip(1, bins) / bins
    by_bin = trials.groupby("bound", as_index=False)
    return by_bin.agg(trials=("right", "size"), confidence=("confidence", "mean"), accuracy=("right", "mean"))
