"""Grey-level morphology: the highest and lowest values around each pixel, and what they take away or fill.

    over_squares(np.maximum, np.pad(mask, 2), 1)  # what is set grows by a pixel on each side
    close(grey, 3)                                # what is dark and narrower than 7 pixels is filled

Of a square the columns are gone through first and the rows after them, each in steps that double, so that a
large one takes little longer than a small one.
"""

import numpy as np

from digitsum.types import Array


def close(grey: Array, radius: int) -> Array:
    """Fill what is dark and narrower than a square of 2 * radius + 1 pixels with the grey around it.

    Parameters
    ----------
    grey
        [H, W], of any type of number; beyond the edge it goes on as at the edge.

    Returns
    -------
    array, [H, W], of the same type

    Examples
    --------
    >>> close(np.array([[9, 9, 2, 8, 8, 1, 1, 1, 9]]), 1)
    array([[9, 9, 8, 8, 8, 1, 1, 1, 9]])
    """
    highest = over_squares(np.maximum, np.pad(grey, 2 * radius, mode="edge"), radius)
    return over_squares(np.minimum, highest, radius)


def close_within(grey: Array, radius: int) -> Array:
    """Fill what is dark and narrow as `close` does, at the edge too: squares end there.

    Examples
    --------
    >>> close_within(np.array([[9, 9, 2, 8, 8, 1, 1, 1, 9, 1]]), 1)
    array([[9, 9, 8, 8, 8, 1, 1, 1, 9, 9]])
    """
    pads = (radius, radius)
    highest = over_squares(np.maximum, np.pad(grey, pads, constant_values=grey.min()), radius)
    return over_squares(np.minimum, np.pad(highest, pads, constant_values=highest.max()), radius)


def open_columns(depth: Array, size: int) -> Array:
    """Take away what is lower than `size` rows; beyond the edge there is nothing, 0.

    Parameters
    ----------
    depth
        [H, W], of any type of number, at least 0.

    Returns
    -------
    array, [H, W], of the same type

    Examples
    --------
    >>> open_columns(np.array([[0, 5, 0, 3, 4, 0]]).T, 2).T
    array([[0, 0, 0, 3, 3, 0]])
    """
    lowest = over_columns(np.minimum, np.pad(depth, ((size - 1, size - 1), (0, 0))), size)
    return over_columns(np.maximum, lowest, size)


def over_squares(choose: np.ufunc, array: Array, radius: int) -> Array:
    """Return the highest (np.maximum) or lowest (np.minimum) value of each square that lies in the array.

    Parameters
    ----------
    array
        [H, W], of any type.
    radius
        A square has 2 * radius + 1 pixels a side.

    Returns
    -------
    array, [H - 2 * radius, W - 2 * radius], of the same type

    Examples
    --------
    >>> over_squares(np.maximum, np.array([[0, 1, 2, 3], [5, 0, 0, 0], [0, 0, 0, 0]]), 1)
    array([[5, 3]])
    """
    for _ in range(2):  # along the columns, then, transposed, along the rows
        array = over_columns(choose, array, 2 * radius + 1).T
    return array


def over_columns(choose: np.ufunc, array: Array, size: int) -> Array:
    """Return the highest or lowest value of each `size` pixels above each other that lie in the array.

    Parameters
    ----------
    choose
        np.maximum or np.minimum.
    array
        [H, W], of any type.

    Returns
    -------
    array, [H - size + 1, W], of the same type

    Examples
    --------
    >>> over_columns(np.minimum, np.array([[3, 1, 2, 4]]).T, 2).T
    array([[1, 1, 2]])
    """
    reach = 1
    while reach < size:  # each pixel knows that of `reach` pixels from itself on
        step = min(reach, size - reach)
        array = choose(array[:-step], array[step:])
        reach += step
    return array
