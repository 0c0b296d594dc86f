"""How should a network join its two inputs? Seven ways, with one image encoder and one budget.

python benchmarks/fusion.py [--epochs 5] [--seeds 3] [--plot docs/fusion.svg]

MNIST's training split, 80/20: accuracies on the 12,000 held-out images with all ten addends, mean ± standard
deviation over the seeds. Optimizer, schedule, precision and averaged weights are those of `digitsum train`
with its default settings, which were chosen for the reference network and are the same for all.

What to look for. Every variant reads the digit with the same convolutions, so look at what is lost between
the digit and the sum, and compare the first epoch with the last. After a concatenation, a linear layer gives
each sum a term from the image plus a term from the addend, nothing that depends on both. It can add only by
-(s - d - n)^2 = 2sd + 2sn - s^2 + (terms without s): some feature must measure d, some feature n. Telling
digits apart doesn't need that, so a network that starts at random learns to read first and to measure much
later; the reference starts with both measures in place (`ConcatNet` says how). An addend that comes as one
number is such a measure, but that of the digit is still missing. With a squared error both outputs are
measures, but where a digit may be a 3 or an 8 the best number lies between, and rounds to a 5 or a 6. The
argmax makes adding a table of 100 pairs, and cuts the gradient: sums no longer teach reading, which would
show if some images had no label. Adding by probability has nothing to learn and keeps the gradient.
Consistency is how often the sum is the predicted digit plus the addend; a network that lacks it contradicts
itself.
"""

import sys
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from script import make_parser, record
from torch import Tensor, nn
from torch.nn.functional import log_softmax, mse_loss, nll_loss, one_hot, relu
from torch.optim.swa_utils import AveragedModel

from digitsum.config import Config
from digitsum.evaluation import SHARES, evaluate
from digitsum.networks import ConcatNet, DigitSumNet, ExactNet
from digitsum.training.optim import make_optimizer, moving_average, one_cycle, set_rate
from digitsum.training.state import load_parts

BF16 = torch.cpu.get_capabilities().get("avx512_bf16", False)  # elsewhere it is emulated, and slower
WIDTH = 32
FEATURES = 64  # of the image


class Variant(DigitSumNet):
    """A way to join the two inputs: a network with its loss."""

    name = "variant"
    sum_weight = 1.0

    def loss(self, encoded: Tensor, addend: Tensor, digit: Tensor, sum_: Tensor) -> Tensor:
        """Return the negative log-likelihood of both outputs."""
        log_digit, log_sum = self.answer(encoded, addend)
        return nll_loss(log_digit, digit) + self.sum_weight * nll_loss(log_sum, sum_)


class Reference(ConcatNet, Variant):
    """The reference as it is."""

    sum_weight = Config.sum_weight


class Exact(ExactNet, Variant):
    """Adds by probability, on the image encoder that all share."""

    def __init__(self) -> None:
        super().__init__(WIDTH)
        self.body = image_encoder()
        self.digit = nn.Linear(FEATURES, 10)


