"""Any picture of a number -> its row of digits as a strip of 32 rows, for a network that reads all of it.

    strip, may_have_lost = read_row("cheque.jpg")   # uint8 [32, W], 0 paper, 255 ink

The picture is decoded and its paper evened out as for single digits (imaging.py). The pieces of ink that are
as tall as digits say where the row lies; all between its top and its bottom is cut out as it is: lines, marks
and whatever touches. It is levelled, strokes of a thin pen are thickened, and it is scaled to the strip's
height. A number that is small in a large picture is found in a small copy, and cut out of the full one.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from digitsum.errors import InputError
from digitsum.reading.decoding import WORKING, Grey, Part, Picture, decode, read
from digitsum.reading.imaging import (
    SIDE,
    STRONG,
    Ink,
    are_prepared,
    find_depth,
    is_dark_on_light,
    name_of,
    scale_depth,
    strength,
)
from digitsum.reading.morphology import close, close_within, over_squares
from digitsum.reading.pieces import Pieces, connected
from digitsum.types import HEIGHT, Array, IndexArray, Mask, UInt8Array

WEAK = 0.3  # of a whole stroke's ink: fainter parts of a stroke belong to it, alone they are dust
SPECK = 0.02  # of the largest piece's area: a smaller one says nothing about where the row lies
TALL = 0.45  # of the tallest piece: a lower one doesn't say either
FLAT, LONG = 0.15, 0.5  # a piece that is as low, in widths, and as long, in the picture's, is a line,
EVEN = 0.4  # if its columns have as much ink, of the fullest one's: or else digits stand on it
AROUND_ROW = 0.06  # of the row's height, left around it
SMALL = 48  # pixels: a row that is lower, of a picture that was made smaller, is cut out of the full one
AROUND = 1.0  # times the row's height, of paper that is cut out with it
MARGIN = 4  # columns of paper before a strip in a batch, and at least as many after it
RIM = 0.08  # of the shorter side: what lies as near to the edge may be a border
BORDER = 0.4  # of a piece's area: one of which less lies inside is a border, a rest or a neighbour
# of the largest piece's area, and of the tallest one's height: pieces as large are digits, in one row,
MAIN, DIGIT = 0.15, 0.6
GAP = 0.1  # of the tallest one's height: or, with as much paper between them, in several
AS_TALL = 0.7  # of the tallest piece, and that of it: so tall a piece at the edge is a digit
LOST = 0.5  # of the same: a lower one that is taller than this may have been one
LONG_ROW = 2 / 3  # of the ink's spread, along less across: of a shorter row the fall isn't known,
ONE_PIECE = 0.82  # nor of what is all joined, as a single digit is, if it isn't as long
LEVEL, STEEPEST = 3, 35  # degrees: a row that falls less is level enough, and what falls more is no row
LARGE = 100  # pixels, the height of the row when its strokes are measured and thickened
STROKE = 6  # pixels of LARGE: thinner strokes are made as thick
ENLARGED = 1.5  # times as many pixels: for fewer a part isn't worth another look

Closing = Callable[[Array, int], Array]  # fills what is dark and narrow, which leaves the paper


class Row(NamedTuple):
    """A row of digits.

    Attributes
    ----------
    strip
        uint8 [32, W], 0 paper, 255 ink.
    may_have_lost
        Whether something as tall as a digit was left out.
    """

    strip: UInt8Array
    may_have_lost: bool


def read_row(picture: Picture) -> Row:
    """Read a picture of a number as one strip.

    Parameters
    ----------
    picture
        As for `imaging.read_picture`.

    Raises
    ------
    InputError
        As for `imaging.read_picture`, or the digits stand in several rows.
    OSError, TypeError
        As for `imaging.read_picture`.

    Examples
    --------
    >>> page = np.full((300, 400), 230, np.uint8)
    >>> page[100:200, 50:60] = page[110:200, 90:100] = 40  # eleven
    >>> strip, may_have_lost = read_row(page)
    >>> strip.shape, may_have_lost
    ((32, 18), False)
    """
    name = name_of(picture)
    try:
        source = read(picture)
        grey = decode(source, name)
        place, closing = _find(grey)
        if place.bottom - place.top < SMALL:
            longest = int(2 * SMALL * (2 + (place.right - place.left) / (place.bottom - place.top)))
            larger = decode(source, name, place.part, max(longest, WORKING))
            if len(larger) > ENLARGED * (place.part[1] - place.part[0]) * len(grey):
                place = _find_row(_find_ink(larger, closing))
        return Row(_scale(_thicken(_cut(place))), place.may_have_lost)
    except InputError as error:
        raise InputError(f"{name} can't be read: {error}") from error


class _Place(NamedTuple):
    """Where a row lies: in which ink, which may be turned, between which rows and columns.

    `part` is the part of the picture, as it was, that holds it, with paper around.
    """

    ink: Ink
    top: int
    bottom: int
    left: int
    right: int
    part: Part
    may_have_lost: bool


def _find(grey: Grey) -> tuple[_Place, Closing]:
    """Find the row of any picture, and how its paper is found; an image as MNIST's says itself what is ink.

    What is dark along the picture's edge is a shadow or a table, but where the row fills the picture a digit.
    """
    if grey.shape == (SIDE, SIDE) and are_prepared(grey[np.newaxis]):
        return _find_row(np.asarray(grey, np.float32) / np.float32(255)), close
    try:
        place = _find_row(_find_ink(grey, close))
        if place.part[:2] != (0, 1):
            return place, close
    except InputError:
        pass  # all its ink may lie along the edge
    return _find_row(_find_ink(grey, close_within)), close_within


def _find_ink(grey: Grey, closing: Closing) -> Ink:
    """Return the amount of ink, 0 to 1; a dark border around faint digits doesn't count."""
    rim = _rim(grey.shape)
    inside = slice(rim, -rim), slice(rim, -rim)
    if not grey[inside].size:
        raise InputError("no ink stands out from its background")
    depth = find_depth(grey, is_dark_on_light(grey[inside]), closing)
    return scale_depth(depth, whole=strength(depth[inside]))


