"""What a run begins with and goes on with: its settings, its data, its state and its checkpoint.

One `state` dict is what is saved and what is resumed. `config.json` says all that a run goes on with: its
settings, of which "auto" precision is what it was found to be, and the digest of its data.
"""

import csv
import hashlib
import json
import logging
import pickle
import platform
from collections.abc import Container
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from digitsum.config import Config, option
from digitsum.data import mnist
from digitsum.data.pairs import DigitSumDataset, Item, split_loaders
from digitsum.errors import InputError
from digitsum.files import digest, read, read_json, remove, replacing
from digitsum.networks import KINDS, DigitSumNet, load_any
from digitsum.training.optim import make_optimizer, moving_average

LOGGED = ("digit_nll", "sum_nll", "digit_accuracy", "sum_accuracy", "joint_accuracy")
COLUMNS = ("epoch", "train_loss", *LOGGED, "learning_rate", "seconds")  # of metrics.csv
ROW_COLUMNS = ("epoch", "train_loss", "number_nll", "number_accuracy", "learning_rate", "seconds")
OF_WEIGHTS = ("model.safetensors", "model.onnx", "evaluation.json", "report.html")
Row = dict[str, float]
Parts = tuple[DataLoader[Item], DataLoader[Item]]  # to train on, and held out

log = logging.getLogger("digitsum")


def goes_on(run: Path) -> bool:
    """Return whether the folder holds a training that was begun."""
    return (run / "checkpoint.ckpt").exists()


def settle(config: Config, run: Path) -> Config:
    """Return the settings with what they leave open: a run's own if it goes on, which all others must be."""
    config = _place(config)
    if not goes_on(run):
        config = with_start(config)
        return replace(config, precision=resolve_precision(config))
    own = _place(Config.load(run))
    follows = {"data_dir": True, "precision": config.precision == "auto"}
    for name in ("network", "width"):  # come with the weights to start from
        follows[name] = bool(config.start_from) and getattr(config, name) == getattr(Config, name)
    for setting in fields(Config):
        ours, given = getattr(own, setting.name), getattr(config, setting.name)
        if ours != given and not follows.get(setting.name):
            raise InputError(
                f"{run} is a run with {option(setting)} {ours}, not {given}: give it its own settings,"
                " or choose another folder"
            )
    return replace(own, data_dir=config.data_dir, precision=resolve_precision(own))


def _place(config: Config) -> Config:
    """Return the settings with absolute paths of the data: a run finds them from everywhere."""
    data_dir = config.data_dir and str(Path(config.data_dir).absolute())
    return replace(config, data=mnist.locate(config.data), data_dir=data_dir)


def with_start(config: Config, given: Container[str] = ()) -> Config:
    """Return the settings with the network and the width of the weights that they start from.

    Parameters
    ----------
    given
        Names of settings that were chosen, even if they are the defaults.

    Raises
    ------
    InputError
        There are no such weights, or another network or width was chosen.

    Examples
    --------
    >>> with_start(Config(start_from="exact")).network
    'exact'
    """
    if config.start_from is None:
        return config
    found = load_any(config.start_from).config
    own = {name: found[name] for name in ("network", "width")}
    for name, value in own.items():
        chosen = getattr(config, name)
        if chosen != value and (name in given or chosen != getattr(Config, name)):
            raise InputError(
                f"--start-from {config.start_from} has the {name} {value}, not {chosen}: leave --{name} out"
            )
    return replace(config, **own)


def begin(fabric: Fabric, config: Config, run: Path, parts: Parts) -> dict[str, Any]:
    """Return the state that a run begins or goes on with; its folder then holds what belongs to it."""
    checkpoint, metrics = run / "checkpoint.ckpt", run / "metrics.csv"
    sha256 = _data_sha256(parts)
    _check_alike(fabric, config, sha256, checkpoint)
    made = {"data_sha256": sha256, "environment": _environment(fabric)}
    if goes_on(run):
        state = _start(fabric, config, made)
        _resume(fabric, state, checkpoint)
        if fabric.is_global_zero:
            _write_metrics(metrics, state["log"])
    elif lone := [path for path in (metrics, run / "model.safetensors") if path.exists()]:
        raise InputError(
            f"{checkpoint} is missing and {lone[0].name} is there, so {run} can't go on: train into another"
            " folder"
        )
    else:
        state = _start(fabric, config, made, config.start_from)
    if fabric.is_global_zero and state["epoch"] < config.epochs:
        remove(run, *OF_WEIGHTS)
        config.save(run, made)
    return state


