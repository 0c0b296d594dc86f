"""A run in TensorBoard: its log while it trains, then its settings, its figures and its confusion matrix.

    with log_rows(run) as log_row:
        fit(config, run, on_epoch=log_row)  # then: tensorboard --logdir runs

The events lie in the run folder, beside `metrics.csv`.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from digitsum.config import Config
from digitsum.evaluation import SHARES, Evaluation
from digitsum.reporting import plots
from digitsum.training.state import Row

TAGS = {  # of the columns of metrics.csv that TensorBoard shows in one group; the others have their own names
    "train_loss": "loss/training",
    "digit_nll": "loss/digit",
    "sum_nll": "loss/sum",
    "digit_accuracy": "accuracy/digit",
    "sum_accuracy": "accuracy/sum",
    "joint_accuracy": "accuracy/both",
}


@contextmanager
def log_rows(run: str | Path) -> Iterator[Callable[[Row], None]]:
    """Yield what hands a row of `fit` to TensorBoard; the step is the epoch."""
    with ExitStack() as opened:

        @cache  # with the first row, so that a run which can't start leaves no file
        def writer() -> SummaryWriter:
            found: SummaryWriter = opened.enter_context(SummaryWriter(run))
            return found

        def log_row(row: Row) -> None:
            for column, value in row.items():
                if column != "epoch":
                    writer().add_scalar(TAGS.get(column, column), value, row["epoch"])
            writer().flush()

        yield log_row


@plots.styled
def log_evaluation(evaluation: Evaluation, config: Config, run: str | Path) -> None:
    """Add the confusion matrix as an image and, for TensorBoard's table of runs, settings and figures."""
    settings = {name: value for name, value in asdict(config).items() if value is not None}
    figures = {f"held-out/{name}": getattr(evaluation, name) for name in SHARES}
    with SummaryWriter(run) as writer:
        writer.add_figure("confusion", plots.confusion(evaluation), config.epochs)
        writer.add_hparams(settings, figures, run_name=".")
