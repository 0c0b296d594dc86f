import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import digitsum
from digitsum.config import Config
from digitsum.errors import InputError

SHORT = Config(network="fast", width=4, epochs=2, batch_size=500, augment=False, precision="32-true")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, digitsum.Evaluation, list[float]]:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    epochs: list[float] = []
    return folder, digitsum.train(SHORT, folder, lambda row: epochs.append(row["epoch"])), epochs


def test_train_leaves_a_whole_run_folder_as_the_command_does(
    trained: tuple[Path, digitsum.Evaluation, list[float]], finished_run: Path
) -> None:
    folder, evaluation, epochs = trained
    ours, commands = ({path.name for path in run.iterdir()} for run in (folder, finished_run))
    assert ours == {name for name in commands if not name.startswith("events.")}
    assert epochs == pd.read_csv(folder / "metrics.csv")["epoch"].tolist() == [1, 2]
    assert digitsum.Evaluation.load(folder / "evaluation.json") == evaluation
    assert evaluation.images == 1000


def test_what_train_leaves_is_taken_by_the_predictor(
    trained: tuple[Path, digitsum.Evaluation, list[float]],
) -> None:
    folder, evaluation, _ = trained
    predictor = digitsum.Predictor(folder)
    assert predictor.about["figures"]["digit_accuracy"] == evaluation.digit_accuracy
    digits = digitsum.data.mnist.load()
    answers = predictor.predict_all(digits.images[:100, 0], 7)
    right = np.mean([answer.sum for answer in answers] == digits.labels[:100] + 7)
    assert abs(right - evaluation.sum_accuracy) < 0.2


def test_the_held_out_images_are_evaluated_again_alike(
    trained: tuple[Path, digitsum.Evaluation, list[float]],
) -> None:
    folder, evaluation, _ = trained
    again = digitsum.evaluate_held_out(folder)
    assert replace(again, seconds=0) == replace(evaluation, seconds=0)


def test_train_finishes_a_run_of_which_the_rest_was_interrupted(
    trained: tuple[Path, digitsum.Evaluation, list[float]], tmp_path: Path
) -> None:
    folder, evaluation, _ = trained
    for name in ("config.json", "checkpoint.ckpt", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    again = digitsum.train(SHORT, tmp_path, pytest.fail)
    assert replace(again, seconds=0) == replace(evaluation, seconds=0)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert json.loads((tmp_path / "evaluation.json").read_text())["images"] == 1000


def test_what_is_no_run_has_nothing_held_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        digitsum.evaluate_held_out(tmp_path)
