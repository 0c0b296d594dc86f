import numpy as np
import pytest

from digitsum.reading import paper


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 30])
def test_the_mean_around_agrees_with_every_square(radius: int) -> None:
    array = np.random.default_rng(0).random((9, 14), np.float32)
    wide = np.pad(array, radius, mode="edge")
    squares = np.lib.stride_tricks.sliding_window_view(wide, (2 * radius + 1,) * 2)
    np.testing.assert_allclose(paper._mean_around(array, radius), squares.mean(axis=(2, 3)), rtol=1e-5)


@pytest.mark.parametrize("levels", [2, 30, 2**24])
@pytest.mark.parametrize("most", [0, 0.3, None])
def test_the_median_is_the_middle_of_the_sorted_numbers(most: float | None, levels: int) -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (2, 1), (13, 7), (50, 40)):
        depth = (rng.integers(0, levels, shape) / np.float32(levels)).astype(np.float32)
        if most is not None:
            depth[rng.random(shape) < 0.9] = most
        middle = paper._median(depth)
        assert (middle, middle.dtype) == (np.sort(depth, axis=None)[depth.size // 2], np.float32)
        assert paper._median(depth.T) == middle
