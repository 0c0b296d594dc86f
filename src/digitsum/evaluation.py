"""How right a network is: every image with all ten addends, no sampling noise, totals before means."""

import json
import math
import operator
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import one_hot

from digitsum.data.pairs import Item
from digitsum.errors import InputError
from digitsum.files import read_json, replacing
from digitsum.networks import DigitSumNet
from digitsum.types import Array

TABLES = {
    "digit_ci95": (2,),
    "sum_ci95": (2,),
    "confusion": (10, 10),
    "sum_accuracy_by_digit_and_addend": (10, 10),
}
LARGEST = 1e30  # of a figure that is read again: larger ones can't be drawn
SHARES = ("digit_accuracy", "sum_accuracy", "joint_accuracy", "consistency")  # what a short account names
Batch = TypeVar("Batch")
BINS = 15  # of confidence, for the expected calibration error


@dataclass(frozen=True)
class Evaluation:
    """An exhaustive evaluation. A trial is one (image, addend) pair; accuracies are fractions.

    A run is calibrated on the images that it holds out (`calibrate`). On these the likelihoods and the
    calibration errors are therefore a little better than they would be on new images; nothing else is.

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

    def save(self, path: str | Path) -> None:
        """Write the evaluation as JSON, whole or not at all."""
        with replacing(Path(path)) as file:
            file.write_text(json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            It is missing or damaged.
        OSError
            It can't be read.
        """
        try:
            found = read_json(Path(path))
        except FileNotFoundError:
            raise InputError(f"{path} is missing: a training writes it at its end") from None
        names = {field.name for field in fields(cls)}
        if wrong := sorted(names ^ found.keys()):
            raise InputError(
                f"{path} isn't the file of an evaluation: {wrong[0]} "
                + ("is missing" if wrong[0] in names else "is no figure of one")
            )
        evaluation = cls(**found)
        if damaged := evaluation._damage():
            raise InputError(f"{path} isn't the file of an evaluation: {damaged}")
        # JSON has no tuples
        intervals: dict[str, Any] = {name: tuple(found[name]) for name in ("digit_ci95", "sum_ci95")}
        return replace(evaluation, **intervals)

    def _damage(self) -> str:
        """Return what of it no evaluation holds, "" if all is well."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in (int, float) and not _is_figure(value):
                return f"{field.name} isn't a number"
            if field.type is str and not isinstance(value, str):
                return f"{field.name} isn't text"
        for name, shape in TABLES.items():
            if not _is_table(getattr(self, name), shape, lacks=name == "sum_accuracy_by_digit_and_addend"):
                return f"{name} isn't {' x '.join(map(str, shape))} numbers from 0 on"
        return ""


def _is_table(value: Any, shape: tuple[int, ...], lacks: bool) -> bool:
    """Return whether lists in lists hold as many numbers from 0 on, or None where some may lack."""
    if not shape:
        return (lacks and value is None) or (_is_figure(value) and value >= 0)
    size, *rest = shape
    return (
        isinstance(value, list)
        and len(value) == size
        and all(_is_table(part, tuple(rest), lacks) for part in value)
    )


def _is_figure(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= LARGEST  # type: ignore[arg-type]  # NaN isn't


def evaluate(network: DigitSumNet, batches: Iterable[Item], data: str, split: str) -> Evaluation:
    """Try every image of `batches` with all ten addends; the addend that an item has plays no part.

    `data` and `split` say what the batches hold. The network comes back in the mode it had. A terminal shows
    how far it is.

    Raises
    ------
    InputError
        There is no image.
    FloatingPointError
        An answer isn't a finite number.
    """
    start = time.perf_counter()
    trials = run_trials(network, progress(batches, "evaluating"))
    return Tally.of(trials).evaluation(network, data, split, start)


def progress(
    batches: Iterable[Batch], words: str, total: int | None = None, shown: bool = True
) -> Iterable[Batch]:
    """Return the batches; a terminal shows beside the words how many of them were taken."""
    console = Console(stderr=True)
    disable = not (shown and console.is_terminal)
    return track(batches, words, total, transient=True, console=console, disable=disable)


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
        raise InputError("there is no image to evaluate")
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
    """Return the answer, its probability and the right one's negative log-likelihood, each [images, 10]."""
    confidence, answer = log_probabilities.exp().max(dim=1)
    nll = -log_probabilities.gather(1, right[:, None])
    return answer.view(-1, 10), confidence.view(-1, 10), nll.view(-1, 10)


