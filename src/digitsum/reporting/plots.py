"""The plots of a run: SVG that takes its colours from the page, light, dark or black on white.

    svg(confusion(evaluation))

Each plot is a Figure of some 400 pixels, so that a narrow page shows it whole. What colour tells apart,
dashes, markers, hatches or numbers tell apart as well. Plots have settings of their own, whatever the user's
own ones for matplotlib say, and need no backend.
"""

import io
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.nn.functional import one_hot

try:
    import matplotlib as mpl
except ValueError:  # of a notebook's backend that isn't installed here, or of a broken matplotlibrc
    from unittest.mock import patch  # which puts the environment back

    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]  # half made
    with patch.dict(os.environ, MPLBACKEND="", MATPLOTLIBRC=os.devnull):
        import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from digitsum.evaluation import Evaluation, RowEvaluation, Trials, reliability
from digitsum.networks import DigitSumNet
from digitsum.search import CERTAIN
from digitsum.types import UInt8Array

INK, DIGIT, SUM = "#1a1b1f", "#2456cc", "#ac3d14"
ON_PAGE = {INK: "currentColor", DIGIT: f"var(--digit, {DIGIT})", SUM: f"var(--sum, {SUM})"}
LINES = [  # colour, dashes, marker
    *((DIGIT, "-", "o"), (SUM, "--", "s"), (INK, ":", "^")),
    *((DIGIT, "-.", "D"), (SUM, "-", "v"), (INK, "--", "x")),
]
GROUPS = (0, 60, 80, round(100 * CERTAIN), 99, 100)  # of trials, by the digit's probability, %
SETTINGS: dict[Any, Any] = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
SETTINGS |= {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.figsize": (4.4, 3.0),  # inches, of which a page makes 72 to 96 pixels each
    "font.size": 11,
    "hatch.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "digitsum",  # the same plot is the same file
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
styled = mpl.rc_context(SETTINGS)  # around whatever makes a figure, or draws it


@styled
def svg(figure: Figure) -> str:
    """Return a plot as an SVG element that a page can hold several of, in the page's own colours."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue()
    text = re.sub(r' id="[\w.]+_\d+"', "", text[text.index("<svg") :])  # of groups, alike in every plot
    return re.sub("|".join(ON_PAGE), lambda colour: ON_PAGE[colour[0]], text)


@styled
def curves(lines: Mapping[str, "pd.Series[float]"], label: str, log: bool = False) -> Figure:
    """Plot lines over the epochs.

    Parameters
    ----------
    lines
        What the legend says of each, and its values; the index is the epoch.
    label
        Of the vertical axis, with the unit.
    log
        Whether that axis is logarithmic.
    """
    figure = Figure()
    axes = figure.subplots()
    for i, (name, values) in enumerate(lines.items()):
        colour, dashes, marker = LINES[i % len(LINES)]
        every = max(1, len(values) // 10)
        # a _ at its start would leave it out of the legend, and a $ would begin a formula
        shown = re.sub("^_", " _", name).replace("$", r"\$")
        axes.plot(values, dashes, color=colour, marker=marker, markevery=every, label=shown)
    axes.set(xlabel="epoch", ylabel=label)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set(
            major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator()
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(color=INK, alpha=0.15)
    if len(lines) > 1:
        longest = max(map(len, lines))
        figure.legend(loc="outside upper left", ncols=3 if longest <= 8 else 1)
    return figure


@styled
def confusion(evaluation: Evaluation) -> Figure:
    """Plot how often each digit is read as which; the darker, the larger the share of the digit's trials."""
    counts = np.array(evaluation.confusion)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(1)
    np.fill_diagonal(shares, 0)  # what is right needs no emphasis
    texts = [[f"{count}" if count else "" for count in row] for row in counts]
    return _grid(texts, shares, "digit read", bold_diagonal=True)


@styled
def sum_accuracy(evaluation: Evaluation) -> Figure:
    """Plot how often the sum is right, in percent, for each digit with each addend; the darker, the less."""
    accuracy = np.array(evaluation.sum_accuracy_by_digit_and_addend, float)
    texts = [
        ["" if np.isnan(share) else f"{100 * share:.1f}".replace("100.0", "100") for share in row]
        for row in accuracy
    ]
    return _grid(texts, np.nan_to_num(1 - accuracy), "addend")


def _grid(
    texts: list[list[str]], shades: npt.NDArray[np.float64], across: str, bold_diagonal: bool = False
) -> Figure:
    figure = Figure(figsize=(4.4, 3.9))
    axes = figure.subplots()
    highest = max(shades.max(), 1e-9)
    for (row, column), shade in np.ndenumerate(shades):
        corner = (column - 0.5, row - 0.5)
        # half as dark at most, so that the numbers are readable on any page
        alpha = 0.55 * np.sqrt(shade / highest)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=SUM, alpha=alpha, linewidth=0))
        weight = "bold" if bold_diagonal and row == column else "normal"
        axes.text(column, row, texts[row][column], ha="center", va="center", fontsize=9, fontweight=weight)
    axes.set(xlabel=across, ylabel="digit", xlim=(-0.5, 9.5), ylim=(9.5, -0.5))
    axes.set(xticks=range(10), yticks=range(10), aspect="equal")
    axes.tick_params(length=0)
    return figure


