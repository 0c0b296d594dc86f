"""Synthetic digits, drawn from stroke templates of many countries' handwriting, as images like MNIST's.

A form is a list of strokes, each a curve through a few joints. No two drawings are alike: every joint is off
a little, and slant, tilt, width and pen are drawn at random. NumPy and Pillow do it, without torch.
"""

import numpy as np
from PIL import Image, ImageDraw

from digitsum.reading.imaging import fit_ink
from digitsum.types import Array, Int64Array, UInt8Array

PAGE = 140  # pixels
TALL = 72  # pixels, of a digit before it is fitted into its box
SHAKE = 0.04  # of the digit's size: how far a joint is off, the standard deviation
SLANT = (0.1, 0.18)  # mean and standard deviation, to the right for each unit up
TILT = 0.08  # of the baseline, the standard deviation
WIDTH = (0.58, 0.16)  # of the height, median and standard deviation of the logarithm times the median
PEN = (0.05, 0.2)  # of the height, from thin to thick
COARSE = 1 / 4  # of the drawings have few pixels
PIXELS = (8, 16)  # on which their height is drawn

# each stroke the joints of a curve, in hundredths of a box from its left, from its top
FORMS: dict[int, tuple[tuple[str, ...], ...]] = {
    0: (
        ("50 0, 12 22, 8 72, 48 100, 90 76, 92 24, 50 0",),
        ("70 8, 30 2, 4 50, 34 100, 86 82, 92 30, 60 4, 40 14",),  # overlaps itself
        ("55 0, 15 25, 5 65, 40 100, 90 80, 95 35, 70 5",),  # open at the top
        ("50 0, 12 22, 8 72, 48 100, 90 76, 92 24, 50 0", "88 8, 50 50, 12 92"),  # slashed
        ("60 6, 20 10, 4 55, 40 100, 88 70, 84 20, 50 8, 66 30",),  # begun inside
        ("30 4, 6 40, 20 94, 60 98, 92 60, 70 8, 36 6, 60 14, 104 0",),  # runs on from the top
        ("62 12, 30 6, 6 50, 30 98, 78 88, 92 40, 74 8",),
        ("46 14, 70 2, 96 40, 70 96, 20 92, 6 44, 30 8",),  # the other way round
    ),
    1: (
        ("50 0, 50 50, 50 100",),
        ("20 26, 52 0", "52 0, 51 50, 50 100"),  # nose
        ("0 50, 40 26, 75 0", "75 0, 74 50, 72 100"),  # long nose
        ("0 70, 35 38, 68 0", "68 0, 68 50, 68 100"),  # longer
        ("22 24, 55 0", "55 0, 54 50, 54 100", "15 100, 54 99, 90 100"),  # nose and foot
        ("50 0, 50 50, 50 100", "20 100, 50 99, 80 100"),  # foot
        ("0 48, 40 24, 64 0", "64 0, 64 50, 64 100", "25 100, 64 99, 100 100"),  # long nose and foot
        ("0 40, 34 26, 66 0", "66 0, 58 50, 52 100"),  # long nose, slanted
        ("14 40, 46 28, 62 0", "62 0, 62 50, 58 100"),  # hanging nose
        ("0 96, 30 60, 66 0", "66 0, 64 50, 62 100"),  # begun at the foot
        ("4 80, 40 36, 70 0", "70 0, 66 50, 60 100"),
        ("10 100, 46 40, 64 0, 62 50, 58 100",),  # of one stroke
        ("0 86, 34 50, 60 0", "60 0, 60 50, 60 98", "24 100, 60 98, 100 98"),
        ("0 30, 30 22, 60 0", "60 0, 56 50, 50 96, 70 100, 96 92"),  # curls out
        ("8 20, 50 6, 62 0", "62 0, 56 50, 50 100"),
    ),
    2: (
        ("6 22, 42 0, 86 22, 56 60, 4 98", "4 98, 50 97, 100 98"),
        ("10 15, 40 0, 76 20, 52 62, 14 96, 0 84, 22 72, 54 90, 100 92",),  # loop
        ("5 25, 45 0, 86 25, 46 70, 0 100, 40 88, 70 98, 100 88",),  # wave
        ("10 12, 50 0, 84 14, 78 44, 4 100", "4 100, 50 100, 96 98"),
        (
            "20 30, 8 14, 30 0, 40 20, 20 30, 30 4, 66 0, 84 26, 50 66, 4 98",
            "4 98, 50 96, 100 98",
        ),  # begins in a loop
        ("28 34, 6 22, 24 4, 40 18, 22 30, 50 0, 90 14, 70 56, 10 96, 50 90, 100 98",),
        ("4 8, 50 4, 92 4", "92 4, 50 50, 4 96", "4 96, 50 97, 100 96"),  # as a Z
        ("6 16, 46 0, 88 12, 60 52, 6 94, 0 82, 20 78, 40 96, 100 96",),
        ("10 30, 20 4, 66 0, 86 26, 60 62, 10 100, 60 94, 106 80",),
        (
            "24 26, 14 12, 36 2, 44 18, 26 30, 40 4, 78 8, 70 40, 10 92, 0 80, 26 80, 56 98, 104 88",
        ),  # two loops
    ),
    3: (
        ("10 12, 50 0, 86 22, 45 47, 90 74, 50 100, 4 86",),
        ("6 2, 48 2, 90 0", "90 0, 48 42", "48 42, 90 54, 82 94, 32 100, 4 86"),  # flat top
        ("15 10, 50 0, 80 18, 50 45, 28 48, 36 38, 60 46, 86 74, 42 100, 5 82",),  # loop
        ("12 8, 60 0, 80 22, 40 44", "40 44, 88 58, 76 92, 38 100, 8 92"),
        ("8 10, 50 0, 80 16, 40 42, 84 60, 80 90, 40 102, 0 96",),
        ("0 8, 40 0, 74 10, 60 34, 30 42, 70 50, 78 80, 30 104, -8 92",),
    ),
    4: (
        ("14 0, 8 30, 4 56, 50 58, 100 54", "74 6, 72 50, 68 100"),  # open
        ("24 0, 4 60", "4 60, 50 59, 100 58", "70 22, 68 60, 64 100"),
        ("72 0, 36 34, 0 68", "0 68, 50 68, 100 67", "72 0, 72 50, 72 100"),  # closed
        ("90 0, 44 36, 0 72", "0 72, 50 71, 100 72", "90 0, 76 50, 62 100"),  # closed, slanted
        ("66 100, 70 50, 74 0, 34 38, 0 62, 48 64, 100 62",),  # of one stroke
        ("30 0, 18 34, 0 66", "0 66, 50 66, 100 64", "62 36, 58 68, 54 100"),  # low stem
        ("52 0, 28 32, 0 62", "0 62, 45 68, 100 56", "74 30, 67 62, 56 100"),
        ("62 0, 34 30, 8 58", "8 58, 48 64, 92 60", "66 42, 62 70, 56 100"),
        ("70 0, 36 40, 20 66, 50 74, 98 54", "80 40, 66 70, 50 100"),  # round at the corner
        ("66 0, 30 44, 12 68, 44 74, 92 62", "60 52, 56 76, 48 100"),
        ("54 0, 20 36, 6 66, 34 80, 68 66, 96 38", "74 36, 60 74, 50 100"),  # a bowl
        ("56 0, 22 40, 4 74, 36 92, 76 74, 96 44", "62 48, 56 78, 50 100"),  # a low one
        ("30 0, 20 24, 0 56, 40 50, 96 44", "84 10, 64 60, 46 104"),  # open, slanted
        ("20 4, 10 34, 16 54, 50 56, 80 44", "92 0, 80 40, 66 100"),  # round
        ("10 8, 6 40, 30 56, 66 50, 84 10", "84 10, 78 60, 70 104"),
        ("70 4, 20 60, 16 66, 60 64, 104 58", "66 40, 60 70, 54 100"),
    ),
    5: (
        ("92 0, 54 2, 20 2", "20 2, 16 22, 12 44", "12 44, 56 34, 94 66, 58 100, 4 90"),
        ("20 2, 16 22, 12 44, 56 36, 92 66, 56 100, 4 92", "24 4, 60 2, 100 0"),  # the bar comes last
        ("20 12, 16 26, 12 46, 56 38, 92 68, 56 100, 4 92", "36 2, 70 0, 108 -4"),  # and is detached
        ("92 4, 50 0, 18 24, 50 46, 82 74, 46 100, 5 90",),  # of one stroke
        ("100 2, 64 4, 34 10", "34 10, 26 42", "26 42, 62 46, 70 66, 48 100"),  # ends early
        ("96 4, 56 6, 24 22, 34 44, 76 54, 74 80, 36 100",),
        ("84 2, 30 4", "30 4, 24 40, 60 38, 84 66, 54 98, 8 94"),
        ("90 0, 40 6, 16 36, 60 50, 80 70, 40 100, 0 90",),  # as an S
        ("20 6, 24 40, 56 36, 78 50", "20 6, 60 4, 96 0", "78 50, 80 80, 40 104"),
        ("96 4, 30 8", "30 8, 20 46, 50 34, 76 52, 60 92, 20 100"),
        ("24 0, 16 44, 50 40, 70 64, 50 94, 0 100", "24 4, 104 -4"),
    ),
    6: (
        ("72 0, 26 34, 6 74, 42 100, 86 80, 60 54, 12 70",),
        ("40 0, 14 40, 10 80, 46 100, 84 78, 54 54, 14 74",),  # straight stem
        ("90 6, 56 0, 12 44, 14 88, 54 100, 88 76, 56 52, 16 66",),  # curled
        ("64 0, 28 44, 18 84, 44 100, 64 86, 46 72, 20 84",),  # small loop
        ("80 0, 30 30, 6 70, 30 100, 70 84, 60 56, 20 66, 8 80",),
        ("50 0, 16 40, 6 80, 40 102, 76 80, 50 60, 16 76, 60 90, 110 76",),  # runs on
        ("60 -4, 24 30, 8 72, 36 100, 72 78, 44 60, 12 82",),
    ),
    7: (
        ("0 4, 50 2, 100 0", "100 0, 64 48, 42 100"),
        ("4 24, 8 2", "8 2, 52 3, 98 0", "98 0, 66 46, 48 100"),  # serif
        ("0 4, 50 2, 96 0", "96 0, 64 48, 42 100", "22 52, 60 50, 96 48"),  # crossed
        ("4 22, 8 2", "8 2, 52 3, 96 0", "96 0, 66 46, 48 100", "20 54, 58 50, 98 48"),  # both
        ("0 12, 30 0, 60 10, 96 2, 68 46, 50 100",),  # curved
        ("0 12, 30 0, 60 10, 96 2, 68 46, 50 100", "24 50, 58 52, 94 46"),  # curved and crossed
        ("0 6, 50 8, 96 0", "96 0, 60 50, 36 104", "20 56, 56 50, 92 46"),
        ("6 30, 4 4", "4 4, 50 10, 100 2", "100 2, 70 40, 54 100", "26 52, 60 51, 96 50"),
        ("0 16, 14 0, 30 12, 60 8, 98 0, 70 44, 50 104",),  # a wave
        ("0 20, 10 2, 26 14, 60 10, 96 2, 66 50, 40 100", "26 58, 60 54, 92 52"),
    ),
    8: (
        ("84 12, 48 0, 14 22, 50 47, 90 76, 50 100, 10 76, 48 47, 84 22, 80 8",),
        ("50 0, 16 22, 50 46, 84 22, 50 0", "50 46, 6 74, 50 100, 94 74, 50 46"),  # two rings
        ("96 4, 60 44, 12 76, 46 100, 86 78, 46 46, 14 20, 48 0, 76 10",),  # open at the top
        ("14 4, 30 36, 76 60, 80 92, 40 100, 20 80, 52 48, 92 0",),
        ("60 40, 26 22, 44 0, 74 14, 56 42, 20 74, 40 100, 76 82, 60 46",),
        ("88 10, 40 2, 22 26, 66 54, 70 90, 30 100, 14 76, 60 40, 92 8",),
        ("46 48, 14 26, 42 0, 72 20, 46 48, 12 80, 44 104, 80 78, 46 48",),
    ),
    9: (
        ("84 16, 44 0, 6 26, 40 52, 84 20", "84 14, 84 58, 80 100"),
        ("84 16, 44 0, 6 26, 40 52, 84 20, 88 66, 58 100, 8 90",),  # curled
        ("80 16, 46 0, 14 22, 42 46, 80 16, 84 62, 62 98, 24 96, 36 74, 98 54",),  # looped tail
        ("80 14, 40 0, 6 24, 36 48, 76 24", "80 10, 60 56, 36 100"),  # slanted stem
        ("82 20, 50 0, 10 20, 34 50, 82 22, 80 60, 70 98",),
        ("84 18, 46 0, 8 24, 40 48, 84 18, 86 60, 74 92, 40 100, 14 84, 22 74",),  # hooked
        ("76 16, 44 0, 16 20, 44 42, 76 20, 86 58, 66 94, 34 98, 0 94",),  # flat tail
        ("76 34, 34 40, 20 14, 56 0, 80 22, 84 62, 56 98, 4 92",),  # open
        ("78 18, 46 0, 18 20, 44 42, 76 22", "76 22, 84 56, 74 92", "84 96, 46 97, 4 94"),  # with a foot
        ("74 20, 46 2, 20 18, 34 40, 64 46, 84 64, 66 92, 4 96", "74 20, 64 36, 50 44"),
        ("66 18, 42 0, 18 20, 38 42, 68 24, 84 54, 78 84", "6 94, 44 96, 100 92"),
        ("68 16, 38 2, 18 22, 40 42, 66 30, 60 48, 94 72", "94 72, 92 94, 56 98, 14 94"),
        ("20 6, 22 50, 20 100", "20 8, 60 -4, 90 20, 60 46, 20 44"),  # as a P
        ("30 104, 34 50, 40 14, 76 0, 92 26, 60 48, 36 40",),  # as a rho
        ("76 8, 36 0, 10 26, 36 48, 76 14, 70 60, 40 100",),
        ("66 30, 20 40, 10 14, 50 0, 80 16, 76 60, 66 104",),
        ("90 44, 84 10, 44 0, 14 24, 40 46, 84 30, 92 70, 80 100",),
    ),
}


