"""The training loop, on Lightning Fabric.

    rows = fit(Config(data="mnist", epochs=5), Path("runs/first"), on_epoch=print)

One `state` dict is what is saved and what is resumed. Whatever is random in an epoch follows from the seed
and the number of the epoch alone, so a resumed run repeats, bit for bit, what an uninterrupted one does.

`config.json` says all that a run goes on with: its settings, of which "auto" precision is what it was found
to be, and the digest of its data.
"""

import contextlib
import csv
import ctypes
import hashlib
import json
import logging
import math
import pickle
import platform
import sys
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import asdict, fields, replace
from functools import lru_cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import nll_loss
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from digitsum import mnist
from digitsum.augmentation import damage, distort
from digitsum.calibration import calibrate
from digitsum.config import Config, option
from digitsum.digits import Digits
from digitsum.errors import InputError
from digitsum.evaluation import progress, run_trials
from digitsum.files import locked, read, read_json, remove, replacing
from digitsum.networks import NETWORKS, DigitSumNet, load
from digitsum.outliers import draw_outliers, spoil
from digitsum.pairs import DigitSumDataset, Item, split_loaders
from digitsum.processes import make_fabric, together
from digitsum.strokes import draw_digits

LOGGED = ("digit_nll", "sum_nll", "digit_accuracy", "sum_accuracy", "joint_accuracy")
COLUMNS = ("epoch", "train_loss", *LOGGED, "learning_rate", "seconds")  # of metrics.csv
DRAWN = 20_000  # digits, and as many things that are none, are drawn once a run
OUTLIER_WEIGHT = 0.5  # of their loss, beside the digits'
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
OF_WEIGHTS = ("model.safetensors", "model.onnx", "evaluation.json", "report.html", "report.pdf")
Row = dict[str, float]
Parts = tuple[DataLoader[Item], DataLoader[Item]]  # to train on, and held out
Weights = tuple[Tensor, ...] | list[Tensor]

log = logging.getLogger("digitsum")


def fit(
    config: Config,
    run: str | Path,
    on_epoch: Callable[[Row], object] | None = None,
) -> list[Row]:
    """Train, or go on training, the run in the folder `run`.

    After each epoch `checkpoint.ckpt` and `metrics.csv` are on disk, and after the last `model.safetensors`,
    calibrated on the held-out images unless it reads all of them rightly; `config.json` is there from the
    start. A model that is there when a training goes on is removed, with its evaluation and its report: they
    are of other weights. A finished run isn't trained on.

    Parameters
    ----------
    config, run
        The settings, and the folder, new or of an interrupted run with these settings; `data_dir` may be
        another.
    on_epoch
        Called after each epoch, when its checkpoint is on disk, with its row. What it raises ends the
        training, and the run can go on from there.

    Returns
    -------
    list of dict
        The rows of `metrics.csv`, one an epoch, those of earlier calls too. Under torchrun all processes
        share each batch, and the first alone writes, calls `on_epoch` and returns: the others end.

    Raises
    ------
    InputError
        Data, settings or a checkpoint that can't be used, or other ones than the run's; or another process is
        training in the folder.
    FloatingPointError
        The loss isn't finite any more.
    ConnectionError
        Another process of the training has ended, or can't be reached.
    """
    run = Path(run)
    _keep_freed_memory()
    with together(run):
        config = _settle(config, run)
        fabric = make_fabric(_precision(config))
        train_loader, held_out_loader = load_parts(config, run if _goes_on(run) else None)
        _check_learning(config, len(train_loader.sampler))  # type: ignore[arg-type]
        with locked(run) if fabric.is_global_zero else contextlib.nullcontext():
            state = _begin(fabric, config, run, (train_loader, held_out_loader))
            averaged = state["average"].module
            for _ in range(state["epoch"], config.epochs):
                row = _run_epoch(fabric, state, (train_loader, held_out_loader), config)
                _save(fabric, state, run)
                if on_epoch and fabric.is_global_zero:
                    on_epoch(row)
            if fabric.is_global_zero and not (run / "model.safetensors").exists():
                if state["log"][-1]["joint_accuracy"] < 1:  # of right answers alone none could be too sure
                    calibrate(averaged, held_out_loader)
                averaged.save_pretrained(run)
    if not fabric.is_global_zero:
        sys.exit()
    rows: list[Row] = state["log"]
    return rows


def _check_learning(config: Config, images: int) -> None:
    """Refuse, or warn of, settings with which a network can't learn from so many images."""
    if config.network == "fast" and min(config.batch_size, images) < 2:
        raise InputError(
            "the network fast compares the images of a batch: --batch-size must be 2 or more, as must be the"
            " images to train on"
        )
    if config.digit_weight == 0 and not NETWORKS[config.network].sum_follows:
        log.warning(
            "the network %s learns next to nothing from sums alone (--digit-weight 0): exact and fast do",
            config.network,
        )


