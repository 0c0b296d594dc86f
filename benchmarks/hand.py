"""What do 20 pictures a digit of one's own hand buy? `exact` before and after it is adapted to that hand.

DIGITSUM_DATA=mnist python benchmarks/hand.py [--seeds 3] [--sheet hand.png]

The hand is drawn: a curve through the joints of each stroke, which no picture has in the same places, with
slant, width, size and pen of its own, dark on a light page of 300 x 300 pixels. Its forms are those of people
who didn't learn to write in America: a slashed 0, a 1 with a long nose, a closed 4, a crossed 7, an 8 open at
the top, a 9 with a looped tail. The forms were chosen because networks trained on MNIST alone misread some of
them.

20 pictures a digit are adapted to, as `digitsum train --start-from exact --data FOLDER` does it, and 100
others are measured; another seed draws others. MNIST's official test split says what was forgotten.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from accuracy import read_test_split
from pictures import sheet
from PIL import Image, ImageDraw
from script import make_parser, print_spread, record

from digitsum import mnist
from digitsum.config import PRESETS
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.data.strokes import curve, parse
from digitsum.evaluation import evaluate
from digitsum.networks import DigitSumNet, load
from digitsum.training.loop import fit

ADAPTED, MEASURED = 20, 100  # pictures a digit
PAGE = 300  # pixels
FINE = 3  # times as fine is drawn, then averaged
SHAKE = 0.04  # of the digit's size: how far a joint is off, the standard deviation
STROKES = {  # each the joints of a curve, in hundredths of a box from its left, from its top
    0: ["50 0, 5 40, 40 100, 95 50, 50 0", "100 0, 50 50, 0 100"],
    1: ["0 50, 40 25, 80 0", "80 0, 80 50, 80 100"],
    2: ["10 15, 40 0, 75 20, 50 65, 15 95, 0 70, 30 60, 70 95, 100 85"],
    3: ["15 10, 50 0, 80 15, 50 45, 25 50, 35 35, 60 45, 85 75, 40 100, 5 80"],
    4: ["75 0, 40 40, 0 82", "0 82, 50 80, 100 82", "75 0, 72 50, 70 100"],
    5: ["90 5, 50 0, 15 25, 50 48, 80 75, 45 100, 5 90"],
    6: ["60 0, 25 40, 20 85, 40 100, 55 85, 40 75, 20 85"],
    7: ["10 30, 12 2", "12 2, 50 5, 80 0", "80 0, 60 45, 50 100", "10 50, 55 48, 100 46"],
    8: ["90 0, 30 70, 40 100, 75 85, 60 50, 20 30, 15 0"],
    9: ["80 12, 40 0, 20 22, 45 42, 80 12, 85 60, 65 98, 25 95, 35 70, 100 50"],
}


def main() -> None:
    """Print a line a seed, then their mean and standard deviation."""
    parser = make_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sheet", type=Path, help="where to draw a few pictures")
    options = parser.parse_args()
    if options.sheet:
        rng = np.random.default_rng(0)
        sheet([[draw(STROKES[digit], rng) for _ in range(8)] for digit in STROKES]).save(options.sheet)
    forgotten = 100 * read_test_split(load("exact")).digit_accuracy
    print("right, %     hand: before     after   MNIST: before     after")
    lines = []
    for seed in range(options.seeds):
        before, after, network = adapt(seed)
        lines.append([before, after, forgotten, 100 * read_test_split(network).digit_accuracy])
        _print(f"seed {seed}", lines[-1])
    print_spread(lines, _print)


def adapt(seed: int) -> tuple[float, float, DigitSumNet]:
    """Adapt to the hand: what is read rightly before and after, per cent, and the network."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "adapt", ADAPTED, np.random.default_rng([seed, 0]))
        write(folder / "measure", MEASURED, np.random.default_rng([seed, 1]))
        fit(replace(PRESETS["adapt"], data=str(folder / "adapt"), seed=seed), folder / "run")
        batches = loader(DigitSumDataset(mnist.load(folder / "measure")))
        networks = load("exact"), load(folder / "run")
        before, after = (
            100 * evaluate(network, batches, "hand", "train").digit_accuracy for network in networks
        )
        return before, after, networks[1]


def write(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Write `count` pictures of each digit as `digitsum train --data` takes them."""
    for digit in STROKES:
        (folder / str(digit)).mkdir(parents=True)
        for i in range(count):
            draw(STROKES[digit], rng).save(folder / str(digit) / f"{i}.png")


def draw(strokes: list[str], rng: np.random.Generator, wide: float = 1) -> Image.Image:
    """Draw strokes, `wide` times as wide as a digit, dark on a light page of 300 x 300 pixels."""
    height = rng.uniform(110, 190)
    slant, tilt = rng.normal(0.1, 0.1), rng.normal(0, 0.05)
    wide *= height * rng.uniform(0.5, 0.8)
    shape = np.array([[wide, tilt * wide], [-slant * height, height]])
    place = PAGE / 2 + rng.normal(0, 12, 2)
    paper, ink, pen = int(rng.integers(225, 256)), int(rng.integers(90)), rng.uniform(5, 14) * FINE
    page = Image.new("L", (PAGE * FINE, PAGE * FINE), paper)
    brush = ImageDraw.Draw(page)
    for stroke in strokes:
        joints = parse(stroke)
        joints += rng.normal(0, SHAKE, joints.shape)
        points = FINE * (place + (curve(joints) - 0.5) @ shape)
        brush.line([(x, y) for x, y in points], ink, round(pen), "curve")
        for x, y in points[[0, -1]]:  # a pen's ends are round
            brush.circle((x, y), pen / 2, ink)
    return page.reduce(FINE)


def _print(name: str, values: list[float] | np.ndarray) -> None:
    print("{:<12} {:12.2f} {:9.2f} {:15.2f} {:9.2f}".format(name, *values), flush=True)


if __name__ == "__main__":
    record(main)
