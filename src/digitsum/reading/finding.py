"""Where the digits of a picture stand: which pieces of its ink make them, and between which rows and columns.

    place = find(source, decode(source))   # the row of digits
    place = find(source, decode(source), of_one=True)   # a single digit, whatever stands at the edges

The pieces of ink that are as tall as digits say where the row lies. Dust, borders and rests at the picture's
edge say nothing; what is as tall as a digit at the edge is one of a row, and a neighbour of a single digit. A
row is levelled. Digits that are small in a large picture are found in a small copy, and cut out of the full
one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image

from digitsum.errors import InputError
from digitsum.reading.decoding import WORKING, Grey, Part, Picture, Source, decode
from digitsum.reading.morphology import close, close_within
from digitsum.reading.paper import STRONG, Closing, find_ink, rim_of
from digitsum.reading.pieces import Pieces, connected
from digitsum.types import IndexArray, Ink, Mask

WEAK = 0.3  # of a whole stroke's ink: fainter parts of a stroke belong to it, alone they are dust
SPECK = 0.02  # of the largest piece's area: a smaller one says nothing about where the row lies
TALL = 0.45  # of the tallest piece: a lower one doesn't say either
SMALLEST = 1 / 125  # of the picture's longer side: lower and narrower ink is a speck, and so is a pixel
SPECKS = 0.4  # of all ink: where the tall pieces have less, the others are no dust, and all are specks
FLAT, LONG = 0.15, 0.5  # a piece that is as low, in widths, and as long, in the picture's, is a line,
EVEN_LINE = 0.4  # if its columns have as much ink, of the fullest one's: or else digits stand on it
SMALL = 48  # pixels: a row that is lower, of a picture that was made smaller, is cut out of the full one
AROUND_ROW = 1.0  # times the row's height, of paper that is cut out with it
BORDER = 0.4  # of a piece's area: one of which less lies inside is a border, a rest or a neighbour
# of the largest piece's area, and of the tallest one's height: pieces as large are digits, in one row,
MAIN, DIGIT = 0.2, 0.6
GAP = 0.1  # of the tallest one's height: or, with as much paper between them, in several
AS_TALL = 0.7  # of the tallest piece, and that of it: so tall a piece at the edge is a digit
LOST = 0.5  # of the same: a lower one that is taller than this may have been one
LONG_ROW = 2 / 3  # of the ink's spread, along less across: of a shorter row the fall isn't known,
ONE_PIECE = 0.82  # nor of what is all joined, as a single digit is, if it isn't as long
LEVEL, STEEPEST = 3, 35  # degrees: a row that falls less is level enough, and what falls more is no row
LONGEST = 150  # times its height, a row of a hundred digits: the network would take gigabytes for some
ENLARGED = 1.5  # times as many pixels: for fewer a part isn't worth another look


class Place(NamedTuple):
    """Where digits stand.

    Attributes
    ----------
    ink
        Float32 [H, W], 0 to 1, of the picture or of a part of it, which may be turned.
    chosen
        Bool [H, W], the pieces of ink that the digits and marks are made of.
    top, bottom, left, right
        The first row and column, and those after the last.
    part
        The part of the picture, as it was, that holds them, with paper around.
    apart
        How many digits stand apart from each other.
    may_have_lost
        Whether something as tall as a digit was left out.
    """

    ink: Ink
    chosen: Mask
    top: int
    bottom: int
    left: int
    right: int
    part: Part
    apart: int
    may_have_lost: bool


@contextmanager
def named(picture: Picture) -> Iterator[str]:
    """Give the name of a picture, and put it into the sentence that says why it can't be read."""
    name = os.fspath(picture) if isinstance(picture, str | os.PathLike) else "the picture"
    try:
        yield name
    except InputError as error:
        raise InputError(f"{name} can't be read: {error}") from error


