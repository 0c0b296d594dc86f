"""Kill a training at random moments, and see whether it goes on as if it had not been killed.

python benchmarks/kills.py [--kills 30] [--seed 0]

A short training of the fast network on the embedded images, on one process and on two, is killed (SIGKILL)
at random moments, one of its processes at random; every third kill waits for the next checkpoint to be
written, and hits the process that writes it. Each time the others must end, and the training, resumed, must
end with the weights of one that was not killed, bit for bit. The processes are forked, as the modules that
each would have to load take longer than its training, and find each other as torchrun's on two hosts do.
"""

import argparse
import os
import random
import signal
import socket
import sys
import time
from itertools import count
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from digitsum.config import Config
from digitsum.training import fit

CONFIG = Config(network="fast", width=16, augment=False, epochs=6, batch_size=250)
FORKED = get_context("forkserver")
Training = list[BaseProcess]


class Kill(NamedTuple):
    """What came of a kill."""

    seconds: float  # until no process was left
    in_writing: bool  # of a checkpoint
    equal: bool  # are the resumed run's weights, bit for bit


def main() -> None:
    """Print a row for each number of processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="for each number of processes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    FORKED.set_forkserver_preload(["digitsum.training"])
    moments = random.Random(options.seed)  # noqa: S311
    print("processes  kills  in writing  equal weights  seconds until all have ended, at most")
    for devices in (1, 2):
        with TemporaryDirectory() as folder:
            kills = kill_often(Path(folder), devices, options.kills, moments)
        print(
            f"{devices:9}  {len(kills):5}  {sum(kill.in_writing for kill in kills):10}"
            f"  {sum(kill.equal for kill in kills):13}  {max(kill.seconds for kill in kills):4.1f}",
            flush=True,
        )


def kill_often(folder: Path, devices: int, kills: int, moments: random.Random) -> list[Kill]:
    """Kill trainings until as many as asked for were hit before their end, and let each go on."""
    training, begun = start(folder / "whole", devices), time.time()
    finish(training)
    whole = (folder / "whole" / "model.safetensors").read_bytes()
    length = (folder / "whole" / "checkpoint.ckpt").stat().st_mtime - begun
    found: list[Kill] = []
    for run in (folder / str(i) for i in count()):
        if len(found) == kills:
            return found
        training = start(run, devices)
        time.sleep(moments.uniform(0, length))
        seconds = kill(training, run, moments, in_writing=len(found) % 3 == 0)
        if seconds is None:
            continue
        in_writing = any(run.glob(".checkpoint.ckpt.*"))
        finish(start(run, devices))
        found.append(Kill(seconds, in_writing, (run / "model.safetensors").read_bytes() == whole))
        print(f"{devices} processes, {len(found)}: {found[-1]}", file=sys.stderr)
    return found


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


def finish(training: Training) -> None:
    """Wait for the good end of a training."""
    for process in training:
        process.join()
        if process.exitcode:
            raise ChildProcessError(f"a process of a training ended with exit code {process.exitcode}")


def kill(training: Training, run: Path, moments: random.Random, in_writing: bool) -> float | None:
    """Kill one of a training's processes, and give the seconds until all have ended; None if they had."""
    first = training[0]
    while in_writing and not any(run.glob(".checkpoint.ckpt.*")) and first.is_alive():
        pass
    victim = first if in_writing else moments.choice(training)
    victim.kill()
    start = time.perf_counter()
    for process in training:
        process.join()
    return time.perf_counter() - start if victim.exitcode == -signal.SIGKILL else None


if __name__ == "__main__":
    main()
