"""How right a network is: every image with all ten addends, no sampling noise, totals before means."""

import json
import math
import operator
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import NormalDist
from types import NoneType
from typing import Any, NamedTuple, Self, TypeVar, get_args

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import one_hot

from digitsum.data.pairs import Item
from digitsum.data.rows import Strips
from digitsum.errors import InputError
from digitsum.files import read_json, replacing
from digitsum.networks import DigitSumNet, RowNet
from digitsum.search import CERTAIN, MARK, Reading, log_probability, plain_marks, read_steps
from digitsum.types import Array, UInt8Array

TABLES: dict[str, tuple[int | None, ...]] = {  # of any length where None
    "digit_ci95": (2,),
    "sum_ci95": (2,),
    "confusion": (10, 10),
    "sum_accuracy_by_digit_and_addend": (10, 10),
    "number_ci95": (2,),
    "accuracy_by_length": (None,),
}
LACKING = ("sum_accuracy_by_digit_and_addend", "accuracy_by_length")  # tables that may have gaps
LARGEST = 1e30  # of a figure that is read again: larger ones can't be drawn
SHARES = ("digit_accuracy", "sum_accuracy", "joint_accuracy", "consistency")  # what a short account names
ROW_SHARES = ("number_accuracy", "digit_error_rate", "uncertain", "certain_and_wrong")  # the same, of rows
Batch = TypeVar("Batch")
BINS = 15  # of confidence, for the expected calibration error


@dataclass(frozen=True)
class _Figures:
    """What evaluations of both kinds share: they are saved, and read again."""

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
        return replace(evaluation, **{name: tuple(found[name]) for name in names if name.endswith("_ci95")})

    def _damage(self) -> str:
        """Return what of it no evaluation holds, "" if all is well."""
        for field in fields(self):
            value, kinds = getattr(self, field.name), get_args(field.type) or (field.type,)
            if field.name in TABLES:
                if not _is_table(value, TABLES[field.name], lacks=field.name in LACKING):
                    size = " x ".join(str(length) for length in TABLES[field.name] if length)
                    return f"{field.name} isn't {size or 'a list of'} numbers from 0 on"
            elif str in kinds and not isinstance(value, str):
                return f"{field.name} isn't text"
            elif str not in kinds and not (_is_figure(value) or (NoneType in kinds and value is None)):
                return f"{field.name} isn't a number"
        return ""


@dataclass(frozen=True)
class Evaluation(_Figures):
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


@dataclass(frozen=True)
class RowEvaluation(_Figures):
    """How right a network of rows is, on synthetic rows of digits that it wasn't trained on.

    A row without a digit is read rightly where no digit is found. The sum is exact arithmetic on the number,
    so it is right where the number is.

    Attributes
    ----------
    network, parameters, data, split
        What was evaluated, and of which images the rows were made.
    rows
        How many.
    number_accuracy, number_ci95
        The share of rows of which the number is right, marks left out, and Wilson's 95 % interval.
    accuracy_by_length
        The same by how many digits a row has, from none on; None where no row has as many.
    digit_error_rate
        Digits that would have to be changed, put in or taken out to make the numbers right, by how many
        digits there are.
    uncertain, certain_and_wrong
        The shares of rows with an answer that is called uncertain, and that isn't and is wrong.
    number_nll
        Mean negative log-likelihood of the right number, whatever marks are among its digits, nats.
    number_ece
        Expected calibration error of the number's probability, 15 bins, of rows in which digits are found:
        whether it is right, with no marks that make another number of it. None where there is no such row.
    seconds
        How long the evaluation took.
    """

    network: str
    parameters: int
    data: str
    split: str
    rows: int
    number_accuracy: float
    number_ci95: tuple[float, float]
    accuracy_by_length: list[float | None]
    digit_error_rate: float
    uncertain: float
    certain_and_wrong: float
    number_nll: float
    number_ece: float | None
    seconds: float


def load_evaluation(path: str | Path) -> Evaluation | RowEvaluation:
    """Read what `save` wrote of either kind; raises what `Evaluation.load` does."""
    path = Path(path)
    is_of_rows = path.exists() and "rows" in read_json(path)
    return RowEvaluation.load(path) if is_of_rows else Evaluation.load(path)


