"""A whole run, from the first epoch to the report: what `digitsum train` and `evaluate` do, in Python.

evaluation = train(Config(network="exact", epochs=3), "runs/mine")
print(evaluation.digit_accuracy, evaluation.sum_accuracy)
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from digitsum.config import Config
from digitsum.evaluation import Evaluation, evaluate
from digitsum.networks import DigitSumNet, load
from digitsum.training.loop import fit
from digitsum.training.state import Row, load_parts


def train(
    config: Config,
    folder: str | Path,
    on_epoch: Callable[[Row], object] | None = None,
    tensorboard: bool = False,
) -> Evaluation:
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
    Evaluation
        Of the trained network on the held-out images, each with all ten addends.

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
    network = load(run)
    evaluation = _evaluate(network, run, config.data_dir)
    evaluation.save(run / "evaluation.json")
    # what takes a second to load isn't loaded before a training that doesn't need it
    if tensorboard:
        from digitsum.reporting.tensorboard import log_evaluation

        log_evaluation(evaluation, config, run)
    from digitsum.export import to_onnx
    from digitsum.reporting.page import write_report

    to_onnx(network, run / "model.onnx", evaluation)
    write_report(run)
    return evaluation


def evaluate_held_out(folder: str | Path, data_dir: str | None = None) -> Evaluation:
    """Evaluate the network of a run on the images that it held out, each with all ten addends.

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
    return _evaluate(load(folder), folder, data_dir)


def _evaluate(network: DigitSumNet, folder: str | Path, data_dir: str | None) -> Evaluation:
    config = Config.load(folder)
    _, held_out = load_parts(replace(config, data_dir=data_dir) if data_dir else config, folder)
    return evaluate(network, held_out, config.data, "held-out")
