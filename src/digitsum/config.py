"""What makes a run, each setting declared once: its default, its bounds, its group and its help.

Torch-free: the command line shows all of it without loading torch.
"""

import json
import logging
import math
import sys
from dataclasses import Field, asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin

from digitsum.errors import InputError
from digitsum.files import read_json, replacing

# settings of the network of rows alone, and of those of one digit alone
OF_ROWS: tuple[str, ...] = ("rows",)
OF_DIGITS: tuple[str, ...] = ("addends", "augment", "damage", "label_smoothing", "digit_weight", "sum_weight")

log = logging.getLogger("digitsum")


def _setting(
    default: Any,
    group: str,
    help: str,
    least: float = -math.inf,
    most: float = math.inf,
    open: bool = False,
    **shown: str,
) -> Any:
    """Declare a setting; `shown` is what its help page shows in place of the type or of the default.

    The bounds of an `open` one are none of its values.
    """
    bounds = {"least": least, "most": most, "open": open}
    return field(default=default, metadata=bounds | {"shown": {"group": group, "help": help} | shown})


@dataclass(frozen=True)
class Config:
    """The settings of a training run, as `config.json` holds them; `digitsum train --help` explains each.

    A number of NumPy's is stored as Python's.

    The sum's loss weighs little because a sum that is off by k costs some 5 k^2 nats (`ConcatNet.GAP`),
    where a wrong digit costs a few: at equal weights its gradients would drown the digit's.

    Raises
    ------
    InputError
        A setting isn't what it may be.

    Examples
    --------
    >>> Config(width=0)
    Traceback (most recent call last):
    digitsum.errors.InputError: --width must be a whole number from 1 to 1024, not 0
    """

    data: str = _setting(
        "mnist5k",
        "Data",
        "**mnist5k**, the 5,000 embedded images; **mnist**, all 60,000; or a folder with sub-folders 0 to 9"
        " of pictures, of which those that can't be read are skipped.",
        metavar="NAME",
    )
    data_dir: str | None = _setting(
        None,
        "Data",
        "Where MNIST's files are, raw or gzipped.",
        metavar="FOLDER",
        show_default="$DIGITSUM_DATA, else the user's cache, filled by a download",
    )
    train_fraction: float = _setting(
        0.8, "Data", "The share of the images to train on; the rest is held out.", least=0, most=1, open=True
    )
    addends: Literal["fixed", "resampled"] = _setting(
        "fixed",
        "Data",
        "Whether each image keeps one addend for the whole run (**fixed**) or draws a new one every epoch"
        " (**resampled**).",
    )
    augment: bool = _setting(True, "Data", "Rotate, scale, shear, shift and bend each image.")
    damage: bool = _setting(
        False,
        "Data",
        "Damage half of the images: noise, specks, blur, stripes, light, covered or lost pixels.",
    )
    synthetic_digits: float = _setting(
        0.0,
        "Data",
        "Synthetic digits, drawn from stroke templates of many countries' handwriting, to add to each batch,"
        " as a fraction of its size.",
        least=0,
        most=1,
    )
    non_digits: float = _setting(
        0.0,
        "Data",
        "Non-digits (letters, scribbles, struck-out digits), for which all ten digits should be equally"
        " probable, to add to each batch, as a fraction of its size.",
        least=0,
        most=1,
    )
    rows: int = _setting(
        30_000,
        "Data",
        "Synthetic rows an epoch, made of the digits, for the network row; a fifteenth as many are held out.",
        least=16,
    )
    network: Literal["concat", "exact", "fast", "row"] = _setting(
        "concat",
        "Network",
        "**concat**, the reference; **exact**, which adds by probability and can't misadd; **fast**, a small"
        " exact one; or **row**, which reads whole rows of digits; its defaults are those of --preset row.",
    )
    width: int = _setting(
        32,
        "Network",
        "Channels of the first convolution; the others have two or three times as many.",
        least=1,
        most=1024,
    )
    start_from: str | None = _setting(
        None,
        "Network",
        "Trained weights to start from: **exact**, **concat**, **row** or a run folder. Network and width"
        " come with them. The defaults are then 20 epochs, a learning rate of 0.001 and, for **row**, the"
        " data of --preset row.",
        metavar="NAME",
        show_default="none, random weights",
    )
    epochs: int = _setting(40, "Training", "How often to see each image.", least=1)
    batch_size: int = _setting(128, "Training", "Images a step.", least=1, most=2**20)
    learning_rate: float = _setting(6e-3, "Training", "The highest of the one-cycle schedule.", least=0)
    weight_decay: float = _setting(0.2, "Training", "The weight decay of AdamW.", least=0)
    average: float = _setting(
        0.99,
        "Training",
        "The moving average of the weights is what is evaluated and saved; each step keeps this share of it.",
        least=0,
        most=1,
    )
    label_smoothing: float = _setting(
        0.0, "Training", "The share of a digit's label that is spread evenly over all ten.", least=0, most=1
    )
    digit_weight: float = _setting(
        1.0, "Training", "The weight of the digit's loss; 0: learn from sums alone.", least=0
    )
    sum_weight: float = _setting(0.005, "Training", "The weight of the sum's loss.", least=0)
    precision: Literal["auto", "bf16-mixed", "32-true"] = _setting(
        "auto", "Training", "**auto**: bfloat16 where the hardware has it."
    )
    seed: int = _setting(0, "Training", "Decides all that is random.", least=0, most=2**32 - 1)

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if getattr(value, "shape", None) == ():  # a scalar of NumPy's
                value = value.item()
                object.__setattr__(self, setting.name, value)
            if not _fits(value, setting):
                raise InputError(f"{option(setting)} must be {_expected(setting)}, not {value!r}")
        if self.digit_weight == self.sum_weight == 0:
            raise InputError("--digit-weight and --sum-weight can't both be 0: nothing would be learnt")
        self._check_applies()

    def _check_applies(self) -> None:
        """Refuse a choice that would change nothing, as it is another kind of network's."""
        if self.network == "row":
            others, kind = OF_DIGITS, "networks of one digit"
        elif self.start_from and self.network == Config.network:
            return  # it comes with the weights, and isn't known yet
        else:
            others, kind = OF_ROWS, "the network row"
        for setting in fields(self):
            if setting.name in others and getattr(self, setting.name) != setting.default:
                raise InputError(
                    f"{option(setting)} is for {kind}: leave it out with --network {self.network}"
                )

    def save(self, run: str | Path, made: dict[str, Any] | None = None) -> None:
        """Write `config.json`, whole or not at all, into the folder `run`; `made` says more of the run."""
        with replacing(Path(run) / "config.json") as file:
            file.write_text(json.dumps(asdict(self) | (made or {}), indent=2) + "\n")

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """Read the `config.json` of a run folder.

        A run of an earlier version may lack settings. Where the default adds nothing (0, no, none), the run
        had none of it: it gets the default, and a warning says so.

        Raises
        ------
        InputError
            It isn't one.
        """
        path = Path(run) / "config.json"
        try:
            found = read_json(path)
        except FileNotFoundError:
            raise InputError(f"{run} isn't a run folder: it has no config.json") from None
        lacking = [setting for setting in fields(cls) if setting.name not in found]
        # a run from before there were rows had none, whatever the setting says
        if essential := [setting.name for setting in lacking if setting.default and setting.name != "rows"]:
            more = f" and {len(essential) - 1} more settings" if len(essential) > 1 else ""
            raise InputError(f"{path} isn't that of a run of this version: it lacks {essential[0]}{more}")
        if lacking:
            added = ", ".join(f"{setting.name} {setting.default}" for setting in lacking)
            _warn_completed(path, added)
        names = {setting.name for setting in fields(cls)}
        try:
            return cls(**{name: value for name, value in found.items() if name in names})
        except InputError as error:
            raise InputError(f"{path} is damaged: {error}") from error


