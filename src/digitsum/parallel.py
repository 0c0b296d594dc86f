"""One function for many items, in processes of this machine or on a Dask cluster.

Whoever does the work may die, once or twice: its items are done again. What an item ends with, a result or an
error, is given with it, and the others go on.
"""

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from importlib.metadata import version
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from digitsum.errors import InputError

SUSPECT = 2  # deaths of a process, while others work on other items: then an item is tried alone
SECONDS = 10  # to wait for a scheduler's answer

Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome = Iterator[tuple[Item, Result | Exception]]


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
        It can be pickled, as can the items, which can be hashed too, and the results. It is called again for
        an item if the process that did it dies.
    workers
        Processes on this machine; None: one a core. Each keeps to one core.
    scheduler
        The address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers do it instead.

    Yields
    ------
    tuple
        An item, and the function's result or the ValueError or OSError that it raised. One during which three
        processes died has an OSError; in a cluster four, each busy with or about to do it.

    Raises
    ------
    OSError
        The scheduler can't be reached any more.
    InputError
        The address isn't one, or comes with `workers`; or a worker of the cluster has another version of
        digitsum.
    """
    items = list(items)
    if scheduler is None:
        return _on_this_machine(function, items, workers or os.cpu_count() or 1)
    if workers is not None:
        raise InputError("a cluster has workers of its own: leave --workers out, or --scheduler")
    return _on_cluster(function, items, scheduler) if items else iter([])


@contextmanager
def progress(total: int) -> Iterator[Callable[[int, int], None]]:
    """Give what is told the bytes and rows that were done; a terminal shows their share and the time left."""
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


# Processes of this machine


def _on_this_machine(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Outcome[Item, Result]:
    suspects = []
    for item, outcome in _in_pools(function, items, workers, SUSPECT):
        if isinstance(outcome, BrokenProcessPool):
            suspects.append(item)
        else:
            yield item, outcome
    # of several at work when a process died any may be the cause; one that is alone is
    for item, outcome in _in_pools(function, suspects, 1, 1):
        yield item, _given_up(item) if isinstance(outcome, BrokenProcessPool) else outcome


def _given_up(item: object) -> OSError:
    return OSError(
        f"{item}: the process that did it was killed, ran out of memory or crashed, again and again"
    )


def _in_pools(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, deaths: int
) -> Outcome[Item, Result]:
    """Give each item's outcome, or BrokenProcessPool if as many processes died while it was being done."""
    waiting, died = deque(items), Counter[Item]()
    while waiting:
        running: dict[Future[Result], Item] = {}
        with _pool(min(workers, len(waiting))) as pool:
            try:
                yield from _in_pool(pool, function, waiting, running, workers)
            except BrokenProcessPool as error:
                for item in running.values():
                    died[item] += 1
                    if died[item] < deaths:
                        waiting.append(item)
                    else:
                        yield item, error


def _in_pool(
    pool: ProcessPoolExecutor,
    function: Callable[[Item], Result],
    waiting: deque[Item],
    running: dict["Future[Result]", Item],
    workers: int,
) -> Outcome[Item, Result]:
    """Have as many items done at once as there are workers; those that `running` holds may be lost."""
    while waiting or running:
        while waiting and len(running) < workers:
            running[_submit(pool, function, waiting[0])] = waiting[0]
            waiting.popleft()
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            outcome = _outcome(future)
            yield running.pop(future), outcome


def _submit(pool: ProcessPoolExecutor, function: Callable[[Item], Result], item: Item) -> "Future[Result]":
    """Hand an item to the pool; a process that starts for it won't hear a terminal's interrupts."""
    if sys.platform == "win32":
        return pool.submit(function, item)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(function, item)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _outcome(future: Any) -> Any:
    """Give the result, or the error of the user's or the system's; any other is one of the program's."""
    try:
        return future.result()
    except (InputError, OSError) as error:
        return error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool whose processes end at once when the block does, or when this process is killed."""
    spawn = multiprocessing.get_context("spawn")
    alive, ours = spawn.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, spawn, _begin, (alive,))
    try:
        yield pool
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        alive.close()


def _begin(alive: Connection) -> None:
    """Prepare a process of the pool: one thread, and an end that the first process decides."""
    threadpool_limits(1, "blas")
    Thread(target=_end_with, args=(alive,), daemon=True).start()


def _end_with(alive: Connection) -> None:
    with suppress(EOFError):
        alive.recv()
    os._exit(1)


# A Dask cluster


def _on_cluster(
    function: Callable[[Item], Result], items: list[Item], scheduler: str
) -> Outcome[Item, Result]:
    from distributed import KilledWorker, as_completed

    logging.getLogger("distributed.client").setLevel(
        logging.CRITICAL
    )  # it logs tracebacks of what is said here
    with _client(scheduler) as client:
        _check_versions(client)
        futures = dict(zip(client.map(function, items, pure=False), items, strict=True))
        for future in as_completed(futures):
            item = futures.pop(future)
            try:
                yield item, _outcome(future)
            except KilledWorker:
                yield item, _given_up(item)
            except CancelledError as error:
                raise OSError(f"the scheduler at {scheduler} is gone: start it, and ask again") from error


def _client(scheduler: str) -> Any:
    from distributed import Client

    try:
        return Client(scheduler, timeout=SECONDS)
    except OSError as error:
        raise OSError(f"no scheduler answers at {scheduler}: {error}") from error
    except ValueError as error:
        raise InputError(f"a scheduler's address is like tcp://10.0.0.1:8786, not {scheduler}") from error


def _check_versions(client: Any) -> None:
    """Refuse workers that would read pictures in another way."""
    ours = version("digitsum")
    for worker, theirs in client.run(version, "digitsum").items():
        if theirs != ours:
            raise InputError(f"{worker} has digitsum {theirs}, not {ours}: install the same everywhere")
