"""Connected pieces of ink: which are dust, and which make a digit.

    owners = find_digits(mask, has_rules)  # [H, W]: 1 is the first digit's from the left, 0 is no digit's

Pieces that lie above each other, or one within the other, are one digit; pieces side by side are several. Low
ones belong to the digit that is nearest.
"""

from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from digitsum.errors import InputError
from digitsum.reading.morphology import over_squares
from digitsum.types import IndexArray, Mask, UInt8Array

SPECK = 0.1  # of the largest piece's area: what is smaller and low is dust
CRUMB = 0.02  # of the same: so small a piece may be part of a thin stroke that is broken
SMALLEST = 1 / 40  # of the longer side: a smaller digit is a speck too, and so is a single pixel
LEAST = 10  # pixels: several that are all smaller are specks
MOST = 100  # pieces of ink: more are specks
FRAGMENT = 0.52  # of the tallest piece's height: a lower one is part of the digit that is nearest to it
BREAK = 0.05  # of the same: so narrow a gap lies within a stroke that is broken
LEVEL = 0.4  # of the lower one's height: pieces that share fewer rows aren't side by side
OVERLAP = 0.6  # of the same, where they share columns, too
ASIDE = 0.5  # of the narrower one's width: pieces as far apart aren't above each other
GAP = 0.2  # of the height of both: as much paper between pieces above each other makes them two lines
BESIDE = 0.8  # of the rows that two pieces share: in more of them one digit is all to the left of another
RIM = 2  # pixels around a stroke that keep their grey levels

Owners = UInt8Array  # [H, W], 0 for no digit, 1 for the first from the left


def find_digits(mask: Mask, has_rules: bool) -> Owners:
    """Return which digit each pixel belongs to: one with ink, or one at the rim of the digit's strokes.

    Parameters
    ----------
    mask
        Where there is ink, bool [H, W].
    has_rules
        Whether the paper had lines: then what touches the edge is the rest of one and left out.

    Returns
    -------
    uint8 array, [H, W]
        1 for the digit that is first from the left, 2 for the next and so on; 0 for none.

    Raises
    ------
    InputError
        No digit stands out from specks, or the digits stand in several rows.

    Examples
    --------
    >>> mask = np.zeros((40, 60), bool)
    >>> mask[10:30, 10:13] = mask[10:30, 30:33] = True  # eleven
    >>> mask[20, 50] = True  # dust
    >>> find_digits(mask, has_rules=False)[20, [11, 31, 50]]
    array([1, 2, 0], dtype=uint8)
    """
    pieces = connected(mask)
    return _with_rim(_group(pieces, _choose(pieces, has_rules)))


class Pieces(NamedTuple):
    """The connected pieces of a mask, in the order of their first pixels."""

    labels: npt.NDArray[np.int32]  # [H, W], 0 for no piece, 1 for the first
    areas: IndexArray  # [N], of the first piece on, pixels
    boxes: IndexArray  # [N, 4], the first and last row, then column


def connected(mask: Mask) -> Pieces:
    """Find the connected pieces, corners connect too, by way of runs: pixels side by side in a row."""
    flat, width = np.pad(mask, ((0, 0), (1, 1))).ravel(), mask.shape[1] + 2
    starts, ends = (np.flatnonzero(flat[1:] != flat[:-1]) + 1).reshape(-1, 2).T
    first = np.searchsorted(ends, starts + width)  # of the runs below that touch one
    counts = np.searchsorted(starts, ends + width, side="right") - first
    runs = np.arange(len(starts))
    below = np.arange(counts.sum()) + np.repeat(first - counts.cumsum() + counts, counts)
    _, piece = np.unique(_join(runs, np.repeat(runs, counts), below), return_inverse=True)  # of each run

    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(piece + 1, ends - starts)
    order = piece.argsort(kind="stable")
    begin = np.flatnonzero(np.diff(piece[order], prepend=-1))
    areas = np.add.reduceat((ends - starts)[order], begin)
    rows, left, right = starts // width, starts % width - 1, ends % width - 2
    least, most = np.minimum.reduceat, np.maximum.reduceat
    sides = (least, rows), (most, rows), (least, left), (most, right)
    return Pieces(labels, areas, np.stack([of(side[order], begin) for of, side in sides], axis=1))