def find(source: Source, grey: Grey, name: str, of_one: bool = False) -> Place:
    """Find the digits of a picture.

    Parameters
    ----------
    source, grey, name
        The picture, as `decoding.read` gives it, as `decode` does, and what a warning calls it.
    of_one
        Whether it should be one digit: what stands at the picture's edge beside it is left out.

    Raises
    ------
    InputError
        No ink stands out, or the digits stand in several rows, or in one that is too long.

    Examples
    --------
    >>> page = np.full((300, 400), 230, np.uint8)
    >>> page[100:200, 50:60] = page[110:200, 90:100] = 40  # eleven
    >>> place = find(page, page, "the page")
    >>> (place.top, place.bottom, place.left, place.right), place.apart
    ((100, 200, 50, 100), 2)
    """
    place, closing = _find_in(grey, of_one)
    # what was shrunk is still longer than half of WORKING
    if place.bottom - place.top < SMALL and 2 * max(grey.shape) > WORKING:
        longest = int(2 * SMALL * (2 + (place.right - place.left) / (place.bottom - place.top)))
        larger = decode(source, name, place.part, max(longest, WORKING))
        if len(larger) > ENLARGED * (place.part[1] - place.part[0]) * len(grey):
            return find_in_ink(find_ink(larger, closing, of_one), of_one)
    return place


def _find_in(grey: Grey, of_one: bool) -> tuple[Place, Closing]:
    """Find digits, and how their paper is found.

    What is dark along the picture's edge is a shadow or a table, but where a row fills the picture a digit.
    """
    try:
        place = find_in_ink(find_ink(grey, close, of_one), of_one)
        if of_one or place.part[:2] != (0, 1):
            return place, close
    except InputError:
        pass  # all its ink may lie along the edge
    return find_in_ink(find_ink(grey, close_within, of_one), of_one), close_within


def find_in_ink(ink: Ink, of_one: bool = False, part: Part | None = None) -> Place:
    """Find digits among the pieces of ink, float32 [H, W]; a row is turned once, until it is level."""
    pieces = connected(ink > WEAK)
    large, may_have_lost = _choose(pieces, ink, of_one)
    (top, bottom, left, right), heights = pieces.boxes.T, pieces.heights
    tall = large & (heights >= TALL * heights[large].max())
    if part is None:
        part = _around(pieces.boxes[tall], AROUND_ROW * heights[tall].max(), ink.shape)
        if not of_one and (angle := _slope(pieces, tall)):
            image = Image.fromarray(ink).rotate(angle, Image.Resampling.BILINEAR, expand=True)
            return find_in_ink(np.asarray(image), part=part)
    first, last = int(top[tall].min()), int(bottom[tall].max()) + 1
    main = tall & (pieces.areas >= MAIN * pieces.areas[tall].max())
    main &= heights >= DIGIT * heights[main].max()
    gap = GAP * heights[main].max()
    if top[main].max() - bottom[main].min() > gap:
        raise InputError("its digits don't stand in one row; show one row at a time")
    inside = large & (bottom >= first) & (top < last)
    chosen: Mask = np.append(False, inside)[pieces.labels]
    start, end = int(left[inside].min()), int(right[inside].max()) + 1
    if (times := (end - start) / (last - first)) > LONGEST:
        raise InputError(
            f"its row is {times:.0f} times as long as high, more than {LONGEST}; show a part at a time"
        )
    apart = _count_apart(left[main], right[main], gap)
    return Place(ink, chosen, first, last, start, end, part, apart, may_have_lost)


