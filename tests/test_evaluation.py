import io
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.errors import InputError
from digitsum.evaluation import (
    Evaluation,
    Tally,
    calibration_error,
    evaluate,
    reliability,
    run_trials,
    wilson_interval,
)
from digitsum.networks import NETWORKS, DigitSumNet


class Told(nn.Module):
    """A network that answers what it is told for each image and addend, and counts its encodings.

    An image's first pixel is its number; `log_digit` is [images, 10, 10] and `log_sum` [images, 10, 19].
    """

    def __init__(self, log_digit: Tensor, log_sum: Tensor) -> None:
        super().__init__()
        self.config = {"network": "told"}
        self.log_digit, self.log_sum = nn.Parameter(log_digit), nn.Parameter(log_sum)
        self.encoded = 0

    def encode(self, image: Tensor) -> Tensor:
        self.encoded += len(image)
        return image[:, 0, 0, 0]

    def answer(self, number: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        return self.log_digit[number.int(), addend.argmax(1)], self.log_sum[number.int(), addend.argmax(1)]


def numbered(labels: list[int]) -> DigitSumDataset:
    images = np.zeros((len(labels), 1, 28, 28), np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels))
    return DigitSumDataset(Digits(images, np.array(labels)))


def sure(answers: list[list[int]], classes: int) -> Tensor:
    return log_softmax(50.0 * nn.functional.one_hot(torch.tensor(answers), classes), dim=2)


@pytest.fixture
def undecided() -> Told:
    return Told(torch.zeros(5, 10, 10), torch.zeros(5, 10, 19))


def test_evaluation_of_a_case_made_by_hand() -> None:
    """A 3 is read as 3 and added right but for addend 9; an 8 is read as 6 and its sum follows the 6."""
    told = Told(
        sure([[3] * 10, [6] * 10], 10),
        sure([[*range(3, 12), 11], list(range(6, 16))], 19),
    )
    result = evaluate(told, loader(numbered([3, 8])), "numbered", "all")
    assert (result.network, result.data, result.split) == ("told", "numbered", "all")
    assert (result.images, result.trials, result.parameters) == (2, 20, 2 * 10 * 29)
    assert result.digit_accuracy == 0.5
    assert result.sum_accuracy == 0.45
    assert result.joint_accuracy == 0.45
    assert result.consistency == 0.95
    assert result.misread == 0.5
    assert result.misadded == 0.05
    assert result.confusion[3] == [0, 0, 0, 10, 0, 0, 0, 0, 0, 0]
    assert result.confusion[8] == [0, 0, 0, 0, 0, 0, 10, 0, 0, 0]
    table = result.sum_accuracy_by_digit_and_addend
    assert table[3] == [1.0] * 9 + [0.0]
    assert table[8] == [0.0] * 10
    assert table[5] == [None] * 10


def test_evaluation_agrees_with_scikit_learn() -> None:
    random = torch.Generator().manual_seed(0)
    labels = np.random.default_rng(0).integers(0, 10, 60)
    told = Told(
        log_softmax(2 * torch.randn(60, 10, 10, generator=random), dim=2),
        log_softmax(2 * torch.randn(60, 10, 19, generator=random), dim=2),
    )
    result = evaluate(told, loader(numbered(labels.tolist()), batch_size=7), "numbered", "all")

    digit, sum_ = np.repeat(labels, 10), np.add.outer(labels, np.arange(10)).ravel()
    digit_p = told.log_digit.detach().exp().double().view(600, 10)
    sum_p = told.log_sum.detach().exp().double().view(600, 19)
    digit_p, sum_p = (p / p.sum(1, keepdim=True) for p in (digit_p, sum_p))
    assert result.digit_accuracy == pytest.approx(accuracy_score(digit, digit_p.argmax(1)))
    assert result.sum_accuracy == pytest.approx(accuracy_score(sum_, sum_p.argmax(1)))
    assert result.digit_nll == pytest.approx(log_loss(digit, digit_p), rel=1e-5)
    assert result.sum_nll == pytest.approx(log_loss(sum_, sum_p, labels=range(19)), rel=1e-5)
    assert result.confusion == confusion_matrix(digit, digit_p.argmax(1)).tolist()


def test_each_image_is_encoded_once_for_its_ten_addends_and_the_mode_is_left(undecided: Told) -> None:
    for training in (True, False):
        undecided.train(training)
        trials = run_trials(undecided, loader(numbered([1, 2, 3, 4, 5]), batch_size=2))
        assert trials.sum.shape == (5, 10)
        assert undecided.training is training
    assert undecided.encoded == 2 * 5