def _join(items: IndexArray, one: IndexArray, other: IndexArray) -> IndexArray:
    """Return, for each of the items 0, 1, 2, ..., the least item that the pairs connect it with.

    Examples
    --------
    >>> _join(np.arange(6), np.array([1, 3, 5]), np.array([5, 4, 4]))
    array([0, 1, 2, 1, 1, 1])
    """
    root = items.copy()  # the least known yet
    while np.any(root[one] != root[other]):
        least = np.minimum(root[one], root[other])
        for side in (one, other):
            np.minimum.at(root, root[side], least)
        root = root[root]
    return root


def _choose(pieces: Pieces, has_rules: bool) -> IndexArray:
    """Return which pieces of ink may be parts of digits."""
    areas, (top, bottom, left, right) = pieces.areas, pieces.boxes.T
    height, width = pieces.labels.shape
    inside = (top > 0) & (bottom < height - 1) & (left > 0) & (right < width - 1)
    # the rest of a line, or an edge of the table, a shadow or a neighbouring digit, unless all else is dust
    if has_rules or max(areas[inside], default=0) >= SPECK * areas.max():
        areas = np.where(inside, areas, 0)
    heights = bottom - top + 1
    large = areas >= max(SPECK * areas.max(), 1)
    tall = (areas > 0) & (heights >= FRAGMENT * heights[large].max(initial=0))
    chosen = tall | (areas >= max(CRUMB * areas.max(), 1))
    extent = max(heights[tall].max(initial=0), (right - left + 1)[tall].max(initial=0))
    if (
        extent < max(SMALLEST * max(height, width), 2 if tall.sum() == 1 else LEAST)
        or max(areas[tall].sum(), 2 * areas.max()) < areas.sum() / 2
        or chosen.sum() > MOST
    ):
        raise InputError("no digit stands out from the specks on its background; write it larger and darker")
    return np.flatnonzero(chosen)


def _group(pieces: Pieces, chosen: IndexArray) -> Owners:
    """Return which digit lies where, the first from the left is 1, of pieces that stand in one row."""
    digit = np.zeros(len(pieces.areas) + 1, np.uint8)  # of each label
    digit[chosen + 1] = 1 if len(chosen) == 1 else _number(pieces, chosen)
    return digit[pieces.labels]


def _number(pieces: Pieces, chosen: IndexArray) -> IndexArray:
    """Return the number of each piece's digit, counted from left to right from 1 on; 0 is dust."""
    boxes, (starts, ends) = pieces.boxes[chosen], _ends(pieces, chosen)
    body = _join(
        np.arange(len(chosen)), *np.nonzero(_are_broken(pieces, chosen) | _are_one(boxes, starts, ends))
    )
    around = np.stack([_around(boxes[body == first]) for first in body])  # of each piece's body
    heights = around[:, 1] - around[:, 0] + 1
    is_low = heights < FRAGMENT * heights.max()
    areas = pieces.areas[chosen]
    is_dust = is_low & (np.bincount(body, areas)[body] < SPECK * areas.max())
    tall = np.flatnonzero(~is_low)
    body[is_low] = body[tall[_nearest(boxes[is_low], boxes[tall], starts[tall], ends[tall])]]

    firsts, place = np.unique(body, return_inverse=True)
    top, bottom, left, right = around[firsts].T
    order = (left + right).argsort(kind="stable")
    top, bottom = top[order], bottom[order]
    if np.any(_shared(top[1:], bottom[1:], top[:-1], bottom[:-1]) < LEVEL):
        raise InputError("its digits don't stand in one row; show one row at a time")
    return np.where(is_dust, 0, order.argsort()[place] + 1)


