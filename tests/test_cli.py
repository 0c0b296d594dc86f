import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from errno import EACCES, ENOSPC
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn
from unittest.mock import ANY

import numpy as np
import pytest
from drawing import page_of
from PIL import Image
from rich.console import Console

import digitsum
from digitsum import cli, mnist
from digitsum.config import PRESETS, Config, bounds, option
from digitsum.errors import InputError
from digitsum.files import WEIGHTS
from digitsum.prediction import Predictor

Run = Callable[..., tuple[int, str, str]]

BASH = shutil.which("bash")
COMMANDS = "train evaluate report compare predict add score export data serve site".split()  # noqa: SIM905


@pytest.fixture
def trained(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run, to change at will."""
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture
def _pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the working folder: a 0, a 3 and a 7, the three in a row, a sharp sign, and what is no picture.

    And a 6 that `concat` reads as 1 and, with the addend 5, adds up to 8.
    """
    monkeypatch.chdir(tmp_path)
    digits = mnist.load()
    drawn = {str(digit): digits.images[digits.labels == digit][9, 0] for digit in (0, 3, 7)}
    drawn |= {"row": page_of(*drawn.values()), "six": digits.images[1406, 0]}
    drawn["sharp"] = np.full((120, 100), 255, np.uint8)
    for bar in np.s_[30:90, 35:40], np.s_[30:90, 60:65], np.s_[45:50, 20:80], np.s_[70:75, 20:80]:
        drawn["sharp"][bar] = 0
    drawn["signs"] = np.hstack([drawn["sharp"]] * 8)
    for name, image in drawn.items():
        Image.fromarray(image).save(f"{name}.png")
    Path("text.png").write_text("not a picture")


def cells(line: str) -> list[str]:
    return re.split(r"  +", line.strip())


# The first page, the version, completion


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(run: Run, arguments: list[str]) -> None:
    code, output, errors = run(*arguments)
    assert (code, errors) == (0, "")
    commands = re.findall(r"^│ ([a-z]+)  ", output, re.MULTILINE)
    assert commands == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_its_options_and_no_markup(run: Run, command: str) -> None:
    code, output, errors = run(command, "--help")
    assert (code, errors) == (0, "")
    assert output.startswith(f"Usage: digitsum {command} ")
    assert re.search(r"^│ [* ]*--", output, re.MULTILINE)
    assert "**" not in output


def test_version_is_the_packages(run: Run) -> None:
    assert run("--version") == (0, f"{version('digitsum')}\n", "")
    assert digitsum.__version__ == version("digitsum")


@pytest.mark.skipif(not BASH, reason="bash isn't installed")
def test_bash_completes_commands_and_options(run: Run, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    code, _, errors = run("--install-completion", "--shell", "bash", "--output", script)
    assert (code, errors) == (0, "")
    for words, expected in [("tra", "train"), ("train --wid", "--width"), ("train --network ex", "exact")]:
        line = ["digitsum", *words.split()]
        ask = f"""source {script}; COMP_WORDS=({" ".join(line)}); COMP_CWORD={len(line) - 1}
            $(complete -p digitsum | sed 's/.*-F \\([^ ]*\\).*/\\1/'); echo "${{COMPREPLY[@]}}" """
        done = subprocess.run([BASH, "-c", ask], capture_output=True, text=True)
        assert (done.stdout.split(), done.stderr) == ([expected], "")


# train


def test_a_run_folder_named_as_a_packaged_network_is_the_run(
    run: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved = json.loads((trained.rename("concat") / "evaluation.json").read_text())
    code, output, _ = run("evaluate", "./concat", "--json")
    assert code == 0
    assert json.loads(output) | {"seconds": 0} == saved | {"seconds": 0}
    assert saved["parameters"] == 3_211  # by hand: 4 * 26 + 8 * 101 + 10 * 129 + 10 * 11 + 10 * 31 + 19 * 31
    assert Predictor("./concat").about["parameters"] == 3_211
    assert Predictor("concat").about["parameters"] == 132_923


def test_train_prints_log_evaluation_and_run_folder(finished_run: Path) -> None:
    lines = (finished_run.parent / "printed.txt").read_text().splitlines()
    assert lines[0].split("  ")[:3] == ["epoch", "train loss", "digit loss"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert "on mnist5k held-out: 1,000 images x 10 addends = 10,000 trials" in lines[4]
    assert [line.split()[0] for line in lines[6:12]] == [
        *("digit", "sum", "joint", "consistency", "misread", "misadded")
    ]
    folder = lines[-2].removeprefix("run folder: ")
    assert folder.endswith("/run")
    assert lines[-1] == f"report: {folder}/report.html"
    names = {path.name for path in finished_run.iterdir() if "tfevents" not in path.name}
    assert names == {
        *("SHA256SUMS", "checkpoint.ckpt", "config.json", "evaluation.json", "metrics.csv"),
        *("model.onnx", "model.safetensors", "report.html"),
    }


def test_train_help_shows_each_setting_as_it_is_declared(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.app, "console", Console(width=400))
    _, output, _ = run("train", "--help")
    panels = re.split(r"╭─ (\w+) ─+╮", output)
    shown = dict(zip(panels[1::2], panels[2::2], strict=True))
    assert list(shown) == ["Data", "Network", "Training", "Run"]
    for setting in fields(Config):
        declared = setting.metadata["shown"]
        (line,) = [line for line in shown[declared["group"]].splitlines() if f"│ {option(setting)} " in line]
        assert declared["help"].replace("**", "") in line
        assert bounds(setting).capitalize() in line
        if isinstance(setting.default, str | int | float) and not isinstance(setting.default, bool):
            assert f"[default: {setting.default}]" in line
    options = {line.split()[1] for line in output.splitlines() if line.startswith("│ --")}
    assert output.count("[default: ") == len(options - {"--preset", "--resume"}) == 25
    assert "[default: $DIGITSUM_DATA, else the user's cache, filled by a download]" in output
    assert "[default: runs/NETWORK-DATE-TIME]" in output


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Path]]:
    """What `train` is asked to train, and where to."""
    asked: list[tuple[Config, Path]] = []

    def train(config: Config, run: Path, *_: object, **__: object) -> NoReturn:
        asked.append((config, run))
        raise KeyboardInterrupt

    monkeypatch.setattr("digitsum.train", train)
    return asked


def test_options_change_a_preset(run: Run, asked: list[tuple[Config, Path]], tmp_path: Path) -> None:
    options = "--data mnist5k --width 4 --batch-size 8 --train-fraction 0.8 --precision 32-true"
    options += f" --preset fast --learning-rate {Config.learning_rate} --augment"  # which repeats the default
    code, _, _ = run("train", *options.split(), "--out", tmp_path / "run")
    assert code == 130
    changed = {"data": "mnist5k", "width": 4, "batch_size": 8, "train_fraction": 0.8}
    changed |= {"learning_rate": Config.learning_rate, "augment": True, "precision": "32-true"}
    assert asked == [(replace(PRESETS["fast"], **changed), tmp_path / "run")]


def test_train_starts_from_trained_weights(
    run: Run, asked: list[tuple[Config, Path]], finished_run: Path, tmp_path: Path
) -> None:
    run("train", "--start-from", finished_run, "--epochs", 1, "--out", tmp_path / "mine")
    changed = {"start_from": str(finished_run), "epochs": 1, "width": 4, "network": "concat"}
    assert asked == [(replace(PRESETS["adapt"], **changed), tmp_path / "mine")]


def test_train_starts_from_weights_of_rows_with_the_settings_of_rows(
    run: Run, asked: list[tuple[Config, Path]], tmp_path: Path
) -> None:
    run("train", "--start-from", "row", "--out", tmp_path / "mine")
    changed = {"start_from": "row", "epochs": 20, "learning_rate": 1e-3}
    assert asked == [(replace(PRESETS["row"], **changed), tmp_path / "mine")]


def test_train_resumes_a_run(run: Run, asked: list[tuple[Config, Path]], finished_run: Path) -> None:
    run("train", "--resume", finished_run)
    assert asked == [(Config.load(finished_run), finished_run)]


# evaluate


def test_pictures_are_evaluated_as_they_are_predicted_and_the_skipped_are_named_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's, as a user's program has none
    digits = mnist.load()
    for i in range(50):
        path = tmp_path / "mine" / str(digits.labels[i]) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size, side = ((480, 400), 336) if i % 3 else ((28, 28), 28)
        page = Image.new("L", size, "white")
        digit = Image.fromarray(255 - digits.images[i, 0]).resize((side, side))
        page.paste(digit, ((size[0] - side) // 2, (size[1] - side) // 3))
        page.save(path)
    (tmp_path / "mine" / "3" / "notes.txt").write_text("no picture")
    code, output, errors = run("evaluate", "exact", "--data", tmp_path / "mine", "--json")
    evaluated = json.loads(output)
    assert (code, evaluated["images"], evaluated["digit_accuracy"] > 0.9) == (0, 50, True)
    paths = sorted((tmp_path / "mine").glob("*/*.png"))
    confusion = np.zeros((10, 10), int)
    for path, answer in zip(paths, Predictor("exact").predict_all(list(map(str, paths)), 7), strict=True):
        confusion[int(path.parent.name), answer.number] += 10  # trials
    assert confusion.tolist() == evaluated["confusion"]
    assert errors == (
        f"digitsum: 1 of 51 files in {tmp_path / 'mine'} were skipped: 3/notes.txt"
        " (it is none of PNG, JPEG, GIF, BMP, TIFF, WEBP; save it as PNG or JPEG)\n"
    )


# report and compare


@pytest.mark.usefixtures("undrawn")
def test_report_names_the_page_and_what_is_damaged_and_exits_with_1_then(run: Run, trained: Path) -> None:
    (trained / "report.html").unlink()
    assert run("report", trained) == (0, f"{trained / 'report.html'}\n", "")
    assert (trained / "report.html").is_file()
    (trained / "metrics.csv").write_text("epoch\n")
    code, output, errors = run("report", trained)
    assert (code, output) == (1, f"{trained / 'report.html'}\n")
    assert errors.startswith(f"digitsum: {trained / 'metrics.csv'} is damaged: expected rows of epoch, ")
    assert errors.count("\n") == 1


@pytest.mark.usefixtures("undrawn")
def test_compare_prints_a_row_a_run_and_names_the_page(run: Run, trained: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, output, errors = run("compare", trained, "--to", page)
    header, row, _, last = output.splitlines()
    assert (code, errors, last) == (0, "", str(page))
    values = dict(zip(header.split(), row.split()[1:], strict=True))
    evaluation = json.loads((trained / "evaluation.json").read_text())
    assert row.split()[0] == "run"
    assert values["parameters"] == f"{evaluation['parameters']:,}"
    assert values["sum"] == f"{evaluation['sum_accuracy']:.2%}"
    assert page.is_file()


# export, predict and add


def test_export_writes_a_model_that_predict_reads(run: Run, finished_run: Path, tmp_path: Path) -> None:
    code, output, _ = run("export", finished_run, "--to", tmp_path / "mine.onnx")
    assert code == 0
    assert output.startswith(f"{tmp_path / 'mine.onnx'}: probabilities within ")
    mine, runs = (Predictor(path).about for path in (tmp_path / "mine.onnx", finished_run))
    assert mine == runs
    assert mine["figures"]["images"] == 1000


SURE, NO_DIGIT = "> 99.9 %", "(uncertain: perhaps not a digit)"
CONTRADICTED = "(uncertain: the two outputs contradict each other, as 1 + 5 is 6, not 8)"
PRINTED = {
    "predict 0.png 3.png 7.png --addend 9 --model exact": [
        *(["0", SURE, "9", SURE, "0.png"], ["3", SURE, "12", SURE, "3.png"], ["7", SURE, "16", SURE, "7.png"])
    ],
    "predict 0.png 7.png -a 1 --addend 5000 --model exact": [
        *(["0", SURE, "1", SURE, "0.png"], ["7", SURE, "5007", "exact", "7.png"])
    ],
    "predict 3.png row.png -a 7": [  # 0, 3, 7
        *(["3", ANY, "10", ANY, "3.png"], ["37", ANY, "44", "exact", "row.png"])
    ],
    f"predict row.png -a {10**20}": [["37", ANY, f"1{37:020}", "exact", "row.png"]],
    "predict six.png -a 5 --model concat": [["1", "61 %", "8", "99.3 %", "six.png", CONTRADICTED]],
    "predict six.png -a 10 --model concat": [["1", "61 %", "11", "exact", "six.png", NO_DIGIT]],
    "predict - -a 5": [["3", ANY, "8", ANY, "-"]],
    "add 3.png 7.png --model exact": [["3", SURE, "3.png"], ["7", SURE, "7.png"], ["10", SURE, "sum"]],
    "add row.png -": [["37", ANY, "row.png"], ["3", ANY, "-"], ["40", ANY, "sum"]],
    "add - row.png": [["3", ANY, "-"], ["37", ANY, "row.png"], ["40", ANY, "sum"]],
}


@pytest.mark.usefixtures("_pictures")
@pytest.mark.parametrize("command", PRINTED)
def test_predict_and_add_print_a_line_a_number(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("3.png").read_bytes())))
    code, output, errors = run(*command.split())
    header, *lines = output.splitlines()
    assert (code, errors) == (0, "")
    sums = ["sum", "probability"] if command.startswith("predict") else []
    assert header.split() == ["number", "probability", *sums, "picture"]
    assert [cells(line) for line in lines] == PRINTED[command]


@pytest.mark.usefixtures("_pictures")
def test_predict_and_add_say_what_is_uncertain(run: Run) -> None:
    for picture, words in (("sharp.png", NO_DIGIT), ("signs.png", "(uncertain: perhaps not a number)")):
        line = run("predict", picture, "-a", 1)[1].splitlines()[1]
        assert cells(line)[-2:] == [picture, words]
    sharp, three, total = run("add", "sharp.png", "3.png")[1].splitlines()[1:]
    assert (cells(sharp)[2:], cells(three)[2:]) == (["sharp.png", NO_DIGIT], ["3.png"])
    assert cells(total)[2:] == ["sum", "(uncertain)"]


@pytest.mark.usefixtures("_pictures")
def test_predict_and_add_print_as_json_what_the_predictor_says(run: Run) -> None:
    concat, row, pictures = Predictor("concat"), Predictor(), ["3.png", "six.png"]
    code, output, _ = run("predict", *pictures, "-a", 5, "--model", "concat", "--json")
    answers = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert answers == [{"picture": name} | concat.predict_number(name, 5).to_dict() for name in pictures]
    assert [(answer["number"], answer["sum"]) for answer in answers] == [("3", "8"), ("1", "8")]
    assert [answer["consistent"] for answer in answers] == [True, False]
    code, output, _ = run("predict", "row.png", "-a", 5, "--json")
    said = json.loads(json.dumps(row.predict_number("row.png", 5).to_dict()))
    assert (code, said["number"], said["sum"]) == (0, "37", "42")
    assert json.loads(output) == {"picture": "row.png"} | said
    code, output, _ = run("add", "3.png", "7.png", "--model", "concat", "--json")
    expected = concat.add_pictures("3.png", "7.png")
    assert (code, expected.sum) == (0, 10)
    assert json.loads(output) == {"pictures": ["3.png", "7.png"]} | expected.to_dict()


@pytest.mark.usefixtures("_pictures")
def test_predict_names_bad_pictures_and_reads_others_and_add_reads_both_or_none(run: Run) -> None:
    code, output, errors = run("predict", "3.png", "text.png", "missing.png", "7.png", "-a", 1)
    assert code == 2
    assert [line.split()[0] for line in output.splitlines()[1:]] == ["3", "7"]
    first, second = errors.splitlines()
    assert first.startswith("digitsum: text.png can't be read: ")
    assert second.startswith("digitsum: ")
    assert "missing.png" in second
    assert run("add", "3.png", "missing.png") == (2, "", f"{second}\n")


@pytest.mark.usefixtures("_pictures")
@pytest.mark.parametrize("command", ["predict - -a 5", "add 3.png -"])
def test_that_the_standard_input_is_closed_is_said(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    sentence = "digitsum: the standard input is closed: name a file\n"
    assert run(*command.split()) == (2, "", sentence)


@pytest.mark.skipif(sys.platform == "darwin", reason="only where names of files are bytes")
@pytest.mark.usefixtures("_pictures")
def test_a_name_that_isn_t_utf_8_is_a_name(run: Run) -> None:
    name = os.fsdecode(b"\xff")
    Path("7.png").rename(f"{name}.png")
    shutil.copyfile(WEIGHTS / "exact" / "model.onnx", name)
    code, output, _ = run("predict", f"{name}.png", "-a", 7, "--model", name)
    assert code == 0
    assert cells(output.splitlines()[1]) == ["7", SURE, "14", SURE, "\\udcff.png"]


def test_predict_says_a_probability_as_the_page_does() -> None:
    said = {1.0: "> 99.9 %", 0.9985: "99.9 %", 0.995: "99.5 %", 0.99: "99 %", 0.553: "55 %", 0.01: "1 %"}
    said |= {0.0049: "0.5 %", 0.00099: "< 0.1 %"}
    assert {probability: cli._percent(probability) for probability in said} == said


# data


def test_data_lists_what_there_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIGITSUM_DATA", raising=False)
    code, output, _ = run("data")
    assert code == 0
    assert [line.split()[:3] for line in output.splitlines()] == [
        ["mnist5k", "train", "5,000"],
        ["mnist", "train", "60,000"],
        ["mnist", "test", "10,000"],
    ]


# Mistakes and failures


MISTAKES = {
    "train --log tensorboard --data nowhere": "the data are mnist5k, mnist or a folder with sub-folders 0 to",
    "train --data mnist --data-dir nowhere": "leave out --data-dir and DIGITSUM_DATA to do",
    "train --train-fraction 1.0": "--train-fraction must be a number between 0 and 1, not 1.0",
    "train --width 20000": "--width must be a whole number from 1 to 1024, not 20000",
    "train --seed=2.7": "Invalid value for --seed: 2.7 isn't a whole number",
    "train --learning-rate high": "--learning-rate must be a number, not high",
    "train --network exat": 'Invalid value "exat" for --network. Choose from: "concat", "exact"',
    "train --preset slow": 'Invalid value "slow" for --preset. Choose from: "fast", "adapt", "row".',
    "train --digit-weight 0 --sum-weight 0": "--sum-weight can't both be 0: nothing would",
    "train --epoch 3": "Unknown option: --epoch. Did you mean --epochs?",
    "train pictures": "there is no place for pictures: see digitsum train --help",
    "trian": 'Unknown command "trian". Did you mean "train"? Available commands: train, evaluate,',
    "train --start-from exact --network concat": "--start-from exact has the network exact, not concat: ",
    "train --resume nowhere": "nowhere isn't a run folder: it has no config.json",
    "train --resume run --epochs 40": "--resume takes every setting from the run: leave",  # the default
    "train --resume run --preset fast": "--resume takes every setting from the run: leave",
    "train --resume run --out new": "--resume takes every setting from the run: leave",
    "train --out full": "full isn't empty: choose another --out, or go on with --resume full",
    "train --out full/thesis.txt/x": "full/thesis.txt isn't a folder: choose another place for x",
    "evaluate exact": "exact comes with the package: name the images, as in --data mnist --split test",
    "evaluate nowhere": "there is no network 'nowhere': name exact, concat, row, or a folder that holds",
    "evaluate full": "full doesn't hold a trained Network: ",
    "evaluate exact --data mnist5k --label-column digit": "--label-column is for Parquet files: --data",
    "evaluate exact --data x.parquet --split test": "Parquet files have no splits: leave --split out",
    "evaluate exact --data x.parquet": "there are no Parquet files or pictures at x.parquet",
    "score x.parquet out -a 7": "there are no Parquet files or pictures at x.parquet",
    "score full out": "say what to add: give either --addend or --addend-column",
    "score full full -a 7": "there are no Parquet files or pictures at full",
    "score full out --addend-column n": "pictures have no columns: give --addend alone",
    "score full out -a 7 --workers 0": "--workers must be a whole number from 1 up, not 0",
    "predict x.png -a -1": "a number's addend is a whole number from 0 on, not -1",
    "predict x.png -a 1 -a 2": "one picture needs one addend, not 2",
    "predict x.png -a 7.5": "Invalid value for -a: 7.5 isn't a whole number",
    "predict x.png -a 1_000": "Invalid value for -a: 1_000 isn't a whole number",
    f"predict x.png -a {'9' * 1001}": "a number's addend has at most 1000 digits",
    f"predict x.png -a {'9' * 5000}": "for -a: the number has too many digits",
    "predict --modl exact x.png -a 7": "Unknown option: --modl. Did you mean --model?",
    "predict x.png": "--addend is missing: see digitsum predict --help",
    "predict x.png --addend": "--addend needs a value: see digitsum predict --help",
    "predict -a 7": "PICTURES is missing: see digitsum predict --help",
    "predict x.png -a 7 --json=3": "--json takes no value, but got 3: see digitsum predict",
    "predict x.png -a 7 --model=a --model=b": "--model is given more than once: see",
    "predict full/thesis.txt -a 7 --model best": "there is no model 'best': name exact",
    "predict x.png -a 7 --model full/thesis.txt": "thesis.txt isn't an ONNX file of dig",
    "add x.png --modl": "Unknown option: --modl. Did you mean --model?",
    "add - -": "the standard input holds one picture: name a file for the other",
    "export exact --to full/thesis.txt/x/model.onnx": "full/thesis.txt isn't a folder: ",
    "export nowhere": "there is no network 'nowhere': name exact, concat, row, or a folder that holds",
    "serve --port 70000": "--port must be a whole number from 0 to 65535, not 70000",
    "serve --workers 1.5": "Invalid value for --workers: 1.5 isn't a whole number",
    "report nowhere": "nowhere isn't a run folder: it has none of config.json, metrics.csv, ",
    "compare nowhere": "nowhere isn't a run folder: it has none of config.json, metrics.csv, ",
}


@pytest.mark.parametrize("command", MISTAKES)
def test_mistakes_print_one_sentence_and_exit_with_2(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    code, output, errors = run(*command.split())
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("digitsum: ")
    assert MISTAKES[command] in errors
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["full", "full/thesis.txt"]


@pytest.mark.parametrize(
    ("file", "command", "code"),
    [
        ("checkpoint.ckpt", "train --resume run", 2),
        ("model.safetensors", "train --start-from run", 2),
        ("model.safetensors", "evaluate run", 2),
        ("model.safetensors", "export run", 2),
        ("model.safetensors", "report run", 1),
        ("model.onnx", "predict x.png -a 7 --model run", 2),
        ("model.onnx", "serve --model run", 2),
        ("model.onnx", "site public --model run", 2),
        ("evaluation.json", "export run", 2),
        ("evaluation.json", "compare run", 2),
        ("evaluation.json", "report run", 1),
    ],
)
@pytest.mark.usefixtures("undrawn")
def test_a_flipped_bit_is_noticed_by_whatever_reads_the_file(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch, file: str, command: str, code: int
) -> None:
    monkeypatch.chdir(trained.parent)
    content = bytearray((trained / file).read_bytes())
    content[len(content) // 3] ^= 1
    (trained / file).write_bytes(content)
    found, _, errors = run(*command.split())
    assert (found, errors.count("\n")) == (code, 1)
    assert f"run/{file} is damaged: its SHA-256 isn't the one in SHA256SUMS" in errors
    assert (trained / file).read_bytes() == content
    assert [path.name for path in trained.parent.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "arguments", [["train", "--out"], ["export", "concat", "--to"], ["site"], ["compare", "run", "--to"]]
)
def test_an_output_that_is_no_ordinary_file_or_folder_is_refused(
    run: Run, trained: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(trained.parent)
    pipe = trained.parent / "pipe"
    os.mkfifo(pipe)
    code, output, errors = run(*arguments, pipe)
    assert (code, output) == (2, "")
    assert errors.startswith(f"digitsum: {pipe} ")
    assert errors.count("\n") == 1
    assert pipe.is_fifo()
    assert sorted(path.name for path in trained.parent.iterdir()) == ["pipe", "run"]


def failing(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (InputError("expected this, got that: do so"), 2, "expected this, got that: do so"),
        (OSError("no mirror answers: try later"), 1, "no mirror answers: try later"),
        (OSError(ENOSPC, "No space left on device", "a/b"), 1, "a/b can't be used: no space left on device"),
        (OSError(ENOSPC, "No space left on device"), 1, "no space left on device"),
        (PermissionError(EACCES, "Permission denied", b"a"), 1, "a can't be used: permission denied"),
        (FloatingPointError("the loss isn't finite"), 1, "the loss isn't finite"),
        (ModuleNotFoundError("no torch: pip install 'digitsum[train]'"), 1, "no torch: pip install 'digits"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_is_foreseen_is_one_sentence_and_an_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, sentence: str
) -> None:
    monkeypatch.setattr(mnist, "available", failing(error))
    found, output, errors = run("data")
    assert (found, output, errors.count("\n")) == (code, "", 1)
    assert errors.startswith(f"digitsum: {sentence}")


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), KeyError("x"), RuntimeError("x"), MemoryError(), ModuleNotFoundError("No module")],
)
def test_what_nobody_foresaw_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(mnist, "available", failing(error))
    monkeypatch.setattr(sys, "argv", ["digitsum", "data"])
    with pytest.raises(type(error)) as raised:
        cli.main()
    assert raised.value is error


@pytest.mark.parametrize(("argument", "unbuffered"), [("data", ""), ("--help", "1")])
def test_a_reader_that_has_seen_enough_ends_the_program_silently(argument: str, unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "digitsum", argument]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_tilde_in_an_option_is_the_home(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _, _, errors = run("predict", "one.png", "-a", 7, "--model=~/x")
    assert errors.startswith(
        f"digitsum: there is no model '{tmp_path}/x': name exact, concat, row, an ONNX file"
    )


def test_failed_download_prints_one_sentence_and_exits_with_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DIGITSUM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("digitsum.data.mnist.MIRRORS", ("http://127.0.0.1:9/",))
    code, _, errors = run("data", "--fetch")
    assert code == 1
    assert errors.startswith("digitsum: train-images-idx3-ubyte.gz came from no mirror: http://127.0.0.1:9/")
    assert errors.endswith("--data-dir FOLDER, or use the embedded images, --data mnist5k\n")
    assert list(tmp_path.rglob("*")) == []


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import digitsum
from digitsum.cli import main
for command in sys.argv[1:]:
    sys.argv[1:] = command.split()
    try:
        main()
    except SystemExit as end:
        print(end.code)
digitsum.Predictor, digitsum.load
"""


def test_missing_library_says_what_to_install() -> None:
    commands = ("train", "evaluate exact", "report .", "compare .", "export exact")
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *commands], capture_output=True, text=True)
    assert done.stdout == "1\n" * 5
    sentence = "import of torch halted; None in sys.modules: pip install 'digitsum[train]'\n"
    assert done.stderr.startswith(f"digitsum: {sentence}" * 5 + "Traceback")
    assert done.stderr.endswith(f"\nModuleNotFoundError: {sentence}")
