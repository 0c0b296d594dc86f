"""What does reading a picture cost? CPU milliseconds, beside those of decoding it alone, which is the limit.

python benchmarks/reading.py [--rounds 30]

Eight files: an image of MNIST as it is, clean drawings of it, on a transparent canvas and in grey levels, a
scan and a photo of it, with shadow and grain, each as PNG and JPEG, and mere noise, which is refused.
Decoding is Pillow's, of a JPEG at the smallest size that the decoder gives with no side under the
preparation's working size. The figures are the least of all rounds.
"""

import contextlib
import io
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from pictures import encode
from PIL import Image
from script import make_parser, record

from digitsum import mnist
from digitsum.reading.decoding import WORKING
from digitsum.reading.imaging import read_picture

Pixels = npt.NDArray[np.uint8]


def main() -> None:
    """Print a table."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    print("picture             pixels       file  reading, ms  decoding, ms")
    for name, pixels, kind in pictures():
        file = encode(pixels, kind)
        reading, decoding = (cpu(action, file, rounds) for action in (read, decode))
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        print(f"{name:<18}  {size:<11}  {kind:<4}  {1e3 * reading:11.3f}  {1e3 * decoding:12.3f}", flush=True)


def pictures() -> list[tuple[str, Pixels, str]]:
    """Return names, pixels and formats."""
    digit, rng = mnist.load().images[0, 0], np.random.default_rng(0)
    clean = np.zeros((400, 400, 4), np.uint8)
    clean[..., 3] = 255 * ink(digit, 400, 400)
    scan, photo = drawn(digit, 300, 300, rng), drawn(digit, 2000, 3000, rng)
    colours = (photo[..., np.newaxis] * np.array([1, 0.95, 0.9])).astype(np.uint8)
    noise = (128 + rng.normal(0, 20, (500, 500))).clip(0, 255).astype(np.uint8)
    return [
        ("prepared", digit, "PNG"),
        ("clean, transparent", clean, "PNG"),
        ("clean, grey", 255 - clean[..., 3], "PNG"),
        ("scan", scan, "PNG"),
        ("scan", scan, "JPEG"),
        ("photo", colours, "PNG"),
        ("photo", colours, "JPEG"),
        ("noise", noise, "PNG"),
    ]


def ink(digit: Pixels, height: int, width: int) -> npt.NDArray[np.float64]:
    """Draw the digit, two thirds of the height: the share of ink."""
    size = height * 2 // 3
    share = np.zeros((height, width))
    large = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)
    share[size // 4 : size // 4 + size, width // 6 : width // 6 + size] = np.asarray(large) / 255
    return share


def drawn(digit: Pixels, height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Draw the digit on paper in the shade, with grain."""
    light = 1 - 0.8 * ink(digit, height, width)
    page = 240 * light * np.linspace(1, 0.6, width) + rng.normal(0, 5, light.shape)
    return page.clip(0, 255).astype(np.uint8)


def read(file: bytes) -> None:
    """Read the picture; one without a digit is refused at the end."""
    with contextlib.suppress(ValueError):
        read_picture(file)


def decode(file: bytes) -> None:
    """Decode the picture, a large JPEG smaller."""
    image = Image.open(io.BytesIO(file))
    image.draft(None, (WORKING, WORKING))
    image.load()


def cpu(action: Callable[[bytes], object], file: bytes, rounds: int) -> float:
    """Return the least seconds of CPU time of `rounds` actions after the first."""
    times = [time.process_time()]
    for _ in range(rounds + 1):
        action(file)
        times.append(time.process_time())
    return float(np.diff(times)[1:].min())


if __name__ == "__main__":
    record(main)
