"""Are marks seen? Decimals, times, fractions, differences and two numbers side by side aren't whole numbers.

python benchmarks/marks.py [--model row] [--count 40]

They are written with a pen of the page's width on its square of 300 pixels, each digit in one of the forms of
`strokes.py`, all of one hand. None of them may give a certain answer. Thousands in groups of three, behind a
comma, a point or an apostrophe, should be read as the number, and be certain.
"""

from collections import Counter

import numpy as np
from PIL import Image, ImageDraw
from script import make_parser, record

from digitsum.data.strokes import FORMS, curve, parse
from digitsum.errors import InputError
from digitsum.prediction import Predictor
from digitsum.types import Array

SIDE = 300  # pixels, of the page's drawing
MARKS = {  # strokes, in hundredths of the digits' height, from their top and from where the mark begins
    ".": ("6 98, 8 100",),
    ",": ("10 94, 4 116",),
    "'": ("8 -4, 4 16",),
    ":": ("6 40, 8 42", "6 84, 8 86"),
    "/": ("45 -8, 0 106",),
    "-": ("0 52, 40 50",),
    " ": (),
}
WIDTHS = dict.fromkeys(MARKS, 14) | {"/": 45, "-": 40, " ": 130}  # hundredths of the height
KINDS = {
    "decimals": ".,",
    "times": ":",
    "fractions": "/",
    "differences": "-",
    "two numbers": " ",
    "thousands": ",.'",
}


def main() -> None:
    """Print what becomes of each kind."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="row")
    parser.add_argument("--count", type=int, default=40)
    options = parser.parse_args()
    predictor, rng = Predictor(options.model), np.random.default_rng(0)
    for kind in KINDS:
        texts = [choose(kind, rng) for _ in range(options.count)]
        outcomes = Counter(outcome(predictor, text, rng) for text in texts)
        names = ("right and certain", "right, uncertain", "wrong, uncertain", "wrong and certain", "refused")
        print(f"{kind}: {', '.join(f'{name} {outcomes[name]}' for name in names)} of {options.count}")


def choose(kind: str, rng: np.random.Generator) -> str:
    """Choose what to write."""
    mark = rng.choice(list(KINDS[kind]))
    if kind == "thousands":
        return f"{rng.integers(1, 10)}{mark}{rng.integers(0, 1000):03}"
    first, second = rng.integers(1, 100, 2)
    return f"{first}{mark}{second:02}" if kind in ("decimals", "times") else f"{first}{mark}{second}"


def outcome(predictor: Predictor, text: str, rng: np.random.Generator) -> str:
    """Write a text, read it, and say what came of it; what has a mark but thousands' is never right."""
    try:
        answer = predictor.predict_number(write(text, rng), 0)
    except InputError:
        return "refused"
    digits, mark = "".join(str(digit.digit) for digit in answer.digits), text.strip("0123456789")
    is_thousands = mark in KINDS["thousands"] and len(text.partition(mark)[2]) == 3
    is_right = is_thousands and digits == text.replace(mark, "")
    if is_right:
        return "right, uncertain" if answer.uncertain else "right and certain"
    return "wrong, uncertain" if answer.uncertain else "wrong and certain"


def write(text: str, rng: np.random.Generator) -> Array:
    """Write digits and marks in a row, black on white, uint8 [300, 300]."""
    page = Image.new("L", (SIDE, SIDE), "white")
    brush, pen = ImageDraw.Draw(page), int(rng.integers(7, 15))
    slant = rng.normal(0.1, 0.12)
    placed, end = [], 0.0
    for symbol in text:
        strokes = (
            MARKS[symbol] if symbol in MARKS else FORMS[int(symbol)][rng.integers(len(FORMS[int(symbol)]))]
        )
        curves = [curve(parse(stroke) + rng.normal(0, 0.02, (len(parse(stroke)), 2))) for stroke in strokes]
        if symbol not in MARKS:
            curves = [joints * [rng.uniform(0.5, 0.7), rng.uniform(0.9, 1.1)] for joints in curves]
            wide = max(joints[:, 0].max() for joints in curves)
        else:
            wide = WIDTHS[symbol] / 100
        placed += [joints + np.array([end, 0]) for joints in curves]
        end += wide + rng.uniform(0.12, 0.3)
    size = min(90.0, 240 / end)
    left, top = SIDE / 2 - size * end / 2, SIDE / 2 - size / 2
    for joints in placed:
        x, y = joints.T
        points = list(zip(left + size * (x + slant * (0.5 - y)), top + size * y, strict=True))
        brush.line(points, 0, pen, "curve")
        for point in (points[0], points[-1]):
            brush.circle(point, pen / 2, 0)
    return np.asarray(page)


if __name__ == "__main__":
    record(main)