def _goes_on(run: Path) -> bool:
    return (run / "checkpoint.ckpt").exists()


def _settle(config: Config, run: Path) -> Config:
    """Return the settings with what they leave open: a run's own if it goes on, which all others must be."""
    config = _place(config)
    if not _goes_on(run):
        config = with_start(config)
        return replace(config, precision=_precision(config))
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
    return replace(own, data_dir=config.data_dir, precision=_precision(own))


def _place(config: Config) -> Config:
    """Return the settings with absolute paths of the data: a run finds them from everywhere."""
    data_dir = config.data_dir and str(Path(config.data_dir).absolute())
    return replace(config, data=mnist.locate(config.data), data_dir=data_dir)


def with_start(config: Config, given: Container[str] = ()) -> Config:
    """Give the settings with the network and the width of the weights that they start from.

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
    own = {name: load(config.start_from).config[name] for name in ("network", "width")}
    for name, value in own.items():
        chosen = getattr(config, name)
        if chosen != value and (name in given or chosen != getattr(Config, name)):
            raise InputError(
                f"--start-from {config.start_from} has the {name} {value}, not {chosen}: leave --{name} out"
            )
    return replace(config, **own)


def _begin(fabric: Fabric, config: Config, run: Path, parts: Parts) -> dict[str, Any]:
    """Return the state that a run begins or goes on with; its folder then holds what belongs to it."""
    checkpoint, metrics = run / "checkpoint.ckpt", run / "metrics.csv"
    sha256 = _data_sha256(parts)
    _check_alike(fabric, config, sha256, checkpoint)
    made = {"data_sha256": sha256, "environment": _environment(fabric)}
    if _goes_on(run):
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
    digest = hashlib.sha256(json.dumps([settings, data_sha256]).encode())
    if checkpoint.exists():
        with checkpoint.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    own = torch.tensor(list(digest.digest()), device=fabric.device)
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
    network = NETWORKS[config.network](config.width)
    if weights:
        network.load_state_dict(load(weights).state_dict())
    network.config = asdict(config) | made
    model, optimizer = fabric.setup(network, make_optimizer(network, config))
    model.mark_forward_method("encode")
    # made after the set-up, on the device; its batch statistics are averaged as the weights are
    average = AveragedModel(network, multi_avg_fn=moving_average(config.average), use_buffers=True)
    return {"network": model, "average": average, "optimizer": optimizer, "epoch": 0, "log": []}


def _keep_freed_memory() -> None:
    """Let glibc's malloc keep what a step frees: given back to the system, it comes again page by page."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**25)  # bytes; the most that it takes
        mallopt(M_TRIM_THRESHOLD, 2**29)


