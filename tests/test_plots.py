import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from digitsum.evaluation import Evaluation, Trials
from digitsum.networks import DigitSumNet
from digitsum.reporting import plots

EVALUATION = Evaluation(
    **{"network": "told", "parameters": 7, "data": "numbered", "split": "all", "images": 11, "trials": 110},
    **{"digit_accuracy": 0.9, "sum_accuracy": 0.9, "joint_accuracy": 0.9, "consistency": 1.0},
    **{"misread": 0.1, "misadded": 0.0, "digit_ci95": (0.6, 1.0), "sum_ci95": (0.6, 1.0)},
    **{"digit_nll": 0.2, "sum_nll": 0.2, "digit_ece": 0.1, "sum_ece": 0.1, "seconds": 0.1},
    confusion=[[10 * (row == column) for column in range(10)] for row in range(10)],
    sum_accuracy_by_digit_and_addend=[[1.0] * 10 for _ in range(10)],
)


def trials(labels: list[int], digits: list[list[int]], sums: list[list[int]]) -> Trials:
    sure = np.full((len(labels), 10), 0.9)
    return Trials(np.array(labels), np.array(digits), sure, sure, np.array(sums), sure, sure)


def words(figure: mpl.figure.Figure) -> list[str]:
    """What the SVG says, which must be text and not outlines."""
    found = ElementTree.fromstring(plots.svg(figure)).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314
    return [text.text or "" for text in found]


def test_confusion_shows_each_count_and_tints_what_is_misread() -> None:
    confusion = np.array(EVALUATION.confusion)
    confusion[4, 9], confusion[7, 1], confusion[7, 7] = 37, 3, 4321
    figure = plots.confusion(replace(EVALUATION, confusion=confusion.tolist()))
    assert {"37", "3", "4321", "digit read", "digit"} <= set(words(figure))
    tints = {
        (round(patch.get_y() + 0.5), round(patch.get_x() + 0.5)): patch.get_alpha()
        for patch in figure.axes[0].patches
    }
    assert {cell for cell, tint in tints.items() if tint} == {(4, 9), (7, 1)}
    assert tints[4, 9] > tints[7, 1]


def test_sums_are_shown_by_digit_and_addend_and_a_digit_without_images_stays_empty() -> None:
    accuracy: list[list[float | None]] = [[1.0] * 10 for _ in range(10)]
    accuracy[3][8], accuracy[5] = 0.987, [None] * 10
    figure = plots.sum_accuracy(replace(EVALUATION, sum_accuracy_by_digit_and_addend=accuracy))
    said = words(figure)
    assert said.count("98.7") == 1
    assert said.count("100") == 89
    assert {"addend", "digit"} <= set(said)


def test_the_sum_s_probability_and_how_often_it_is_right_stand_above_the_digit_s_probability() -> None:
    """Ten trials each of a digit at 50, 95 and 100 %, none from 60 to 92; sums are sure, the first wrong."""
    digits = np.repeat([[3], [5], [7]], 10, axis=1)
    sums = digits + np.arange(10)
    sure = np.repeat([[0.5], [0.95], [1.0]], 10, axis=1)
    shown = trials([8, 5, 7], digits.tolist(), sums.tolist())._replace(digit_confidence=sure)
    figure = plots.confidence(shown)
    digit, sum_, right = (list(line.get_ydata()) for line in figure.axes[0].lines)
    assert digit == pytest.approx([50, 95, 100])
    assert sum_ == pytest.approx([90, 90, 90])
    assert right == pytest.approx([0, 100, 100])
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert [label.replace("\N{EN DASH}", "-") for label in labels] == ["0-60\n10", "92-99\n10", "99-100\n10"]


def test_calibration_shows_how_often_what_is_90_percent_sure_is_right() -> None:
    right = [[digit + n for n in range(10)] for digit in range(4)]
    figure = plots.calibration(trials([0, 1, 2, 3], [[0] * 10, [1] * 10, [2] * 10, [9] * 10], right))
    _, digit, sum_ = figure.axes[0].lines
    assert (list(digit.get_xdata()), list(digit.get_ydata())) == (pytest.approx([90]), pytest.approx([75]))
    assert (list(sum_.get_xdata()), list(sum_.get_ydata())) == (pytest.approx([90]), pytest.approx([100]))
    assert list(figure.axes[1].lines[0].get_ydata()) == [40]
    assert {"right, %", "probability of the answer, %", "trials"} <= set(words(figure))


