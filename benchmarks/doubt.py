"""Is a network sure of non-digits? Drawn and photographed, of kinds trained on and of others.

python benchmarks/doubt.py exact [--choose] [--sheet doubt.png]

A hundred of each kind, dark on a light page, are saved as JPEG and read as a user's picture is. Shown is how
many of them get an answer that isn't called uncertain, and how many are refused, as `read_picture` finds no
digit or several. With --choose they are of other kinds, with which the training was chosen.
"""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import torch
from hand import FINE, PAGE, draw
from pictures import encode, photo, sheet
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from script import make_parser, record

from digitsum import mnist
from digitsum.data.non_digits import letter, ring, scribble, spoil, struck
from digitsum.prediction import Predictor
from digitsum.search import CERTAIN

COUNT = 100  # of a kind
WIDE = 1.5  # times as wide as a digit
Rng = np.random.Generator


def corners(joints: str) -> list[str]:
    """Join what lies between with straight strokes."""
    places = joints.split(", ")
    return [f"{start}, {end}" for start, end in pairwise(places)]


RING = "50 0, 0 50, 50 100, 100 50, 50 0"
REPORTED = {  # never trained on and never chosen with
    "triangle": corners("50 0, 100 100, 0 100, 50 0"),
    "star": corners("50 0, 80 100, 0 38, 100 38, 20 100, 50 0"),
    "arrow": ["0 50, 50 50, 100 50", "65 15, 100 50", "65 85, 100 50"],
    "tick": corners("0 55, 35 100, 100 0"),
    "plus": ["50 0, 50 100", "0 50, 100 50"],
    "hash": ["35 0, 30 100", "70 0, 65 100", "0 35, 100 32", "0 68, 100 66"],
    "smiley": [RING, "35 35, 36 42", "65 35, 64 42", "25 62, 50 80, 75 62"],
    "heart": ["50 25, 25 0, 0 30, 50 100", "50 25, 75 0, 100 30, 50 100"],
    "spiral": ["50 50, 60 40, 45 30, 30 50, 45 72, 75 60, 78 30, 45 8, 8 40, 20 85, 60 98, 100 70"],
    "zigzag": corners("0 20, 20 90, 35 10, 55 95, 70 15, 85 90, 100 10"),
    "note": ["40 85, 20 75, 0 88, 15 100, 40 92, 40 85", "40 88, 40 45, 40 0", "40 0, 60 30, 90 40"],
    "key": ["20 0, 0 20, 20 40, 40 20, 20 0", "34 32, 60 66, 90 100", "70 78, 85 64", "80 88, 95 74"],
    "anchor": [
        *("50 0, 42 10, 50 20, 58 10, 50 0", "50 20, 50 60, 50 100", "25 34, 75 34"),
        "0 60, 10 85, 50 100, 90 85, 100 60",
    ],
    "at sign": ["70 40, 45 35, 35 55, 50 68, 68 55, 70 40, 75 65, 95 60, 90 20, 50 0, 5 40, 20 90, 60 100"],
    "snowflake": ["50 0, 50 100", "5 25, 95 75", "5 75, 95 25", "40 8, 50 18, 60 8", "40 92, 50 82, 60 92"],
    "euro sign": ["95 10, 60 0, 20 50, 60 100, 95 90", "0 40, 70 38", "0 60, 65 58"],
    "ampersand": ["100 100, 30 35, 35 5, 60 5, 65 25, 10 65, 20 95, 50 100, 95 60"],
}
CHOSEN_WITH = {
    "house": corners("0 100, 0 45, 50 0, 100 45, 100 100, 0 100, 0 45, 100 45"),
    "envelope": corners("0 0, 100 0, 100 100, 0 100, 0 0, 50 55, 100 0"),
    "cup": ["0 0, 10 60, 30 100, 60 100, 72 60, 80 0", "0 0, 40 2, 80 0", "78 20, 100 30, 72 60"],
    "fish": [
        "0 50, 35 10, 70 45, 100 85",
        "0 50, 35 90, 70 55, 100 15",
        "100 15, 95 50, 100 85",
        "20 40, 22 44",
    ],
    "flower": [
        *("50 35, 35 50, 50 65, 65 50, 50 35", "50 35, 30 0, 70 0, 50 35", "65 50, 100 30, 100 70, 65 50"),
        *("50 65, 30 100, 70 100, 50 65", "35 50, 0 30, 0 70, 35 50"),
    ],
    "question mark": ["10 25, 45 0, 85 25, 50 50, 48 75", "48 95, 48 98"],
    "lightning": corners("60 0, 20 55, 75 45, 30 100"),
    "percent": ["90 0, 10 100", "20 5, 5 20, 20 35, 35 20, 20 5", "80 65, 65 80, 80 95, 95 80, 80 65"],
    "infinity": ["50 50, 20 20, 0 50, 20 80, 50 50, 80 20, 100 50, 80 80, 50 50"],
    "umbrella": ["0 50, 20 10, 50 0, 80 10, 100 50", "0 50, 50 45, 100 50", "50 45, 50 90, 65 100, 75 88"],
}
SYLLABICS = "ᑧᑨᓀᓄᓈᓏᓬᔔᔬᔶᕓᕔᕞᕠᕡᖎᖑᖕᖪ"  # of Canada, that no digit looks like


