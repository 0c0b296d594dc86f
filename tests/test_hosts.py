"""A training on several processes, and on hosts of their own: network namespaces, each with its address."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from threading import Thread

import pytest
from PIL import Image

from digitsum import mnist
from digitsum.cli import main
from digitsum.config import Config
from digitsum.processes import make_fabric
from digitsum.training import Row, fit

# of 72 images: three batches whose parts are of 12 and 11, and one that is too small to share; without
# distortions, which each process draws for itself
CONFIG = Config(augment=False, width=4, batch_size=23, epochs=40, learning_rate=2e-3, precision="32-true")
# what a user types, with less patience
DIGITSUM = """
import sys
from datetime import timedelta
from digitsum import processes
from digitsum.cli import main

processes.SILENCE, processes.GRACE = timedelta(seconds=8), 2
main()
"""
LOST = "digitsum: another process of this training has ended or can't be reached"


def command(config: Config, run: Path, *more: str) -> list[str]:
    chosen = {name: value for name, value in asdict(config).items() if value != getattr(Config(), name)}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    return [sys.executable, "-c", DIGITSUM, "train", *options, f"--out={run}", *more]


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


def is_the_sentence(errors: str, run: Path) -> bool:
    end = f": go on with digitsum train --resume {run}\n"
    return errors.startswith(LOST) and errors.endswith(end) and errors.count("\n") == 1


def log(run: Path) -> list[Row]:
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def assert_close(rows: list[Row], others: list[Row], rel: float) -> None:
    for row, other in zip(rows, others, strict=False):
        assert row == pytest.approx({**other, "seconds": row["seconds"]}, rel=rel)


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def are_gone(processes: list[int], within: float) -> bool:
    end = time.monotonic() + within
    while any(Path(f"/proc/{process}").exists() for process in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


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


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two hosts, 10.213.0.1 and 10.213.0.2, joined by a cable of their own."""
    names = [f"digitsum-{os.getpid()}-{end}" for end in "ab"]
    ends = ["cable", "netns", names[0], "type", "veth", "peer", "cable", "netns", names[1]]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", *ends)
        for number, name in enumerate(names, start=1):
            ip("-n", name, "address", "add", f"10.213.0.{number}/24", "dev", "cable")
            for link in ("lo", "cable"):
                ip("-n", name, "link", "set", link, "up")
    except (OSError, subprocess.CalledProcessError) as error:
        remove(names)
        pytest.skip(f"hosts can't be made here: that needs ip and the rights of an administrator: {error}")
    yield names
    remove(names)


def remove(hosts: list[str]) -> None:
    for host in hosts:
        if Path("/run/netns", host).exists():
            ip("netns", "delete", host)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)  # noqa: S607


def test_two_processes_learn_as_one_does_end_together_and_are_continued_by_one(
    config: Config, alone: list[Row], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with started(command(config, run, "--devices=2")) as first:
        wait_for_epoch(first, 3)
        (second,) = children(first.pid)
        os.kill(second, signal.SIGKILL)
        output, errors = first.communicate(timeout=60)
    assert first.returncode == 1
    assert is_the_sentence(errors, run)
    assert are_gone([second], within=5)
    assert "epoch" not in output  # the header came once
    rows = log(run)
    assert 3 <= len(rows) < 40
    assert_close(rows, alone, rel=0.01)
    assert_close(fit(config, run), alone, rel=0.01)


def test_the_other_processes_end_with_the_first(config: Config, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with started(command(replace(config, epochs=100_000), run, "--devices=2")) as first:
        wait_for_epoch(first, 1)
        others = children(first.pid)
        first.kill()
        _, errors = first.communicate(timeout=60)
    assert len(others) == 1
    assert are_gone(others, within=5)
    assert is_the_sentence(errors, run)


# the signal may come where a file is open that no block holds yet: it is closed when it is collected
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_training_that_is_told_to_end_says_how_to_go_on(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def terminate() -> None:
        while not (run / "metrics.csv").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    run = tmp_path / "run"
    monkeypatch.setattr(sys, "argv", command(replace(config, epochs=100_000), run)[2:])
    before = signal.getsignal(signal.SIGTERM)
    other = Thread(target=terminate)
    other.start()
    with pytest.raises(SystemExit, match=r"^130$"):
        main()
    other.join()
    assert capsys.readouterr().err.endswith(f": go on with digitsum train --resume {run}\n")
    assert signal.getsignal(signal.SIGTERM) == before


def test_torchrun_s_processes_go_on_with_the_run_of_one(config: Config, tmp_path: Path) -> None:
    """With batch statistics and distortions of each process's own part: it learns the like, not the same."""
    config, run, script = (
        replace(config, network="exact", augment=True, epochs=16),
        tmp_path / "run",
        tmp_path / "train.py",
    )
    whole = fit(config, tmp_path / "whole")

    def interrupt(row: Row) -> None:
        if row["epoch"] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(config, run, on_epoch=interrupt)
    script.write_text(f"""
from pathlib import Path
from digitsum.config import Config
from digitsum.training import fit
run = Path({str(run)!r})
print(len(fit(Config.load(run), run, on_epoch=lambda row: print(row["epoch"]))), "rows")
""")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script]
    done = subprocess.run(torchrun, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [*map(str, range(9, 17)), "16 rows", ""]
    rows = log(run)
    assert [row["epoch"] for row in rows] == list(range(1, 17))
    for name in ("train_loss", "digit_nll"):
        assert rows[-1][name] == pytest.approx(whole[-1][name], rel=0.25)


def test_two_hosts_train_as_one_until_their_cable_is_cut_and_one_goes_on(
    config: Config, alone: list[Row], hosts: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    place = {"MASTER_ADDR": "10.213.0.1", "MASTER_PORT": "29500"}
    one, other = (["ip", "netns", "exec", host, *command(config, run, "--nodes=2")] for host in hosts)
    with started(one, NODE_RANK="0", **place) as first, started(other, NODE_RANK="1", **place) as second:
        wait_for_epoch(first, 3)
        ip("-n", hosts[1], "link", "set", "cable", "down")
        for process in (first, second):
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 1
            assert is_the_sentence(errors, run)
    rows = log(run)
    assert 3 <= len(rows) < 40
    assert_close(rows, alone, rel=0.01)
    assert_close(fit(config, run), alone, rel=0.01)


def test_processes_with_other_settings_are_refused(config: Config, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    one, other = (command(replace(config, seed=seed), tmp_path / str(seed), "--nodes=2") for seed in (0, 1))
    with started(one, NODE_RANK="0", **place) as first, started(other, NODE_RANK="1", **place) as second:
        for process in (first, second):
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 2
            assert errors.startswith("digitsum: the processes of this training don't have the same settings")
    assert not (tmp_path / "0" / "config.json").exists()


def test_several_machines_must_know_where_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(
        ValueError, match=r"^--nodes 2 needs MASTER_ADDR, NODE_RANK in the environment of each"
    ):
        make_fabric("32-true", nodes=2)
