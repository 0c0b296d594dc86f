"""Ruled paper: the lines that run from one edge of a picture to the other, taken away.

    rest = erase_rules(erase_rules(depth).T).T  # lines from left to right, then those from top to bottom

A line is low, falls little and is seen near both edges, where a stroke has paper around it. Lines are looked
for in the means of blocks of columns, in which they stand out from noise and are quickly found.
"""

import numpy as np
import numpy.typing as npt

from digitsum.reading.morphology import open_columns, over_columns
from digitsum.types import IndexArray, Mask

BLOCKS = 64  # of columns, in each of which a line is looked for
STEEPEST_LINE = 0.12  # rows down for each column: 7 degrees; steeper lines aren't looked for
TURN = 4  # rows by which the falls of the lines that are looked for differ
THICKEST = 1 / 36  # of the columns: a line is lower, but for its blur; a stroke may be higher
ENDS = 4  # blocks at each edge: in half of them a line is seen
EDGE = 3  # pixels that a line's blur adds to its thickness
VISIBLE = 0.04  # of the paper's brightness: a fainter line leaves no trace in what follows
COVERED = 0.5  # of the blocks that a line crosses: in as many it is seen, or it is none

Depth = npt.NDArray[np.float32]  # how much darker a pixel is than the paper: 0 as bright, 1 black


def erase_rules(depth: Depth) -> Depth:
    """Take away the lines that run from the left edge to the right one, but not the strokes they cross.

    Parameters
    ----------
    depth
        How much darker each pixel is than the paper, float32 [H, W], 0 as bright to 1 black.

    Returns
    -------
    float32 array, [H, W]
        `depth` itself if it has no such line.

    Examples
    --------
    >>> depth = np.zeros((60, 80), np.float32)
    >>> depth[10:50, 40:44] = 1  # a stroke
    >>> erase_rules(depth) is depth
    True
    >>> ruled = depth.copy()
    >>> ruled[30:32] = 1  # a line across it
    >>> np.array_equal(erase_rules(ruled), depth)
    True
    """
    height, width = depth.shape
    thickest = int(width * THICKEST) + EDGE
    if width < BLOCKS or height < 2 * thickest:
        return depth
    edges = np.arange(BLOCKS + 1) * width // BLOCKS
    left, right = _means(depth, edges[: ENDS + 1]), _means(depth, edges[-ENDS - 1 :])
    if sum(border.max() >= VISIBLE for border in (left, right, *_means(depth[[0, -1]], edges))) < 2:
        return depth  # the quick way out
    blocks = _means(depth, edges)
    ridge = blocks - open_columns(blocks, thickest)
    ridge[ridge < max(VISIBLE, 2 * ridge.mean())] = 0
    starts, falls = _find_rules(ridge, width)
    if not len(starts):
        return depth
    size = _thickness(ridge > 0, starts + _drop(falls, BLOCKS), thickest) + EDGE
    rows = starts + _drop(falls, width) + size
    band = np.zeros((height + 2 * size, width), np.uint8)  # lines just outside have an edge inside, too
    inside = (rows >= 0) & (rows < len(band))
    band[rows[inside], inside.nonzero()[1]] = 1
    reach = size // 2 + 2
    return np.where(
        over_columns(np.maximum, band, 2 * reach + 1)[size - reach :][:height],
        open_columns(depth, size),
        depth,
    )


def _means(depth: Depth, edges: IndexArray) -> npt.NDArray[np.float64]:
    """Average each row of the blocks of columns between edges."""
    blocks = depth[:, edges[0] : edges[-1]]
    sums = np.add.reduceat(blocks, edges[:-1] - edges[0], axis=1, dtype=np.float64)
    return sums / np.diff(edges)


def _find_rules(ridge: npt.NDArray[np.float64], width: int) -> tuple[IndexArray, IndexArray]:
    """Find straight lines from edge to edge: the rows at which they start and how far they fall, both [N, 1].

    By Hough's transform: the highest point of each ridge votes for every line through it.
    """
    height, wide = len(ridge), np.pad(ridge, ((1, 1), (0, 0)))
    row, block = np.nonzero((ridge > wide[:-2]) & (ridge >= wide[2:]))
    most = int(width * STEEPEST_LINE)
    falls = np.arange(-most, most + 1, TURN)[:, np.newaxis]
    drops, size = _drop(falls, BLOCKS), height + 2 * most + 2
    places = row - drops[:, block] + most + 1 + size * np.arange(len(falls))[:, np.newaxis]
    votes = np.bincount(places.ravel(), minlength=size * len(falls)).reshape(-1, size)
    votes = votes[:, :-2] + votes[:, 1:-1] + votes[:, 2:]  # the row above or below is near enough
    best = votes.argmax(axis=0)
    starts = np.arange(-most, height + most)[:, np.newaxis]
    rows = starts + drops[best]
    inside = (rows >= 0) & (rows < height)
    near = over_columns(np.maximum, np.pad(ridge > 0, ((2, 2), (0, 0))), 5)
    seen = near[rows.clip(0, height - 1), np.arange(BLOCKS)] & inside
    found = seen.sum(axis=1) >= np.maximum(COVERED * inside.sum(axis=1), 1)
    for end in (slice(ENDS), slice(-ENDS, None)):  # a stroke with paper around it doesn't reach both edges
        found &= (seen | ~inside)[:, end].sum(axis=1) >= ENDS / 2
    return starts[found], falls[best[found]]


def _drop(falls: IndexArray, parts: int) -> IndexArray:
    """Return how many rows lines have fallen in the middle of each of as many parts of the width."""
    return ((2 * np.arange(parts) + 1) * falls + parts) // (2 * parts)


def _thickness(thin: Mask, rows: IndexArray, most: int) -> int:
    """Return the mean height of what is thin around lines, where there is any."""
    sums, reach = np.pad(thin.cumsum(axis=0), ((1, 0), (0, 0))), most // 2
    low, high = ((rows + end).clip(0, len(thin)) for end in (-reach, reach + 1))
    counts = sums[high, np.arange(BLOCKS)] - sums[low, np.arange(BLOCKS)]
    return int(counts.sum() // np.count_nonzero(counts))
