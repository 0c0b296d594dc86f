import csv
import io
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from digitsum.config import PRESETS, Config
from digitsum.data import mixing
from digitsum.data.non_digits import draw_non_digits
from digitsum.data.strokes import draw_digits
from digitsum.errors import InputError
from digitsum.evaluation import evaluate
from digitsum.networks import ConcatNet, load
from digitsum.training.loop import fit
from digitsum.training.optim import one_cycle
from digitsum.training.state import LOGGED, load_parts


@pytest.fixture
def quick(config: Config) -> Config:
    """Settings that learn the pictures, clean ones, in ten epochs."""
    return replace(config, augment=False, epochs=10, learning_rate=0.02)


@pytest.fixture
def _few_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "DRAWN", 50)


def test_fit_learns_and_logs_each_epoch(quick: Config, tmp_path: Path) -> None:
    log = fit(replace(quick, width=8), tmp_path / "run")
    assert [row["epoch"] for row in log] == list(range(1, 11))
    assert log[-1]["train_loss"] < 0.1 * log[0]["train_loss"]
    assert log[-1]["digit_accuracy"] == 1
    assert log[-1]["sum_accuracy"] == log[-1]["joint_accuracy"] >= 0.9  # 32 of the 100 pairs were seen
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert rows == log


def test_bfloat16_learns_too(quick: Config, tmp_path: Path) -> None:
    *_, exactly = fit(quick, tmp_path / "float32")
    *_, last = fit(replace(quick, precision="bf16-mixed"), tmp_path / "bfloat16")
    assert last["train_loss"] != exactly["train_loss"]
    assert last["digit_accuracy"] == 1


def test_few_pictures_teach_the_package_s_network_another_hand(config: Config, tmp_path: Path) -> None:
    config = replace(PRESETS["adapt"], data=config.data, precision="32-true", augment=False, batch_size=8)
    before = evaluate(load("exact"), load_parts(config)[1], "bars", "held-out")
    *_, after = fit(config, tmp_path / "run")
    assert before.digit_accuracy < 0.3
    assert after["digit_accuracy"] > 0.7  # of eight pictures


def test_held_out_images_that_are_all_read_rightly_make_none_certain(quick: Config, tmp_path: Path) -> None:
    config = replace(quick, network="exact")
    *_, last = fit(config, tmp_path / "run")
    assert last["joint_accuracy"] == 1
    saved = evaluate(load(tmp_path / "run"), load_parts(config)[1], "bars", "held-out")
    assert saved.digit_nll == pytest.approx(last["digit_nll"], rel=1e-3)


def test_another_seed_gives_another_training(config: Config, tmp_path: Path) -> None:
    losses = {fit(replace(config, seed=i), tmp_path / str(i))[0]["train_loss"] for i in range(3)}
    assert len(losses) == 3


CONCAT_IS_TOLD = (
    "the network concat learns next to nothing from sums alone (--digit-weight 0): exact and fast do"
)


@pytest.mark.parametrize(
    ("network", "said", "learnt"), [("exact", [], (1.0, 1.0)), ("concat", [CONCAT_IS_TOLD], (0.0, 0.6))]
)
def test_exact_net_learns_the_digit_from_sums_alone_and_concat_says_before_that_it_hardly_does(
    quick: Config,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    network: Literal["exact", "concat"],
    said: list[str],
    learnt: tuple[float, float],
) -> None:
    config, before = replace(quick, network=network, digit_weight=0, sum_weight=1), []
    *_, last = fit(config, tmp_path / "run", on_epoch=lambda _: before.append(list(caplog.messages)))
    assert before[0] == caplog.messages == said
    assert learnt[0] <= last["digit_accuracy"] <= learnt[1]


