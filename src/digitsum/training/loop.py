"""The training loop, on Lightning Fabric.

    rows = fit(Config(data="mnist", epochs=5), Path("runs/first"), on_epoch=print)

Whatever is random in an epoch follows from the seed and the number of the epoch alone, so a resumed run
repeats, bit for bit, what an uninterrupted one does.
"""

import contextlib
import ctypes
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import nll_loss
from torch.utils.data import DataLoader

from digitsum.config import Config
from digitsum.data.mixing import Batch, TrainingBatches
from digitsum.data.pairs import Item
from digitsum.errors import InputError
from digitsum.evaluation import progress, run_trials
from digitsum.files import locked
from digitsum.networks import NETWORKS, DigitSumNet
from digitsum.training.calibration import calibrate
from digitsum.training.ctc import (
    DRAWN,
    RowBatches,
    calibrate_rows,
    held_out_rows,
    row_figures,
    row_loss,
    row_source,
    sampled_digits,
)
from digitsum.training.optim import one_cycle, set_rate
from digitsum.training.processes import make_fabric, process_group
from digitsum.training.state import LOGGED, Row, begin, goes_on, load_parts, resolve_precision, save, settle

NON_DIGIT_WEIGHT = 0.5  # of their loss, beside the digits'
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h

log = logging.getLogger("digitsum")


def fit(config: Config, run: str | Path, on_epoch: Callable[[Row], object] | None = None) -> list[Row]:
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
    with process_group(run):
        config = settle(config, run)
        fabric = make_fabric(resolve_precision(config))
        if config.network == "row" and fabric.world_size > 1:
            raise InputError(
                "the network row is trained by one process, which draws its rows in others: leave --devices"
                " out"
            )
        train_loader, held_out_loader = load_parts(config, run if goes_on(run) else None)
        _check_learning(config, len(train_loader.sampler))  # type: ignore[arg-type]
        with locked(run) if fabric.is_global_zero else contextlib.nullcontext():
            state = begin(fabric, config, run, (train_loader, held_out_loader))
            averaged = state["average"].module
            make_task = _row_task if config.network == "row" else _digit_task
            # a finished run needs none, whose rows take half a minute to prepare
            task = cache(lambda: make_task(fabric, config, train_loader, held_out_loader))
            while state["epoch"] < config.epochs:
                start = time.perf_counter()
                row = {
                    "epoch": state["epoch"] + 1,
                    "train_loss": _train_epoch(fabric, state, task(), config),
                    **task().figures(averaged),
                    "learning_rate": state["optimizer"].param_groups[0]["lr"],
                    "seconds": time.perf_counter() - start,
                }
                state["epoch"] += 1
                state["log"].append(row)
                save(fabric, state, run)
                if on_epoch and fabric.is_global_zero:
                    on_epoch(row)
            if fabric.is_global_zero and not (run / "model.safetensors").exists():
                task().calibrate(averaged, state["log"][-1])
                averaged.save_pretrained(run)
    if not fabric.is_global_zero:
        sys.exit()
    rows: list[Row] = state["log"]
    return rows


class _Task(NamedTuple):
    """What a network learns from, and how it is seen what it has learnt.

    Attributes
    ----------
    batches
        Yield the batches of an epoch, by its number.
    steps
        How many an epoch has.
    loss
        Of a network for a batch: the mean over what the batch has, [].
    figures
        Of a network on what is held out.
    calibrate
        A network, which has these figures, on what is held out.
    clip
        To which norm gradients are clipped; 0: not at all.
    """

    batches: Callable[[int], Iterator[Any]]
    steps: int
    loss: Callable[[Any, Any], Tensor]
    figures: Callable[[Any], Row]
    calibrate: Callable[[Any, Row], object]
    clip: float = 0.0


def _digit_task(
    fabric: Fabric, config: Config, train_loader: DataLoader[Item], held_out_loader: DataLoader[Item]
) -> _Task:
    batches = TrainingBatches(train_loader, config)

    def calibrated(network: DigitSumNet, last: Row) -> None:
        if last["joint_accuracy"] < 1:  # of right answers alone none could be too sure
            calibrate(network, held_out_loader)

    return _Task(
        lambda epoch: batches.epoch(epoch, fabric.device, fabric.global_rank, fabric.world_size),
        len(batches),
        lambda network, batch: batch.weight * weighted_loss(network, batch, config),
        lambda network: _held_out_figures(fabric, network, held_out_loader),
        calibrated,
    )


def _row_task(
    fabric: Fabric, config: Config, train_loader: DataLoader[Item], held_out_loader: DataLoader[Item]
) -> _Task:
    drawn = min(DRAWN, config.rows)  # a short trial begins at once
    batches = RowBatches(row_source(*sampled_digits(train_loader), config, drawn, config.seed), config)
    held_out = held_out_rows(*sampled_digits(held_out_loader), config)
    return _Task(
        lambda epoch: batches.epoch(epoch, fabric.device),
        len(batches),
        row_loss,
        lambda network: row_figures(network, held_out, fabric.device),
        lambda network, _: calibrate_rows(network, held_out),
        clip=5.0,
    )


