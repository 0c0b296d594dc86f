"""Score very many pictures: is each row there once, whatever dies? The rates, and the memory it takes.

python benchmarks/scoring.py [--rows 1000000] [--files 20] [--kills 10]

The rows are MNIST's training images (`DIGITSUM_DATA`) as 784 uint8, one in a thousand of them blank. The bare
loop is `Predictor.probabilities` on arrays in memory, in one process and in two at once: it reads and writes
no file. `digitsum score` does the same with one process and with two, then on a Dask cluster of two workers
on this machine. Every process has one thread.

- Rows a second, and CPU microseconds a row, of all processes with their start; the overhead is that over the
  bare loop in as many processes.
- The digest of the rows, sorted, with their numbers, sums, probabilities and doubts, and of which have an
  error, is compared with the bare loop's.
- Peak memory (VmHWM) of the cluster's workers after a tenth of the rows in as many files, and after all.
- A worker of the cluster is killed twice in the middle of the job.
- The job with two processes, of a twentieth of the rows, is killed (SIGKILL) at random moments of its time,
  and then asked again.
"""

import hashlib
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client
from script import make_parser, record

from digitsum import mnist
from digitsum.prediction import Predictor
from digitsum.scoring.parallel import each
from digitsum.search import CERTAIN

BROKEN = 1_000  # one row in as many
ADDEND = 1_234_567
COLUMNS = ["id", "number", "sum", "probability", "sum_probability", "consistent", "uncertain", "error"]


class Cost(NamedTuple):
    """Seconds that passed, CPU seconds of all processes, and the digest of what came of it."""

    wall: float
    cpu: float
    digest: str


def main() -> None:
    """Print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with TemporaryDirectory() as folder:
        place = Path(folder)
        sizes = {name: options.rows // part for name, part in (("all", 1), ("tenth", 10), ("twentieth", 20))}
        for name, rows in sizes.items():
            make(place / name, rows, options.files)
        costs = compare(place)
        print_costs(costs, sizes["all"])
        survive_in_cluster(place, costs["pool, 2"].digest)
        survive(place, options.kills)


def make(folder: Path, rows: int, files: int) -> None:
    """Write the files, of a column of ids and one of images."""
    images = mnist.load("mnist").images.reshape(-1, 784)
    folder.mkdir()
    for number, ids in enumerate(np.array_split(np.arange(rows), files)):
        pixels = images[ids % len(images)]
        pixels[ids % BROKEN == 0] = 0
        column = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), 784)
        pq.write_table(pa.table({"id": ids, "image": column}), folder / f"{number:03}.parquet")


def compare(place: Path) -> dict[str, Cost]:
    """Score all rows in each way."""
    costs = {f"bare loop, {workers}": bare(place / "all", workers) for workers in (1, 2)}
    for workers in (1, 2):
        out = place / f"pool{workers}"
        costs[f"pool, {workers}"] = timed(out, partial(score, place / "all", out, "--workers", str(workers)))
    for name, rows in (("a tenth", "tenth"), ("all", "all")):
        with cluster(place) as client:
            out = place / f"cluster-{rows}"
            cost = timed(out, partial(score_on, client, place / rows, out), partial(cpu, client))
            print(f"peak memory of a worker, {name} of the rows: {max(peaks(client)):,.0f} MB")
    return costs | {"cluster, 2": cost}


def print_costs(costs: dict[str, Cost], rows: int) -> None:
    """Print a row for each way; the overhead is relative to the bare loop with as many processes."""
    table = {}
    for name, cost in costs.items():
        base = costs[f"bare loop, {name[-1]}"]
        table[name] = {
            "rows/s": rows / cost.wall,
            "overhead, %": 100 * (cost.wall / base.wall - 1),
            "CPU us a row": 1e6 * cost.cpu / rows,
            "CPU overhead, %": 100 * (cost.cpu / base.cpu - 1),
            "the same rows": cost.digest == costs["bare loop, 1"].digest,
        }
    print(f"\n{rows:,} rows, {rows // BROKEN + bool(rows % BROKEN):,} of them broken\n")
    print(pd.DataFrame(table).T.to_string(formatters=dict.fromkeys(list(table[name])[:4], "{:,.1f}".format)))


# The bare loop


def bare(folder: Path, workers: int) -> Cost:
    """Answer for the arrays of all files, a process after another or side by side; only this is timed."""
    files = sorted(folder.iterdir())
    parts = [tuple(map(str, part)) for part in np.array_split(np.array(files, dtype=object), workers)]
    done = [result for _, result in each(answer_files, parts, workers)]
    assert all(not isinstance(result, Exception) for result in done), done
    walls, cpus, tables = zip(*done, strict=True)
    return Cost(max(walls), sum(cpus), digest(pa.concat_tables(tables)))


def answer_files(files: tuple[str, ...]) -> tuple[float, float, pa.Table]:
    """Return the seconds and CPU seconds that it takes to load the network and to answer, and the answers."""
    tables, wall, cpu = [], 0.0, 0.0
    for number, file in enumerate(files):
        rows = pq.read_table(file)
        images = rows["image"].combine_chunks().flatten().to_numpy().reshape(-1, 28, 28)
        start = time.perf_counter(), time.process_time()
        if number == 0:
            predictor = Predictor("exact", threads=1)
        tables.append(answer(predictor, rows["id"].to_numpy(), images))
        wall, cpu = wall + time.perf_counter() - start[0], cpu + time.process_time() - start[1]
    return wall, cpu, pa.concat_tables(tables)


def answer(predictor: Predictor, ids: np.ndarray, images: np.ndarray) -> pa.Table:
    """Answer for images, as `Predictor.predict_number` does for each."""
    shown = ids % BROKEN != 0
    digits, _ = predictor.probabilities(images[shown][:, np.newaxis], np.zeros(shown.sum(), np.int64))
    number, probability = digits.argmax(axis=1), digits.max(axis=1).astype(float)
    uncertain = probability < CERTAIN
    good = pa.table(
        {
            "id": ids[shown],
            "number": pa.array(number).cast(pa.string()),
            "sum": pa.array(number + ADDEND).cast(pa.string()),
            "probability": probability,
            "sum_probability": probability,  # of a sum that is exact arithmetic
            "consistent": np.ones(shown.sum(), bool),
            "uncertain": uncertain,
            "error": np.zeros(shown.sum(), bool),
        }
    )
    bad = pa.table({"id": ids[~shown], "error": np.ones((~shown).sum(), bool)})
    return pa.concat_tables([good, bad], promote_options="default")


def digest(table: pa.Table) -> str:
    """Return the digest of rows, whatever their order."""
    table = table.select(COLUMNS).sort_by("id").combine_chunks()
    return hashlib.sha256(table.to_pandas().to_csv(index=False).encode()).hexdigest()


# The command


def start(source: Path, out: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start the command."""
    command = [sys.executable, "-m", "digitsum", "score", str(source), str(out), "--addend", str(ADDEND)]
    command += ["--model", "exact"]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)  # noqa: S603


