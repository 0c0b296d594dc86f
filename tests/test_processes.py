"""A training on several processes, and on hosts of their own: network namespaces, each with its address."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from PIL import Image
from torch import Tensor, distributed

from digitsum import mnist
from digitsum.cli import fail, main
from digitsum.config import Config
from digitsum.cores import cores
from digitsum.errors import InputError
from digitsum.training import processes
from digitsum.training.loop import fit
from digitsum.training.processes import _watch_parent, launch, process_group
from digitsum.training.state import Row, _check_alike

# of 72 images: three batches whose parts are of 12 and 11, and one that is too small to share; without
# distortions, which each process draws for itself
CONFIG = Config(augment=False, width=4, batch_size=23, epochs=40, learning_rate=2e-3, precision="32-true")
TRAIN = ["-m", "digitsum", "train"]  # what a user types
LOST = "digitsum: another process of this training has ended or can't be reached"
PATIENCE = 300  # seconds, for what takes a tenth of them


def options(config: Config, run: Path) -> list[str]:
    chosen = {name: value for name, value in asdict(config).items() if value != getattr(Config(), name)}
    return [f"--out={run}", *(f"--{name.replace('_', '-')}={value}" for name, value in chosen.items())]


@contextmanager
def started(command: list[str], **place: str) -> Iterator["subprocess.Popen[str]"]:
    # torch, which is loaded before the command line can tell it, warns of hosts without a name
    place["TORCH_CPP_LOG_LEVEL"], pipe = "ERROR", subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ | place) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_epoch(process: "subprocess.Popen[str]", epoch: int) -> None:
    assert process.stdout is not None
    while not process.stdout.readline().startswith(f"{epoch:5}"):
        assert process.poll() is None


def how_to_go_on(run: Path) -> str:
    return f": go on with digitsum train --resume {run}\n"


def log(run: Path) -> list[Row]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def assert_close(rows: list[Row], others: list[Row], rel: float) -> None:
    for row, other in zip(rows, others, strict=False):
        assert row == pytest.approx({**other, "seconds": row["seconds"]}, rel=rel)


def are_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    return not alive


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The settings of a training on 72 images, of 90."""
    folder, digits = tmp_path_factory.mktemp("pictures"), mnist.load()
    for i in range(90):
        path = folder / str(digits.labels[i]) / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(digits.images[i, 0]).save(path)
    return replace(CONFIG, data=str(folder))


