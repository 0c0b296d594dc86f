from pathlib import Path

import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor
from torch.nn.functional import log_softmax

from digitsum.config import Config
from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.evaluation import run_trials
from digitsum.networks import NETWORKS, load
from digitsum.training.calibration import calibrate, temperature
from digitsum.training.state import load_parts


@pytest.fixture
def log_probabilities() -> Tensor:
    torch.manual_seed(0)
    return log_softmax(3 * torch.randn(1000, 10), dim=1)


@pytest.mark.parametrize("share", [0.4, 0.7, 0.9])
def test_temperature_makes_the_mean_confidence_the_accuracy(log_probabilities: Tensor, share: float) -> None:
    answer = log_probabilities.argmax(dim=1)
    right = torch.where(torch.arange(1000) < 1000 * share, answer, (answer + 1) % 10)

    def gap(value: float) -> float:
        return (log_probabilities.double() / value).softmax(dim=1).amax(dim=1).mean().item() - share

    assert temperature(log_probabilities, right) == pytest.approx(brentq(gap, 0.1, 10), rel=1e-6)


def test_temperature_is_bounded_where_all_answers_are_right(log_probabilities: Tensor) -> None:
    assert temperature(log_probabilities, log_probabilities.argmax(dim=1)) == pytest.approx(0.1)


@pytest.mark.parametrize(("name", "layers"), [("concat", {"digit", "sum"}), ("exact", {"digit"})])
def test_calibrate_changes_probabilities_and_no_answer(digits: Digits, name: str, layers: set[str]) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name](width=4).eval()
    batches = loader(DigitSumDataset(digits), batch_size=16)
    before = run_trials(network, batches)
    assert set(calibrate(network, batches)) == layers
    after = run_trials(network, batches)
    for answer, confidence in (("digit", "digit_confidence"), ("sum", "sum_confidence")):
        assert (getattr(before, answer) == getattr(after, answer)).all()
        assert (getattr(before, confidence) != getattr(after, confidence)).any()
    right = after.digit == after.label[:, None]
    assert after.digit_confidence.mean() == pytest.approx(right.mean(), abs=1e-3)


def test_a_trained_network_is_as_sure_of_held_out_digits_and_sums_as_they_are_right(
    finished_run: Path,
) -> None:
    """With all ten addends; of its sum alone that says nothing about a single image."""
    _, held_out = load_parts(Config.load(finished_run), finished_run)
    trials = run_trials(load(finished_run), held_out)
    assert trials.digit_right.mean() < 1  # else it isn't calibrated
    assert trials.digit_confidence.mean() == pytest.approx(trials.digit_right.mean(), abs=1e-4)
    assert trials.sum_confidence.mean() == pytest.approx(trials.sum_right.mean(), abs=1e-4)