def draw_digits(count: int, rng: np.random.Generator) -> tuple[UInt8Array, Int64Array]:
    """Draw digits, each equally often, give or take one, in forms and hands at random.

    Returns
    -------
    tuple
        uint8 [N, 28, 28] as `imaging.read_picture` gives them, and the digits, int64 [N].

    Examples
    --------
    >>> images, digits = draw_digits(20, np.random.default_rng(0))
    >>> images.shape, np.bincount(digits)
    ((20, 28, 28), array([2, 2, 2, 2, 2, 2, 2, 2, 2, 2]))
    """
    digits = rng.permutation(np.arange(count) % 10)
    return np.stack([_draw_digit(digit, rng) for digit in digits]), digits


def _draw_digit(digit: int, rng: np.random.Generator) -> UInt8Array:
    form = FORMS[digit][rng.integers(len(FORMS[digit]))]
    return draw([parse(stroke) for stroke in form], rng)


def parse(stroke: str) -> Array:
    """Read the joints of a stroke, float64 [N, 2]: across, then down, parts of the box.

    Examples
    --------
    >>> parse("50 0, 20 100")
    array([[0.5, 0. ],
           [0.2, 1. ]])
    """
    return np.array(stroke.replace(",", "").split(), float).reshape(-1, 2) / 100


