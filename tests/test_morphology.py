import numpy as np
import pytest
from scipy import ndimage

from digitsum.reading.morphology import close, open_columns, over_squares


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 30])
def test_highest_and_lowest_agree_with_every_square(radius: int) -> None:
    array = np.random.default_rng(0).random((9, 14), np.float32)
    wide = np.pad(array, radius, mode="edge")
    squares = np.lib.stride_tricks.sliding_window_view(wide, (2 * radius + 1,) * 2)
    highest, lowest = (over_squares(choose, wide, radius) for choose in (np.maximum, np.minimum))
    np.testing.assert_array_equal(highest, squares.max(axis=(2, 3)))
    np.testing.assert_array_equal(lowest, squares.min(axis=(2, 3)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("radius", [0, 1, 3, 8])
def test_close_gives_what_scipys_closing_does(radius: int, dtype: type[np.generic]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (17, 23)).astype(dtype)
    wide = np.pad(grey, radius, mode="edge")  # scipy, too, looks only so far beyond the edge
    closed = ndimage.grey_closing(wide, 2 * radius + 1, mode="nearest")
    inside = closed[radius : radius + 17, radius : radius + 23]
    np.testing.assert_array_equal(close(grey, radius), inside)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [1, 3, 5, 11, 23])
def test_open_columns_gives_what_scipys_opening_does(size: int, dtype: type[np.generic]) -> None:
    depth = np.random.default_rng(0).integers(0, 256, (17, 9)).astype(dtype)
    wide = np.pad(depth, ((size, size), (0, 0)))  # beyond the edge there is nothing
    opened = ndimage.grey_opening(wide, (size, 1))[size : size + 17]
    np.testing.assert_array_equal(open_columns(depth, size), opened)
