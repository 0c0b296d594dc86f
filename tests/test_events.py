import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from digitsum.config import Config
from digitsum.evaluation import Evaluation


@pytest.fixture
def trained(digitsum_main: Callable[..., int], pictures: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    arguments = f"train --data {pictures} --epochs 3 --width 4 --log tensorboard --out {folder}"
    assert digitsum_main(*arguments.split()) == 0
    return folder


def test_tensorboard_reads_the_log_the_settings_and_the_confusion_matrix(trained: Path) -> None:
    events = EventAccumulator(str(trained)).Reload()
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for tag, column in [
        ("loss/training", "train_loss"),
        ("loss/sum", "sum_nll"),
        ("accuracy/digit", "digit_accuracy"),
        ("learning_rate", "learning_rate"),
    ]:
        logged = [(scalar.step, scalar.value) for scalar in events.Scalars(tag)]
        expected = [(float(row["epoch"]), float(row[column])) for row in rows]
        assert logged == [pytest.approx(pair) for pair in expected]

    picture = Image.open(io.BytesIO(events.Images("confusion")[0].encoded_image_string))
    assert min(picture.size) >= 200
    assert len(picture.convert("L").getcolors()) > 10

    started = HParamsPluginData.FromString(
        events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    ).session_start_info
    config = Config.load(trained)
    assert started.hparams["width"].number_value == config.width == 4
    assert started.hparams["network"].string_value == "concat"
    found = Evaluation.load(trained / "evaluation.json")
    assert events.Scalars("held-out/sum_accuracy")[0].value == pytest.approx(found.sum_accuracy)