def _ends(pieces: Pieces, chosen: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Return the first and the last column of each piece in each row, [N, H]; elsewhere 0 and the width."""
    height, width = pieces.labels.shape
    starts, ends = np.zeros((len(chosen), height), int), np.full((len(chosen), height), width)
    for i, piece in enumerate(chosen):
        top, bottom, left, right = pieces.boxes[piece]
        mine = pieces.labels[top : bottom + 1, left : right + 1] == piece + 1
        starts[i, top : bottom + 1] = left + mine.argmax(axis=1)
        ends[i, top : bottom + 1] = right - mine[:, ::-1].argmax(axis=1)
    return starts, ends


def _are_broken(pieces: Pieces, chosen: IndexArray) -> Mask:
    """Return which two pieces, [N, N], only a narrow gap keeps apart: grown by half of it they connect."""
    top, bottom, _, _ = pieces.boxes[chosen].T
    radius = int((bottom - top + 1).max() * BREAK / 2 + 0.5)
    is_chosen = np.zeros(len(pieces.areas) + 1, bool)
    is_chosen[chosen + 1] = True
    grown = connected(over_squares(np.maximum, np.pad(is_chosen[pieces.labels], 2 * radius), radius)).labels
    first = (pieces.labels[top] == chosen[:, np.newaxis] + 1).argmax(axis=1)  # column of its first row
    label = grown[top + radius, first + radius]
    return cast(Mask, label[:, np.newaxis] == label)


def _are_one(boxes: IndexArray, starts: IndexArray, ends: IndexArray) -> Mask:
    """Return which two pieces, [N, N], are one digit: above each other, or one within the other."""
    pairs = [(side[:, np.newaxis], side) for side in boxes.T]
    (top, other_top), (bottom, other_bottom), (left, other_left), (right, other_right) = pairs
    rows = _shared(top, bottom, other_top, other_bottom)
    columns = _shared(left, right, other_left, other_right)
    level = rows >= np.where(columns > 0, OVERLAP, LEVEL)
    both = np.maximum(bottom, other_bottom) - np.minimum(top, other_top) + 1
    gap = np.maximum(top, other_top) - np.minimum(bottom, other_bottom)
    above = (columns > -ASIDE) & (gap < GAP * np.maximum(both, (bottom - top).max() + 1))
    before = (ends[:, np.newaxis] < starts).sum(axis=2)
    beside = np.maximum(before, before.T) > BESIDE * (1 - gap)
    return cast(Mask, np.where(level, ~beside, above))


def _shared(
    start: IndexArray, end: IndexArray, other_start: IndexArray, other_end: IndexArray
) -> npt.NDArray[np.float64]:
    """Return which part of the shorter of two intervals lies in the other; less than 0: they are apart."""
    both = np.minimum(end, other_end) - np.maximum(start, other_start) + 1
    return cast(npt.NDArray[np.float64], both / (np.minimum(end - start, other_end - other_start) + 1))


def _around(boxes: IndexArray) -> IndexArray:
    """Return the box around boxes."""
    top, bottom, left, right = boxes.T
    return np.array([top.min(), bottom.max(), left.min(), right.max()])


def _nearest(low: IndexArray, tall: IndexArray, starts: IndexArray, ends: IndexArray) -> IndexArray:
    """Return which tall piece, of which the ends in each row are known, each low box is nearest to."""
    (top, bottom, left, right), each = low.T[:, :, np.newaxis], np.arange(len(tall))
    row = ((top + bottom) // 2).clip(tall[:, 0], tall[:, 1])
    down = np.maximum(tall[:, 0] - bottom, top - tall[:, 1]).clip(0)
    aside = np.maximum(starts[each, row] - right, left - ends[each, row]).clip(0)
    return cast(IndexArray, (down * down + aside * aside).argmin(axis=1))


def _with_rim(digits: Owners) -> Owners:
    """Assign what lies around the strokes of a digit to it as well."""
    around = over_squares(np.maximum, np.pad(digits, RIM), RIM)
    return np.where(digits, digits, around)
