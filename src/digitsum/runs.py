"""A whole run, from the first epoch to the report: what `digitsum train` and `evaluate` do, in Python.

evaluation = train(Config(network="exact", epochs=3), "runs/mine")
print(evaluation.digit_accuracy, evaluation.sum_accuracy)
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from digitsum.config import PRESETS, Config
from digitsum.data import mnist
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.evaluation import Evaluation, RowEvaluation, evaluate, evaluate_rows
from digitsum.networks import DigitSumNet, RowNet, load_any
from digitsum.training.ctc import held_out_rows, sampled_digits
from digitsum.training.loop import fit
from digitsum.training.state import Row, load_parts


def train(
    config: Config,
    folder: str | Path,
    on_epoch: Callable[[Row], object] | None = None,
    tensorboard: bool = False,
) -> Evaluation | RowEvaluation:
    """Train a network, evaluate it on the images held out, export it, and write the report.

    The folder then holds what `digitsum train` leaves, and `Predictor`, `load` and `write_report` take it. An
    interrupted run goes on where it was, with the same call.

    Parameters
    ----------
    config, folder, on_epoch
        As for `fit`, which this calls.
    tensorboard
        Whether to write TensorBoard's events as well as `metrics.csv`.

    Returns
    -------
    Evaluation or RowEvaluation
        Of the trained network on the held-out images, each with all ten addends; of a network of rows on rows
        that are made of them.

    Raises
    ------
    InputError, FloatingPointError, ConnectionError
        As of `fit`.
    OSError
        The folder can't be written to.
    """
    run = Path(folder)
    calls = [on_epoch] if on_epoch else []
    with ExitStack() as opened:
        if tensorboard:
            from digitsum.reporting.tensorboard import log_rows

            calls.append(opened.enter_context(log_rows(run)))
        fit(config, run, on_epoch=lambda row: [call(row) for call in calls])
    network = load_any(run)
    evaluation = _evaluate(network, run, config.data_dir)
    evaluation.save(run / "evaluation.json")
    # what takes a second to load isn't loaded before a training that doesn't need it
    if tensorboard and isinstance(evaluation, Evaluation):
        from digitsum.reporting.tensorboard import log_evaluation

        log_evaluation(evaluation, config, run)
    from digitsum.export import to_onnx
    from digitsum.reporting.page import write_report

    to_onnx(network, run / "model.onnx", evaluation)
    write_report(run)
    return evaluation


def evaluate_held_out(folder: str | Path, data_dir: str | None = None) -> Evaluation | RowEvaluation:
    """Evaluate the network of a run on the images that it held out, as `train` did.

    Its probabilities were calibrated on them, too: likelihoods and calibration errors may be worse on others.

    Parameters
    ----------
    folder
        Of the run.
    data_dir
        Where MNIST's files are now, if not where they were.

    Raises
    ------
    InputError
        It isn't a run folder, a file of it is damaged, or its data aren't those that it was trained on.
    """
    return _evaluate(load_any(folder), folder, data_dir)


def evaluate_on(
    name: str | Path, data: str, split: str = "train", data_dir: str | None = None
) -> Evaluation | RowEvaluation:
    """Evaluate a network on a split of data; one of rows, on rows that are made of its images.

    Parameters
    ----------
    name
        As for `load`, or "row".
    data, split, data_dir
        As for `mnist.load`.

    Raises
    ------
    InputError
        There is no such network, or there are no such data.
    """
    network, digits = load_any(name), mnist.load(data, split, data_dir)
    if isinstance(network, RowNet):
        rows = held_out_rows(digits.images[:, 0], digits.labels, PRESETS["row"])
        return evaluate_rows(network, rows, data, split)
    return evaluate(network, loader(DigitSumDataset(digits)), data, split)


def _evaluate(
    network: DigitSumNet | RowNet, folder: str | Path, data_dir: str | None
) -> Evaluation | RowEvaluation:
    config = Config.load(folder)
    _, held_out = load_parts(replace(config, data_dir=data_dir) if data_dir else config, folder)
    if isinstance(network, RowNet):
        rows = held_out_rows(*sampled_digits(held_out), config)
        return evaluate_rows(network, rows, config.data, "held-out")
    return evaluate(network, held_out, config.data, "held-out")