@cache
def _warn_completed(path: Path, added: str) -> None:
    """Warn once, however often the settings are read."""
    log.warning("%s is of an earlier version, its settings are completed: %s", path, added)


def option(setting: "Field[Any]") -> str:
    """Return the name of a setting's option.

    Examples
    --------
    >>> [option(setting) for setting in fields(Config)][:3]
    ['--data', '--data-dir', '--train-fraction']
    """
    return f"--{setting.name.replace('_', '-')}"


def bounds(setting: "Field[Any]") -> str:
    """Return from what to what a number may be; nothing of a setting that has no bounds.

    Examples
    --------
    >>> {setting.name: bounds(setting) for setting in fields(Config) if setting.name in ("width", "epochs")}
    {'width': 'from 1 to 1024', 'epochs': 'from 1 up'}
    """
    least, most = setting.metadata["least"], setting.metadata["most"]
    if least == -math.inf:
        return ""
    if setting.metadata["open"]:
        return f"between {least} and {most}"
    return span(least, most)


def span(least: float, most: float) -> str:
    """Return the words for the numbers from one to another, which may be infinity.

    Examples
    --------
    >>> span(1, math.inf), span(0, 65535)
    ('from 1 up', 'from 0 to 65535')
    """
    return f"from {least} up" if most == math.inf else f"from {least} to {most}"