def main() -> None:
    """Print a row a kind, their means, and what doubt costs of the official test split, but of `row`."""
    parser = make_parser(__doc__)
    parser.add_argument("network", help="exact, concat, row, an ONNX file, or the folder of a run")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--sheet", type=Path, help="where to draw a few of each kind")
    options = parser.parse_args()
    groups = (
        {"chosen with": choosing()}
        if options.choose
        else {"not trained on": reported(), "trained on": trained()}
    )
    if options.sheet:
        shown = [things[:10] for kinds in groups.values() for things in kinds.values()]
        sheet([[Image.open(io.BytesIO(thing)) for thing in row] for row in shown]).save(options.sheet)
    predictor = Predictor(options.network)
    print("of 100               certain  refused")
    for group, kinds in groups.items():
        counts = {kind: measure(predictor, things) for kind, things in kinds.items()}
        for kind, row in {**counts, group: np.mean(list(counts.values()), axis=0)}.items():
            print(f"{kind:<20} {row[0]:7.1f} {row[1]:8.1f}", flush=True)
    if not options.choose and not predictor.reads_rows:
        print_cost(predictor)


def measure(predictor: Predictor, things: list[bytes]) -> tuple[int, int]:
    """Count the pictures that get an answer which isn't uncertain, and those that are refused."""
    certain = refused = 0
    for thing in things:
        try:
            certain += not predictor.predict(thing, 0).uncertain
        except ValueError:
            refused += 1
    return certain, refused


def print_cost(predictor: Predictor) -> None:
    """Print how many digits of the official test split are uncertain, and how many wrong all the same."""
    test = mnist.load("mnist", "test")
    digits, _ = predictor.probabilities(test.images, np.zeros(len(test.labels), np.int64))
    certain, right = digits.max(axis=1) >= CERTAIN, digits.argmax(axis=1) == test.labels
    print(f"digits of the official test split: {np.mean(~certain):.2%} uncertain,", end=" ")
    print(f"{np.mean(certain & ~right):.2%} wrong and certain")


def reported() -> dict[str, list[bytes]]:
    """Return non-digits of the kinds that are reported."""
    drawn = {kind: draw_all(strokes) for kind, strokes in REPORTED.items()}
    return drawn | {"blot": repeat(blot), "texture": repeat(texture)}


def choosing() -> dict[str, list[bytes]]:
    """Return non-digits of the kinds that the training was chosen with."""
    return {kind: draw_all(strokes) for kind, strokes in CHOSEN_WITH.items()} | {
        "Canadian syllabic": repeat(syllabic)
    }


def trained() -> dict[str, list[bytes]]:
    """Return non-digits of the kinds that were trained on; some are made of the test split's digits but 0."""
    test = mnist.load("mnist", "test")
    images, digits = (torch.from_numpy(part[test.labels != 0]) for part in (test.images, test.labels))
    torch.manual_seed(0)
    made = spoil(images.float(), digits, 4 * COUNT).round().byte().numpy()[:, 0]
    names = ("two digits", "turned digit", "crossed quarters", "shifted quarters")
    return {
        "scribble": draw_images(scribble),
        "letter": draw_images(letter),
        "ring": draw_images(ring),
        "digit struck out": draw_images(struck),
        **{name: photos(part) for name, part in zip(names, np.split(made, 4), strict=True)},
    }


def draw_all(strokes: list[str]) -> list[bytes]:
    """Draw a hundred of what strokes make."""
    return repeat(lambda rng: encode(draw(strokes, rng, WIDE)))


def draw_images(make: Callable[[Rng], np.ndarray]) -> list[bytes]:
    """Photograph a hundred images, each drawn anew."""
    return repeat(lambda rng: photo(make(rng), rng))


def repeat(make: Callable[[Rng], bytes]) -> list[bytes]:
    """Make a hundred pictures, always the same ones."""
    rng = np.random.default_rng(0)
    return [make(rng) for _ in range(COUNT)]


def photos(images: np.ndarray) -> list[bytes]:
    """Photograph images, uint8 [N, 28, 28]."""
    rng = np.random.default_rng(0)
    return [photo(image, rng) for image in images]


def blot(rng: Rng) -> bytes:
    """Spill ink: a few round spots that overlap."""
    page = Image.new("L", (PAGE * FINE, PAGE * FINE), 240)
    for x, y in rng.normal(PAGE / 2, PAGE / 12, (rng.integers(3, 9), 2)) * FINE:
        ImageDraw.Draw(page).circle((x, y), rng.uniform(8, 30) * FINE, 40)
    return encode(page.reduce(FINE))


def texture(rng: Rng) -> bytes:
    """Photograph a surface: smooth noise of two sizes, stretched to all greys."""
    large, small = (gaussian_filter(rng.normal(size=(PAGE, PAGE)), size) * size for size in (16, 3))
    grey = large + rng.uniform(0, 0.6) * small
    return encode(255 * (grey - grey.min()) / np.ptp(grey))


def syllabic(rng: Rng) -> bytes:
    """Print a letter of the Canadian syllabics."""
    fonts = ("DejaVuSans", "DejaVuSans-Bold")
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{rng.choice(fonts)}.ttf"
    page = Image.new("L", (PAGE, PAGE), 240)
    font = ImageFont.truetype(file, int(rng.integers(100, 200)))
    ImageDraw.Draw(page).text((PAGE / 2, PAGE / 2), rng.choice(list(SYLLABICS)), 40, font, anchor="mm")
    return encode(page)


if __name__ == "__main__":
    record(main)