def _rim(shape: tuple[int, ...]) -> int:
    return max(int(RIM * min(shape)), 1)


def _find_row(ink: Ink, part: Part | None = None) -> _Place:
    """Find the row of digits among the pieces of ink, in a picture that is turned once, until it is level."""
    pieces = connected(ink > WEAK)
    large, may_have_lost = _choose(pieces, ink)
    top, bottom, left, right = pieces.boxes.T
    heights = bottom - top + 1
    tall = large & (heights >= TALL * heights[large].max())
    if part is None:
        part = _around(pieces.boxes[tall], AROUND * heights[tall].max(), ink.shape)
        if angle := _slope(pieces, tall):
            image = Image.fromarray(ink).rotate(angle, Image.Resampling.BILINEAR, expand=True)
            return _find_row(np.asarray(image), part)
    first, last = top[tall].min(), bottom[tall].max() + 1
    main = tall & (pieces.areas >= MAIN * pieces.areas[tall].max()) & (heights >= DIGIT * heights[tall].max())
    if top[main].max() - bottom[main].min() > GAP * heights[main].max():
        raise InputError("its digits don't stand in one row; show one row at a time")
    inside = large & (bottom >= first) & (top < last)
    return _Place(ink, first, last, left[inside].min(), right[inside].max() + 1, part, may_have_lost)