class RowTrial(NamedTuple):
    """What a network of rows answered.

    Attributes
    ----------
    strip
        uint8 [32, W], with the paper that was put around it.
    number
        The digits that the row shows; none of a row without a digit.
    plain
        Whether there are digits, and no marks that make another number of them.
    reading
        What was read.
    nll
        The negative logarithm of the right number's probability, nats.
    """

    strip: UInt8Array
    number: list[int]
    plain: bool
    reading: Reading
    nll: float

    @property
    def right(self) -> bool:
        """Whether the number is right, marks left out."""
        return self.reading.digits == self.number

    @property
    def certain(self) -> bool:
        """Whether the answer isn't called uncertain."""
        return bool(self.reading.digits) and self.reading.probability >= CERTAIN

    @property
    def stands(self) -> bool:
        """Whether the number is right as it stands, with no marks that make another number of it."""
        return self.right and self.plain

    @property
    def misleads(self) -> bool:
        """Whether the answer is certain and wrong."""
        return self.certain and not self.stands


@torch.no_grad()
def run_rows(network: RowNet, batches: Iterable[Strips]) -> list[RowTrial]:
    """Read every row of `batches`. The network comes back in the mode it had."""
    device, training = next(network.parameters()).device, network.training
    network.eval()
    trials = []
    for batch in batches:
        # with float64 no symbol is impossible that is only improbable
        symbols = network(torch.as_tensor(batch.strips).to(device)).double().exp().cpu().numpy()
        labels = np.split(batch.symbols, batch.lengths.cumsum()[:-1])
        trials += [_try_row(*row) for row in zip(batch.strips[:, 0], symbols, labels, strict=True)]
    network.train(training)
    if not trials:
        raise InputError("there is no row to evaluate")
    if not all(math.isfinite(trial.nll) for trial in trials):
        raise FloatingPointError("the network's answers aren't finite: train it with a lower --learning-rate")
    return trials


def _try_row(strip: UInt8Array, steps: Array, label: Array) -> RowTrial:
    number = label[label < MARK].tolist()
    anywhere = np.ones(len(number) + 1, bool)
    marks = np.bincount(np.cumsum(label < MARK)[label == MARK], minlength=len(number) + 1) > 0
    plain = bool(number) and not (marks & ~plain_marks(number)).any()
    return RowTrial(strip, number, plain, read_steps(steps), -log_probability(steps, number, anywhere))


def evaluate_rows(network: RowNet, batches: Iterable[Strips], data: str, split: str) -> RowEvaluation:
    """Read every row of `batches`, and count how many are right and how many are certain.

    Each is looked at once; `Predictor` looks at some again. `data` and `split` say of which images the rows
    were made. A terminal shows how far it is.

    Raises
    ------
    InputError
        There is no row.
    FloatingPointError
        An answer isn't a finite number.
    """
    start = time.perf_counter()
    trials = run_rows(network, progress(batches, "evaluating"))
    right = np.array([trial.right for trial in trials])
    length = np.array([len(trial.number) for trial in trials])
    stands = np.array([trial.stands for trial in trials])
    probability = np.array([trial.reading.probability for trial in trials])
    found = np.array([bool(trial.reading.digits) for trial in trials])
    return RowEvaluation(
        network=network.name,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        data=data,
        split=split,
        rows=len(trials),
        number_accuracy=float(right.mean()),
        number_ci95=wilson_interval(float(right.mean()), len(trials)),
        accuracy_by_length=[
            float(right[length == n].mean()) if (length == n).any() else None
            for n in range(int(length.max()) + 1)
        ],
        digit_error_rate=sum(_edits(trial.reading.digits, trial.number) for trial in trials)
        / max(int(length.sum()), 1),
        uncertain=float(np.mean([not trial.certain for trial in trials])),
        certain_and_wrong=float(np.mean([trial.misleads for trial in trials])),
        number_nll=float(np.mean([trial.nll for trial in trials])),
        number_ece=calibration_error(probability[found], stands[found]) if found.any() else None,
        seconds=time.perf_counter() - start,
    )


def _edits(found: list[int], right: list[int]) -> int:
    """Count the digits to change, put in or take out (Levenshtein, 1966)."""
    costs = list(range(len(right) + 1))
    for i, digit in enumerate(found, start=1):
        before, costs[0] = costs[0], i
        for j, other in enumerate(right, start=1):
            before, costs[j] = costs[j], min(costs[j] + 1, costs[j - 1] + 1, before + (digit != other))
    return costs[-1]


def _is_table(value: Any, shape: tuple[int | None, ...], lacks: bool) -> bool:
    """Return whether lists in lists hold as many numbers from 0 on, or None where some may lack."""
    if not shape:
        return (lacks and value is None) or (_is_figure(value) and value >= 0)
    size, *rest = shape
    return (
        isinstance(value, list)
        and (size is None or len(value) == size)
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