def _choose(pieces: Pieces, ink: Ink, of_one: bool) -> tuple[Mask, bool]:
    """Return which pieces may be digits or marks, [N], and whether one that may be was left out.

    What lies along the picture's edge is a border or a rest, but where it is as tall as a digit; beside a
    single digit it is a neighbour.
    """
    labels, areas, heights, rim = pieces.labels, pieces.areas, pieces.heights, rim_of(ink.shape)
    is_strong = np.zeros(len(areas) + 1, bool)
    is_strong[labels[ink > STRONG]] = True  # a faint piece without a strong pixel is dust
    inner = np.bincount(labels[rim:-rim, rim:-rim].ravel(), minlength=len(areas) + 1)[1:]
    is_border = inner < BORDER * areas
    is_paper = is_border | _are_lines(pieces)
    inside = is_strong[1:] & ~is_paper
    if not inside.any():  # all is cut to the ink
        inside, is_paper = is_strong[1:], ~is_strong[1:]
    if not inside.any():
        raise InputError("no ink stands out from its background")
    inside &= areas >= SPECK * areas[inside].max()
    height = heights[inside].max()
    is_tall = inside & (heights >= TALL * height)
    extent = max(height, pieces.widths[is_tall].max())
    if extent < max(SMALLEST * max(ink.shape), 2) or areas[is_tall].sum() < SPECKS * areas[~is_paper].sum():
        raise InputError("no digit stands out from the specks on its background; write it larger and darker")
    is_digit = (heights >= AS_TALL * height) & (heights * AS_TALL <= height)
    at_edge = is_border & is_strong[1:] & ~inside
    may_have_lost = at_edge & ~is_digit & (heights >= LOST * height) & (heights <= height)
    if of_one:
        return inside & ~_are_neighbours(pieces, inside), False
    return inside | (at_edge & is_digit), bool(may_have_lost.any())


def _are_neighbours(pieces: Pieces, inside: Mask) -> Mask:
    """Return which pieces, [N], touch the picture's edge beside a digit that doesn't, nearly as tall."""
    (top, bottom, left, right), heights = pieces.boxes.T, pieces.heights
    height, width = pieces.labels.shape
    touches = (top == 0) | (bottom == height - 1) | (left == 0) | (right == width - 1)
    free = inside & ~touches
    if heights[free].max(initial=0) < DIGIT * heights[inside].max():
        return np.zeros_like(free)
    return np.asarray(touches & ((left < left[free].min()) | (right > right[free].max())))


def _are_lines(pieces: Pieces) -> Mask:
    """Return which pieces are lines of the paper, [N]: low, long and evenly thick."""
    widths = pieces.widths
    are_lines = (pieces.heights < FLAT * widths) & (widths > LONG * pieces.labels.shape[1])
    for line in np.flatnonzero(are_lines):
        _, _, left, right = pieces.boxes[line]
        across = (pieces.labels[:, left : right + 1] == line + 1).sum(axis=0)
        are_lines[line] = across.mean() > EVEN_LINE * across.max()
    return np.asarray(are_lines)


def _count_apart(left: IndexArray, right: IndexArray, gap: float) -> int:
    """Return how many pieces, or groups that share columns, stand apart along the row."""
    order = left.argsort()
    ends = np.maximum.accumulate(right[order])
    return 1 + int(np.count_nonzero(left[order][1:] - ends[:-1] > gap))


def _slope(pieces: Pieces, tall: Mask) -> float:
    """Return by how many degrees a long row falls, 0 if it is level, or too short to tell."""
    row, column = np.nonzero(np.append(False, tall)[pieces.labels])
    (across, both), (_, down) = np.cov(column, row, bias=True)
    long = LONG_ROW if tall.sum() > 1 else ONE_PIECE
    angle = float(np.degrees(np.arctan2(2 * both, across - down))) / 2
    is_known = np.hypot(2 * both, across - down) >= long * (across + down)
    return angle if is_known and LEVEL <= abs(angle) <= STEEPEST else 0.0


def _around(boxes: IndexArray, paper: float, shape: tuple[int, ...]) -> Part:
    """Return the part of a picture that holds boxes, with paper around, as shares."""
    (top, bottom, left, right), (height, width) = boxes.T, shape
    return (
        max((top.min() - paper) / height, 0),
        min((bottom.max() + 1 + paper) / height, 1),
        max((left.min() - paper) / width, 0),
        min((right.max() + 1 + paper) / width, 1),
    )