def test_the_exact_networks_sum_adds_its_weight_to_the_digits_loss(config: Config, tmp_path: Path) -> None:
    losses = []
    for digit_weight, sum_weight in ((1.0, 0.0), (0.75, 0.25), (0.0, 1.0)):
        weights = {"digit_weight": digit_weight, "sum_weight": sum_weight}
        (row,) = fit(replace(config, network="exact", epochs=1, **weights), tmp_path / str(digit_weight))
        losses.append(row["train_loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_label_smoothing_holds_the_confidence_down(quick: Config, tmp_path: Path) -> None:
    *_, last = fit(replace(quick, network="exact", label_smoothing=0.2), tmp_path / "run")
    assert last["digit_accuracy"] == 1
    # the best loss there is: a mix of 0.8 and 0.2 spread over ten, against itself
    right, wrong = 0.82, 0.02
    entropy = -right * math.log(right) - 9 * wrong * math.log(wrong)
    assert entropy < last["train_loss"] < entropy + 0.2


@pytest.mark.usefixtures("_few_are_drawn")
def test_non_digits_teach_doubt(quick: Config, tmp_path: Path) -> None:
    things = torch.from_numpy(draw_non_digits(20, np.random.default_rng(1)))[:, None]
    *_, last = fit(replace(quick, non_digits=1.0), tmp_path / "run")
    log_digit, _ = load(tmp_path / "run")(things, torch.eye(10)[[0] * 20])
    assert last["digit_accuracy"] == 1
    assert last["digit_nll"] < 0.5
    assert log_digit.exp().amax(dim=1).mean() < 0.4


@pytest.mark.usefixtures("_few_are_drawn")
def test_synthetic_digits_are_learnt_beside_the_data(quick: Config, tmp_path: Path) -> None:
    images, digits = draw_digits(50, np.random.default_rng(0))
    *_, last = fit(replace(quick, network="exact", synthetic_digits=1.0), tmp_path / "run")
    log_digit, _ = load(tmp_path / "run")(torch.from_numpy(images)[:, None], torch.eye(10)[[0] * 50])
    assert last["joint_accuracy"] == 1
    assert np.mean(log_digit.argmax(dim=1).numpy() == digits) > 0.6


def test_fast_net_learns_where_the_last_batch_has_one_image(quick: Config, tmp_path: Path) -> None:
    quick = replace(quick, network="fast", train_fraction=33 / 40)
    *_, last = fit(quick, tmp_path / "run")
    assert last["learning_rate"] == one_cycle(39, 40, 0.02)  # of four batches an epoch
    assert last["digit_accuracy"] == 1


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"train_fraction": 0.03}])
def test_fast_net_does_not_begin_to_learn_from_one_image_at_a_time(
    config: Config, tmp_path: Path, settings: dict[str, object]
) -> None:
    message = r"^the network fast compares the images of a batch: --batch-size must"
    with pytest.raises(InputError, match=message):
        fit(replace(config, network="fast", **settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(
    config: Config, tmp_path: Path, errors_on: Callable[[bool], io.StringIO], terminal: bool
) -> None:
    errors = errors_on(terminal)
    fit(config, tmp_path / "run")
    assert ("epoch 2" in errors.getvalue()) == terminal


def test_fit_stops_when_the_loss_is_not_finite_and_begins_again(config: Config, tmp_path: Path) -> None:
    message = r"^the loss of epoch 1 isn't finite: try a lower --learning"
    with pytest.raises(FloatingPointError, match=message):
        fit(replace(config, learning_rate=1e20), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
    assert [row["epoch"] for row in fit(config, tmp_path / "run")] == [1, 2]


def test_the_log_has_the_figures_of_an_evaluation(config: Config, tmp_path: Path) -> None:
    (row,) = fit(replace(config, epochs=1), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)["average"]
    network = ConcatNet(width=4)
    network.load_state_dict({n.removeprefix("module."): v for n, v in state.items() if n != "n_averaged"})
    found = asdict(evaluate(network, load_parts(config)[1], "bars", "held-out"))
    assert {name: row[name] for name in LOGGED} == pytest.approx(
        {name: found[name] for name in LOGGED}, rel=1e-12
    )
