import csv
import io
from pathlib import Path

import matplotlib as mpl
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from digitsum.config import Config
from digitsum.evaluation import Evaluation
from digitsum.reporting.tensorboard import log_evaluation


def test_tensorboard_reads_the_log_the_settings_and_the_confusion_matrix(finished_run: Path) -> None:
    events = EventAccumulator(str(finished_run)).Reload()
    with (finished_run / "metrics.csv").open() as file:
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
    config = Config.load(finished_run)
    assert started.hparams["width"].number_value == config.width == 4
    assert started.hparams["network"].string_value == "concat"
    found = Evaluation.load(finished_run / "evaluation.json")
    assert events.Scalars("held-out/sum_accuracy")[0].value == pytest.approx(found.sum_accuracy)


def test_the_confusion_matrix_is_drawn_whatever_the_user_has_set(
    finished_run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluation, config = Evaluation.load(finished_run / "evaluation.json"), Config.load(finished_run)
    log_evaluation(evaluation, config, tmp_path / "usual")
    with mpl.rc_context({"text.usetex": True, "font.sans-serif": "Nowhere", "figure.dpi": 30}):
        log_evaluation(evaluation, config, tmp_path / "users")
    pictures = [
        EventAccumulator(str(tmp_path / name)).Reload().Images("confusion")[0].encoded_image_string
        for name in ("usual", "users")
    ]
    assert pictures[0] == pictures[1]
    assert caplog.text == ""