@pytest.fixture(scope="module")
def alone(config: Config, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """The log of one process."""
    return fit(config, tmp_path_factory.mktemp("alone") / "run")


def test_two_processes_learn_as_one_does_end_together_and_are_continued_by_one(
    config: Config, alone: list[Row], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with started([sys.executable, *TRAIN, *options(config, run), "--devices=2"]) as first:
        wait_for_epoch(first, 3)
        workers = psutil.Process(first.pid).children()
        sockets = [each for one in (psutil.Process(first.pid), *workers) for each in one.net_connections()]
        workers[1].kill()
        output, errors = first.communicate(timeout=PATIENCE)
    assert first.returncode == 1
    assert errors == f"{LOST} (SIGKILL){how_to_go_on(run)}"
    assert are_gone(workers)
    assert {each.laddr.ip for each in sockets} == {"127.0.0.1"}  # nothing is open to the network
    assert "epoch" not in output  # the header came once
    rows = log(run)
    assert 3 <= len(rows) < 40
    assert_close(rows, alone, rel=0.01)
    assert_close(fit(config, run), alone, rel=0.01)


@pytest.mark.slow
def test_the_others_end_when_the_first_is_killed(config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options_ = options(replace(config, epochs=100_000), run)
    with started([sys.executable, *TRAIN, *options_, "--devices=2"]) as first:
        wait_for_epoch(first, 1)
        workers = psutil.Process(first.pid).children()
        first.kill()
        _, errors = first.communicate(timeout=PATIENCE)
    assert len(workers) == 2
    assert are_gone(workers)
    assert errors == LOST + how_to_go_on(run)


@pytest.mark.slow
def test_an_error_of_one_process_is_shown_and_is_no_lost_peer(config: Config, tmp_path: Path) -> None:
    program = """
import os
from digitsum import cli
from digitsum.training import loop as training, processes

def fail(*_):
    raise RuntimeError("no more memory")

processes.GRACE = 3
if os.environ.get("RANK") == "1":
    training._train_epoch = fail
cli.main()
"""
    command = [sys.executable, "-c", program, "train", *options(config, tmp_path / "run"), "--devices=2"]
    with started(command) as first:
        _, errors = first.communicate(timeout=PATIENCE)
    assert first.returncode == 1
    assert errors.endswith("\n[rank1]: RuntimeError: no more memory\n")
    assert errors.count("Traceback") == 1
    assert "digitsum: " not in errors


# the signal may come where a file is open that no block holds yet: it is closed when it is collected
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_told_to_end_says_how_to_go_on(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    told: signal.Signals,
) -> None:
    def tell() -> None:
        while not (run / "metrics.csv").exists() or len(log(run)) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), told)

    run = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", ["digitsum", "train", *options(replace(config, epochs=100_000), run)])
    # a script's background jobs ignore an interrupt, and hand that on to what they start
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.getsignal(signal.SIGTERM)
    other = Thread(target=tell)
    other.start()
    with pytest.raises(SystemExit, match=r"^130$"):
        main()
    other.join()
    signal.signal(signal.SIGINT, ours)
    assert signal.getsignal(signal.SIGTERM) == before
    output, errors = capsys.readouterr()
    last = int(output.splitlines()[-1].split()[0])
    assert errors == f"digitsum: interrupted after epoch {last}{how_to_go_on(run)}"
    assert log(run)[-1]["epoch"] in (last, last + 1)  # an epoch may be saved and not yet printed
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Let `launch` start small programs, which write their place into a file of their rank, and all end."""
    kept = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.chdir(tmp_path)
    write = "import json, os, signal, sys, time; json.dump(dict(os.environ), open(os.environ['RANK'], 'w'));"
    before = psutil.Process().children()  # of other tests' libraries
    yield lambda code: monkeypatch.setattr(sys, "orig_argv", ["python", "-S", "-c", write + code])
    assert psutil.Process().children() == before
    for each, handler in kept.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("threads", ["7", None])
def test_each_process_is_told_its_place_and_has_its_share_of_the_cores(
    workers: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, threads: str | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    workers("sys.exit(sys.argv[1] != '--out=run')")
    launch(2, Path("run"), ["--out=run"])
    for rank in ("0", "1"):
        place = json.loads(Path(rank).read_text())
        assert [place[name] for name in ("LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")] == [rank, "2", "2"]
        assert place["OMP_NUM_THREADS"] == threads or str(max(cores() // 2, 1))


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("sys.exit(2) if os.environ['RANK'] == '1' else time.sleep(600)", SystemExit, "^2$"),
        (
            "os.kill(os.getpid(), signal.SIGKILL) if os.environ['RANK'] == '1' else time.sleep(600)",
            ConnectionError,
            r"^another process of this training has ended or can't be reached \(SIGKILL\): start again$",
        ),
    ],
)
def test_all_end_with_the_first_that_does_and_its_reason_is_the_end_s(
    workers: Callable[[str], None], code: str, error: type[BaseException], words: str
) -> None:
    workers(code)
    with pytest.raises(error, match=words):
        launch(2, Path("run"), [])


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_all_end_when_the_first_is_told_to_end(workers: Callable[[str], None], told: signal.Signals) -> None:
    def tell() -> None:
        while not all(Path(rank).exists() for rank in ("0", "1")):
            time.sleep(0.01)
        os.kill(os.getpid(), told)

    workers("time.sleep(600)")
    other = Thread(target=tell)
    other.start()
    with pytest.raises(KeyboardInterrupt):
        launch(2, Path("run"), [])
    other.join()


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_all_end_when_the_first_is_told_to_end_while_it_starts_them(
    workers: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, told: signal.Signals
) -> None:
    start = processes.start_processes

    def start_and_tell(*arguments: Any, **more: Any) -> Any:
        started = start(*arguments, **more)
        os.kill(os.getpid(), told)
        return started

    workers("time.sleep(600)")
    monkeypatch.setattr(processes, "start_processes", start_and_tell)
    with pytest.raises(KeyboardInterrupt):
        launch(2, Path("run"), [])


def test_a_process_without_a_parent_ends_even_if_nobody_hears_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[int] = []
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setenv(processes.PARENT, "0")  # no process's number
    monkeypatch.setattr(os, "_exit", ended.append)
    with suppress(OSError), os.fdopen(writer, "w") as broken:  # closing it fails as well
        monkeypatch.setattr(sys, "stderr", broken)
        _watch_parent(True, tmp_path, Event())
        with pytest.raises(SystemExit, match=r"^130$"):
            fail("interrupted", 130)
        ended.append(0)
    assert ended == [1, 0]


@pytest.mark.parametrize(
    ("error", "code", "end"),
    [
        ("digitsum.InputError('a mistake')", 2, "digitsum: a mistake\n"),
        ("ConnectionError('a peer is lost')", 1, "digitsum: a peer is lost\n"),
        ("RuntimeError('no more memory')", 1, "\nRuntimeError: no more memory\n"),
    ],
)
def test_one_of_several_processes_ends_even_if_python_s_own_end_never_comes(
    error: str, code: int, end: str
) -> None:
    """Seen with Python 3.13.0 and a group whose peer was killed."""
    program = f"""
import threading, time
import digitsum
from digitsum import cli

def fail(*_):
    raise {error}

threading.Thread(target=time.sleep, args=(10 * {PATIENCE},)).start()
print("some output")
cli.Config.load = fail
cli.main()
"""
    command, place = [sys.executable, "-c", program, "train", "--resume=run"], {"TORCHELASTIC_RUN_ID": "test"}
    done = subprocess.run(
        command, env=os.environ | place, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stdout) == (code, "some output\n")
    assert done.stderr.endswith(end)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (
            RuntimeError("[/x/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:9143"),
            True,
        ),
        (distributed.DistNetworkError("The client socket has timed out"), True),
        (distributed.DistBackendError("NCCL error"), True),
        (RuntimeError("[enforce fail at /x/gloo/transport/tcp/device.cc:84] Unable to find address"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (FloatingPointError("the loss isn't finite any more"), False),
    ],
)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_only_a_lost_peer_is_one_and_the_first_process_says_what_befalls_all(
    monkeypatch: pytest.MonkeyPatch, error: Exception, is_lost: bool, rank: str
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(processes.time, "sleep", slept.append)  # type: ignore[attr-defined]
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "LOCAL_RANK": rank}.items():
        monkeypatch.setenv(name, value)
    expected = (ConnectionError, LOST.removeprefix("digitsum: ")) if is_lost else (type(error), str(error))
    with pytest.raises(expected[0], match=f"^{re.escape(expected[1])}"), process_group(Path("run")):
        raise error
    assert sum(slept) == processes.GRACE * (is_lost + 2 * (rank == "1"))


def test_two_processes_go_on_with_the_run_of_one(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With batch statistics and distortions of each process's own part: it learns the like, not the same."""
    config, run = replace(config, network="exact", augment=True, epochs=16), tmp_path / "run"
    whole = fit(config, tmp_path / "whole")

    def interrupt(row: Row) -> None:
        if row["epoch"] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, run, on_epoch=interrupt)
    program = f"""
from digitsum.config import Config
from digitsum.training.loop import fit
fit(Config.load({str(run)!r}), {str(run)!r}, on_epoch=print)
"""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    one, other = (  # what torchrun tells two processes, each alone on its host
        {
            **{"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"},
            **{"RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port},
        }
        for rank in "01"
    )
    for name, value in one.items():
        monkeypatch.setenv(name, value)
    seen: list[Row] = []
    with started([sys.executable, "-c", program], **other) as second:
        returned = fit(Config.load(run), run, on_epoch=seen.append)  # this process is the first
        assert second.communicate(timeout=PATIENCE) == ("", "")  # one writes, and returns
    assert (second.returncode, *capfd.readouterr()) == (0, "", "")
    assert [row["epoch"] for row in seen] == list(range(9, 17))
    assert len(returned) == 16
    rows = log(run)
    assert [row["epoch"] for row in rows] == list(range(1, 17))
    for name in ("train_loss", "digit_nll"):
        assert rows[-1][name] == pytest.approx(whole[-1][name], rel=0.25)


def test_processes_with_other_settings_data_or_checkpoint_are_refused(tmp_path: Path) -> None:
    """Of two processes that are played in turn, the second adds its digest to the first's."""
    told: list[Tensor] = []

    def all_reduce(total: Tensor, reduce_op: str) -> None:
        assert reduce_op == "sum"
        told.append(total.clone())
        total += told[0]

    fabric: Any = SimpleNamespace(world_size=2, device="cpu", all_reduce=all_reduce)
    checkpoint = tmp_path / "checkpoint.ckpt"
    checkpoint.write_bytes(b"of the first")
    words = (
        "^the processes of this training don't have the same settings, data and checkpoint: give the same "
    )
    for config, data in [(CONFIG, "digest"), (replace(CONFIG, data="elsewhere"), "digest")]:
        _check_alike(fabric, config, data, checkpoint)
    for config, data in [(replace(CONFIG, seed=1), "digest"), (CONFIG, "another")]:
        with pytest.raises(InputError, match=words):
            _check_alike(fabric, config, data, checkpoint)
    checkpoint.write_bytes(b"of another")
    with pytest.raises(InputError, match=words):
        _check_alike(fabric, CONFIG, "digest", checkpoint)
    checkpoint.unlink()
    with pytest.raises(InputError, match=words):
        _check_alike(fabric, CONFIG, "digest", checkpoint)


@pytest.mark.slow
def test_two_hosts_train_as_one_until_their_cable_is_cut_and_one_goes_on(
    config: Config, alone: list[Row], hosts: list[str], tmp_path: Path
) -> None:
    """As torchrun is used in docs/operations.md, with less patience: its own report follows the sentence."""
    run, script = tmp_path / "run", tmp_path / "train.py"
    script.write_text("""
from datetime import timedelta
from digitsum import cli
from digitsum.training import processes
processes.SILENCE, processes.GRACE = timedelta(seconds=10), 1
cli.main()
""")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    train = ["train", *options(config, run)]
    meeting = ["--master-addr=10.213.0.1", "--master-port=29500"]
    one, other = (
        ["ip", "netns", "exec", host, *torchrun, f"--node-rank={rank}", *meeting, str(script), *train]
        for rank, host in enumerate(hosts)
    )
    with started(one) as first, started(other) as second:
        wait_for_epoch(first, 3)
        subprocess.run(["ip", "-n", hosts[1], "link", "set", "cable", "down"], check=True)  # noqa: S607
        for process in (first, second):
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 1
            assert errors.startswith(LOST)
            assert errors.partition("\n")[0].endswith(how_to_go_on(run).rstrip())
            assert errors.count("digitsum: ") == 1
    rows = log(run)
    assert 3 <= len(rows) < 40
    assert_close(rows, alone, rel=0.01)
    assert_close(fit(config, run), alone, rel=0.01)
