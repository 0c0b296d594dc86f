"""One function for many items, in processes of this machine or on a Dask cluster.

What an item ends with, a result or an error, is given with it, and the others go on: also where the process
that does it dies, which is the item's error on this machine, and is done again on a cluster.
"""

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from multiprocessing import resource_tracker
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from digitsum.cores import cores
from digitsum.errors import InputError
from digitsum.files import NETWORKS, digest, reason

POOLS = 2  # in a row of which nothing comes: then their processes can't live
SECONDS = 10  # to wait for a scheduler's answer
LIBRARIES = ("digitsum", "numpy", "onnxruntime", "pillow")  # with others a picture may be read otherwise

Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome = Iterator[tuple[Item, Result | Exception]]

log = logging.getLogger("digitsum")


def each(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int | None = None,
    scheduler: str | None = None,
) -> Outcome[Item, Result]:
    """Call the function for each item, and give what comes of it as soon as it comes.

    Parameters
    ----------
    function
        It can be pickled, as can the items and the results.
    workers
        Processes on this machine; None: one a core. Each keeps to one core. Where none can be started, this
        process does it all, and a warning says so.
    scheduler
        The address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers do it instead.

    Yields
    ------
    tuple
        An item, and the function's result or the InputError or OSError that it raised. One whose process
        died has an OSError; in a cluster only after four, each busy with it or about to do it.

    Raises
    ------
    OSError
        The processes end before they do anything, or the scheduler can't be reached any more.
    InputError
        The address isn't one, or comes with `workers`; or a worker of the cluster has another version of
        digitsum or of a library that it reads with.
    """
    items = list(items)
    if scheduler is None:
        return _on_this_machine(function, items, workers or cores())
    if workers is not None:
        raise InputError("a cluster has workers of its own: leave --workers out, or --scheduler")
    return _on_cluster(function, items, scheduler) if items else iter([])


@contextmanager
def progress(total: int) -> Iterator[Callable[[int, int], None]]:
    """Yield what is told the bytes and rows that are done; a terminal shows their share and the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console, start, rows = Console(stderr=True), time.monotonic(), 0
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task("0 rows", total=total)

        def show(size: int, more: int) -> None:
            nonlocal rows
            rows += more
            rate = rows / (time.monotonic() - start)
            shown.update(task, advance=size, description=f"{rows:,} rows, {rate:,.0f} a second, time left")

        yield show


def _outcome(call: Callable[[], Result]) -> Result | Exception:
    """Return the result, or the error of the user's or the system's; any other is one of the program's."""
    try:
        return call()
    except ProcessExpired:  # an OSError, too
        raise
    except (InputError, OSError) as error:
        return error


def name_everywhere(model: str | Path) -> str:
    """Return a name of the package's, or an absolute path: what another process finds, too."""
    return str(model if model in NETWORKS else Path(model).resolve())


def check_everywhere(what: str, file: Path, sha256: str) -> None:
    """Refuse a file that isn't the one with this digest, as another process knows it.

    Raises
    ------
    InputError
        It isn't.
    """
    got = digest(file)
    if got != sha256:
        raise InputError(f"the {what} isn't the same everywhere: expected sha256 {sha256}, got {got}")


# Processes of this machine


def _on_this_machine(
    function: Callable[[Item], Result], items: list[Item], workers: int
) -> Outcome[Item, Result]:
    left, pools = dict(enumerate(items)), 0  # in a row of which nothing came
    while left:
        before = len(left)
        for number, outcome in _in_pool(function, left.copy(), min(workers, before)):
            yield left.pop(number), outcome
        pools = pools + 1 if len(left) == before else 0
        if pools == POOLS:
            raise OSError(
                "the processes that should read end before they begin: give them more memory, or have fewer"
                " --workers; a program that calls this needs `if __name__ == '__main__':`"
            )


def _in_pool(
    function: Callable[[Item], Result], items: dict[int, Item], workers: int
) -> Outcome[int, Result]:
    """Yield the outcomes of numbered items, but for those that weren't begun when the pool broke."""
    pool = ProcessPool(workers, 0, _begin, (function,), multiprocessing.get_context("spawn"))
    running: dict[Future[Result], int] = {}
    try:
        try:
            with _deaf():
                for number, item in items.items():
                    running[pool.schedule(function, (item,))] = number
        except (ImportError, OSError, BrokenProcessPool) as error:  # no semaphores, no memory to share ...
            log.warning("no other process can be started (%s): this one reads alone", reason(error))
            with threadpool_limits(1, "blas"):
                yield from ((number, _outcome(partial(function, item))) for number, item in items.items())
            return
        except RuntimeError:  # it broke meanwhile, or this process may start none
            if not running:
                raise
        for future in as_completed(running):
            number = running.pop(future)
            try:
                yield number, _outcome(future.result)
            except BrokenProcessPool:
                continue
            except ProcessExpired:
                yield number, _given_up(items[number])
    finally:
        pool.stop()
        pool.join()


@contextmanager
def _deaf() -> Iterator[None]:
    """Have processes that start in the block, and later of its threads, not hear a terminal's interrupts."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # which, started in the block, would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _given_up(item: object) -> OSError:
    return OSError(f"{item}: the process that did it was killed, ran out of memory or crashed: ask again")


def _begin(_: object) -> None:
    """Prepare a process of the pool: one thread, and an end that the first process decides.

    The function is handed over here as well, so that its modules are loaded before the pool's lock is held.
    """
    threadpool_limits(1, "blas")
    Thread(target=_end_with_the_first, daemon=True).start()


def _end_with_the_first() -> None:
    first = multiprocessing.parent_process()
    if first is not None:
        first.join()
    os._exit(1)


# A Dask cluster


def _on_cluster(
    function: Callable[[Item], Result], items: list[Item], scheduler: str
) -> Outcome[Item, Result]:
    from distributed import KilledWorker
    from distributed import as_completed as completed

    logging.getLogger("distributed.client").setLevel(
        logging.CRITICAL
    )  # it logs tracebacks of what is said here
    with _client(scheduler) as client:
        _check_versions(client)
        futures = dict(zip(client.map(function, items, pure=False), items, strict=True))
        for future in completed(futures):
            item = futures.pop(future)
            try:
                yield item, _outcome(future.result)
            except KilledWorker:
                yield item, _given_up(item)
            except CancelledError as error:
                raise OSError(f"the scheduler at {scheduler} is gone: start it, and ask again") from error


def _client(scheduler: str) -> Any:
    from distributed import Client

    try:
        return Client(scheduler, timeout=SECONDS)
    except OSError as error:
        raise OSError(f"no scheduler answers at {scheduler}: {reason(error)}") from error
    except ValueError as error:
        raise InputError(f"a scheduler's address is like tcp://10.0.0.1:8786, not {scheduler}") from error


def _check_versions(client: Any) -> None:
    """Refuse workers that would read pictures in another way."""
    for name in LIBRARIES:
        ours = version(name)
        for worker, theirs in client.run(version, name, on_error="return").items():
            if theirs != ours:
                other = "no" if isinstance(theirs, Exception) else f"{name} {theirs}, not"
                raise InputError(f"{worker} has {other} {name} {ours}: install the same everywhere")