def _environment(fabric: Fabric) -> dict[str, str]:
    """Say what a run is made with."""
    cuda = fabric.device.type == "cuda"
    return {
        "digitsum": version("digitsum"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if cuda else f"cpu, threads: {torch.get_num_threads()}",
    }


def make_optimizer(network: DigitSumNet, config: Config) -> torch.optim.Optimizer:
    """Make the optimizer; each group's learning rate is its `pace` times the schedule's (`set_rate`).

    Layers that start right learn slowly, and don't decay: no small step could restore their scale.
    """
    slow: list[Tensor] = []
    usual: list[Tensor] = []
    for name, parameter in network.named_parameters():
        (slow if name.split(".")[0] in network.started else usual).append(parameter)
    groups = [{"params": usual, "pace": 1.0}, {"params": slow, "pace": 0.01, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.8, 0.95), weight_decay=config.weight_decay, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of each group: `rate`, times the group's pace."""
    for group in optimizer.param_groups:
        group["lr"] = group["pace"] * rate


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
    digest = hashlib.sha256(data.images.numpy())
    for numbers in (data.digits.numpy(), *(part.sampler.indices for part in parts)):  # type: ignore[attr-defined]
        digest.update(np.asarray(numbers, "<i8").tobytes())
    return digest.hexdigest()


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


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Give the learning rate of a step: up in a line over a tenth of the steps, down in half a cosine.

    After Smith and Topin, 2017, arXiv:1708.07120, with the cosine that has become usual.

    Examples
    --------
    >>> [round(one_cycle(step, 100, peak=1.0), 2) for step in (0, 5, 10, 55, 100)]
    [0.1, 0.55, 1.0, 0.5, 0.0]
    """
    warm = 0.1 * steps
    if step < warm:
        return peak * (0.1 + 0.9 * step / warm)
    return peak * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2


def _run_epoch(
    fabric: Fabric,
    state: dict[str, Any],
    loaders: tuple[DataLoader[Item], DataLoader[Item]],
    config: Config,
) -> Row:
    """Train for an epoch, try the held-out images and log both in `state`."""
    start = time.perf_counter()
    train_loss = _train_epoch(fabric, state, loaders[0], config)
    row = {
        "epoch": state["epoch"] + 1,
        "train_loss": train_loss,
        **_held_out_figures(fabric, state["average"].module, loaders[1]),
        "learning_rate": state["optimizer"].param_groups[0]["lr"],
        "seconds": time.perf_counter() - start,
    }
    state["epoch"] += 1
    state["log"].append(row)
    return row


def _train_epoch(
    fabric: Fabric,
    state: dict[str, Any],
    loader: DataLoader[Item],
    config: Config,
) -> float:
    """Train for an epoch and return the mean loss of its images."""
    network, optimizer, epoch = state["network"], state["optimizer"], state["epoch"]
    _seed_epoch(loader, config, 10_000 * config.seed + epoch, fabric.global_rank)
    total, images, steps = torch.zeros((), device=fabric.device), 0, _steps(loader)
    hands, outliers = _draw(config.seed, config.hands > 0, config.outliers > 0)
    network.train()
    batches = progress(_batches(loader), f"epoch {epoch + 1}", steps, shown=fabric.is_global_zero)
    for step, batch in enumerate(batches, start=epoch * steps):
        set_rate(optimizer, one_cycle(step, config.epochs * steps, config.learning_rate))
        if hands:
            batch = _add(batch, hands, config.hands, loader.generator)
        loss = _loss(fabric, network, fabric.to_device(batch), config, outliers)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        if config.average > 0:
            state["average"].update_parameters(network)
        count = len(batch[1][0])
        total += loss.detach() * count
        images += count
    if config.average == 0:  # nothing is kept of earlier steps
        state["average"].update_parameters(network)
    _average_statistics(fabric, network, state["average"])
    fabric.all_reduce(total, reduce_op="mean")
    mean = total.item() / images
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss of epoch {epoch + 1} isn't finite: try a lower --learning-rate")
    return mean


def _steps(loader: DataLoader[Item]) -> int:
    """Count the batches of an epoch; a last one of one image joins the one before it."""
    images, size = len(loader.sampler), loader.batch_size or 1  # type: ignore[arg-type]
    return len(loader) - (images > size > 1 and images % size == 1)


def _batches(loader: DataLoader[Item]) -> Iterator[Item]:
    """Yield the batches of an epoch, none of a single image, which would have no batch statistics."""
    batches = iter(loader)
    yield from islice(batches, _steps(loader) - 1)
    yield _join(*batches)


def _join(*batches: Item) -> Item:
    (image, addend), (digit, sum_) = (
        [torch.cat(parts) for parts in zip(*sides, strict=True)] for sides in zip(*batches, strict=True)
    )
    return (image, addend), (digit, sum_)


def _loss(
    fabric: Fabric,
    network: DigitSumNet,
    batch: Item,
    config: Config,
    drawn: Tensor | None,
) -> Tensor:
    """Weigh the losses of both outputs, and of what is no digit.

    Of a batch that several processes share, each changes its own part, whose loss weighs as much as there is
    of it: the mean of their gradients is that of the batch.
    """
    share, count = 1.0, len(batch[1][0])
    if count >= 2 * fabric.world_size:  # of one image there are no batch statistics
        batch = _part(fabric, batch)
        share = len(batch[1][0]) * fabric.world_size / count
    ((image, addend), (digit, sum_)), outliers = _change(batch, config, drawn)
    both = torch.cat([image, outliers]) if len(outliers) else image
    if network.sum_follows and config.digit_weight > 0:  # else the labels of the digits aren't to be used
        log_both = network.encode(both)
        sum_loss = nll_loss(log_both[: len(image)], digit)
    else:
        log_both, log_sum = network(both, torch.cat([addend, addend[: len(outliers)]]))
        sum_loss = nll_loss(log_sum[: len(image)], sum_)
    log_digit, log_outlier = log_both[: len(image)], log_both[len(image) :]
    digit_loss = nll_loss(log_digit, digit).lerp(-log_digit.mean(), config.label_smoothing)
    loss = config.digit_weight * digit_loss + config.sum_weight * sum_loss
    if len(outliers):
        loss = loss - OUTLIER_WEIGHT * log_outlier.mean()
    return share * loss


def _change(batch: Item, config: Config, drawn: Tensor | None) -> tuple[Item, Tensor]:
    """Distort and damage a batch as the settings say, and give things that are no digit beside it."""
    (image, addend), (digit, sum_) = batch
    if config.augment:
        image = distort(image)
    outliers = image[:0] if drawn is None else _outliers(image, digit, config, drawn)
    if config.damage:
        image, outliers = damage(image), damage(outliers)
    return ((image, addend), (digit, sum_)), outliers


def _part(fabric: Fabric, batch: Item) -> Item:
    """Give this process's part of a batch, which may be none of it."""
    (image, addend), (digit, sum_) = batch
    own = slice(fabric.global_rank, None, fabric.world_size)
    return (image[own], addend[own]), (digit[own], sum_[own])


def _average_statistics(fabric: Fabric, *networks: Module) -> None:
    """Give all processes the mean of the batch statistics that each has gathered from its parts."""
    if fabric.world_size > 1:
        for network in networks:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    fabric.all_reduce(buffer, reduce_op="mean")


def _held_out_figures(fabric: Fabric, network: DigitSumNet, batches: DataLoader[Item]) -> Row:
    """Give the means of `LOGGED` over all trials; each process tries its part of the images."""
    trials = run_trials(network, (_part(fabric, batch) for batch in batches))
    digit, sum_ = trials.digit_right, trials.sum_right
    rights = (digit, sum_, digit & sum_)
    losses = (trials.digit_nll.sum(dtype=float), trials.sum_nll.sum(dtype=float))
    totals = torch.tensor([digit.size, *losses, *(right.sum() for right in rights)], dtype=torch.float64)
    if fabric.world_size > 1:
        totals = totals.to(fabric.device)
        fabric.all_reduce(totals, reduce_op="sum")
    count, *sums = totals.tolist()
    return {name: total / count for name, total in zip(LOGGED, sums, strict=True)}


@lru_cache(maxsize=1)
def _draw(seed: int, hands: bool, outliers: bool) -> tuple[DigitSumDataset | None, Tensor | None]:
    """Draw digits, and things that are none, uint8 [N, 1, 28, 28], once for all epochs of a run."""
    chance, digits, things = np.random.default_rng(seed), None, None
    if hands:
        images, labels = draw_digits(DRAWN, chance)
        digits = DigitSumDataset(Digits(images[:, None], labels), seed)
    if outliers:
        things = torch.from_numpy(draw_outliers(DRAWN, chance)[:, None])
    return digits, things


def _add(batch: Item, hands: DigitSumDataset, share: float, chance: torch.Generator) -> Item:
    """Add some of the digits that were drawn to a batch, in random order."""
    drawn = hands[torch.randint(len(hands), (round(share * len(batch[1][0])),), generator=chance)]
    (image, addend), (digit, sum_) = _join(batch, drawn)
    order = torch.randperm(len(digit), generator=chance)
    return (image[order], addend[order]), (digit[order], sum_[order])


def _outliers(image: Tensor, digit: Tensor, config: Config, drawn: Tensor) -> Tensor:
    """Give things that are no digit, half of them drawn and half made of the batch, in random order."""
    count = round(config.outliers * len(image))
    chosen = drawn[torch.randint(len(drawn), (count // 2,))].to(image.device)
    chosen = distort(chosen) if config.augment else chosen.float()
    outliers = torch.cat([chosen, spoil(image.float(), digit, count - count // 2)])
    return outliers[torch.randperm(len(outliers))]


def moving_average(keep: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """Give the function that moves averaged weights, of which a step keeps the share `keep`, to new ones.

    The first steps keep less, or a short run's average would still be full of its random start. Whole
    numbers, which count batches, are taken over.

    Examples
    --------
    >>> average, averaged = moving_average(0.75), [torch.tensor(0.0)]
    >>> average(averaged, [torch.tensor(16.0)], 6)  # keeps 7 / 16
    >>> averaged
    [tensor(9.)]
    >>> average(averaged, [torch.tensor(17.0)], 1000)
    >>> averaged
    [tensor(11.)]
    """

    def average(averaged: Weights, new: Weights, count: Tensor | int) -> None:
        share = min(keep, (1 + int(count)) / (10 + int(count)))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, new, 1 - share)  # all at once, a fifth of the time of one by one
        else:
            torch._foreach_copy_(averaged, new)

    return average


def _seed_epoch(loader: DataLoader[Item], config: Config, seed: int, rank: int) -> None:
    """Seed what all processes draw alike, and how each changes its own images."""
    torch.manual_seed(seed + (rank << 48))  # beyond what the seed of a run may be
    loader.generator.manual_seed(seed)
    if config.deal == "each-epoch":
        loader.dataset.deal(seed)  # type: ignore[attr-defined]


def _precision(config: Config) -> Literal["bf16-mixed", "32-true"]:
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


def _save(fabric: Fabric, state: dict[str, Any], run: Path) -> None:
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
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
