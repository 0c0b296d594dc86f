import json
import math
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from digitsum.config import PRESETS, Config, bounds, option


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 0}, "--width must be a whole number from 1 to 1024, not 0"),
        ({"width": 20_000}, "--width must be a whole number from 1 to 1024, not 20000"),
        ({"width": 4.0}, "--width must be a whole number from 1 to 1024, not 4.0"),
        ({"epochs": True}, "--epochs must be a whole number from 1 up, not True"),
        ({"batch_size": 0}, "--batch-size must be a whole number from 1 to 1048576, not 0"),
        ({"seed": -1}, "--seed must be a whole number from 0 to 4294967295, not -1"),
        ({"seed": 2**32}, "--seed must be a whole number from 0 to 4294967295, not 4294967296"),
        ({"train_fraction": 1.5}, "--train-fraction must be a number from 0 to 1, not 1.5"),
        ({"average": -0.1}, "--average must be a number from 0 to 1, not -0.1"),
        ({"learning_rate": math.nan}, "--learning-rate must be a number from 0 up, not nan"),
        ({"weight_decay": math.inf}, "--weight-decay must be a number from 0 up, not inf"),
        ({"epochs": 10**400}, f"--epochs must be a whole number from 1 up, not {10**400}"),
        ({"learning_rate": 10**400}, f"--learning-rate must be a number from 0 up, not {10**400}"),
        ({"network": "big"}, "--network must be one of concat, exact, fast, not 'big'"),
        ({"augment": 1}, "--augment must be True or False, not 1"),
        ({"data": None}, "--data must be text, not None"),
        ({"data_dir": 5}, "--data-dir must be text, not 5"),
        ({"start_from": 5}, "--start-from must be text, not 5"),
        (
            {"digit_weight": 0, "sum_weight": 0},
            "--digit-weight and --sum-weight can't both be 0: nothing would be learnt",
        ),
    ],
)
def test_a_setting_out_of_bounds_is_refused_with_a_sentence(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  # compared below
        Config(**settings)
    assert str(refusal.value) == message
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        replace(PRESETS["fast"], **settings)
    assert str(refusal.value) == message


def test_the_ends_of_the_bounds_are_accepted() -> None:
    for setting in fields(Config):
        if bounds(setting):
            assert Config(**{setting.name: setting.metadata["least"]})
            if setting.metadata["most"] < math.inf:
                assert Config(**{setting.name: setting.metadata["most"]})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    config = Config(data_dir="there", deal="each-epoch", augment=False, network="exact", seed=7)
    config.save(tmp_path)
    assert Config.load(tmp_path) == config


DAMAGED_CONFIGS = [
    None,
    "",
    "[]",
    '{"data": "mnist5k"}',
    *(
        json.dumps(asdict(Config()) | change)
        for change in ({"network": "big"}, {"seed": "0"}, {"data": None}, {"width": 0})
    ),
]


@pytest.mark.parametrize("content", DAMAGED_CONFIGS)
def test_config_that_is_missing_or_damaged_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path} isn't a run folder: its config.json is missing or"):
        Config.load(tmp_path)


def test_config_of_another_version_is_refused_and_says_what_it_lacks(tmp_path: Path) -> None:
    settings = asdict(Config())
    del settings["deal"]
    (tmp_path / "config.json").write_text(json.dumps(settings | {"addends": "table"}))
    with pytest.raises(ValueError, match=r"damaged: it lacks 'deal', as another version's does$"):
        Config.load(tmp_path)


def test_options_are_named_as_the_settings() -> None:
    assert [option(setting) for setting in fields(Config)] == [
        f"--{name}".replace("_", "-") for name in asdict(Config())
    ]


def test_settings_load_neither_torch_nor_the_command_line() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import digitsum.config"]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    modules = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in loaded.splitlines()}
    assert "digitsum" in modules
    assert not modules & {"torch", "cyclopts", "rich", "numpy"}