def draw(strokes: list[Array], rng: np.random.Generator) -> UInt8Array:
    """Draw strokes, each float64 [N, 2] in parts of a box, with a hand of its own, uint8 [28, 28]."""
    wide = TALL * np.clip(WIDTH[0] * np.exp(rng.normal(0, WIDTH[1] / WIDTH[0])), 0.25, 1.1)
    shape = np.array([[wide, rng.normal(0, TILT) * wide], [-rng.normal(*SLANT) * TALL, TALL]])
    pen = TALL * rng.uniform(*PEN)
    page = Image.new("L", (PAGE, PAGE))
    brush = ImageDraw.Draw(page)
    for joints in strokes:
        joints = joints + rng.normal(0, SHAKE, joints.shape)
        points = PAGE / 2 + (curve(joints) - 0.5) @ shape
        brush.line([(x, y) for x, y in points], 255, round(pen), "curve")
        for x, y in points[[0, -1]]:  # a pen's ends are round
            brush.circle((x, y), pen / 2, 255)
    if rng.random() < COARSE:
        few = round(rng.uniform(*PIXELS) * PAGE / TALL)
        page = page.resize((few, few), Image.Resampling.BOX).resize(page.size, Image.Resampling.BICUBIC)
    ink = np.asarray(page, np.float32)
    return fit_ink(ink / ink.max())  # a dot on few pixels is faint


def curve(joints: Array) -> Array:
    """Lay a smooth curve through joints, [N, 2]: a dozen points between two (Catmull and Rom, 1974)."""
    ends = 2 * joints[0] - joints[1], 2 * joints[-1] - joints[-2]
    p = np.concatenate([ends[:1], joints, ends[1:]])
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    between = [
        b + ((c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3) / 2
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False)
    ]
    return np.concatenate([*between, joints[-1:]])