def _check_alike(fabric: Fabric, config: Config, data_sha256: str, checkpoint: Path) -> None:
    """Refuse processes with other settings, other data or another checkpoint than the first's."""
    if fabric.world_size == 1:
        return
    settings = asdict(replace(config, data="", data_dir=None))  # wherever the data are
    begun = digest(checkpoint) if checkpoint.exists() else None
    alike = hashlib.sha256(json.dumps([settings, data_sha256, begun]).encode())
    own = torch.tensor(list(alike.digest()), device=fabric.device)
    total = own.clone()
    fabric.all_reduce(total, reduce_op="sum")
    if not torch.equal(total, fabric.world_size * own):
        raise InputError(
            "the processes of this training don't have the same settings, data and checkpoint: give the same"
            " command on each machine, and on each the same files (and a --precision, if only some of their"
            " processors have bfloat16)"
        )


def _start(
    fabric: Fabric, config: Config, made: dict[str, Any], weights: str | None = None
) -> dict[str, Any]:
    """Build everything that an epoch changes, of random weights or of trained ones."""
    torch.manual_seed(config.seed)
    network = KINDS[config.network](config.width)
    if weights:
        network.load_state_dict(load_any(weights).state_dict())
    network.config = asdict(config) | made
    model, optimizer = fabric.setup(network, make_optimizer(network, config))
    if isinstance(network, DigitSumNet):
        model.mark_forward_method("encode")
    # made after the set-up, on the device; its batch statistics are averaged as the weights are
    average = AveragedModel(network, multi_avg_fn=moving_average(config.average), use_buffers=True)
    return {"network": model, "average": average, "optimizer": optimizer, "epoch": 0, "log": []}


def _environment(fabric: Fabric) -> dict[str, str]:
    """Return what a run is made with."""
    cuda = fabric.device.type == "cuda"
    return {
        "digitsum": version("digitsum"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if cuda else f"cpu, threads: {torch.get_num_threads()}",
    }


def load_parts(config: Config, run: str | Path | None = None) -> Parts:
    """Load the training part and the held-out part of the data that the settings name.

    Parameters
    ----------
    run
        The folder of the run whose parts they should be.

    Raises
    ------
    InputError
        There are no such data; or they aren't those that the run was trained on, so that what would be held
        out now wasn't then.
    """
    digits = mnist.load(config.data, folder=config.data_dir)
    parts = split_loaders(
        DigitSumDataset(digits, config.seed), config.train_fraction, config.batch_size, config.seed
    )
    if run is not None:
        _check_data(config, Path(run), _data_sha256(parts))
    return parts


def _data_sha256(parts: Parts) -> str:
    """Return the digest of images, labels, their order, and which are held out."""
    data: Any = parts[0].dataset
    parts_digest = hashlib.sha256(data.images.numpy())
    for numbers in (data.digits.numpy(), *(part.sampler.indices for part in parts)):  # type: ignore[attr-defined]
        parts_digest.update(np.asarray(numbers, "<i8").tobytes())
    return parts_digest.hexdigest()


def _check_data(config: Config, run: Path, sha256: str) -> None:
    path = run / "config.json"
    known = read_json(path).get("data_sha256")
    if known is None:
        log.warning("%s is of an earlier version: it doesn't say which data %s was trained on", path, run)
    elif known != sha256:
        raise InputError(
            f"{config.data} isn't what {run} was trained on any more: other images, labels, order or split,"
            " so that images held out now may have been trained on; put the old data back"
        )


def resolve_precision(config: Config) -> Literal["bf16-mixed", "32-true"]:
    """Choose bfloat16 where the hardware multiplies it: elsewhere it is emulated, and slower."""
    if config.precision != "auto":
        return config.precision
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = torch.cpu.get_capabilities().get("avx512_bf16", False)
    return "bf16-mixed" if fast else "32-true"


def _resume(fabric: Fabric, state: dict[str, Any], checkpoint: Path) -> None:
    read(checkpoint)  # checks it
    try:
        fabric.load(checkpoint, state, weights_only=True)
    except (EOFError, KeyError, RuntimeError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{checkpoint} is damaged or of another network: put a good copy in its place, or train into"
            " another folder"
        ) from error


def save(fabric: Fabric, state: dict[str, Any], run: Path) -> None:
    """Write the checkpoint, then the log, so that a log without a checkpoint shows that one was lost."""
    checkpoint = run / "checkpoint.ckpt"
    if not fabric.is_global_zero:
        fabric.save(checkpoint, state)  # writes nothing, but all must take part
        return
    with replacing(checkpoint, starts_run=True) as file:
        fabric.save(file, state)
    _write_metrics(run / "metrics.csv", state["log"])


def _write_metrics(path: Path, rows: list[Row]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
