"""The processes of one training: torch starts and watches them, and they end together.

`launch` starts those of one machine, `torchrun` those of several. Each finds its place in its environment.
"""

import logging
import os
import re
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from types import FrameType
from typing import TYPE_CHECKING, Literal

from torch import distributed
from torch.distributed.distributed_c10d import _set_pg_timeout
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, start_processes

from digitsum.cores import cores

if TYPE_CHECKING:
    from lightning_fabric import Fabric

ARRIVAL = timedelta(minutes=10)  # the longest wait for the other processes before a training
SILENCE = timedelta(seconds=30)  # and in it
GRACE = 5  # seconds in which whoever started a process should have ended it, if another has ended
SIOCGIFADDR = 0x8915  # of Linux's ioctl: an interface's address

# what a process finds in its environment that `launch` has started, beside what torchrun lays there
PARENT, MEETING = "DIGITSUM_PARENT", "DIGITSUM_MEETING"


def launch(devices: int, run: Path, more: Sequence[str]) -> None:
    """Run this program again in several processes of this machine, and wait until they have ended.

    Nothing is open to the network: the processes meet in a file, and talk on the loopback interface. That is
    why this isn't `torchrun --standalone`, which listens on every interface and unpickles what it hears.

    Parameters
    ----------
    devices
        How many processes, which share this machine's cores, or its GPUs.
    run
        The folder of the run that they train.
    more
        Arguments that they get beside this program's own.

    Raises
    ------
    SystemExit
        One of them has failed, and said why: with its exit code.
    ConnectionError
        One was killed.
    KeyboardInterrupt
        This process was told to end.
    """
    # what they don't say themselves is said here
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    # torch's handlers would raise also while it starts the processes, and lose them: these wait for all
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ""
    told: list[int] = []
    _on_signals(lambda number, _: told.append(number))
    with TemporaryDirectory() as folder:
        place = {
            "TORCHELASTIC_RUN_ID": "digitsum",
            "WORLD_SIZE": str(devices),
            "LOCAL_WORLD_SIZE": str(devices),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(cores() // devices, 1))),
            PARENT: str(os.getpid()),
            MEETING: str(Path(folder) / "store"),
        }
        ranks = range(devices)
        processes = start_processes(
            "digitsum",
            sys.executable,
            args=dict.fromkeys(ranks, (*sys.orig_argv[1:], *more)),
            envs={rank: place | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in ranks},
            logs_specs=DefaultLogsSpecs(os.devnull),
        )
        try:
            _on_signals(signal.default_int_handler)
            if told:
                raise KeyboardInterrupt
            ended = processes.wait(period=0.1)
        except KeyboardInterrupt:
            _on_signals(signal.SIG_IGN)  # of the impatient
            processes.close(signal.SIGTERM)
            raise
    if ended and ended.failures:
        first = next(iter(ended.failures.values()))
        if first.exitcode > 0:
            sys.exit(first.exitcode)
        raise ConnectionError(_lost(run, first.signal_name()))


def _on_signals(handler: Callable[[int, FrameType | None], object] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


@contextmanager
def process_group(run: Path) -> Iterator[None]:
    """Run the block in every process of a training: it ends in all or none.

    What befalls all, the first process of a machine says; what befalls one alone, that one.

    Raises
    ------
    ConnectionError
        Another process has ended or can't be reached.
    """
    if _is_alone():
        yield
        return
    is_first = os.environ["LOCAL_RANK"] == "0"
    Thread(target=_watch_parent, args=(is_first, run, ended := Event()), daemon=True).start()
    try:
        yield
        distributed.destroy_process_group()
    except Exception as error:
        is_lost = _is_lost(error)
        # while this one waits, whoever started it ends it with the process that has more to say
        if is_lost:
            time.sleep(GRACE)
        if not is_first:
            time.sleep(2 * GRACE)
        if is_lost:
            raise ConnectionError(_lost(run, str(error))) from error
        raise
    finally:
        ended.set()


def make_fabric(precision: Literal["bf16-mixed", "32-true"]) -> "Fabric":
    """Return the engine of a training, of this process alone or of all that were started for it, once met."""
    from lightning_fabric import Fabric  # takes as long to load as torch, and `launch` needs none
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if _is_alone():
        return Fabric(devices=1, precision=precision)
    devices = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["WORLD_SIZE"]) // devices
    # buffers, the batches' statistics, are averaged by the training, once an epoch
    strategy = DDPStrategy(timeout=ARRIVAL, forward_sync_buffers=False)
    fabric = Fabric(strategy=strategy, devices=devices, num_nodes=nodes, precision=precision)
    if fabric.local_rank > 0:
        logging.getLogger("digitsum").setLevel(logging.ERROR)  # one process of a machine warns
    _meet(fabric)
    return fabric


def _is_alone() -> bool:
    return not distributed.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1"


def _is_lost(error: Exception) -> bool:
    """Return whether a peer is lost: torch reports other things, too little memory, as RuntimeError, too."""
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and re.match(r"\[\S*gloo/transport", str(error)) is not None
    )


def _watch_parent(speaks: bool, run: Path, ended: Event) -> None:
    """End this process with the one that started it, whatever the main thread is waiting for."""
    parent = int(os.environ.get(PARENT, os.getppid()))
    while os.getppid() == parent:
        if ended.wait(1):
            return
    if speaks:
        with suppress(OSError):  # whoever read what is printed may be gone, too
            print(f"digitsum: {_lost(run)}", file=sys.stderr, flush=True)
    os._exit(1)


def _lost(run: Path, error: str = "") -> str:
    """Return the sentence that a process is lost, with the engine's words, if any, and how to go on."""
    line = re.sub(r"^\[\S*\] ", "", error.partition("\n")[0]).partition(". ")[0]
    reason = f" ({line})" if line else ""
    more = f"go on with digitsum train --resume {run}" if (run / "config.json").exists() else "start again"
    return f"another process of this training has ended or can't be reached{reason}: {more}"


def _meet(fabric: "Fabric") -> None:
    """Wait for all processes; those of `launch` meet in a file, and nothing is open to the network."""
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
    """Return the name of the network interface that leads to an address; "" where that can't be found out.

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