def _choose(pieces: Pieces, ink: Ink) -> tuple[Mask, bool]:
    """Return which pieces may be digits or marks, [N], and whether one that may be was left out.

    What lies along the picture's edge is a border, a rest or a neighbour, but where it is as tall as a digit.
    """
    labels, areas, (top, bottom, left, right) = pieces.labels, pieces.areas, pieces.boxes.T
    heights, widths, rim = bottom - top + 1, right - left + 1, _rim(ink.shape)
    is_strong = np.zeros(len(areas) + 1, bool)
    is_strong[labels[ink > STRONG]] = True  # a faint piece without a strong pixel is dust
    inner = np.bincount(labels[rim:-rim, rim:-rim].ravel(), minlength=len(areas) + 1)[1:]
    is_border = inner < BORDER * areas
    is_line = (heights < FLAT * widths) & (widths > LONG * ink.shape[1])
    for line in np.flatnonzero(is_line):
        across = (labels[:, left[line] : right[line] + 1] == line + 1).sum(axis=0)
        is_line[line] = across.mean() > EVEN * across.max()
    inside = is_strong[1:] & ~is_border & ~is_line
    if not inside.any():  # all is cut to the ink
        inside = is_strong[1:]
    if not inside.any():
        raise InputError("no ink stands out from its background")
    inside &= areas >= SPECK * areas[inside].max()
    height = heights[inside].max()
    is_digit = (heights >= AS_TALL * height) & (heights * AS_TALL <= height)
    at_edge = is_border & is_strong[1:] & ~inside
    may_have_lost = at_edge & ~is_digit & (heights >= LOST * height) & (heights <= height)
    return inside | (at_edge & is_digit), bool(may_have_lost.any())


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


def _cut(place: _Place) -> Ink:
    """Cut the row out, with a margin, which is paper beyond the picture's edge."""
    margin = int(AROUND_ROW * (place.bottom - place.top)) + 1
    wide = np.pad(place.ink, margin)
    return wide[place.top : place.bottom + 2 * margin, place.left : place.right + 2 * margin]


def _thicken(ink: Ink) -> Ink:
    """Make the strokes of a thin pen thicker, which would turn faint in a strip."""
    if len(ink) > LARGE:
        ink = _resize(ink, LARGE, Image.Resampling.BOX)
    mask = np.pad((ink > STRONG).astype(np.float32), 1)
    outline = np.abs(np.diff(mask, axis=0)).sum() + np.abs(np.diff(mask, axis=1)).sum()
    missing = STROKE / LARGE * len(ink) - 2 * mask.sum() / max(outline, 1)
    radius = max(int(missing / 2 + 0.5), 0)
    return over_squares(np.maximum, np.pad(ink, 2 * radius), radius) if radius else ink


def _scale(ink: Ink) -> UInt8Array:
    kind = Image.Resampling.BOX if len(ink) > HEIGHT else Image.Resampling.BICUBIC
    return cast(UInt8Array, np.rint(255 * _resize(ink, HEIGHT, kind).clip(0, 1)).astype(np.uint8))


def _resize(ink: Ink, height: int, kind: Image.Resampling) -> Ink:
    width = max(int(ink.shape[1] * height / len(ink) + 0.5), 8)
    return np.asarray(Image.fromarray(ink).resize((width, height), kind))


def window(strip: UInt8Array, place: tuple[int, int]) -> UInt8Array:
    """Return what a strip shows around the columns at which a digit is seen, uint8 [28, 28]."""
    middle = sum(place) // 2
    wide = np.pad(strip, ((0, 0), (SIDE, SIDE)))
    return wide[(HEIGHT - SIDE) // 2 :][:SIDE, middle + SIDE // 2 :][:, :SIDE]


def pad(strips: list[UInt8Array], places: list[int] | None = None) -> UInt8Array:
    """Put strips, uint8 [32, W] each, into one array, uint8 [N, 1, 32, W], W the next multiple of 4.

    `places` says at which column each begins, `MARGIN` if not otherwise.

    Examples
    --------
    >>> pad([np.zeros((32, 5), np.uint8), np.zeros((32, 11), np.uint8)]).shape
    (2, 1, 32, 20)
    """
    places = places or [MARGIN] * len(strips)
    ends = [place + strip.shape[1] for place, strip in zip(places, strips, strict=True)]
    batch = np.zeros((len(strips), 1, HEIGHT, -(-(max(ends) + MARGIN) // 4) * 4), np.uint8)
    for row, strip, place, end in zip(batch, strips, places, ends, strict=True):
        row[0, :, place:end] = strip
    return batch
