"""Is a flipped bit noticed? In each file of a run that has a digest, at many places, by what reads the file.

python benchmarks/damage.py [--places 200]

A run is trained first, small and quickly. At each place, drawn evenly over the file, one bit is flipped, the
file is read as a user would have it read, and the bit is flipped back. It counts as noticed when the reader
refuses with a sentence that names the file. Beside it stands how many are noticed without the run's
`SHA256SUMS`, by the readers alone.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from digitsum import Evaluation, Predictor, fit, load
from digitsum.config import Config

READERS: dict[str, Callable[[Path], object]] = {
    "checkpoint.ckpt": lambda run: fit(Config.load(run), run),
    "model.safetensors": load,
    "model.onnx": Predictor,
    "evaluation.json": lambda run: Evaluation.load(run / "evaluation.json"),
}


def main() -> None:
    """Print a row a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--places", type=int, default=200)
    places = parser.parse_args().places
    with TemporaryDirectory() as folder:
        run = train(Path(folder) / "run")
        print("| file | bytes | places | noticed | without SHA256SUMS |\n|---|---|---|---|---|")
        for name in READERS:
            # afresh, as a training that goes on writes there
            bare = shutil.copytree(run, Path(folder) / name)
            (bare / "SHA256SUMS").unlink()
            size = (run / name).stat().st_size
            bits = spread(size, places)
            counts = [sum(noticed(each, name, bit) for bit in bits) for each in (run, bare)]
            print(f"| {name} | {size:,} | {places} | {counts[0]} | {counts[1]} |", flush=True)


def train(run: Path) -> Path:
    """Leave a finished run in a folder."""
    settings = ["--epochs", "1", "--width", "4", "--no-augment", "--out", str(run)]
    subprocess.run([sys.executable, "-m", "digitsum", "train", *settings], check=True, capture_output=True)  # noqa: S603  # our own command
    return run


def spread(size: int, places: int) -> list[int]:
    """Draw bits of a file of `size` bytes, one from each of as many equal parts as there are places."""
    bounds = np.linspace(0, 8 * size, places + 1)
    return [int(bit) for bit in np.random.default_rng(0).uniform(bounds[:-1], bounds[1:])]


def noticed(run: Path, name: str, bit: int) -> bool:
    """Say whether the reader of a file names it when a bit of it is flipped."""
    path = run / name
    good = path.read_bytes()
    bad = bytearray(good)
    bad[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bad)
    try:
        READERS[name](run)
    except ValueError as error:
        return name in str(error)
    finally:
        path.write_bytes(good)
    return False


if __name__ == "__main__":
    main()
