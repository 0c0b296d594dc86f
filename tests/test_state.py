import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from digitsum import mnist
from digitsum.config import PRESETS, Config
from digitsum.data import mixing
from digitsum.data.digits import Digits
from digitsum.errors import InputError
from digitsum.files import SUMS, replacing
from digitsum.networks import NETWORKS, ConcatNet, DigitSumNet
from digitsum.training.loop import fit
from digitsum.training.state import load_parts, with_start


def train_an_epoch(config: Config, run: Path) -> None:
    """Train until the user interrupts after the first epoch."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, run, on_epoch=interrupt)


def files(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir())


def assert_equal_weights(one: Path, other: Path) -> None:
    weights = DigitSumNet.from_pretrained(other).state_dict()
    for name, weight in DigitSumNet.from_pretrained(one).state_dict().items():
        assert torch.equal(weight, weights[name]), name


def edit(run: Path, **settings: object) -> None:
    """Change the settings of a run as one does by hand."""
    path = run / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_fit_leaves_a_whole_run_folder(config: Config, tmp_path: Path) -> None:
    after_epoch: list[list[str]] = []
    fit(config, tmp_path / "run", on_epoch=lambda _: after_epoch.append(files(tmp_path / "run")))
    saved = ["SHA256SUMS", "checkpoint.ckpt", "config.json", "metrics.csv"]
    assert after_epoch == [[".lock", *saved]] * 2
    assert files(tmp_path / "run") == [*saved, "model.safetensors"]
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path / "run", check=True)  # noqa: S607
    assert Config.load(tmp_path / "run") == config
    said = json.loads((tmp_path / "run" / "config.json").read_text())
    assert said["environment"]["torch"] == torch.__version__
    assert re.fullmatch("[0-9a-f]{64}", said["data_sha256"])


DRAWS = {"damage": True, "synthetic_digits": 0.5, "non_digits": 0.5, "addends": "resampled"}


@pytest.mark.parametrize(
    ("settings", "threads"),
    [
        ({"augment": False}, 1),
        (DRAWS, 1),
        ({"network": "exact"} | DRAWS, 1),
        ({"network": "exact", "width": 16, "batch_size": 32}, 2),
    ],
)
def test_one_epoch_and_a_resumed_one_give_bit_for_bit_two(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, object],
    threads: int,
) -> None:
    monkeypatch.setattr(mixing, "DRAWN", 50)
    config, before = replace(config, **settings), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        whole = fit(config, tmp_path / "whole")
        train_an_epoch(config, tmp_path / "parts")
        assert files(tmp_path / "parts") == ["SHA256SUMS", "checkpoint.ckpt", "config.json", "metrics.csv"]
        resumed = fit(Config.load(tmp_path / "parts"), tmp_path / "parts")
    finally:
        torch.set_num_threads(before)
    assert [row | {"seconds": 0} for row in resumed] == [row | {"seconds": 0} for row in whole]
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")


# Other weights to start from


@pytest.mark.parametrize(
    ("network", "kept"), [("concat", ("conv1", "image", "addend")), ("exact", ("body",))]
)
def test_a_run_starts_from_the_weights_of_another(
    config: Config, tmp_path: Path, network: str, kept: tuple[str, ...]
) -> None:
    first, second = NETWORKS[network](width=4), tmp_path / "second"
    first.save_pretrained(tmp_path / "first")
    still = {"epochs": 1, "learning_rate": 0, "average": 0, "precision": "32-true"}
    fit(replace(PRESETS["adapt"], data=config.data, start_from=str(tmp_path / "first"), **still), second)
    after = DigitSumNet.from_pretrained(second).state_dict()
    for name, weight in first.named_parameters():
        if name.startswith(kept):
            assert torch.equal(weight, after[name]), name
    settings = Config.load(second)
    assert (settings.start_from, settings.network, settings.width) == (str(tmp_path / "first"), network, 4)


def test_a_resumed_run_does_not_start_from_the_weights_again(config: Config, tmp_path: Path) -> None:
    ConcatNet(width=4).save_pretrained(tmp_path / "first")
    config = replace(config, start_from=str(tmp_path / "first"))
    fit(config, tmp_path / "whole")
    train_an_epoch(config, tmp_path / "parts")
    shutil.rmtree(tmp_path / "first")
    fit(Config.load(tmp_path / "parts"), tmp_path / "parts")
    assert_equal_weights(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({"width": 8}, (), "--start-from exact has the width 32, not 8: leave --width out"),
        ({"network": "fast"}, (), "--start-from exact has the network exact, not fast: leave --network out"),
        ({}, ("network",), "--start-from exact has the network exact, not concat: leave --network out"),
        (
            {"start_from": "nowhere"},
            (),
            "there is no network 'nowhere': name exact, concat, row, or a folder",
        ),
    ],
)
def test_weights_of_another_network_than_the_chosen_one_are_refused(
    settings: dict[str, object], given: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        with_start(replace(Config(start_from="exact"), **settings), given)


def test_a_log_or_weights_without_a_checkpoint_are_no_run_to_train_into(
    config: Config, tmp_path: Path
) -> None:
    for folder, name in ((tmp_path / "log", "metrics.csv"), (tmp_path / "mine", "model.safetensors")):
        folder.mkdir()
        (folder / name).write_text("mine")
        why = rf"checkpoint.ckpt is missing and {name} is there, so {folder} can't go on: train into another"
        with pytest.raises(InputError, match=why):
            fit(config, folder)
        assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, "mine")]


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


@pytest.mark.parametrize("change", [add_a_picture, change_a_label, change_a_pixel])
def test_every_change_of_the_data_is_noticed_also_by_a_copy_of_the_network(
    config: Config, finished: Path, pictures: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    DigitSumNet.from_pretrained(finished).save_pretrained(tmp_path / "copy")
    first, second = load_parts(config, finished), load_parts(config, tmp_path / "copy")
    assert [set(part.sampler) for part in first] == [set(part.sampler) for part in second]
    assert not set(first[0].sampler) & set(first[1].sampler)
    change(pictures)
    for run in (finished, tmp_path / "copy"):
        with pytest.raises(InputError, match="other images, labels, order or split"):
            load_parts(config, run)


def test_data_that_were_moved_are_the_run_s(finished: Path, pictures: Path) -> None:
    moved = pictures.rename(pictures.with_name("moved"))
    edit(finished, data=str(moved))
    config = Config.load(finished)
    assert config.data == str(moved)
    assert load_parts(config, finished)
    assert len(fit(config, finished)) == 2


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


def test_data_are_found_from_anywhere(
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

    edit(tmp_path / "run", data="pictures")  # as earlier versions leave it, which find them from there alone
    with pytest.raises(InputError, match=r" 0 to 9, not pictures, looked for from /$"):
        load_parts(Config.load(tmp_path / "run"))
    monkeypatch.chdir(tmp_path)
    assert fit(Config.load("run"), "run") == rows


def test_a_run_does_not_go_on_with_other_settings(config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_an_epoch(config, run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for settings, message in (
        ({"epochs": 3}, "--epochs 2, not 3"),
        ({"seed": 1}, "--seed 0, not 1"),
        ({"network": "exact"}, "--network concat, not exact"),
        ({"precision": "bf16-mixed"}, "--precision 32-true, not bf16-mixed"),
        ({"augment": False}, "--augment True, not False"),
    ):
        why = rf"^{run} is a run with {message}: give it its own settings, or ch"
        with pytest.raises(InputError, match=why):
            fit(replace(config, **settings), run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_finished_run_gives_its_rows_and_changes_only_a_lost_log(config: Config, finished: Path) -> None:
    (finished / "evaluation.json").write_text("of these weights")
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    (finished / "metrics.csv").unlink()  # stopped between the checkpoint and its log
    assert [row["epoch"] for row in fit(config, str(finished))] == [1, 2]
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_what_is_left_of_other_weights_goes_when_a_training_goes_on(finished: Path) -> None:
    for name in ("model.onnx", "evaluation.json", "report.html"):
        with replacing(finished / name) as file:
            file.write_text("of the weights of two epochs")
    edit(finished, epochs=3)
    seen: list[list[str]] = []
    fit(Config.load(finished), finished, on_epoch=lambda _: seen.append(files(finished)))
    assert seen == [[".lock", "SHA256SUMS", "checkpoint.ckpt", "config.json", "metrics.csv"]]
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=finished, check=True)  # noqa: S607
    assert files(finished) == [*seen[0][1:], "model.safetensors"]


# Damage, a full disk, a second training


def test_fit_refuses_a_checkpoint_that_is_damaged_or_runs_code(config: Config, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    run = tmp_path / "run"
    train_an_epoch(config, run)
    torch.save({"network": Bomb()}, tmp_path / "bomb")
    (run / "checkpoint.ckpt").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"checkpoint.ckpt is damaged: its SHA-256 isn't the one in SHA256S"):
        fit(config, run)
    (run / SUMS).unlink()
    for content in (b"", b"damaged", (tmp_path / "bomb").read_bytes()):
        (run / "checkpoint.ckpt").write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint.ckpt is damaged or of another network: "):
            fit(config, run)
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_ends_fit_and_the_last_checkpoint_goes_on(config: Config, small_disk: Path) -> None:
    run, filler = small_disk / "run", small_disk / "filler"
    train_an_epoch(config, run)
    before = files(run)
    for free in (0, 8_192, 40_960):  # bytes; the checkpoint needs more
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - free))
        with pytest.raises(OSError, match=r"^\S+ can't be written: No space left on device$"):
            fit(config, run)
        assert files(run) == before
        filler.unlink()
    assert [row["epoch"] for row in fit(config, run)] == [1, 2]


def test_other_data_than_a_run_was_trained_on_are_refused(
    config: Config, finished: Path, pictures: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    add_a_picture(pictures)
    why = f"{pictures} isn't what {finished} was trained on any more: other images, labels, order or split"
    with pytest.raises(InputError, match=f"^{why}"):
        fit(config, finished)
    for command in ("evaluate", "train --resume"):
        code, _, errors = run(*command.split(), finished)
        assert code == 2
        assert errors.startswith(f"digitsum: {why}")


def test_another_order_is_noticed(config: Config, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shuffle = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *size, **more: shuffle(*size, **more).flip(0))
    with pytest.raises(InputError, match="other images, labels, order or split"):
        load_parts(config, finished)


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


def test_precision_is_decided_once(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_script_s_training_prints_nothing_and_keeps_a_second_out(config: Config, tmp_path: Path) -> None:
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


def test_a_run_keeps_the_folder_of_mnists_files_absolute(
    digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mnist, "load", lambda name, folder: digits)
    fit(Config(data="mnist", data_dir="mnist", epochs=1, width=4, precision="32-true"), "run")
    settings = Config.load("run")
    assert (settings.data, settings.data_dir) == ("mnist", str(tmp_path / "mnist"))
