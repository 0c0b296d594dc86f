"""How right are digits read on paper with lines? Rules, squares and margins, pen and pencil, saved as JPEG.

python benchmarks/paper.py [--data mnist5k --split train] [--model row] [--images 100]

Lines lie 1, 1/2, 1/3 and 1/4 of the digit's height apart, are 40, 70 and 100 % as dark as the ink and tilted
by up to 6 degrees. If the digits are 6.5 mm high, the lines are 0.15 to 0.25 mm wide, a pen's strokes 0.5 to
0.8, a pencil's 0.4 to 0.6, greyer and grainy. The digits are strokes of the benchmark's own, and images of
MNIST as thick as they are. A digit that is split into several is wrong. An empty page should be refused.
"""

import itertools
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from pictures import encode, make_data_parser
from PIL import Image, ImageDraw
from rows import enlarge
from scipy.ndimage import gaussian_filter
from script import record

from digitsum import mnist
from digitsum.prediction import Predictor

RULINGS = ("rules", "squares")
PITCHES = (1, 1 / 2, 1 / 3, 1 / 4)  # of the digit's height
SHADES = (0.4, 0.7, 1.0)  # of the ink's darkness
PENS = ("pen", "pencil")
TILT = 6  # degrees
ADDEND = 7

Point = tuple[float, float]
Stroke = list[Point]
Grey = npt.NDArray[np.float32]
Source = Callable[[int, str, np.random.Generator], tuple[Grey, int | None]]

# Forms of each digit: strokes through points (x, y), y down, the height from 0 to 1; a point that is given
# twice is a corner, at others the stroke bends.
FORMS: dict[int, list[list[Stroke]]] = {
    0: [[[(0.3, 0), (0.05, 0.15), (0, 0.5), (0.08, 0.9), (0.3, 1), (0.55, 0.88), (0.6, 0.5), (0.52, 0.1),
          (0.3, 0), (0.26, 0.01)]]],
    1: [[[(0.2, 0), (0.2, 1)]], [[(0.35, 0), (0.1, 1)]], [[(0, 0.15), (0.15, 0), (0.15, 0), (0.15, 1)]]],
    2: [[[(0.03, 0.22), (0.12, 0.02), (0.45, 0), (0.6, 0.25), (0.4, 0.6), (0, 1), (0, 1), (0.62, 1)]],
        [[(0.02, 0.2), (0.2, -0.02), (0.55, 0.08), (0.5, 0.45), (0.15, 0.85), (0, 0.98), (0.15, 0.85),
          (0.35, 0.95), (0.62, 0.98)]]],
    3: [[[(0.02, 0.1), (0.25, -0.03), (0.58, 0.08), (0.5, 0.42), (0.2, 0.47), (0.2, 0.47), (0.55, 0.5),
          (0.62, 0.85), (0.3, 1.03), (0, 0.9)]],
        [[(0, 0), (0.55, 0), (0.55, 0), (0.25, 0.4), (0.25, 0.4), (0.6, 0.5), (0.6, 0.9), (0.25, 1.03),
          (0, 0.9)]]],
    4: [[[(0.1, 0), (0.02, 0.55), (0.02, 0.55), (0.6, 0.55)], [(0.5, 0.05), (0.45, 1)]],
        [[(0.45, 0), (0, 0.65), (0, 0.65), (0.65, 0.65)], [(0.45, 0), (0.45, 1)]]],
    5: [[[(0.1, 0), (0.05, 0.42), (0.05, 0.42), (0.4, 0.35), (0.62, 0.6), (0.5, 0.97), (0.2, 1.02), (0, 0.9)],
         [(0.1, 0), (0.58, 0)]],
        [[(0.58, 0), (0.1, 0), (0.1, 0), (0.06, 0.45), (0.06, 0.45), (0.45, 0.36), (0.64, 0.65),
          (0.45, 1), (0, 0.95)]]],
    6: [[[(0.45, 0), (0.15, 0.25), (0, 0.65), (0.08, 0.98), (0.4, 1.03), (0.6, 0.8), (0.45, 0.55),
          (0.15, 0.58), (0.03, 0.75)]]],
    7: [[[(0, 0), (0.6, 0), (0.6, 0), (0.25, 1)]],
        [[(0, 0), (0.6, 0), (0.6, 0), (0.22, 1)], [(0.2, 0.5), (0.58, 0.48)]]],
    8: [[[(0.5, 0.12), (0.3, -0.02), (0.05, 0.1), (0.12, 0.35), (0.5, 0.6), (0.58, 0.9), (0.3, 1.03),
          (0.02, 0.9), (0.1, 0.6), (0.45, 0.38), (0.55, 0.18), (0.5, 0.12), (0.44, 0.06)]]],
    9: [[[(0.52, 0.15), (0.3, -0.03), (0.02, 0.15), (0.08, 0.48), (0.35, 0.5), (0.53, 0.2), (0.53, 0.15),
          (0.53, 0.15), (0.5, 0.6), (0.42, 1)]],
        [[(0.55, 0.12), (0.3, -0.03), (0, 0.2), (0.15, 0.52), (0.45, 0.4), (0.55, 0.12), (0.55, 0.12),
          (0.57, 0.7), (0.4, 1), (0.1, 0.98)]]],
}  # fmt: skip


