import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from digitsum import parallel
from digitsum.parallel import each


def square(number: int) -> int:
    """What processes do here: 0 kills its own, always; 1 once, if it is told where to write that down."""
    if number == 0 or (number == 1 and first_time()):
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 2:
        raise ValueError("two is refused")
    return number * number


def first_time() -> bool:
    try:
        Path(os.environ["TRIED"]).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def test_a_process_that_dies_once_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIED", str(tmp_path / "tried"))
    assert sorted(each(square, [1, 3, 4, 5], workers=2)) == [(1, 1), (3, 9), (4, 16), (5, 25)]
    assert (tmp_path / "tried").exists()


def test_an_item_that_kills_and_one_that_is_refused_stop_no_other() -> None:
    outcomes = dict(each(square, [0, 2, 3, 4], workers=2))
    assert (outcomes.pop(3), outcomes.pop(4)) == (9, 16)
    assert str(outcomes.pop(2)) == "two is refused"
    killed = outcomes.pop(0)
    assert isinstance(killed, OSError)
    assert str(killed).startswith("3 processes ended in the middle of it: ")
    assert not outcomes


def test_nothing_to_do_starts_no_process() -> None:
    assert list(each(square, [], workers=2)) == []


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import time\nfrom digitsum.parallel import each\n"
        "if __name__ == '__main__':\n    list(each(time.sleep, [600, 600], workers=2))\n"
    )
    with subprocess.Popen([sys.executable, program]) as started:
        processes = wait_for_workers(started.pid, 2)
        started.kill()
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert not alive


def wait_for_workers(pid: int, count: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if len(workers) == count:
            return workers
        time.sleep(0.01)
    raise AssertionError("the workers didn't start")


@pytest.mark.parametrize(
    ("scheduler", "kind", "message"),
    [
        ("tcp://127.0.0.1:9", OSError, r"^no scheduler answers at tcp://127\.0\.0\.1:9: "),
        ("nowhere", ValueError, r"^a scheduler's address is like tcp://10\.0\.0\.1:8786, not nowhere$"),
    ],
)
def test_a_scheduler_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, scheduler: str, kind: type[Exception], message: str
) -> None:
    monkeypatch.setattr(parallel, "SECONDS", 0.2)
    with pytest.raises(kind, match=message):
        list(each(square, [3], scheduler=scheduler))