def test_evaluation_is_deterministic_and_ignores_the_assigned_addends(digits: Digits) -> None:
    told = Told(torch.randn(256, 10, 10), torch.randn(256, 10, 19))
    first, second = DigitSumDataset(digits, seed=1), DigitSumDataset(digits, seed=2)
    assert not torch.equal(first.addends, second.addends)
    for a, b in zip(run_trials(told, loader(first)), run_trials(told, loader(second)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("network", NETWORKS.values())
def test_a_process_s_part_of_the_images_may_be_none_but_not_that_of_all(network: type[DigitSumNet]) -> None:
    none = (
        (torch.zeros(0, 1, 28, 28), torch.zeros(0, 10)),
        (torch.zeros(0, dtype=int), torch.zeros(0, dtype=int)),
    )
    assert run_trials(network(width=1), [none]).sum.shape == (0, 10)
    with pytest.raises(InputError, match=r"^there is no image to evaluate$"):
        run_trials(network(width=1), [])
    with pytest.raises(InputError, match=r"^there is no image to evaluate$"):
        Tally.none().evaluation(network(width=1), "data", "all", 0)


def test_evaluation_of_answers_that_are_not_finite_is_refused() -> None:
    told = Told(torch.zeros(1, 10, 10), torch.full((1, 10, 19), math.nan))
    with pytest.raises(FloatingPointError, match=r"^the network's answers aren't finite: "):
        run_trials(told, loader(numbered([0])))


def test_evaluation_is_saved_as_json(undecided: Told, tmp_path: Path) -> None:
    result = evaluate(undecided, loader(numbered([4])), "numbered", "all")
    result.save(str(tmp_path / "evaluation.json"))
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert (saved["trials"], saved["confusion"][4][0]) == (10, 10)
    assert Evaluation.load(str(tmp_path / "evaluation.json")) == result


TABLE = "isn't 10 x 10 numbers from 0 on"


@pytest.mark.parametrize(
    ("figure", "value", "why"),
    [
        ("trials", "ten", "isn't a number"),
        ("digit_accuracy", 10**400, "isn't a number"),
        ("sum_accuracy", math.nan, "isn't a number"),
        ("joint_accuracy", True, "isn't a number"),
        ("network", ["exact"], "isn't text"),
        ("more", 1, "is no figure of one"),
        ("digit_ci95", None, "isn't 2 numbers from 0 on"),
        ("sum_ci95", [0.5], "isn't 2 numbers from 0 on"),
        ("confusion", [[1, 2], [3]], TABLE),
        ("confusion", [1], TABLE),
        ("confusion", [[10**400] * 10] * 10, TABLE),
        ("confusion", [[-1] * 10] * 10, TABLE),
        ("confusion", [["1"] * 10] * 10, TABLE),
        ("sum_accuracy_by_digit_and_addend", [[1e308] * 10] * 10, TABLE),
    ],
)
def test_damage_is_refused(undecided: Told, tmp_path: Path, figure: str, value: object, why: str) -> None:
    saved = asdict(evaluate(undecided, loader(numbered([4])), "numbered", "all")) | {figure: value}
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(saved))
    with pytest.raises(InputError) as refusal:
        Evaluation.load(path)
    assert str(refusal.value) == f"{path} isn't the file of an evaluation: {figure} {why}"


def test_an_evaluation_that_is_missing_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    with pytest.raises(InputError, match=f"^{path} is missing: a training writes it at its end$"):
        Evaluation.load(path)
    path.write_text("{}")
    with pytest.raises(InputError, match=f"^{path} isn't the file of an evaluation: confusion is missing$"):
        Evaluation.load(path)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(
    undecided: Told, errors_on: Callable[[bool], io.StringIO], terminal: bool
) -> None:
    errors = errors_on(terminal)
    evaluate(undecided, loader(numbered([0])), "numbered", "all")
    assert ("evaluating" in errors.getvalue()) == terminal == bool(errors.getvalue())


@pytest.mark.parametrize(("right", "count"), [(0, 10), (9, 10), (10, 10), (9_954, 10_000)])
def test_wilson_interval_agrees_with_scipy(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson_interval(right / count, count) == pytest.approx(tuple(expected), abs=1e-12)


def test_calibration_error_of_a_case_made_by_hand() -> None:
    confidence = np.array([[0.95, 0.95, 1.0, 0.5], [0.5, 0.5, 0.5, 0.05]])
    right = np.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool)
    # in (0.93, 1] 3 of 3 right at 2.9 / 3, in (0.47, 0.53] 2 of 4 at 0.5, in (0, 0.07] 0 of 1 at 0.05
    assert calibration_error(confidence, right) == pytest.approx((3 - 2.9 + 0 + 0.05) / 8)


def test_reliability_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.2, 1, 1000)
    right = random.uniform(size=1000) < confidence
    table = reliability(confidence, right, bins=10)
    accuracy, mean = calibration_curve(right, confidence, n_bins=10)
    np.testing.assert_allclose(table["accuracy"], accuracy)
    np.testing.assert_allclose(table["confidence"], mean)
    assert table["trials"].sum() == 1000