def main() -> None:
    """Print the share of each kind that is right, and how many empty pages are refused."""
    parser = make_data_parser(__doc__)
    parser.add_argument("--model", default="row")
    parser.add_argument("--images", type=int, default=100, help="of each kind")
    args = parser.parse_args()
    digits, predictor = mnist.load(args.data, args.split), Predictor(args.model)

    def printed(height: int, pen: str, rng: np.random.Generator) -> tuple[Grey, int]:
        place = rng.integers(len(digits.labels))
        return enlarge(digits.images[place, 0], height), int(digits.labels[place])

    for name, source in {"strokes": strokes, "MNIST": printed, "empty page": nothing}.items():
        print(f"\n{name}, % right of {args.images}: lines as dark as 40 %, 70 %, 100 % of the ink")
        for pen, ruling in itertools.product(PENS, RULINGS):
            for pitch in PITCHES:
                shares = (
                    measure(predictor, source, pen, ruling, pitch, shade, args.images) for shade in SHADES
                )
                print_row(f"{pen}, {ruling} {pitch:.2f} apart", shares)
        for pen in PENS:
            shares = (measure(predictor, source, pen, "margin", 1, shade, args.images) for shade in SHADES)
            print_row(f"{pen}, margin", shares)
            print_row(f"{pen}, no lines", [measure(predictor, source, pen, "none", 1, 0, args.images)])


def print_row(name: str, shares: Iterable[float]) -> None:
    """Print one row of the table."""
    print(f"{name:28}" + "".join(f"{100 * share:7.0f}" for share in shares), flush=True)


def measure(
    predictor: Predictor, source: Source, pen: str, ruling: str, pitch: float, shade: float, count: int
) -> float:
    """Return the share of `count` pictures that are right; an empty page is right where it is refused."""
    # each kind has digits of its own
    kind = [PENS.index(pen), len(ruling), round(12 * pitch), round(10 * shade)]
    rng, right = np.random.default_rng(kind), 0
    for _ in range(count):
        picture, label = draw(source, pen, ruling, pitch, shade, rng)
        right += read(predictor, picture) == label
    return right / count


def read(predictor: Predictor, picture: bytes) -> int | None:
    """Read a number; none where the picture is refused."""
    try:
        answer = predictor.predict_number(picture, ADDEND)
    except ValueError:
        return None
    return answer.number if len(answer.digits) == 1 else -1


def draw(
    source: Source, pen: str, ruling: str, pitch: float, shade: float, rng: np.random.Generator
) -> tuple[bytes, int | None]:
    """Draw a digit on paper with lines, and return the page as a JPEG file, with the digit."""
    height = int(rng.integers(80, 201))
    glyph, label = source(height, pen, rng)
    shape = tuple(round(max(size, height) * rng.uniform(1.4, 3)) for size in glyph.shape)
    ink = np.zeros(shape, np.float32)
    top, left = (
        round((whole - part) * rng.uniform(0.2, 0.8)) for whole, part in zip(shape, glyph.shape, strict=True)
    )
    ink[top : top + glyph.shape[0], left : left + glyph.shape[1]] = glyph
    darkness = rng.uniform(0.75, 0.95)
    if pen == "pencil":
        darkness = rng.uniform(0.45, 0.65)
        ink = ink * gaussian_filter(rng.normal(0.9, 0.5, shape), 0.8).clip(0.3, 1)
    lines = rule(shape, ruling, pitch * height, height * rng.uniform(1 / 43, 1 / 26), rng)
    return photograph((1 - darkness * ink) * (1 - shade * darkness * lines), rng), label