class Scored(Variant):
    """What the others share: they encode the image, then score digits and sums."""

    def __init__(self) -> None:
        super().__init__(WIDTH)
        self.image = image_encoder()

    def encode(self, image: Tensor) -> Tensor:
        """Return the image's features, [N, 64]."""
        features: Tensor = self.image(self.normalise(image))
        return features.float()

    def answer(self, encoded: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Turn the scores into log-probabilities."""
        digit, sum_ = self.scores(encoded, addend)
        return log_softmax(digit, dim=1), log_softmax(sum_, dim=1)

    @abstractmethod
    def scores(self, encoded: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Score the digits, [N, 10], and the sums, [N, 19]."""


class Concatenation(Scored):
    """Joins the features of both inputs; a linear layer an output."""

    def __init__(self, addend_features: int) -> None:
        super().__init__()
        self.digit = nn.Linear(FEATURES + addend_features, 10)
        self.sum = nn.Linear(FEATURES + addend_features, 19)

    def scores(self, encoded: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Score from the joined features."""
        joined = torch.cat([encoded, self.describe(addend)], dim=1)
        return self.digit(joined), self.sum(joined)

    @abstractmethod
    def describe(self, addend: Tensor) -> Tensor:
        """Return the addend's features."""


class Plain(Concatenation):
    """A linear layer reads the addend. All starts at random, as PyTorch does: what one writes first."""

    def __init__(self) -> None:
        super().__init__(addend_features=16)
        self.addend = nn.Linear(10, 16)

    def describe(self, addend: Tensor) -> Tensor:
        """Return the layer's features."""
        return relu(self.addend(addend))


class Scalar(Concatenation):
    """The addend is one number."""

    def __init__(self) -> None:
        super().__init__(addend_features=1)

    def describe(self, addend: Tensor) -> Tensor:
        """Return n / 9."""
        return addend @ torch.linspace(0, 1, 10)[:, None]


class Embedded(Concatenation):
    """The addend has a learned vector, which is a linear layer on the one-hot by another name."""

    def __init__(self) -> None:
        super().__init__(addend_features=16)
        self.addend = nn.Embedding(10, 16)

    def describe(self, addend: Tensor) -> Tensor:
        """Look the vector up."""
        vector: Tensor = self.addend(addend.argmax(dim=1))
        return vector


class Regression(Plain):
    """Two numbers, trained with the squared error and rounded to answer."""

    def __init__(self) -> None:
        super().__init__()
        self.digit = nn.Linear(FEATURES + 16, 1)
        self.sum = nn.Linear(FEATURES + 16, 1)

    def scores(self, encoded: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Score each whole number by its distance, so the best one is the rounded number."""
        digit, sum_ = super().scores(encoded, addend)  # [N, 1] each
        return -((torch.arange(10) - digit) ** 2), -((torch.arange(19) - sum_) ** 2)

    def loss(self, encoded: Tensor, addend: Tensor, digit: Tensor, sum_: Tensor) -> Tensor:
        """Return the mean squared error of both numbers."""
        numbers = torch.cat(super().scores(encoded, addend), dim=1)  # [N, 2]
        return mse_loss(numbers, torch.stack([digit, sum_], dim=1).float())


class Argmax(Scored):
    """Reads the digit, then adds what it read: the argmax passes no gradient of the sum to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.digit = nn.Linear(FEATURES, 10)
        self.sum = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 19))

    def scores(self, encoded: Tensor, addend: Tensor) -> tuple[Tensor, Tensor]:
        """Score the digits, then the sums from the one-hot of the best and the addend's."""
        digit = self.digit(encoded)
        read = one_hot(digit.argmax(dim=1), 10).float()
        return digit, self.sum(torch.cat([read, addend], dim=1))


def image_encoder() -> nn.Sequential:
    """Build the two convolutions of `ConcatNet`, then 64 features."""
    return nn.Sequential(
        *(nn.Conv2d(1, WIDTH, 5), nn.MaxPool2d(2), nn.ReLU()),  # [N, 32, 12, 12]
        *(nn.Conv2d(WIDTH, 2 * WIDTH, 5), nn.MaxPool2d(2), nn.ReLU()),  # [N, 64, 4, 4]
        *(nn.Flatten(), nn.Linear(2 * WIDTH * 4 * 4, FEATURES), nn.ReLU()),
    )


VARIANTS: dict[str, Callable[[], Variant]] = {
    "concatenation, plain": Plain,
    "concatenation, ours": Reference,
    "addend as a scalar": Scalar,
    "addend as an embedding": Embedded,
    "one-hot of the argmax": Argmax,
    "two numbers, squared error": Regression,
    "exact": Exact,
}


def main() -> None:
    """Train every variant with every seed; print a table and draw a plot."""
    parser = make_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    runs: dict[str, list[np.ndarray]] = {name: [] for name in VARIANTS}
    for seed in range(options.seeds):
        for name, variant in VARIANTS.items():
            runs[name].append(train(variant, Config(data="mnist", epochs=options.epochs, seed=seed)))
            digit, sum_, *_ = runs[name][-1][-1]
            print(f"seed {seed}, {name}: digit {digit:.2f} %, sum {sum_:.2f} %", file=sys.stderr)
    figures = {name: np.stack(rows) for name, rows in runs.items()}  # [seeds, epochs, 4]
    print_table(figures)
    if options.plot:
        plot(figures, options.plot)


def train(variant: Callable[[], Variant], config: Config) -> np.ndarray:
    """Train a variant as `fit` trains a network, and return `SHARES` in per cent, a row an epoch."""
    torch.manual_seed(config.seed)
    network = variant()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=moving_average(config.average))
    optimizer = make_optimizer(network, config)
    train_loader, held_out_loader = load_parts(config)
    steps, rows = config.epochs * len(train_loader), []
    for epoch in range(config.epochs):
        for step, batch in enumerate(train_loader, start=epoch * len(train_loader)):
            (image, addend), (digit, sum_) = batch
            set_rate(optimizer, one_cycle(step, steps, config.learning_rate))
            with torch.autocast("cpu", torch.bfloat16, enabled=BF16):
                encoded = network.encode(image)
            loss = network.loss(encoded, addend, digit, sum_)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            average.update_parameters(network)
        averaged: Variant = average.module  # type: ignore[assignment]
        evaluation = evaluate(averaged, held_out_loader, config.data, "held-out")
        rows.append([100 * getattr(evaluation, name) for name in SHARES])
    return np.array(rows)


def print_table(figures: dict[str, np.ndarray]) -> None:
    """Print mean ± standard deviation after the first and the last epoch, in Markdown."""
    print("\n| variant | epoch | digit, % | sum, % | joint, % | consistency, % |\n|---|---|---|---|---|---|")
    for name, runs in figures.items():
        for epoch in sorted({1, runs.shape[1]}):
            mean, sd = runs[:, epoch - 1].mean(axis=0), runs[:, epoch - 1].std(axis=0, ddof=1)
            cells = (f"{m:.2f} ± {s:.2f}" for m, s in zip(mean, sd, strict=True))
            print(f"| {name} | {epoch} | {' | '.join(cells)} |")


def plot(figures: dict[str, np.ndarray], path: Path) -> None:
    """Draw the shares of wrong and of inconsistent sums by epoch, means over the seeds."""
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    panels = zip(figure.subplots(1, 2, sharey=True), ("wrong sums", "inconsistent sums"), (1, 3), strict=True)
    for axes, title, column in panels:
        for i, (name, runs) in enumerate(figures.items()):
            error = 100 - runs[:, :, column].mean(axis=0)
            epochs, line = range(1, len(error) + 1), ("-", "--", "-.", ":")[i % 4]  # not only a colour
            axes.plot(epochs, error, line, marker="osv^DPX"[i], label=name, clip_on=False)
        # logarithmic, but linear below 0.1, as some variants never contradict themselves
        axes.set_yscale("symlog", linthresh=0.1)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set(title=title, xlabel="epoch", ylabel="share of trials, %", xticks=epochs, ylim=(0, 100))
        axes.label_outer()
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path)


if __name__ == "__main__":
    record(main)
