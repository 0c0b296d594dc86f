"""Train on two hosts as on one, cut the cable between them, and measure what a second process gains.

python benchmarks/hosts.py [--network exact] [--data mnist] [--epochs 3]

The hosts are network namespaces of this machine, each with an address of its own, made here and removed at
the end: that needs Linux, `ip` and the rights of an administrator. Printed are

- the held-out losses of each epoch, on one host and on two, with the same seed, and how far apart they are;
- how long after the cable is cut each host's training has ended, with what words, and the last losses of the
  run that one host then goes on with, beside those of the run that was never cut;
- the seconds of an epoch of the embedded images on one process and on two, each with one core, without a
  host's network: the least of several rounds, in turn.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

HOSTS = ("digitsum-one", "digitsum-two")
ADDRESSES = ("10.213.0.1", "10.213.0.2")
TRAIN = ("digitsum", "train")
ROUNDS = 7
LOSSES = ("train_loss", "digit_nll", "sum_nll")
Rows = list[dict[str, float]]
Training = subprocess.Popen[str]


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="exact")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    settings = [f"--{name}={value}" for name, value in vars(options).items()]
    with TemporaryDirectory() as folder, cable():
        alone, together, cut = (Path(folder, name) for name in ("alone", "together", "cut"))
        finish([start([*TRAIN, *settings, f"--out={alone}"])])
        finish(start_on_hosts([*settings, f"--out={together}"]))
        compare(read(alone), read(together))
        cut_the_cable([*settings, f"--out={cut}"], cut, read(together))
        measure_speed_up(options.network, Path(folder))


@contextmanager
def cable() -> Iterator[None]:
    """Make the hosts, joined by a cable, and remove them at the end."""
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        ip("link", "add", "cable", "netns", HOSTS[0], "type", "veth", "peer", "cable", "netns", HOSTS[1])
        for host, address in zip(HOSTS, ADDRESSES, strict=True):
            ip("-n", host, "address", "add", f"{address}/24", "dev", "cable")
            for link in ("lo", "cable"):
                ip("-n", host, "link", "set", link, "up")
        yield
    finally:
        for host in HOSTS:
            ip("netns", "delete", host)


def ip(*arguments: str) -> None:
    """Change the network."""
    subprocess.run(["ip", *arguments], check=True)  # noqa: S603, S607


def start(arguments: Sequence[str], before: Sequence[str] = ()) -> Training:
    """Start a training, with one core a process, by what comes before it."""
    return subprocess.Popen(  # noqa: S603
        [*before, sys.executable, "-m", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},  # hosts have no names
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_on_hosts(arguments: Sequence[str]) -> list[Training]:
    """Start the training's part on each host."""
    torchrun = ["torch.distributed.run", f"--nnodes={len(HOSTS)}", "--nproc-per-node=1"]
    meeting = [f"--master-addr={ADDRESSES[0]}", "--master-port=29500", "-m"]
    return [
        start([*torchrun, f"--node-rank={rank}", *meeting, *TRAIN, *arguments], ["ip", "netns", "exec", host])
        for rank, host in enumerate(HOSTS)
    ]


def finish(trainings: list[Training]) -> None:
    """Wait for the good end of all."""
    for training in trainings:
        _, errors = training.communicate()
        if training.returncode:
            raise ChildProcessError(errors)


def read(run: Path) -> Rows:
    """Read the log of a run."""
    with (run / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def compare(alone: Rows, together: Rows) -> None:
    """Print the losses of two runs side by side."""
    print("epoch  " + "  ".join(f"{name}: one, two hosts, apart" for name in LOSSES) + "  joint accuracy")
    for one, two in zip(alone, together, strict=True):
        losses = (
            f"{one[name]:13.4f}  {two[name]:7.4f}  {abs(two[name] / one[name] - 1):8.4%}" for name in LOSSES
        )
        accuracies = f"{one['joint_accuracy']:.2%}  {two['joint_accuracy']:.2%}"
        print(f"{one['epoch']:5.0f}  " + "  ".join(losses) + "  " + accuracies)


def cut_the_cable(arguments: Sequence[str], run: Path, whole: Rows) -> None:
    """Cut the cable after the first epoch, wait for both ends, and let one host go on."""
    trainings = start_on_hosts(arguments)
    while not (run / "metrics.csv").exists():
        time.sleep(0.1)
    ip("-n", HOSTS[1], "link", "set", "cable", "down")
    cut = time.monotonic()
    print("\nhost  seconds after the cut  exit code  words")
    for number, training in enumerate(trainings, start=1):
        _, errors = training.communicate()
        sentence = errors.partition("\n")[0]  # torchrun's own report follows
        print(f"{number:4}  {time.monotonic() - cut:21.1f}  {training.returncode:9}  {sentence}")
    finish([start([*TRAIN, f"--resume={run}"])])
    print("\nlast epoch  " + "  ".join(LOSSES))
    for name, row in (("two hosts", whole[-1]), ("cut, then one", read(run)[-1])):
        print(f"{name:13}  " + "  ".join(f"{row[loss]:.4f}" for loss in LOSSES))


def measure_speed_up(network: str, folder: Path) -> None:
    """Train on one process and on two in turn, and print what an epoch takes."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    print("\nseconds of an epoch, at least: one process, two, speed-up")
    for number in range(ROUNDS):
        for processes, least in seconds.items():
            run = folder / f"round{number}-{processes}"
            options = [f"--network={network}", "--epochs=4", f"--out={run}", f"--devices={processes}"]
            finish([start([*TRAIN, *options])])
            least.append(min(row["seconds"] for row in read(run)))
        print("  ".join(f"{least[-1]:.2f}" for least in seconds.values()), end="  ")
        print(f"{seconds[1][-1] / seconds[2][-1]:.2f}")
    print(f"of all: {min(seconds[1]) / min(seconds[2]):.2f}")


if __name__ == "__main__":
    main()