def test_networks_at_work_are_shown_side_by_side_with_the_probabilities_of_both_outputs() -> None:
    """One is sure of a 4 and adds the addend; the other is sure of a 4 and adds 1 too much."""

    def adding(extra: int) -> DigitSumNet:
        def answer(image: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
            assert (image.shape, image.dtype) == ((1, 1, 28, 28), torch.uint8)
            places = torch.tensor([4]), 4 + addend.argmax(dim=1) + extra
            return one_hot(places[0], 10).log(), one_hot(places[1], 19).log()

        return answer  # type: ignore[return-value]

    networks = {"right": adding(0), "wrong": adding(1)}
    figure = plots.at_work(networks, np.zeros((1, 28, 28), np.uint8), addend=5)
    plotted = [axes for axes in figure.axes if axes.containers]
    highest = [int(np.argmax([bar.get_height() for bar in axes.containers[0]])) for axes in plotted]
    assert [len(axes.containers[0]) for axes in plotted] == [10, 10, 19, 19]
    assert highest == [4, 4, 9, 10]
    assert {"right: digit 4, sum 9", "wrong: digit 4, sum 10", "+ 5", "100"} <= set(words(figure))


def test_numbers_are_right_by_how_many_digits_a_row_has() -> None:
    shares = [0.5, 1.0, None, 0.25]  # no row has two digits
    figure = plots.by_length(SimpleNamespace(accuracy_by_length=shares))  # type: ignore[arg-type]
    bars = figure.axes[0].patches
    assert [round(bar.get_x() + 0.4) for bar in bars] == [0, 1, 2, 3]
    assert [bar.get_height() for bar in bars] == pytest.approx([50, 100, np.nan, 25], nan_ok=True)


def test_lines_differ_without_colour() -> None:
    series = pd.Series([1.0, 2.0], index=[1, 2])
    figure = plots.curves({str(i): series * i for i in range(1, 7)}, "loss, nats", log=True)
    looks = {(line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(looks) == 6
    assert {"epoch", "loss, nats", "1", "6"} <= set(words(figure))


def test_the_legend_names_lines_as_they_are_called() -> None:
    names = ["_first", "cost_$1_$2", "a$b$c", r"\frac"]
    text = plots.svg(plots.curves({name: pd.Series([1.0, 2.0]) for name in names}, "loss"))
    assert [name for name in names if re.search(rf"> ?{re.escape(name)}<", text)] == names


def test_svg_takes_its_colours_from_the_page() -> None:
    text = plots.svg(plots.curves({"one": pd.Series([1.0, 2.0])}, "loss"))
    assert {"currentColor", "var(--digit, #2456cc)"} <= set(re.findall(r"(?:fill|stroke): ([^;\"]+)", text))
    assert plots.INK not in text
    assert not re.search(r"(fill|stroke): #", text)


USERS = {
    "text.usetex": True,
    "font.family": "Nowhere",
    "font.sans-serif": "Nowhere",
    "font.size": 30,
    "savefig.bbox": "tight",
    "path.sketch": (1, 100, 2),
    "axes.prop_cycle": mpl.cycler(color=["#ff0000"]),
    "figure.autolayout": True,
}


def test_plots_are_the_same_whatever_the_user_has_set(caplog: pytest.LogCaptureFixture) -> None:
    lines = {"one": pd.Series([1.0, 2.0])}
    usual = plots.svg(plots.curves(lines, "loss", log=True))
    with mpl.rc_context(USERS):
        assert plots.svg(plots.curves(lines, "loss", log=True)) == usual
        users = dict(mpl.rcParams)
        assert plots.svg(plots.curves(lines, "loss", log=True)) == usual  # the same file every time
        assert dict(mpl.rcParams) == users
    assert caplog.text == ""


IMPORT = """
import os
before = dict(os.environ)
from digitsum.reporting import plots
assert os.environ == before
import pandas as pd
plots.svg(plots.curves({"one": pd.Series([1.0, 2.0])}, "loss"))
import matplotlib
print(matplotlib.get_backend(auto_select=False))
"""


def test_plots_need_neither_the_environment_s_backend_nor_the_users_settings(
    tmp_path: Path,
) -> None:
    """Notebooks name theirs to what they start, and matplotlib isn't imported where that isn't installed."""
    (tmp_path / "matplotlibrc").write_bytes(b"font.family: \xff")
    broken = {"MPLBACKEND": "missing", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    command = [sys.executable, "-W", "error", "-c", IMPORT]
    done = subprocess.run(command, env=os.environ | broken, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr
