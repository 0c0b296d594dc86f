import json
import math
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from digitsum.config import PRESETS, Config, bounds, defaults
from digitsum.errors import InputError


@pytest.mark.parametrize(
    ("name", "value", "must"),
    [
        ("width", 0, "--width must be a whole number from 1 to 1024, not 0"),
        ("width", 4.0, "--width must be a whole number from 1 to 1024, not 4.0"),
        ("width", np.float64(2), "--width must be a whole number from 1 to 1024, not 2.0"),
        ("epochs", True, "--epochs must be a whole number from 1 up, not True"),
        ("epochs", 10**400, f"--epochs must be a whole number from 1 up, not {10**400}"),
        ("batch_size", 0, "--batch-size must be a whole number from 1 to 1048576, not 0"),
        ("seed", -1, "--seed must be a whole number from 0 to 4294967295, not -1"),
        ("seed", 2**32, "--seed must be a whole number from 0 to 4294967295, not 4294967296"),
        ("train_fraction", 0, "--train-fraction must be a number between 0 and 1, not 0"),
        ("train_fraction", 1.0, "--train-fraction must be a number between 0 and 1, not 1.0"),
        ("average", -0.1, "--average must be a number from 0 to 1, not -0.1"),
        ("learning_rate", math.nan, "--learning-rate must be a number from 0 up, not nan"),
        ("weight_decay", math.inf, "--weight-decay must be a number from 0 up, not inf"),
        ("learning_rate", 10**400, f"--learning-rate must be a number from 0 up, not {10**400}"),
        ("network", "big", "--network must be one of concat, exact, fast, row, not 'big'"),
        ("augment", 1, "--augment must be True or False, not 1"),
        ("data", None, "--data must be text, not None"),
        ("start_from", 5, "--start-from must be text, not 5"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_in_words(name: str, value: object, must: str) -> None:
    for made in (lambda: Config(**{name: value}), lambda: replace(PRESETS["fast"], **{name: value})):
        with pytest.raises(InputError, match=f"^{re.escape(must)}$"):
            made()


def test_a_training_that_would_learn_nothing_is_refused() -> None:
    why = "^--digit-weight and --sum-weight can't both be 0: nothing would be learnt$"
    with pytest.raises(InputError, match=why):
        Config(digit_weight=0, sum_weight=0)


def test_the_ends_of_the_bounds_are_accepted() -> None:
    for setting in fields(Config):
        if bounds(setting).startswith("from"):
            network = "row" if setting.name == "rows" else "concat"
            assert Config(network=network, **{setting.name: setting.metadata["least"]})
            if setting.metadata["most"] < math.inf:
                assert Config(network=network, **{setting.name: setting.metadata["most"]})


@pytest.mark.parametrize(
    ("network", "setting", "value", "of"),
    [
        ("row", "addends", "resampled", "networks of one digit"),
        ("row", "augment", False, "networks of one digit"),
        ("row", "damage", True, "networks of one digit"),
        ("row", "label_smoothing", 0.1, "networks of one digit"),
        ("row", "digit_weight", 0.0, "networks of one digit"),
        ("row", "sum_weight", 1.0, "networks of one digit"),
        ("concat", "rows", 99, "the network row"),
        ("exact", "rows", 99, "the network row"),
    ],
)
def test_a_setting_of_other_networks_is_refused(network: str, setting: str, value: object, of: str) -> None:
    name = setting.replace("_", "-")
    with pytest.raises(InputError) as refusal:
        Config(network=network, **{setting: value})
    assert str(refusal.value) == f"--{name} is for {of}: leave it out with --network {network}"


def test_rows_may_be_chosen_where_the_network_comes_with_the_weights_to_start_from() -> None:
    assert Config(start_from="runs/row", rows=99).rows == 99


def test_the_settings_of_the_network_of_rows_are_those_of_its_preset() -> None:
    assert defaults(None, "row") == PRESETS["row"]
    assert defaults(None, "exact") == Config()
    assert defaults("exact", None).epochs == PRESETS["adapt"].epochs


def test_a_network_of_rows_that_is_trained_on_sees_rows_as_before_for_fewer_epochs() -> None:
    start = defaults("row", "row")
    assert replace(start, start_from=None, epochs=30, learning_rate=3e-3) == PRESETS["row"]
    assert (start.epochs, start.learning_rate) == (PRESETS["adapt"].epochs, PRESETS["adapt"].learning_rate)


def test_what_is_saved_is_loaded_and_scalars_of_numpy_are_stored_as_python_s(tmp_path: Path) -> None:
    chosen = {"width": 8, "learning_rate": 0.5, "average": 0.25, "damage": True, "data": "mnist"}
    numpys = {name: np.array(value)[()] for name, value in chosen.items()} | {
        "learning_rate": np.float32(0.5)
    }
    config = Config(**numpys, epochs=np.array(3), addends="resampled", data_dir="there", seed=7)
    assert {name: getattr(config, name) for name in chosen} == chosen
    for name, value in (chosen | {"epochs": 3}).items():
        assert type(getattr(config, name)) is type(value)
    config.save(str(tmp_path))
    assert Config.load(str(tmp_path)) == Config.load(tmp_path) == config


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "{run} isn't a run folder: it has no config.json"),
        ("", "{file} isn't a JSON object: Expecting value: line 1 column 1 (char 0)"),
        ('{"data": "x"}', "{file} isn't that of a run of this version: it lacks train_fraction and 12 mo"),
        (
            {"network": "big"},
            "{file} is damaged: --network must be one of concat, exact, fast, row, not 'big'",
        ),
        ({"seed": "0"}, "{file} is damaged: --seed must be a whole number from 0 to 4294967295, not '0'"),
        ({"data": None}, "{file} is damaged: --data must be text, not None"),
    ],
)
def test_config_that_is_missing_or_damaged_is_refused(
    tmp_path: Path, content: str | dict[str, object] | None, why: str
) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(asdict(Config()) | content))
    with pytest.raises(InputError, match=f"^{re.escape(why.format(run=tmp_path, file=path))}"):
        Config.load(tmp_path)


def test_settings_that_an_earlier_version_had_not_are_completed_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(width=8, seed=3)
    settings = asdict(config)
    for name in ("damage", "synthetic_digits", "non_digits", "label_smoothing", "start_from"):
        del settings[name]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert Config.load(tmp_path) == Config.load(tmp_path) == config
    assert caplog.messages == [
        f"{tmp_path / 'config.json'} is of an earlier version, its settings are completed: damage False,"
        " synthetic_digits 0.0, non_digits 0.0, start_from None, label_smoothing 0.0"
    ]


def test_a_setting_whose_default_would_change_what_a_run_did_is_not_completed(tmp_path: Path) -> None:
    settings = asdict(Config())
    del settings["addends"]
    (tmp_path / "config.json").write_text(json.dumps(settings | {"deal": "once"}))
    with pytest.raises(
        InputError, match=r"config.json isn't that of a run of this version: it lacks addends$"
    ):
        Config.load(tmp_path)
