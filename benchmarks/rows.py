"""How right are numbers read? Rows of 2 to 6 digits of MNIST, written on three kinds of paper, saved as JPEG.

python benchmarks/rows.py [--data mnist5k --split train] [--model row] [--rows 2000] [--pairs 500]
                          [--strips 50] [--singles 10000]

The digits of a row don't touch: 0.1 to 0.8 of their height lies between them. Their heights differ by up to
a fifth, their base lines by up to 0.15 of the height, and the whole row is slanted. What the digits' own
accuracy allows is p^K, where p is the share of the same digits that are right when each is alone on such
paper. Counted apart are pairs of digits that touch, strips of 10 to 40 digits, tight (0.05 to 0.15 of the
height between them) and wide (0.5 to 1), and how often the single digits of `pictures.py` are split.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from pictures import encode, make_data_parser, photo
from PIL import Image
from scipy.ndimage import gaussian_filter
from script import record

from digitsum import mnist
from digitsum.data.digits import Digits
from digitsum.prediction import Predictor
from digitsum.types import UInt8Array

LENGTHS = range(2, 7)
STRIPS = (10, 20, 30, 40)
APART = (0.1, 0.8)  # times the digits' height, from one to the next
SPACINGS = {"tight": (0.05, 0.15), "wide": (0.5, 1.0)}
PAPERS = ("white", "uneven", "photo")
ADDEND = 7

Grey = npt.NDArray[np.float32]


def main() -> None:
    """Print the shares for rows of each length, for touching pairs and for single digits."""
    parser = make_data_parser(__doc__)
    parser.add_argument("--model", default="row")
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--strips", type=int, default=50)
    parser.add_argument("--singles", type=int, default=10_000)
    args = parser.parse_args()
    digits, predictor = mnist.load(args.data, args.split), Predictor(args.model)
    for length in LENGTHS:
        print_rows(predictor, digits, length, args.rows // len(LENGTHS))
    print_pairs(predictor, digits, args.pairs)
    for spacing, gaps in SPACINGS.items():
        for length in STRIPS:
            print_rows(predictor, digits, length, args.strips, gaps, f", {spacing}")
    print_singles(predictor, digits, args.singles)


def print_rows(
    predictor: Predictor,
    digits: Digits,
    length: int,
    count: int,
    gaps: tuple[float, float] = APART,
    named: str = "",
) -> None:
    """Print how many rows of one length are counted and read rightly, and what p^K allows."""
    rng = np.random.default_rng(length)
    counted, right, alone = 0, 0, 0
    for images, labels in choose(digits, length, count, rng):
        slant, paper = rng.uniform(-0.3, 0.3), str(rng.choice(PAPERS))
        answer = read(predictor, page(write(images, slant, rng, gaps), paper, rng))
        counted += len(answer) == length
        right += answer == labels
        for image, label in zip(images, labels, strict=True):
            alone += read(predictor, page(write([image], slant, rng), paper, rng)) == [label]
    allowed = (alone / (length * count)) ** length
    print(
        f"{length} digits{named}: {counted / count:.2%} counted rightly, {right / count:.2%} right,"
        f" of {count};"
        f" the digits alone {alone / (length * count):.2%}, which allows {allowed:.2%}:"
        f" {right / count / allowed:.2%} of it"
    )


def print_pairs(predictor: Predictor, digits: Digits, count: int) -> None:
    """Print what becomes of pairs of digits that touch."""
    rng, outcomes = np.random.default_rng(0), Counter[str]()
    for images, labels in choose(digits, 2, count, rng):
        slant, paper = rng.uniform(-0.3, 0.3), str(rng.choice(PAPERS))
        picture = page(write(images, slant, rng, gaps=None), paper, rng)
        try:
            answer = predictor.predict_number(picture, ADDEND)
        except ValueError:
            outcomes["refused"] += 1
            continue
        right = [digit.digit for digit in answer.digits] == labels
        outcomes["right" if right else "uncertain" if answer.uncertain else "wrong and certain"] += 1
    names = ("right", "refused", "uncertain", "wrong and certain")
    shares = (f"{name} {outcomes[name] / count:.1%}" for name in names)
    print(f"touching pairs: {', '.join(shares)} of {count}")


def print_singles(predictor: Predictor, digits: Digits, count: int) -> None:
    """Print what becomes of the single digits of `pictures.py`; the shares overlap."""
    rng, outcomes = np.random.default_rng(0), Counter[str]()
    images, labels = digits.images[:count, 0], digits.labels[:count].tolist()
    for image, label in zip(images, labels, strict=True):
        try:
            answer = predictor.predict_number(photo(image, rng), ADDEND)
        except ValueError:
            outcomes["refused"] += 1
            continue
        outcomes["right"] += [digit.digit for digit in answer.digits] == [label]
        outcomes["split into several"] += len(answer.digits) > 1
        outcomes["uncertain"] += answer.uncertain
    names = ("right", "split into several", "uncertain", "refused")
    shares = (f"{name} {outcomes[name] / len(labels):.2%}" for name in names)
    print(f"single digits: {', '.join(shares)} of {len(labels)}")


def choose(
    digits: Digits, length: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[UInt8Array, list[int]]]:
    """Yield `count` rows of images, [length, 28, 28], with their labels."""
    for _ in range(count):
        places = rng.integers(0, len(digits.labels), length)
        yield digits.images[places, 0], digits.labels[places].tolist()


def read(predictor: Predictor, picture: bytes) -> list[int]:
    """Read the digits of a number; none where the picture is refused."""
    try:
        return [digit.digit for digit in predictor.predict_number(picture, ADDEND).digits]
    except ValueError:
        return []


def write(
    images: Sequence[UInt8Array] | UInt8Array,
    slant: float,
    rng: np.random.Generator,
    gaps: tuple[float, float] | None = APART,
) -> Grey:
    """Write digits in a row, each image uint8 [28, 28], with some paper around: 0 to 1, [H, W].

    Without gaps they touch.
    """
    size = int(rng.integers(60, 161))  # pixels, the mean height of the digits
    glyphs = [enlarge(image, round(size * rng.uniform(0.8, 1.2))) for image in images]
    line = np.zeros((2 * size, sum(glyph.shape[1] for glyph in glyphs) + len(glyphs) * size), np.float32)
    end = 0
    for glyph in glyphs:
        top = round(size * (1.6 + rng.uniform(-0.15, 0.15))) - len(glyph)
        part = line[top : top + len(glyph)]
        if gaps is None:
            start = max(touch(part, glyph) - round(size * rng.uniform(0, 0.05)), 0) if end else 0
        else:
            start = end + round(size * rng.uniform(*gaps)) if end else 0
        place = part[:, start : start + glyph.shape[1]]
        np.maximum(place, glyph, out=place)
        end = max(end, start + glyph.shape[1])
    margins = [round(size * rng.uniform(0.2, 0.8)) for _ in range(4)]
    return surround(crop(lean(line[:, :end], slant)), margins)


def enlarge(image: UInt8Array, height: int) -> Grey:
    """Cut a digit out and scale it to a height in pixels, 0 to 1."""
    ink = crop((image / 255).astype(np.float32))
    width = max(round(ink.shape[1] * height / len(ink)), 1)
    large = Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(large).clip(0, 1)


def touch(line: Grey, glyph: Grey) -> int:
    """Return the column at which a glyph that comes from the right first meets the ink of the line."""
    ends = np.where(line > 0.5, np.arange(1, line.shape[1] + 1), 0).max(axis=1)
    starts = np.where((glyph > 0.5).any(axis=1), (glyph > 0.5).argmax(axis=1), line.shape[1])
    return int((ends - starts).max())


def lean(ink: Grey, slant: float) -> Grey:
    """Shear, so that a vertical stroke moves sideways by `slant` of its height."""
    height, width = ink.shape
    shift = abs(slant) * height
    new = width + round(shift) + 2
    offset = -slant * height if slant > 0 else 0
    affine = (1, slant, offset, 0, 1, 0)
    return np.asarray(
        Image.fromarray(ink).transform(
            (new, height), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
        )
    ).clip(0, 1)


def crop(ink: Grey) -> Grey:
    """Cut the ink out."""
    rows, columns = np.flatnonzero((ink > 0.1).any(axis=1)), np.flatnonzero((ink > 0.1).any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def surround(ink: Grey, margins: Sequence[int]) -> Grey:
    """Leave paper at the top, at the bottom, on the left and on the right."""
    top, bottom, left, right = margins
    return np.pad(ink, ((top, bottom), (left, right)))


def page(ink: Grey, paper: str, rng: np.random.Generator) -> bytes:
    """Put ink, 0 to 1, [H, W], on white paper, in uneven light or in a blurred photo, as a JPEG file."""
    light = np.full(ink.shape, 255, np.float32)
    darkness = 1.0
    if paper != "white":
        angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5)
        rows, columns = np.mgrid[-1 : 1 : ink.shape[0] * 1j, -1 : 1 : ink.shape[1] * 1j]
        slope = (np.sin(angle) * rows + np.cos(angle) * columns + 1.4142) / 2.8284
        light = (rng.uniform(150, 240) * (1 - fall * slope)).astype(np.float32)
        darkness = rng.uniform(0.5, 0.9)
    grey = light * (1 - np.float32(darkness) * ink)
    if paper == "photo":
        grey = gaussian_filter(grey, rng.uniform(0.5, 2))
        grey += rng.normal(0, rng.uniform(3, 9), grey.shape)
    return encode(grey)


if __name__ == "__main__":
    record(main)
