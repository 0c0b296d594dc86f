import csv
import json
import math
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from digitsum import mnist
from digitsum.config import PRESETS, Config
from digitsum.data import mixing
from digitsum.data.digits import Digits
from digitsum.data.non_digits import draw_non_digits
from digitsum.data.strokes import draw_digits
from digitsum.errors import InputError
from digitsum.evaluation import evaluate, run_trials
from digitsum.files import replacing
from digitsum.networks import NETWORKS, ConcatNet, DigitSumNet, load
from digitsum.reporting.page import write_report
from digitsum.training.loop import fit
from digitsum.training.optim import make_optimizer, one_cycle, set_rate
from digitsum.training.state import LOGGED, load_parts, with_start


@pytest.fixture
def config(pictures: Path) -> Config:
    return Config(data=str(pictures), epochs=2, batch_size=8, width=4, precision="32-true")


@pytest.fixture
def quick(config: Config) -> Config:
    """Settings that learn the pictures, clean ones, in ten epochs."""
    return replace(config, augment=False, epochs=10, learning_rate=0.02)


@pytest.fixture
def _few_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "DRAWN", 50)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return DigitSumNet.from_pretrained(run).state_dict()


def train_an_epoch(config: Config, run: Path) -> None:
    """Train until the user interrupts after the first epoch."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, run, on_epoch=interrupt)


def assert_sums(run: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=run, check=True)  # noqa: S607


def files(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


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


def test_fit_leaves_a_whole_run_folder(config: Config, tmp_path: Path) -> None:
    after_epoch = []
    rows = fit(
        config, tmp_path / "run", on_epoch=lambda row: after_epoch.append((row, files(tmp_path / "run")))
    )
    assert after_epoch == [
        (row, [".lock", "SHA256SUMS", "checkpoint.ckpt", "config.json", "metrics.csv"]) for row in rows
    ]
    assert len(rows) == 2
    assert files(tmp_path / "run") == [
        "SHA256SUMS",
        "checkpoint.ckpt",
        "config.json",
        "metrics.csv",
        "model.safetensors",
    ]
    assert_sums(tmp_path / "run")
    assert Config.load(tmp_path / "run") == config
    said = json.loads((tmp_path / "run" / "config.json").read_text())
    assert said["environment"]["torch"] == torch.__version__
    assert re.fullmatch("[0-9a-f]{64}", said["data_sha256"])


@pytest.mark.usefixtures("_few_are_drawn")
@pytest.mark.parametrize("network", ["concat", "exact"])
@pytest.mark.parametrize("fresh", [False, True])
def test_one_epoch_and_a_resumed_one_give_bit_for_bit_two(
    config: Config, tmp_path: Path, network: Literal["concat", "exact"], fresh: bool
) -> None:
    config = replace(
        config,
        network=network,
        augment=fresh,
        damage=fresh,
        synthetic_digits=fresh / 2,
        non_digits=fresh / 2,
        addends="resampled" if fresh else "once",
    )
    whole = fit(config, tmp_path / "whole")

    train_an_epoch(config, tmp_path / "parts")
    assert files(tmp_path / "parts") == ["SHA256SUMS", "checkpoint.ckpt", "config.json", "metrics.csv"]
    resumed = fit(Config.load(tmp_path / "parts"), tmp_path / "parts")

    assert [row | {"seconds": 0} for row in resumed] == [row | {"seconds": 0} for row in whole]
    for name, weight in weights(tmp_path / "whole").items():
        assert torch.equal(weight, weights(tmp_path / "parts")[name]), name


def test_with_two_threads_too_a_resumed_run_is_the_same_bit_for_bit(config: Config, tmp_path: Path) -> None:
    config = replace(config, network="exact", width=16, batch_size=32)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit(config, tmp_path / "whole")
        train_an_epoch(config, tmp_path / "parts")
        fit(config, tmp_path / "parts")
    finally:
        torch.set_num_threads(threads)
    for name, weight in weights(tmp_path / "whole").items():
        assert torch.equal(weight, weights(tmp_path / "parts")[name]), name


@pytest.mark.parametrize("network", ["concat", "exact"])
def test_a_run_starts_from_the_weights_of_another(
    config: Config, tmp_path: Path, network: Literal["concat", "exact"]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fit(replace(config, network=network), first)
    still = {"epochs": 1, "learning_rate": 0, "average": 0, "precision": "32-true"}
    fit(replace(PRESETS["adapt"], data=config.data, start_from=str(first), **still), second)
    learnt = {"conv1", "image", "addend"} if network == "concat" else {"body"}
    before, after = weights(first), weights(second)
    for name, weight in before.items():
        if name.split(".")[0] in learnt and "running" not in name and "batches" not in name:
            assert torch.equal(weight, after[name]), name
    assert Config.load(second).start_from == str(first)
    assert (Config.load(second).network, Config.load(second).width) == (network, 4)


def test_a_resumed_run_does_not_start_from_the_weights_again(config: Config, tmp_path: Path) -> None:
    fit(config, tmp_path / "first")
    config = replace(config, start_from=str(tmp_path / "first"))
    fit(config, tmp_path / "whole")
    train_an_epoch(config, tmp_path / "parts")
    shutil.rmtree(tmp_path / "first")
    fit(Config.load(tmp_path / "parts"), tmp_path / "parts")
    for name, weight in weights(tmp_path / "whole").items():
        assert torch.equal(weight, weights(tmp_path / "parts")[name]), name


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({"width": 8}, (), "--start-from exact has the width 32, not 8: leave --width out"),
        ({"network": "fast"}, (), "--start-from exact has the network exact, not fast: leave --network out"),
        ({}, ("network",), "--start-from exact has the network exact, not concat: leave --network out"),
        ({"start_from": "nowhere"}, (), "there is no network 'nowhere': name exact, concat, or a folder"),
    ],
)
def test_weights_of_another_network_than_the_chosen_one_are_refused(
    settings: dict[str, object], given: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        with_start(replace(Config(start_from="exact"), **settings), given)


def test_few_pictures_teach_the_package_s_network_another_hand(config: Config, tmp_path: Path) -> None:
    config = replace(PRESETS["adapt"], data=config.data, precision="32-true", augment=False, batch_size=8)
    before = evaluate(load("exact"), load_parts(config)[1], "bars", "held-out")
    *_, after = fit(config, tmp_path / "run")
    assert before.digit_accuracy < 0.3
    assert after["digit_accuracy"] > 0.7  # of eight pictures


def test_held_out_images_that_are_all_read_rightly_make_no_answer_certain(
    quick: Config, tmp_path: Path
) -> None:
    config = replace(quick, network="exact")
    *_, last = fit(config, tmp_path / "run")
    assert last["joint_accuracy"] == 1
    saved = evaluate(load(tmp_path / "run"), load_parts(config)[1], "bars", "held-out")
    assert saved.digit_nll == pytest.approx(last["digit_nll"], rel=1e-3)


def test_another_seed_gives_other_weights(config: Config, tmp_path: Path) -> None:
    for seed in (0, 1):
        fit(replace(config, seed=seed), tmp_path / str(seed))
    assert not torch.equal(weights(tmp_path / "0")["conv1.weight"], weights(tmp_path / "1")["conv1.weight"])


def test_exact_net_learns_the_digit_from_sums_alone(
    quick: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    *_, last = fit(replace(quick, network="exact", digit_weight=0, sum_weight=1), tmp_path / "run")
    assert last["digit_accuracy"] == 1
    assert caplog.messages == []


def test_concat_net_hardly_learns_from_sums_alone_and_it_is_said_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = {"width": 4, "epochs": 1, "train_fraction": 0.4, "augment": False, "precision": "32-true"}
    said: list[str] = []
    (row,) = fit(
        Config(digit_weight=0, sum_weight=1, **small),
        tmp_path / "run",
        on_epoch=lambda _: said.extend(caplog.messages),
    )
    assert row["digit_accuracy"] < 0.3
    assert said == [
        "the network concat learns next to nothing from sums alone (--digit-weight 0): exact and fast do"
    ]


def test_without_averaging_the_last_steps_weights_are_kept(config: Config, tmp_path: Path) -> None:
    list(fit(replace(config, average=0, network="exact"), tmp_path / "run"))
    state = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)
    averaged = {name.removeprefix("module."): value for name, value in state["average"].items()}
    for name, weight in state["network"].items():
        assert torch.equal(weight, averaged[name]), name


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
def test_drawn_hands_are_learnt_beside_the_data(quick: Config, tmp_path: Path) -> None:
    images, digits = draw_digits(50, np.random.default_rng(0))
    *_, last = fit(replace(quick, network="exact", synthetic_digits=1.0), tmp_path / "run")
    log_digit, _ = load(tmp_path / "run")(torch.from_numpy(images)[:, None], torch.eye(10)[[0] * 50])
    assert last["joint_accuracy"] == 1
    assert np.mean(log_digit.argmax(dim=1).numpy() == digits) > 0.6


# A last batch of one image


@pytest.mark.parametrize("network", ["concat", "exact", "fast"])
def test_every_network_learns_from_a_folder_whose_last_batch_has_one_image(
    quick: Config, pictures: Path, tmp_path: Path, network: Literal["concat", "exact", "fast"]
) -> None:
    add_a_picture(pictures)  # 33 of 41 are trained on
    *_, last = fit(replace(quick, network=network), tmp_path / "run")
    assert last["learning_rate"] == one_cycle(39, 40, 0.02)  # of four batches an epoch
    assert last["digit_accuracy"] == 1


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"train_fraction": 0.03}])
def test_fast_net_does_not_begin_to_learn_from_one_image_at_a_time(
    config: Config, tmp_path: Path, settings: dict[str, object]
) -> None:
    with pytest.raises(
        InputError, match=r"^the network fast compares the images of a batch: --batch-size must"
    ):
        fit(replace(config, network="fast", **settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("network", NETWORKS.values())
def test_a_process_s_part_of_the_held_out_images_may_be_none(network: type[DigitSumNet]) -> None:
    none = (
        (torch.zeros(0, 1, 28, 28), torch.zeros(0, 10)),
        (torch.zeros(0, dtype=int), torch.zeros(0, dtype=int)),
    )
    assert run_trials(network(width=1), [none]).sum.shape == (0, 10)


def test_fit_draws_a_progress_bar_on_a_terminal(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, screen = pty.openpty()
    monkeypatch.setenv("TERM", "xterm-256color")
    with open(screen, "w") as errors:  # noqa: PTH123  # a descriptor
        monkeypatch.setattr(sys, "stderr", errors)
        fit(config, tmp_path / "run")
        assert b"epoch 2" in os.read(terminal, 100_000)
    os.close(terminal)


def test_fit_stops_when_the_loss_is_not_finite(config: Config, tmp_path: Path) -> None:
    config = replace(config, learning_rate=1e20)
    with pytest.raises(
        FloatingPointError, match=r"^the loss of epoch 1 isn't finite: try a lower --learning"
    ):
        fit(config, tmp_path / "run")
    assert files(tmp_path / "run") == ["config.json"]


def test_the_log_has_the_figures_of_an_evaluation(config: Config, tmp_path: Path) -> None:
    (row,) = fit(replace(config, epochs=1), tmp_path / "run")
    state = torch.load(tmp_path / "run" / "checkpoint.ckpt", weights_only=True)["average"]
    network = ConcatNet(width=4)
    network.load_state_dict({n.removeprefix("module."): v for n, v in state.items() if n != "n_averaged"})
    found = asdict(evaluate(network, load_parts(config)[1], "bars", "held-out"))
    assert {name: row[name] for name in LOGGED} == pytest.approx(
        {name: found[name] for name in LOGGED}, rel=1e-12
    )


def test_fit_refuses_a_run_whose_checkpoint_is_missing(config: Config, tmp_path: Path) -> None:
    train_an_epoch(config, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.ckpt").unlink()
    with pytest.raises(
        InputError,
        match=r"checkpoint.ckpt is missing and metrics.csv is there, so .*run can't go on: train into anoth",
    ):
        fit(config, tmp_path / "run")


def test_a_run_that_was_stopped_in_its_first_epoch_begins_again(config: Config, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError):
        fit(replace(config, learning_rate=1e20), tmp_path / "run")
    assert [row["epoch"] for row in fit(config, tmp_path / "run")] == [1, 2]


def test_a_run_that_was_stopped_between_checkpoint_and_log_has_both_again(
    config: Config, tmp_path: Path
) -> None:
    rows = fit(config, tmp_path / "run")
    log = (tmp_path / "run" / "metrics.csv").read_bytes()
    (tmp_path / "run" / "metrics.csv").unlink()
    assert fit(config, tmp_path / "run") == rows
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == log


def test_a_folder_with_saved_weights_is_no_run_to_train_into(config: Config, tmp_path: Path) -> None:
    ConcatNet(width=4).save_pretrained(tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    with pytest.raises(
        InputError, match=r"checkpoint.ckpt is missing and model.safetensors is there, so .*min"
    ):
        fit(config, tmp_path / "mine")
    assert {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()} == before


# Of one run: its data, its settings, its files


@pytest.fixture
def finished(config: Config, tmp_path: Path) -> Path:
    fit(config, tmp_path / "run")
    return tmp_path / "run"


def add_a_picture(pictures: Path) -> None:
    shutil.copy(pictures / "3" / "0.png", pictures / "3" / "4.png")


def change_a_label(pictures: Path) -> None:
    (pictures / "3" / "3.png").rename(pictures / "4" / "3b.png")


def change_a_pixel(pictures: Path) -> None:
    image = np.asarray(Image.open(pictures / "3" / "0.png")).copy()
    image[10, 10] ^= 1
    Image.fromarray(image).save(pictures / "3" / "0.png")


def test_other_data_than_a_run_was_trained_on_are_refused_wherever_it_is_looked_at(
    config: Config,
    finished: Path,
    pictures: Path,
    digitsum_main: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_a_picture(pictures)
    why = f"{pictures} isn't what {finished} was trained on any more: other images, labels, order or split"
    with pytest.raises(InputError, match=f"^{why}"):
        fit(config, finished)
    for command in ("evaluate", "train --resume"):
        assert digitsum_main(*command.split(), finished) == 2
        assert capsys.readouterr().err.startswith(f"digitsum: {why}")
    assert any(problem.startswith(why) for problem in write_report(finished))


@pytest.mark.parametrize("change", [add_a_picture, change_a_label, change_a_pixel])
def test_every_change_of_the_data_is_noticed(
    config: Config, finished: Path, pictures: Path, change: Callable[[Path], None]
) -> None:
    assert load_parts(config, finished)
    change(pictures)
    with pytest.raises(InputError, match="other images, labels, order or split"):
        load_parts(config, finished)


def test_a_library_that_shuffles_otherwise_is_noticed(
    config: Config, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffle = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *size, **more: shuffle(*size, **more).flip(0))
    with pytest.raises(InputError, match="other images, labels, order or split"):
        load_parts(config, finished)


def test_data_that_were_moved_are_the_run_s(config: Config, finished: Path, pictures: Path) -> None:
    moved = pictures.rename(pictures.with_name("moved"))
    settings = json.loads((finished / "config.json").read_text())
    (finished / "config.json").write_text(json.dumps(settings | {"data": str(moved)}))
    config = Config.load(finished)
    assert config.data == str(moved)
    assert load_parts(config, finished)
    assert len(fit(config, finished)) == 2


def test_a_saved_network_says_which_data_it_was_trained_on(
    config: Config, finished: Path, pictures: Path, tmp_path: Path
) -> None:
    DigitSumNet.from_pretrained(finished).save_pretrained(tmp_path / "copy")
    assert load_parts(config, tmp_path / "copy")
    add_a_picture(pictures)
    with pytest.raises(InputError, match="other images, labels, order or split"):
        load_parts(config, tmp_path / "copy")


def test_a_run_of_an_earlier_version_says_that_its_data_can_t_be_checked(
    config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_an_epoch(config, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    settings = json.loads(path.read_text())
    sha256 = settings.pop("data_sha256")
    path.write_text(json.dumps(settings))
    fit(config, tmp_path / "run")
    assert caplog.messages == [
        f"{path} is of an earlier version: it doesn't say which data {tmp_path / 'run'} was trained on"
    ]
    assert json.loads(path.read_text())["data_sha256"] == sha256  # which it goes on with


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 3}, "--epochs 2, not 3"),
        ({"batch_size": 4}, "--batch-size 8, not 4"),
        ({"seed": 1}, "--seed 0, not 1"),
        ({"network": "exact"}, "--network concat, not exact"),
        ({"precision": "bf16-mixed"}, "--precision 32-true, not bf16-mixed"),
        ({"augment": False}, "--augment True, not False"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(
    config: Config, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    run = tmp_path / "run"
    train_an_epoch(config, run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(InputError, match=rf"^{run} is a run with {message}: give it its own settings, or ch"):
        fit(replace(config, **settings), run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_goes_on_with_its_data_elsewhere_and_with_what_was_left_open(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = mnist.load
    monkeypatch.setattr(
        mnist, "load", lambda name, folder: read(name)
    )  # pictures, wherever MNIST's files are
    fit(config, tmp_path / "first")
    config = Config(config.data, start_from=str(tmp_path / "first"), epochs=2, batch_size=8)
    train_an_epoch(config, tmp_path / "run")
    own = Config.load(tmp_path / "run")
    assert (own.width, own.precision) != (config.width, config.precision)
    assert len(fit(replace(config, data_dir="/elsewhere"), tmp_path / "run")) == 2
    assert Config.load(tmp_path / "run") == replace(own, data_dir="/elsewhere")


def test_precision_is_decided_once_a_run(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun on a processor that multiplies bfloat16, resumed on one that doesn't."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    whole = fit(replace(config, precision="bf16-mixed"), tmp_path / "whole")
    train_an_epoch(replace(config, precision="auto"), tmp_path / "run")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert Config.load(tmp_path / "run").precision == "bf16-mixed"
    resumed = fit(replace(config, precision="auto"), tmp_path / "run")
    assert [row | {"seconds": 0} for row in resumed] == [row | {"seconds": 0} for row in whole]
    fit(replace(config, precision="auto"), tmp_path / "other")
    assert Config.load(tmp_path / "other").precision == "32-true"


def test_a_finished_run_gives_its_rows_and_stays_as_it_is(config: Config, finished: Path) -> None:
    (finished / "evaluation.json").write_text("of these weights")
    (finished / "metrics.csv").touch()
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    rows = fit(config, str(finished))
    assert [row["epoch"] for row in rows] == [1, 2]
    after = {path.name: path.read_bytes() for path in finished.iterdir()}
    assert after.pop("metrics.csv").count(b"\n") == 3  # as the checkpoint has it
    del before["metrics.csv"]
    assert after == before


def test_what_is_left_of_other_weights_goes_when_a_training_goes_on(config: Config, finished: Path) -> None:
    for name in ("model.onnx", "evaluation.json", "report.html"):
        with replacing(finished / name) as file:
            file.write_text("of the weights of two epochs")
    replace(config, epochs=3).save(finished)  # edited, to train for longer
    seen = []
    fit(Config.load(finished), finished, on_epoch=lambda _: seen.append(files(finished)))
    assert seen == [[".lock", "SHA256SUMS", "checkpoint.ckpt", "config.json", "metrics.csv"]]
    assert_sums(finished)
    assert files(finished) == [
        *("SHA256SUMS", "checkpoint.ckpt", "config.json", "metrics.csv", "model.safetensors")
    ]


@pytest.mark.parametrize("content", [b"", b"damaged"])
def test_fit_refuses_a_damaged_checkpoint(config: Config, tmp_path: Path, content: bytes) -> None:
    train_an_epoch(config, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.ckpt").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"checkpoint.ckpt is damaged: its SHA-256 isn't the one in SHA256SUMS "
    ):
        fit(config, tmp_path / "run")
    (tmp_path / "run" / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match=r"checkpoint.ckpt is damaged or of another network: "):
        fit(config, tmp_path / "run")


@pytest.mark.parametrize("free", [0, 8_192, 40_960])  # bytes; the checkpoint needs more
def test_a_full_disk_ends_fit_and_the_last_checkpoint_goes_on(
    config: Config, small_disk: Path, free: int
) -> None:
    run, filler = small_disk / "run", small_disk / "filler"
    train_an_epoch(config, run)
    before = files(run)
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - free))
    with pytest.raises(OSError, match=r"^\S+ can't be written: No space left on device$"):
        fit(config, run)
    assert files(run) == before
    filler.unlink()
    assert [row["epoch"] for row in fit(config, run)] == [1, 2]


def test_fit_refuses_a_checkpoint_that_runs_code(config: Config, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    train_an_epoch(config, tmp_path / "run")
    torch.save({"network": Bomb()}, tmp_path / "run" / "checkpoint.ckpt")
    (tmp_path / "run" / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match=r"checkpoint.ckpt is damaged or of another network: "):
        fit(config, tmp_path / "run")
    assert not (tmp_path / "exploded").exists()


def test_a_plain_script_s_training_prints_nothing_and_keeps_a_second_out_while_it_lives(
    config: Config, tmp_path: Path
) -> None:
    script = f"""
