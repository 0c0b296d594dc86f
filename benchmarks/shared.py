"""Seconds of a training on a quiet machine and beside busy processes, as threads wait by default and as here.

python benchmarks/shared.py [--busy 2] [--rounds 3]

`digitsum train --epochs 2` of each network, with a thread for each core, alone and beside processes that do
nothing but add; with GOMP_SPINCOUNT=300000, which is GNU OpenMP's own default, and with the 2000 that
digitsum sets. All are measured in turn, and the least and the median of the rounds are printed: the seconds
of the whole command, and of processor time. The machine must have nothing else to do.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from script import make_parser, record

NETWORKS = ("concat", "exact")
SPINS = ("300000", "2000")


def main() -> None:
    """Print a row for each network, number of busy processes and count of spins."""
    parser = make_parser(__doc__)
    parser.add_argument("--busy", type=int, default=2, help="processes")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cases = list(product(NETWORKS, (0, options.busy), SPINS))
    seconds: dict[tuple[str, int, str], list[tuple[float, float]]] = {case: [] for case in cases}
    for _ in range(options.rounds):
        for network, busy, spins in cases:
            with busy_processes(busy):
                seconds[network, busy, spins].append(train(network, spins))
    print("network  busy processes  GOMP_SPINCOUNT  seconds: least, median  of processor time: least, median")
    for (network, busy, spins), found in seconds.items():
        wall, cpu = zip(*found, strict=True)
        print(
            f"{network:7}  {busy:14}  {spins:>14}  {min(wall):14.1f}  {statistics.median(wall):6.1f}"
            f"  {min(cpu):24.1f}  {statistics.median(cpu):6.1f}"
        )


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` processes busy, at most as long as this one lives."""
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command) for _ in range(count)]  # noqa: S603
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def train(network: str, spins: str) -> tuple[float, float]:
    """Train, and return the seconds that it took, and those of processor time."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "digitsum", "train", "--epochs=2", f"--network={network}"]
        others = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        start, before = time.perf_counter(), os.times()
        subprocess.run(  # noqa: S603
            [*command, f"--out={Path(folder) / 'run'}"],
            env=others | {"GOMP_SPINCOUNT": spins},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        wall, after = time.perf_counter() - start, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    record(main)
