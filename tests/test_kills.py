"""Trainings that are killed at random moments.

Their processes are forked, as the modules that each would have to load take longer than its training, and
find each other as torchrun's on two hosts do.
"""

import os
import random
import signal
import socket
import time
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from digitsum.config import Config
from digitsum.training.loop import fit

CONFIG = Config(network="fast", width=16, augment=False, epochs=6, batch_size=250)
FORKED = get_context("forkserver")
KILLS = 12  # for each number of processes
PATIENCE = 300  # seconds, for what takes a tenth of them

Training = list[BaseProcess]


def start(run: Path, devices: int) -> Training:
    """Start a training, or let it go on, and wait until it has begun."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    training: Training = [
        FORKED.Process(target=train, args=(run, rank, devices, port)) for rank in range(devices)
    ]
    for process in training:
        process.start()
    while not (run / "config.json").exists() and training[0].is_alive():
        time.sleep(0.001)
    return training


def train(run: Path, rank: int, devices: int, port: int) -> None:
    """Be one of the processes of a training."""
    os.environ |= {"TORCHELASTIC_RUN_ID": "kills", "RANK": str(rank), "WORLD_SIZE": str(devices)}
    os.environ |= {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    fit(CONFIG, run)


def exit_codes(training: Training) -> list[int | None]:
    for process in training:
        process.join(PATIENCE)
    return [process.exitcode for process in training]


def kill(training: Training, run: Path, moments: random.Random, in_writing: bool) -> bool:
    """Kill one of a training's processes, and tell whether that one hadn't ended before."""
    first = training[0]
    while in_writing and not any(run.glob(".checkpoint.ckpt.*")) and first.is_alive():
        pass
    victim = training.index(first if in_writing else moments.choice(training))
    training[victim].kill()
    codes = exit_codes(training)
    assert None not in codes  # the others end, too
    return codes[victim] == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_training_that_is_killed_at_any_moment_goes_on_to_the_same_weights(
    tmp_path: Path, devices: int
) -> None:
    """Every third is killed while a checkpoint is being written."""
    FORKED.set_forkserver_preload(["digitsum.training.loop"])
    whole, moments, killed = tmp_path / "whole", random.Random(devices), 0  # noqa: S311
    training, begun = start(whole, devices), time.time()
    assert not any(exit_codes(training))
    length = (whole / "checkpoint.ckpt").stat().st_mtime - begun
    for attempt in range(5 * KILLS):
        run = tmp_path / str(attempt)
        training = start(run, devices)
        time.sleep(moments.uniform(0, length))
        if not kill(training, run, moments, in_writing=killed % 3 == 0):
            continue
        assert exit_codes(start(run, devices)) == [0] * devices
        assert (run / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        killed += 1
        if killed == KILLS:
            return
    raise AssertionError(f"of {attempt + 1} trainings only {killed} were killed before their end")
