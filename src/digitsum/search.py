"""The most probable sum of two numbers whose digits are only probable, exactly. Nothing here needs torch."""

import math

import numpy as np

from digitsum.types import Array

# What a network of rows sees at each step along a strip of so many pixels' height: a digit, a mark or nothing
HEIGHT = 32
MARK = 10  # a point, comma, colon, slash, sign, or a gap much wider than the others
NOTHING = 11
SYMBOLS = 12


def most_probable_sum(top: Array, bottom: Array) -> tuple[Array, float]:
    """Find the most probable sum of two numbers, and the logarithm of its probability.

    It isn't always the sum of the most probable digits: many pairs of numbers have the same sum, and their
    probabilities add up.

    The search goes from the right and keeps, of the digits so far, every choice that may still win. The
    probability of whatever follows is linear in that of the digits so far with a carry and without, so only
    choices on the convex hull of those two can.

    Parameters
    ----------
    top, bottom
        P(digit), float [N, 10] each, the most significant digit first.

    Returns
    -------
    tuple
        The digits of the sum, int64 [N + 1], the first of which is 0 or 1, and log P(sum).

    Examples
    --------
    >>> top, bottom = np.zeros((1, 10)), np.zeros((1, 10))
    >>> top[0, [1, 5, 6]], bottom[0, [1, 2]] = [0.4, 0.3, 0.3], [0.55, 0.45]
    >>> digits, log_probability = most_probable_sum(top, bottom)  # 1 + 1: 0.22; 5 + 2 or 6 + 1: 0.3
    >>> digits.tolist(), round(math.exp(log_probability), 3)
    ([0, 7], 0.3)
    """
    without, carried = np.ones(1), np.zeros(1)  # probabilities of each kept choice, by the carry it ends with
    steps, log_scale = [], 0.0
    for pair in zip(top[::-1], bottom[::-1], strict=True):
        # rows: kept choices; columns: the digits 0 to 9 of the sum. A carry in needs one less of the column
        shifted = np.concatenate([[0.0], np.convolve(*pair), [0.0]])
        out = [
            np.outer(without, shifted[k + 1 : k + 11]) + np.outer(carried, shifted[k : k + 10])
            for k in (0, 10)
        ]
        scale = max(out[0].max(), out[1].max())  # only the ratios matter to the search: nothing underflows
        log_scale += math.log(scale)
        kept = _hull(out[0].ravel() / scale, out[1].ravel() / scale)
        without, carried = out[0].ravel()[kept] / scale, out[1].ravel()[kept] / scale
        steps.append(kept)
    first = int(carried.max() > without.max())
    chances = carried if first else without
    choice = int(chances.argmax())
    log_probability = math.log(chances[choice]) + log_scale
    digits = []
    for kept in reversed(steps):
        choice, digit = divmod(int(kept[choice]), 10)
        digits.append(digit)
    return np.array([first, *digits]), log_probability


def _hull(x: Array, y: Array) -> Array:
    """Return the numbers of the points that are furthest in some direction of the first quadrant."""
    hull: list[int] = []
    for point in np.lexsort((-y, -x)):
        if hull and y[point] <= y[hull[-1]]:
            continue
        while len(hull) > 1 and _turns_in(x, y, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(int(point))
    return np.array(hull)


def _turns_in(x: Array, y: Array, a: int, b: int, c: int) -> bool:
    """Return whether b lies on or within the line from a to c."""
    return bool((x[b] - x[a]) * (y[c] - y[a]) <= (x[c] - x[a]) * (y[b] - y[a]))
