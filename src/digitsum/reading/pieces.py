"""Connected pieces of ink."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from digitsum.types import IndexArray, Mask


class Pieces(NamedTuple):
    """The connected pieces of a mask, in the order of their first pixels."""

    labels: npt.NDArray[np.int32]  # [H, W], 0 for no piece, 1 for the first
    areas: IndexArray  # [N], of the first piece on, pixels
    boxes: IndexArray  # [N, 4], the first and last row, then column

    @property
    def heights(self) -> IndexArray:
        """How many rows each goes over, [N]."""
        return self.boxes[:, 1] - self.boxes[:, 0] + 1

    @property
    def widths(self) -> IndexArray:
        """How many columns each goes over, [N]."""
        return self.boxes[:, 3] - self.boxes[:, 2] + 1


def connected(mask: Mask) -> Pieces:
    """Find the connected pieces, corners connect too, by way of runs: pixels side by side in a row."""
    flat, width = np.pad(mask, ((0, 0), (1, 1))).ravel(), mask.shape[1] + 2
    starts, ends = (np.flatnonzero(flat[1:] != flat[:-1]) + 1).reshape(-1, 2).T
    first = np.searchsorted(ends, starts + width)  # of the runs below that touch one
    counts = np.searchsorted(starts, ends + width, side="right") - first
    runs = np.arange(len(starts))
    below = np.arange(counts.sum()) + np.repeat(first - counts.cumsum() + counts, counts)
    least_run = _join(runs, np.repeat(runs, counts), below)
    piece = (np.cumsum(least_run == runs) - 1)[least_run]  # of each run

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