def rule(shape: tuple[int, ...], ruling: str, pitch: float, width: float, rng: np.random.Generator) -> Grey:
    """Draw lines of a width and as far apart, in pixels, tilted: 0 to 1, [H, W]."""
    lines = np.zeros(shape, np.float32)
    tilt = np.radians(rng.uniform(-TILT, TILT))
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    across = np.cos(tilt) * rows - np.sin(tilt) * columns
    along = np.cos(tilt) * columns + np.sin(tilt) * rows
    offset = rng.uniform(0, pitch, 2)
    if ruling in RULINGS:
        distance = np.abs((across + offset[0]) % pitch - pitch / 2)
        lines = np.maximum(lines, (width / 2 + 0.5 - distance).clip(0, min(width, 1)))
    if ruling == "squares":
        distance = np.abs((along + offset[1]) % pitch - pitch / 2)
        lines = np.maximum(lines, (width / 2 + 0.5 - distance).clip(0, min(width, 1)))
    if ruling == "margin":
        distance = np.abs(along - shape[1] * rng.uniform(0.1, 0.9))
        lines = np.maximum(lines, (width / 2 + 0.5 - distance).clip(0, min(width, 1)))
    return lines.astype(np.float32)


def photograph(reflected: Grey, rng: np.random.Generator) -> bytes:
    """Photograph a page in uneven light, a little blurred and noisy, as a JPEG file."""
    fall = rng.uniform(0, 0.2) * np.linspace(0, 1, reflected.shape[1])
    grey = gaussian_filter(rng.uniform(190, 250) * (1 - fall) * reflected, rng.uniform(0.3, 1))
    grey += rng.normal(0, rng.uniform(1, 4), grey.shape)
    return encode(grey)


def nothing(height: int, pen: str, rng: np.random.Generator) -> tuple[Grey, None]:
    """Write nothing, where a digit would be as high."""
    return np.zeros((height, height // 2), np.float32), None


def strokes(height: int, pen: str, rng: np.random.Generator) -> tuple[Grey, int]:
    """Write a digit by hand: 0 to 1, [H, W]; its strokes are jittered, slanted and as thick as the pen."""
    digit = int(rng.integers(10))
    form = FORMS[digit][rng.integers(len(FORMS[digit]))]
    thick = height * (rng.uniform(1 / 13, 1 / 8) if pen == "pen" else rng.uniform(1 / 16, 1 / 11))
    wide, slant, dent = rng.uniform(0.85, 1.2), rng.uniform(-0.1, 0.3), rng.normal(0, 0.02, 2)
    lines = []
    for stroke in form:
        points = np.array(stroke)
        # the same place moves the same way, so that corners stay corners and ends meet
        moved = (
            points + dent * np.sin(7 * points + 10 * dent) + 0.03 * np.sin(5 * points[:, ::-1] + 50 * dent)
        )
        x, y = bend(moved).T
        lines.append(np.stack([wide * x - slant * (y - 0.5), y], axis=1) * height)
    start = np.min([line.min(axis=0) for line in lines], axis=0) - thick
    end = np.max([line.max(axis=0) for line in lines], axis=0) + thick
    size = np.ceil(end - start).astype(int)
    large = Image.new("L", (4 * size[0], 4 * size[1]))
    pencil, radius = ImageDraw.Draw(large), 2 * thick
    for line in lines:
        path = 4 * (line - start)
        pencil.line([tuple(point) for point in path], 255, round(2 * radius))
        for x, y in path:
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    small = large.resize((int(size[0]), int(size[1])), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255), digit


def bend(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Round the corners of a line [n, 2]: Chaikin's cutting of corners, "An algorithm for high-speed curve
    generation", 1974, three times.
    """  # noqa: D205
    for _ in range(3):
        before, after = points[:-1], points[1:]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], axis=1)
        points = np.concatenate([points[:1], cut.reshape(-1, 2), points[-1:]])
    return points


if __name__ == "__main__":
    record(main)
