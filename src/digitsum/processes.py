"""The processes of one training: started, watched, and ended together.

The first process of a machine starts its program again for each other one there, which finds its place in
its environment; under torchrun or Slurm all of them are there already.
"""

import logging
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Literal

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import distributed
from torch.distributed.distributed_c10d import _set_pg_timeout

from digitsum.errors import InputError

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

ARRIVAL = timedelta(minutes=10)  # the longest wait for the other processes before a training
SILENCE = timedelta(seconds=30)  # and in it
GRACE = 5  # seconds in which the first process should itself have noticed that another is gone
SIOCGIFADDR = 0x8915  # of Linux's ioctl: an interface's address

# what a process that was started here finds in its environment, beside torch's LOCAL_RANK
PARENT, RUN, MEETING = "DIGITSUM_PARENT", "DIGITSUM_RUN", "DIGITSUM_MEETING"

Process = subprocess.Popen[bytes]


def make_fabric(precision: Literal["bf16-mixed", "32-true"], devices: int = 1, nodes: int = 1) -> Fabric:
    """Give the engine of a training on `devices` processes, or GPUs, of each of `nodes` machines.

    Where torchrun has started the processes, its numbers count.

    Raises
    ------
    InputError
        Several machines, and the environment doesn't say where they meet.
    """
    if distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if devices * nodes == 1:
        return Fabric(devices=1, precision=precision)
    # buffers, the batches' statistics, are averaged by the training, once an epoch
    strategy = DDPStrategy(timeout=ARRIVAL, forward_sync_buffers=False)
    fabric = Fabric(strategy=strategy, devices=devices, num_nodes=nodes, precision=precision)
    missing = sorted({"MASTER_ADDR", "MASTER_PORT", "NODE_RANK"} - os.environ.keys())
    if nodes > 1 and missing and isinstance(strategy.cluster_environment, LightningEnvironment):
        raise InputError(
            f"--nodes {nodes} needs {', '.join(missing)} in the environment of each machine: the address of"
            " the first, a free port there, and 0 on the first, 1 on the second and so on"
        )
    if fabric.local_rank > 0:
        logging.getLogger("digitsum").setLevel(logging.ERROR)  # one process warns
    return fabric


@contextmanager
def together(fabric: Fabric, run: Path) -> Iterator[None]:
    """Run the block in every process of a training, started where they are missing: it ends in all or none.

    However the block ends, no process is left behind that was started for it.

    Raises
    ------
    ConnectionError
        Another process has ended or can't be reached.
    """
    if not isinstance(fabric.strategy, DDPStrategy):  # alone
        yield
        return
    with _others(fabric.strategy, run):
        try:
            _meet(fabric)
            yield
            distributed.destroy_process_group()
        except (RuntimeError, ValueError, ArithmeticError) as error:
            if fabric.local_rank > 0:  # what befalls all, the first process of the machine says
                time.sleep(GRACE)
                sys.exit(1)
            if isinstance(error, RuntimeError):
                raise ConnectionError(_lost(run, str(error))) from error
            raise


@contextmanager
def _others(strategy: DDPStrategy, run: Path) -> Iterator[None]:
    """Start this machine's other processes, if nothing has, and watch over them, or over the parent."""
    ended, environment = Event(), strategy.cluster_environment
    if environment and environment.creates_processes_externally:
        Thread(target=_watch_parent, args=(strategy.local_rank, run, ended), daemon=True).start()
        yield
        ended.set()
        return
    with TemporaryDirectory() as folder:
        os.environ["LOCAL_RANK"] = "0"
        if strategy.num_nodes == 1:
            os.environ[MEETING] = str(Path(folder) / "store")
        others: list[Process] = []
        try:
            others.extend(_start(rank, run) for rank in range(1, strategy.num_processes))
            Thread(target=_watch, args=(others, run, ended), daemon=True).start()
            yield
        finally:
            ended.set()
            _end(others)
            for name in ("LOCAL_RANK", MEETING):
                os.environ.pop(name, None)


def _start(rank: int, run: Path) -> Process:
    place = {"LOCAL_RANK": str(rank), PARENT: str(os.getpid()), RUN: str(run)}
    return subprocess.Popen(  # noqa: S603  # what this very process was started with
        [sys.executable, *sys.orig_argv[1:]],
        env=os.environ | place,
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # an interruption is for the first process, which ends the others
    )


def _watch(others: list[Process], run: Path, ended: Event) -> None:
    """End all, should another process be gone and this one not notice: it may wait for its arrival."""
    while not ended.wait(1):
        if any(other.poll() is not None for other in others) and not ended.wait(GRACE):
            _end(others)
            _give_up(_lost(run))


def _watch_parent(local_rank: int, run: Path, ended: Event) -> None:
    """End this process with the one that started it; of a run that has begun, the first left says why."""
    parent = int(os.environ.get(PARENT, os.getppid()))
    while not ended.wait(1):
        if os.getppid() != parent:
            speaks = local_rank == int(PARENT in os.environ) and (run / "config.json").exists()
            _give_up(_lost(run) if speaks else "")


def _give_up(message: str) -> None:
    """End at once, whatever the main thread is waiting for."""
    if message:
        print(f"digitsum: {message}", file=sys.stderr, flush=True)
    os._exit(1)


def _end(others: list[Process]) -> None:
    for other in others:
        with suppress(ProcessLookupError):
            os.killpg(other.pid, signal.SIGKILL)  # and what it has started
        other.wait()


def _lost(run: Path, error: str = "") -> str:
    """Say that a process is lost, in the engine's words as well, if there are any, and how to go on."""
    line = re.sub(r"^\[\S*\] ", "", error.partition("\n")[0]).partition(". ")[0]
    reason = f" ({line})" if line else ""
    more = f"go on with digitsum train --resume {run}" if (run / "config.json").exists() else "start again"
    return f"another process of this training has ended or can't be reached{reason}: {more}"


def _meet(fabric: Fabric) -> None:
    """Wait for all processes; on one machine they meet in a file, and nothing is open to the network."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _interface_to(os.environ.get("MASTER_ADDR", "127.0.0.1")))
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # torch's waiting can't be interrupted otherwise
    if MEETING in os.environ:
        distributed.init_process_group(
            distributed.get_default_backend_for_device(fabric.device),
            store=distributed.FileStore(os.environ[MEETING], fabric.world_size),  # type: ignore[attr-defined]
            rank=fabric.global_rank,
            world_size=fabric.world_size,
            timeout=ARRIVAL,
        )
    fabric.launch()
    signal.signal(signal.SIGINT, before)
    _set_pg_timeout(SILENCE)


def _interface_to(address: str) -> str:
    """Give the name of the network interface that leads to an address; "" where that can't be found out.

    By itself, gloo takes the one of this machine's own name, which often leads nowhere else.
    """
    with suppress(ImportError, OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        from fcntl import ioctl  # Unix's

        probe.connect((address, 9))  # sends nothing
        own = socket.inet_aton(probe.getsockname()[0])
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no address
                if ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()))[20:24] == own:
                    return name
    return ""
