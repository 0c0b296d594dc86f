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
from digitsum.data.rows import Strips
from digitsum.errors import InputError
from digitsum.evaluation import (
    Evaluation,
    RowEvaluation,
    Tally,
    calibration_error,
    evaluate,
    evaluate_rows,
    load_evaluation,
    reliability,
    run_rows,
    run_trials,
    wilson_interval,
)
from digitsum.networks import NETWORKS, DigitSumNet, RowNet
from digitsum.search import MARK, NOTHING


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


# Rows


class Shown(RowNet):
    """A network of rows that says of each step the symbol that the strip's pixel names, with 0.9999."""

    def __init__(self) -> None:
        super().__init__(1)
        self.at = (0.9999, 0.0001 / 11)  # P(the symbol), P(each other)

    def forward(self, strip: Tensor) -> Tensor:
        named = nn.functional.one_hot(strip[:, 0, 0, ::4].long(), 12).bool()
        return torch.where(named, *map(torch.tensor, self.at)).log()


def strips(rows: list[tuple[list[int], list[int]]]) -> Strips:
    """Make a batch of rows, each of the symbols that `Shown` sees, nothing between, and of the right ones."""
    width = 8 * max(len(seen) for seen, _ in rows) + 4
    batch = np.full((len(rows), 1, 32, width), NOTHING, np.uint8)
    for strip, (seen, _) in zip(batch, rows, strict=True):
        for place, symbol in enumerate(seen):
            strip[:, :, 8 * place + 4 : 8 * place + 8] = symbol
    labels = [np.array(label, np.int64) for _, label in rows]
    return Strips(batch, np.concatenate(labels), np.array([len(label) for label in labels]))


def test_evaluation_of_rows_made_by_hand() -> None:
    """Right, right with a point that parts thousands, 3.14 as 314, 12 for 1, nothing for 5, and none."""
    batches = [
        strips([([4, 2], [4, 2]), ([1, MARK, 2, 0, 0], [1, MARK, 2, 0, 0]), ([3, 1, 4], [3, MARK, 1, 4])]),
        strips([([1, 2], [1]), ([], [5]), ([], [])]),
    ]
    network = Shown()
    found = evaluate_rows(network, batches, "by hand", "all")
    assert (found.network, found.data, found.split, found.rows) == ("row", "by hand", "all", 6)
    assert found.parameters == sum(parameter.numel() for parameter in RowNet(1).parameters())
    assert found.number_accuracy == 4 / 6
    assert found.number_ci95 == wilson_interval(4 / 6, 6)
    assert found.accuracy_by_length == [1.0, 0.0, 1.0, 1.0, 1.0]
    assert found.digit_error_rate == 2 / 11  # one to take out, one to put in
    trials = run_rows(network, batches)
    assert [trial.number for trial in trials] == [[4, 2], [1, 2, 0, 0], [3, 1, 4], [1], [5], []]
    assert [trial.reading.digits for trial in trials] == [[4, 2], [1, 2, 0, 0], [3, 1, 4], [1, 2], [], []]
    assert [trial.plain for trial in trials] == [True, True, False, True, True, False]
    # without a digit no answer is certain; 3.14 as 314, and 12 for 1, are certain and wrong
    assert [trial.certain for trial in trials] == [True, True, True, True, False, False]
    assert [trial.misleads for trial in trials] == [False, False, True, True, False, False]
    assert (found.uncertain, found.certain_and_wrong) == (2 / 6, 2 / 6)
    assert found.number_nll == pytest.approx(np.mean([trial.nll for trial in trials]))
    # 42 and 1200 stand as they are read, 3.14 doesn't as 314 nor 1 as 12; of two rows nothing is read
    probability = np.array([trial.reading.probability for trial in trials[:4]])
    assert found.number_ece == calibration_error(probability, np.array([True, True, False, False]))


def test_the_likelihood_of_a_number_is_that_of_all_its_alignments() -> None:
    """By hand, of two steps: a 7 at the first, at the second, or at both; a mark is as good as nothing."""
    batch = Strips(np.full((1, 1, 32, 8), NOTHING, np.uint8), np.array([7]), np.array([1]))
    batch.strips[..., :4] = 7
    (trial,) = run_rows(Shown(), [batch])
    right, other = 0.9999, 0.0001 / 11
    blank, no_digit = right + other, 2 * other  # nothing or a mark, where nothing is seen and where it isn't
    assert math.exp(-trial.nll) == pytest.approx(right * blank + no_digit * other + right * other, rel=1e-6)


def test_rows_in_which_no_digit_is_found_have_no_calibration_error_and_are_saved(tmp_path: Path) -> None:
    found = evaluate_rows(Shown(), [strips([([], []), ([], [1])])], "by hand", "all")
    assert (found.number_accuracy, found.number_ece, found.accuracy_by_length) == (0.5, None, [1.0, 0.0])
    assert found.digit_error_rate == 1.0
    found.save(tmp_path / "evaluation.json")
    assert load_evaluation(tmp_path / "evaluation.json") == found


def test_rows_are_read_in_evaluation_mode_and_the_mode_is_left() -> None:
    torch.manual_seed(0)
    network, batch = RowNet(2), strips([([4, 2], [4, 2]), ([7], [7])])
    nlls = []
    for training in (True, False):
        network.train(training)
        nlls.append([trial.nll for trial in run_rows(network, [batch])])
        assert network.training is training
    assert nlls[0] == nlls[1]


def test_no_rows_and_answers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match=r"^there is no row to evaluate$"):
        evaluate_rows(Shown(), [], "none", "all")
    network = Shown()
    network.at = (math.nan, math.nan)
    with pytest.raises(FloatingPointError, match=r"^the network's answers aren't finite: "):
        evaluate_rows(network, [strips([([4], [4])])], "by hand", "all")


@pytest.mark.parametrize(
    ("figure", "value", "why"),
    [
        ("rows", "6", "isn't a number"),
        ("number_accuracy", None, "isn't a number"),
        ("number_ece", "0", "isn't a number"),
        ("network", 5, "isn't text"),
        ("number_ci95", None, "isn't 2 numbers from 0 on"),
        ("number_ci95", [0.5], "isn't 2 numbers from 0 on"),
        ("accuracy_by_length", 3, "isn't a list of numbers from 0 on"),
        ("accuracy_by_length", [None, -1], "isn't a list of numbers from 0 on"),
        ("confusion", [], "is no figure of one"),
    ],
)
def test_damage_of_an_evaluation_of_rows_is_refused(
    tmp_path: Path, figure: str, value: object, why: str
) -> None:
    path, found = (
        tmp_path / "evaluation.json",
        evaluate_rows(Shown(), [strips([([4], [4])])], "by hand", "all"),
    )
    path.write_text(json.dumps(asdict(found)))
    assert load_evaluation(path) == RowEvaluation.load(path) == found
    path.write_text(json.dumps(asdict(found) | {figure: value}))
    with pytest.raises(InputError) as refusal:
        load_evaluation(path)
    assert str(refusal.value) == f"{path} isn't the file of an evaluation: {figure} {why}"


def test_a_missing_evaluation_of_either_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    with pytest.raises(InputError, match=f"^{path} is missing: a training writes it at its end$"):
        load_evaluation(path)