def score(source: Path, out: Path, *options: str) -> None:
    """Run the command."""
    assert start(source, out, *options).wait() == 0


def score_on(client: Any, source: Path, out: Path) -> None:
    """Run the command on a cluster."""
    score(source, out, "--scheduler", client.scheduler.address)


def timed(out: Path, action: Callable[[], None], elsewhere: Callable[[], float] = lambda: 0.0) -> Cost:
    """Do it, and return its cost: the CPU time of this process' children, and of processes elsewhere."""
    start, cpu_before = time.perf_counter(), children() + elsewhere()
    action()
    wall, cpu_after = time.perf_counter() - start, children() + elsewhere()
    return Cost(wall, cpu_after - cpu_before, digest_of(out))


def children() -> float:
    """Return the CPU seconds of processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def digest_of(out: Path) -> str:
    """Return the digest of the scores."""
    table = pq.read_table(out)
    is_error = table["error"].is_valid()
    return digest(table.drop_columns("error").append_column("error", is_error))


# The cluster


@contextmanager
def cluster(place: Path) -> Iterator[Any]:
    """Start a scheduler and two workers, which are started again when they are killed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    dask, quiet = [sys.executable, "-m", "dask"], ["--no-dashboard", "--host"]
    worker = [*dask, "worker", address, *quiet, "127.0.0.1", "--nthreads", "1", "--nworkers", "2"]
    worker += ["--local-directory", str(place / "dask")]
    with ExitStack() as running:
        log = running.enter_context((place / "cluster.log").open("ab"))
        for command in ([*dask, "scheduler", *quiet, address], worker):
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
            running.callback(process.wait)
            running.callback(process.terminate)
        client = running.enter_context(Client(address, timeout=60))
        client.wait_for_workers(2)
        yield client


def cpu(client: Any) -> float:
    """Return the CPU seconds of the workers."""
    return float(sum(client.run(time.process_time).values()))


def peaks(client: Any) -> list[float]:
    """Return the peak memory of each worker, megabytes."""
    status = client.run(Path.read_text, Path("/proc/self/status"))
    return [int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / 1000 for text in status.values()]  # type: ignore[index]


# What is killed


def survive_in_cluster(place: Path, expected: str) -> None:
    """Kill a worker twice, and print whether the job ends with the same rows."""
    out, files = place / "killed", len(list((place / "all").iterdir()))
    with cluster(place) as client:
        job = start(place / "all", out, "--scheduler", client.scheduler.address)
        for share in (0.25, 0.5):
            wait_for(out, share * files)
            alive = client.run(os.getpid, on_error="ignore")  # one may have just been killed
            os.kill(next(iter(alive.values())), signal.SIGKILL)
        assert job.wait() == 0
    print(f"\na worker killed twice: the same rows: {digest_of(out) == expected}")


def survive(place: Path, kills: int) -> None:
    """Kill jobs at random moments, ask again, and print how many end with the same rows and nothing else."""
    source, same, there = place / "twentieth", 0, []
    untouched = timed(place / "untouched", partial(score, source, place / "untouched", "--workers", "2"))
    for number, moment in enumerate(np.random.default_rng(0).uniform(0, untouched.wall, kills)):
        out = place / f"job{number}"
        job = start(source, out, "--workers", "2")
        time.sleep(moment)
        job.kill()
        job.wait()
        there.append(len(list(out.glob("*.parquet"))))
        score(source, out, "--workers", "2")
        left = [path for path in out.iterdir() if path.name.startswith(".")]
        same += digest_of(out) == untouched.digest and not left
    print(f"a job killed, when so many files were done: {there}: {same} of {kills} end with the same rows")


def wait_for(out: Path, files: float) -> None:
    """Wait until so many files are done."""
    while len(list(out.glob("*.parquet"))) < files:
        time.sleep(0.05)


if __name__ == "__main__":
    record(main)