class Tally(NamedTuple):
    """The counts and sums of some trials, all that an `Evaluation` is made of: those of parts can be added.

    Attributes
    ----------
    confusion, sum_right
        int64 [10, 10]: the trials by digit and predicted digit; those with the right sum by digit and addend.
    joint, consistent, misread, misadded
        How many trials are what the shares of these names in an `Evaluation` say.
    digit_nll, sum_nll
        The negative log-likelihoods of the right answers, nats, added up in float64.
    digit_bins, sum_bins
        float64 [15, 3]: what `_bins` gives of either output.
    """

    confusion: Array
    sum_right: Array
    joint: int
    consistent: int
    misread: int
    misadded: int
    digit_nll: float
    sum_nll: float
    digit_bins: Array
    sum_bins: Array

    @classmethod
    def none(cls) -> Self:
        """Return what no trials have."""
        counts, bins = np.zeros((10, 10), np.int64), np.zeros((BINS, 3))
        return cls(counts, counts, 0, 0, 0, 0, 0.0, 0.0, bins, bins)

    @classmethod
    def of(cls, trials: Trials) -> Self:
        """Count some trials."""
        label, digit_right, sum_right = trials.label[:, None], trials.digit_right, trials.sum_right
        confusion, by_addend = np.zeros((2, 10, 10), np.int64)
        np.add.at(confusion, (label, trials.digit), 1)
        np.add.at(by_addend, (label, np.arange(10)), sum_right)
        return cls(
            confusion,
            by_addend,
            int((digit_right & sum_right).sum()),
            int((trials.sum == trials.digit + np.arange(10)).sum()),
            int((~digit_right & ~sum_right).sum()),
            int((digit_right & ~sum_right).sum()),
            float(trials.digit_nll.sum(dtype=float)),
            float(trials.sum_nll.sum(dtype=float)),
            _bins(trials.digit_confidence, digit_right, BINS),
            _bins(trials.sum_confidence, sum_right, BINS),
        )

    def plus(self, other: Self) -> Self:
        """Return the counts and sums of both."""
        return type(self)._make(map(operator.add, self, other))

    def evaluation(self, network: DigitSumNet, data: str, split: str, start: float) -> Evaluation:
        """Make the evaluation, which began at `start` of `time.perf_counter`, of all images counted."""
        trials = int(self.confusion.sum())
        if not trials:
            raise InputError("there is no image to evaluate")
        images, of_digit = trials // 10, self.confusion.sum(axis=1) // 10
        digit_accuracy, sum_accuracy = np.trace(self.confusion) / trials, self.sum_right.sum() / trials
        return Evaluation(
            network=network.config["network"],
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            data=data,
            split=split,
            images=images,
            trials=trials,
            digit_accuracy=float(digit_accuracy),
            sum_accuracy=float(sum_accuracy),
            joint_accuracy=self.joint / trials,
            consistency=self.consistent / trials,
            misread=self.misread / trials,
            misadded=self.misadded / trials,
            digit_ci95=wilson_interval(digit_accuracy, images),
            sum_ci95=wilson_interval(sum_accuracy, images),
            digit_nll=self.digit_nll / trials,
            sum_nll=self.sum_nll / trials,
            digit_ece=_calibration_error(self.digit_bins),
            sum_ece=_calibration_error(self.sum_bins),
            confusion=self.confusion.tolist(),
            sum_accuracy_by_digit_and_addend=[
                (right / count).tolist() if count else [None] * 10
                for right, count in zip(self.sum_right, of_digit, strict=True)
            ],
            seconds=time.perf_counter() - start,
        )


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share of `count` (Wilson, 1927); `share * count` needs not be whole.

    Examples
    --------
    >>> [round(bound, 4) for bound in wilson_interval(0.99, 10_000)]
    [0.9879, 0.9918]
    """
    z = NormalDist().inv_cdf(0.975)
    centre = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    low, high = ((centre + sign * half) / (1 + z**2 / count) for sign in (-1, 1))
    return max(float(low), 0.0), min(float(high), 1.0)


def calibration_error(confidence: Array, right: Array) -> float:
    """Return the expected calibration error (Guo et al., 2017, arXiv:1706.04599).

    The mean distance between confidence and accuracy over the bins of `reliability`, weighted by how many
    trials fall into each.

    Examples
    --------
    >>> calibration_error(np.array([0.75, 0.75]), np.array([True, False]))
    0.25
    """
    return _calibration_error(_bins(confidence, right, BINS))


def _calibration_error(bins: Array) -> float:
    count, confidence, right = bins.T
    return float(np.abs(confidence - right).sum() / count.sum())


def reliability(confidence: Array, right: Array, bins: int = BINS) -> pd.DataFrame:
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
    table = _bins(confidence, right, bins)
    count, *sums = table[table[:, 0] > 0].T
    bound = (np.flatnonzero(table[:, 0]) + 1) / bins
    mean = {name: sum_ / count for name, sum_ in zip(("confidence", "accuracy"), sums, strict=True)}
    return pd.DataFrame({"bound": bound, "trials": count.astype(np.int64)} | mean)


def _bins(confidence: Array, right: Array, bins: int) -> Array:
    """Return how many trials fall into each bin, and the sums of their confidence and of the right ones."""
    confidence = confidence.ravel().astype(float)
    bin_ = np.ceil(confidence * bins).clip(1, bins).astype(np.int64) - 1
    weights = (None, confidence, right.ravel())
    return np.stack([np.bincount(bin_, weight, bins) for weight in weights], axis=1).astype(float)
