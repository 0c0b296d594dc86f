import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import digitsum
from digitsum import mnist
from digitsum.config import Config
from digitsum.errors import InputError
from digitsum.files import remove


@pytest.fixture(scope="module")
def resumed(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, digitsum.Evaluation]:
    """A run that was interrupted after its last epoch, and what `train` says of it, which finishes it."""
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("runs") / "run")
    remove(folder, "model.onnx", "evaluation.json", "report.html")
    return folder, digitsum.train(Config.load(folder), folder, on_epoch=pytest.fail)


def test_train_finishes_a_run_of_which_the_rest_was_interrupted(
    resumed: tuple[Path, digitsum.Evaluation], finished_run: Path
) -> None:
    folder, evaluation = resumed
    assert {path.name for path in folder.iterdir()} == {path.name for path in finished_run.iterdir()}
    saved = digitsum.Evaluation.load(finished_run / "evaluation.json")
    assert digitsum.Evaluation.load(folder / "evaluation.json") == evaluation
    assert replace(evaluation, seconds=0) == replace(saved, seconds=0)
    assert (folder / "report.html").stat().st_size > 10_000
    assert replace(digitsum.evaluate_held_out(folder), seconds=0) == replace(saved, seconds=0)


def test_what_train_leaves_is_taken_by_the_predictor(resumed: tuple[Path, digitsum.Evaluation]) -> None:
    folder, evaluation = resumed
    predictor = digitsum.Predictor(folder)
    assert predictor.about["figures"]["digit_accuracy"] == evaluation.digit_accuracy
    digits = mnist.load()
    answers = predictor.predict_all(digits.images[:100, 0], 7)
    right = np.mean([answer.sum for answer in answers] == digits.labels[:100] + 7)
    assert abs(right - evaluation.sum_accuracy) < 0.2


def test_what_is_no_run_has_nothing_held_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        digitsum.evaluate_held_out(tmp_path)