@styled
def at_work(networks: Mapping[str, DigitSumNet], image: UInt8Array, addend: int) -> Figure:
    """Plot what networks make of one image and one addend: the probabilities of both outputs.

    Parameters
    ----------
    networks
        What to call each, and the network.
    image
        uint8 [1, 28, 28].
    addend
        From 0 to 9.
    """
    figure = Figure(figsize=(4.4 * len(networks), 4.4))
    columns = figure.subplots(2, len(networks), squeeze=False).T
    inputs = torch.from_numpy(image[None]), one_hot(torch.tensor([addend]), 10).float()
    for (name, network), column in zip(networks.items(), columns, strict=True):
        with torch.no_grad():
            digit, sum_ = (100 * log_probability[0].exp().numpy() for log_probability in network(*inputs))
        column[0].set_title(f"{name}: digit {digit.argmax()}, sum {sum_.argmax()}")
        shown = column[0].inset_axes((0.62, 0.1, 0.2, 0.85))  # right of the digits, where no sum of theirs is
        shown.imshow(255 - image[0], cmap="gray", vmin=0, vmax=255)
        shown.axis("off")
        column[0].text(16.5, 50, f"+ {addend}", fontsize=16, va="center")
        for axes, output, values, colour in zip(
            column, ("digit", "sum"), (digit, sum_), (DIGIT, SUM), strict=True
        ):
            bars = axes.bar(range(len(values)), values, color=colour)
            axes.bar_label(bars, [f"{value:.0f}" if value >= 1 else "" for value in values], fontsize=9)
            axes.set(ylabel=f"{output}, %", xticks=range(len(values)), xlim=(-0.6, 18.6), ylim=(0, 115))
            axes.tick_params(labelsize=9)
    return figure


@styled
def by_length(evaluation: RowEvaluation) -> Figure:
    """Plot how often a number is right, in percent, by how many digits the row has."""
    accuracy = 100 * np.array(evaluation.accuracy_by_length, float)
    figure = Figure()
    axes = figure.subplots()
    axes.bar(range(len(accuracy)), accuracy, color=DIGIT, alpha=0.6)
    axes.set(xlabel="digits in the row", ylabel="numbers right, %", ylim=(0, 103))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color=INK, alpha=0.15)
    return figure


@styled
def confidence(trials: Trials) -> Figure:
    """Plot how sure both outputs are, and how often the sum is right, by how sure the digit is."""
    digit, sum_ = (100 * sure.ravel() for sure in (trials.digit_confidence, trials.sum_confidence))
    table = pd.DataFrame(
        {"digit's probability": digit, "sum's probability": sum_, "sum right": 100 * trials.sum_right.ravel()}
    )
    groups = table.groupby(np.digitize(digit, GROUPS[1:-1]))
    figure = Figure(figsize=(4.4, 3.9))
    axes = figure.subplots()
    for (name, means), (colour, dashes, marker) in zip(groups.mean().items(), LINES, strict=False):
        axes.plot(means.to_numpy(), dashes, color=colour, marker=marker, label=name)
    ticks = [f"{GROUPS[i]}\N{EN DASH}{GROUPS[i + 1]}\n{len(table):,}" for i, table in groups]
    axes.set(xticks=range(len(ticks)), xticklabels=ticks, ylim=(-3, 103), ylabel="%")
    axes.set(xlabel="probability of the digit, %; trials")
    axes.grid(color=INK, alpha=0.15)
    figure.legend(loc="outside upper left", ncols=2)
    return figure


@styled
def calibration(trials: Trials) -> Figure:
    """Plot how often an answer is right against how sure it was, and how many trials were that sure."""
    outputs = {
        "digit": (trials.digit_confidence, trials.digit_right),
        "sum": (trials.sum_confidence, trials.sum_right),
    }
    figure = Figure(figsize=(4.4, 3.9))
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 100], [0, 100], color=INK, linewidth=0.8, label="as sure as right")
    for (name, (confidence, right)), (colour, dashes, marker) in zip(outputs.items(), LINES, strict=False):
        table = reliability(confidence, right)
        line = {"color": colour, "linestyle": dashes, "marker": marker}
        upper.plot(100 * table["confidence"], 100 * table["accuracy"], label=name, **line)
        lower.plot(100 * table["confidence"], table["trials"], **line)
    upper.set(ylabel="right, %", ylim=(-3, 103))
    lower.set(xlabel="probability of the answer, %", ylabel="trials", yscale="log", xlim=(0, 103))
    lower.yaxis.set_major_formatter("{x:,.0f}")
    for axes in (upper, lower):
        axes.grid(color=INK, alpha=0.15)
    figure.legend(loc="outside upper left", ncols=3)
    return figure