from time import sleep
from digitsum import Config, fit

def wait(row):
    print(row["epoch"], flush=True)
    sleep(1000)

fit({config!r}, {str(tmp_path / "whole")!r})
fit({config!r}, {str(tmp_path / "run")!r}, on_epoch=wait)
"""
    command, pipe = [sys.executable, "-c", script], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"1\n"
        with pytest.raises(InputError, match=rf"^{tmp_path / 'run'} is in use, by another training for inst"):
            fit(config, tmp_path / "run")
        first.kill()
        assert first.communicate() == (b"", b"")
    assert [row["epoch"] for row in fit(config, tmp_path / "run")] == [1, 2]
    assert ".lock" not in files(tmp_path / "run")


def test_fit_of_data_that_is_not_there_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^the data are mnist5k, mnist or a folder"):
        fit(Config(data=str(tmp_path / "nowhere")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_load_parts_is_the_same_for_every_session_of_a_run(config: Config) -> None:
    first, second = (load_parts(config) for _ in range(2))
    assert [set(part.sampler) for part in first] == [set(part.sampler) for part in second]
    assert not set(first[0].sampler) & set(first[1].sampler)


def test_layers_that_start_right_learn_slowly_and_do_not_decay(config: Config) -> None:
    network = ConcatNet(width=4)
    optimizer = make_optimizer(network, config)
    set_rate(optimizer, 0.5)
    usual, slow = optimizer.param_groups
    assert (usual["lr"], usual["weight_decay"]) == (0.5, config.weight_decay)
    assert (slow["lr"], slow["weight_decay"]) == (0.005, 0)
    heads = [*network.addend.parameters(), *network.digit.parameters(), *network.sum.parameters()]
    assert set(map(id, slow["params"])) == set(map(id, heads))
    assert len(usual["params"]) + len(slow["params"]) == len(list(network.parameters()))


def test_one_cycle_rises_in_a_line_and_falls_in_half_a_cosine() -> None:
    rates = [one_cycle(step, 1000, peak=2.0) for step in range(1001)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[50] == pytest.approx(1.1)
    assert rates[100] == pytest.approx(2.0)
    assert rates[400] == pytest.approx(1 + math.cos(math.pi / 3))
    assert rates[1000] == pytest.approx(0)


def test_a_run_finds_its_data_from_everywhere(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = replace(config, data="pictures", data_dir=None, epochs=1)
    rows = fit(relative, "run")
    assert fit(replace(relative, data="./pictures"), "run") == rows  # the same folder
    monkeypatch.chdir("/")
    _, held_out = load_parts(Config.load(tmp_path / "run"), tmp_path / "run")
    assert len(held_out.sampler) == 8
    assert fit(Config.load(tmp_path / "run"), tmp_path / "run") == rows
    with pytest.raises(InputError, match=r"is a run with --data .*/pictures, not /pictures: "):
        fit(relative, tmp_path / "run")


def test_a_run_of_an_earlier_version_goes_on_where_its_relative_data_are(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = replace(config, data="pictures", epochs=1)
    rows = fit(relative, "run")
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "pictures"}))
    assert fit(Config.load("run"), "run") == rows
    monkeypatch.chdir("/")
    with pytest.raises(InputError, match=r" 0 to 9, not pictures, looked for from /$"):
        load_parts(Config.load(tmp_path / "run"))


def test_a_run_keeps_the_folder_of_mnists_files_absolute(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mnist, "load", lambda name, folder: digits)
    fit(Config(data="mnist", data_dir="mnist", epochs=1, width=4, precision="32-true"), "run")
    settings = Config.load("run")
    assert (settings.data, settings.data_dir) == ("mnist", str(tmp_path / "mnist"))