def _train_epoch(fabric: Fabric, state: dict[str, Any], task: _Task, config: Config) -> float:
    """Train for an epoch and return the mean loss of its images."""
    network, optimizer, epoch, steps = state["network"], state["optimizer"], state["epoch"], task.steps
    total, images = torch.zeros((), device=fabric.device), 0
    network.train()
    shown = progress(task.batches(epoch), f"epoch {epoch + 1}", steps, shown=fabric.is_global_zero)
    for step, batch in enumerate(shown, start=epoch * steps):
        set_rate(optimizer, one_cycle(step, config.epochs * steps, config.learning_rate))
        loss = task.loss(network, batch)
        optimizer.zero_grad()
        fabric.backward(loss)
        if task.clip:
            fabric.clip_gradients(network, optimizer, max_norm=task.clip)
        optimizer.step()
        if config.average > 0:
            state["average"].update_parameters(network)
        total += loss.detach() * batch.size
        images += batch.size
    if config.average == 0:  # nothing is kept of earlier steps
        state["average"].update_parameters(network)
    _average_statistics(fabric, network, state["average"])
    fabric.all_reduce(total, reduce_op="mean")
    mean = total.item() / images
    if not math.isfinite(mean):
        raise FloatingPointError(f"the loss of epoch {epoch + 1} isn't finite: try a lower --learning-rate")
    return mean


def weighted_loss(network: DigitSumNet, batch: Batch, config: Config) -> Tensor:
    """Return the weighted losses of both outputs and of non-digits: negative log-likelihoods, nats, []."""
    image, count = batch.image, len(batch.image)
    both = torch.cat([image, batch.non_digits]) if len(batch.non_digits) else image
    # with a weight of 0 the labels of the digits aren't to be used
    if network.sum_nll_equals_digit_nll and config.digit_weight > 0:
        log_both = network.encode(both)
        sum_loss = nll_loss(log_both[:count], batch.digit)
    else:
        log_both, log_sum = network(both, torch.cat([batch.addend, batch.addend[: len(batch.non_digits)]]))
        sum_loss = nll_loss(log_sum[:count], batch.sum)
    log_digit, log_non_digit = log_both[:count], log_both[count:]
    digit_loss = nll_loss(log_digit, batch.digit).lerp(-log_digit.mean(), config.label_smoothing)
    loss = config.digit_weight * digit_loss + config.sum_weight * sum_loss
    if len(batch.non_digits):
        loss = loss - NON_DIGIT_WEIGHT * log_non_digit.mean()
    return loss


def _average_statistics(fabric: Fabric, *networks: Module) -> None:
    """Average, over all processes, the batch statistics that each has gathered from its parts."""
    if fabric.world_size > 1:
        for network in networks:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    fabric.all_reduce(buffer, reduce_op="mean")


def _held_out_figures(fabric: Fabric, network: DigitSumNet, batches: DataLoader[Item]) -> Row:
    """Return the means of `LOGGED` over all trials; each process tries its part of the images."""
    own = slice(fabric.global_rank, None, fabric.world_size)
    shared = (((image[own], addend), (digit[own], sum_)) for (image, addend), (digit, sum_) in batches)
    trials = run_trials(network, shared)
    digit, sum_ = trials.digit_right, trials.sum_right
    rights = (digit, sum_, digit & sum_)
    losses = (trials.digit_nll.sum(dtype=float), trials.sum_nll.sum(dtype=float))
    totals = torch.tensor([digit.size, *losses, *(right.sum() for right in rights)], dtype=torch.float64)
    if fabric.world_size > 1:
        totals = totals.to(fabric.device)
        fabric.all_reduce(totals, reduce_op="sum")
    count, *sums = totals.tolist()
    return {name: total / count for name, total in zip(LOGGED, sums, strict=True)}


def _check_learning(config: Config, images: int) -> None:
    """Refuse, or warn of, settings with which a network can't learn from so many images."""
    if config.network == "fast" and min(config.batch_size, images) < 2:
        raise InputError(
            "the network fast compares the images of a batch: --batch-size must be 2 or more, as must be the"
            " images to train on"
        )
    if config.digit_weight == 0 and not NETWORKS[config.network].sum_nll_equals_digit_nll:
        log.warning(
            "the network %s learns next to nothing from sums alone (--digit-weight 0): exact and fast do",
            config.network,
        )


def _keep_freed_memory() -> None:
    """Let glibc's malloc keep what a step frees: given back to the system, it comes again page by page."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**25)  # bytes; the most that it takes
        mallopt(M_TRIM_THRESHOLD, 2**29)
