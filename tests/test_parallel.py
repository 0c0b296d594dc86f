import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from digitsum.errors import InputError
from digitsum.scoring import parallel
from digitsum.scoring.parallel import each


def square(number: int) -> int:
    """What processes do here: at 0 theirs is killed, at 2 and 3 they say that they can't."""
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 2:
        raise InputError("two is refused")
    if number == 3:
        raise OSError("three can't be read")
    return number * number


def assert_done(outcomes: dict[int, int | Exception]) -> None:
    killed, refused, unread = outcomes.pop(0), outcomes.pop(2), outcomes.pop(3)
    assert outcomes == {1: 1, 4: 16, 5: 25}
    assert type(killed) is OSError
    assert str(killed) == "0: the process that did it was killed, ran out of memory or crashed: ask again"
    assert (type(refused), str(refused)) == (InputError, "two is refused")
    assert (type(unread), str(unread)) == (OSError, "three can't be read")


@pytest.mark.usefixtures("semaphores")
def test_a_killed_process_is_its_items_error_alone_and_so_is_what_one_raises() -> None:
    assert_done(dict(each(square, [0, 1, 2, 3, 4, 5], workers=2)))


def surprise(_: int) -> None:
    raise ValueError("of a library")


@pytest.mark.usefixtures("semaphores")
def test_an_error_that_nobody_foresaw_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match=r"^of a library$") as raised:
        list(each(surprise, [1], workers=1))
    assert "in surprise" in str(raised.value.__cause__)


def process_of(_: int) -> int:
    return os.getpid()


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (OSError(errno.ENOENT, "No such file or directory"), "No such file or directory"),
        (ImportError("This platform lacks sem_open"), "This platform lacks sem_open"),
    ],
)
def test_where_no_process_can_be_started_this_one_does_all_and_says_so(
    error: Exception, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("multiprocessing.synchronize.RLock", refuse)
    assert dict(each(process_of, [1, 2], workers=2)) == {1: os.getpid(), 2: os.getpid()}
    assert caplog.record_tuples == [
        ("digitsum", logging.WARNING, f"no other process can be started ({why}): this one reads alone")
    ]


class Deadly:
    """A function that ends each process that loads it, before it has an item, or only the first."""

    def __init__(self, tried: Path | None) -> None:
        self.tried = tried

    def __call__(self, number: int) -> int:
        return number * number

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = state
        if self.tried is None or not self.tried.exists():
            if self.tried:
                self.tried.touch()
            os._exit(1)


@pytest.mark.usefixtures("semaphores")
def test_processes_that_end_before_they_begin_are_replaced_once(tmp_path: Path) -> None:
    assert list(each(Deadly(tmp_path / "tried"), [3], workers=1)) == [(3, 9)]
    with pytest.raises(OSError, match=r"^the processes that should read end before they begin: give them"):
        list(each(Deadly(None), [3], workers=1))


def test_nothing_to_do_starts_nothing() -> None:
    assert list(each(square, [], workers=2)) == []
    assert list(each(square, [], scheduler="tcp://127.0.0.1:9")) == []


# The end of the first process

PROGRAM = """
import time
from pathlib import Path
from types import SimpleNamespace
from digitsum.scoring.parallel import each

def sleep(name):
    Path(name).touch()
    time.sleep(600)

if __name__ == "__main__":
    try:
        list(each(sleep, ["one", "two"], workers=2))
    except KeyboardInterrupt:
        print("interrupted")
"""


@contextmanager
def started(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", list[psutil.Process]]]:
    """A program in a terminal of its own, and its two processes once they sleep."""
    (tmp_path / "program.py").write_text(PROGRAM)
    # a script's background jobs ignore this signal, and hand that on to what they start
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    command, pipe = [sys.executable, "program.py"], subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, cwd=tmp_path
    ) as process:
        signal.signal(signal.SIGINT, ours)
        try:
            yield process, wait_for_workers(process.pid, [tmp_path / name for name in ("one", "two")])
        finally:
            process.kill()


def wait_for_workers(pid: int, signs: list[Path]) -> list[psutil.Process]:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if all(sign.exists() for sign in signs):
            children = psutil.Process(pid).children()
            return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        time.sleep(0.01)
    raise AssertionError("the workers didn't start")


@pytest.mark.usefixtures("semaphores")
def test_processes_end_when_the_first_is_killed(tmp_path: Path) -> None:
    with started(tmp_path) as (process, workers):
        process.kill()
        assert not psutil.wait_procs(workers, timeout=200)[1]


@pytest.mark.usefixtures("semaphores")
def test_an_interrupt_reaches_the_first_process_alone_and_ends_all(tmp_path: Path) -> None:
    with started(tmp_path) as (process, workers):
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.communicate(timeout=200) == ("interrupted\n", "")
        assert not psutil.wait_procs(workers, timeout=200)[1]


# A cluster


def in_cluster(number: int) -> int:
    """As `square` does, but that at 0 the scheduler has given up."""
    from distributed import KilledWorker

    if number == 0:
        raise KilledWorker("0", SimpleNamespace(address="tcp://one"), 3)
    return square(number)


def test_a_cluster_does_what_processes_do() -> None:
    from distributed import LocalCluster  # here, as each process of the tests before would import it, too

    options = {"processes": False, "protocol": "tcp", "dashboard_address": None}
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as dask:
        outcomes = dict(each(in_cluster, [0, 1, 2, 3, 4, 5], scheduler=dask.scheduler_address))
    assert_done(outcomes)


def test_workers_of_this_machine_and_of_a_cluster_are_not_mixed() -> None:
    with pytest.raises(InputError, match=r"^a cluster has workers of its own: leave --workers out, or "):
        each(square, [3], workers=2, scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    ("scheduler", "kind", "message"),
    [
        ("tcp://127.0.0.1:9", OSError, r"^no scheduler answers at tcp://127\.0\.0\.1:9: "),
        ("nowhere", InputError, r"^a scheduler's address is like tcp://10\.0\.0\.1:8786, not nowhere$"),
    ],
)
def test_a_scheduler_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, scheduler: str, kind: type[Exception], message: str
) -> None:
    monkeypatch.setattr(parallel, "SECONDS", 0.2)
    with pytest.raises(kind, match=message):
        list(each(square, [3], scheduler=scheduler))


class Cluster:
    """The client of a cluster of two workers, of which the second has other versions."""

    def __init__(self, versions: dict[str, str | Exception]) -> None:
        self.versions = versions

    def run(self, _: object, name: str, on_error: str) -> dict[str, str | Exception]:
        assert on_error == "return"
        return {"tcp://one": version(name), "tcp://two": self.versions.get(name, version(name))}


@pytest.mark.parametrize("name", ["digitsum", "numpy", "onnxruntime", "pillow"])
def test_a_worker_with_another_version_of_what_reads_is_refused(name: str) -> None:
    parallel._check_versions(Cluster({}))
    for theirs, message in (
        ("0.0.1", f"tcp://two has {name} 0.0.1, not {name} {version(name)}: install the same everywhere"),
        (ImportError(name), f"tcp://two has no {name} {version(name)}: install the same everywhere"),
    ):
        with pytest.raises(InputError) as refused:
            parallel._check_versions(Cluster({name: theirs}))
        assert str(refused.value) == message