def _fits(value: object, setting: "Field[Any]") -> bool:
    kind: Any = setting.type
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        kind = int | float
    if type(value) not in (get_args(kind) or (kind,)):
        return False
    if not isinstance(value, int | float):
        return True
    least, most = setting.metadata["least"], setting.metadata["most"]
    if setting.metadata["open"] and value in (least, most):
        return False
    # a whole number may be too large for a float
    return abs(value) <= sys.float_info.max and bool(least <= value <= most)


def _expected(setting: "Field[Any]") -> str:
    kind: Any = setting.type
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    words = {int: "a whole number", float: "a number", bool: "True or False"}
    return f"{words.get(kind, 'text')} {bounds(setting)}".rstrip()


PRESETS = {
    # 99 % on both outputs as soon as possible: one epoch, chosen on held-out images of the training split
    "fast": Config(
        data="mnist",
        train_fraction=0.98,
        augment=False,
        network="fast",
        epochs=1,
        batch_size=256,
        learning_rate=0.03,
        weight_decay=0.05,
        average=0,
        label_smoothing=0.1,
    ),
    # rows of digits as people write them, made while training, of MNIST's digits and of synthetic ones
    "row": Config(
        data="mnist",
        train_fraction=0.98,
        synthetic_digits=0.5,
        non_digits=0.15,
        network="row",
        epochs=30,
        batch_size=48,
        learning_rate=3e-3,
        weight_decay=0.05,
        average=0.999,
    ),
    # few pictures of one handwriting: gentle, or MNIST is forgotten; chosen with other pictures of two such,
    # and with held-out images of the training split
    "adapt": Config(start_from="exact", epochs=20, learning_rate=1e-3),
}


def defaults(start_from: str | None, network: str | None = None) -> Config:
    """Return the settings of a run for which nothing is chosen but the weights to start from, or the network.

    Examples
    --------
    >>> defaults(None) == Config(), defaults("concat") == replace(PRESETS["adapt"], start_from="concat")
    (True, True)
    >>> rows = defaults("row", "row")  # of the same kind as it has learnt from, but gently
    >>> rows.synthetic_digits, rows.epochs, rows.learning_rate
    (0.5, 20, 0.001)
    """
    usual = PRESETS["row"] if network == "row" else Config()
    if not start_from:
        return usual
    adapt = PRESETS["adapt"]
    return replace(usual, start_from=start_from, epochs=adapt.epochs, learning_rate=adapt.learning_rate)
