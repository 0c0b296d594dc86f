import numpy as np
import pytest
from drawing import PAGE
from scipy import ndimage

from digitsum.reading.imaging import read_picture
from digitsum.reading.ruling import erase_rules


def ruled(page: np.ndarray, pitch: int, grey: int, slope: float, squares: bool) -> np.ndarray:
    """Draw lines, two pixels high, over a page."""
    rows, columns = np.indices(page.shape)
    lines = (rows - slope * columns) % pitch < 2
    if squares:
        lines |= (columns + slope * rows) % pitch < 2
    return np.where(lines, np.minimum(page, grey), page).astype(np.uint8)


LARGE_PAGE = np.kron(np.pad(PAGE, 10, constant_values=255), np.ones((3, 3), np.uint8))
LARGE_SEVEN = read_picture(LARGE_PAGE)


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("slope", [0, 0.05, -0.1])
@pytest.mark.parametrize("grey", [0, 180])
@pytest.mark.parametrize("pitch", [45, 90])
def test_lines_are_taken_away_and_strokes_stay(pitch: int, grey: int, slope: float, squares: bool) -> None:
    seen = read_picture(ruled(LARGE_PAGE, pitch, grey, slope, squares))
    # a bit of a line at a stroke's edge can move the digit's centre by a pixel
    moved = [np.roll(seen, (down, right), axis=(0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    assert max(np.corrcoef(image.ravel(), LARGE_SEVEN.ravel())[0, 1] for image in moved) > 0.97


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("slope", [0, -0.1])
@pytest.mark.parametrize("grey", [0, 180])
def test_an_empty_page_with_lines_is_refused(grey: int, slope: float, squares: bool) -> None:
    page = ruled(np.full((300, 400), 255, np.uint8), 40, grey, slope, squares)
    with pytest.raises(ValueError, match=r"no (ink|digit) stands out from"):
        read_picture(page)


def test_a_line_that_leaves_at_the_side_or_is_high_beside_a_small_page_is_refused() -> None:
    leaves, high = np.indices((230, 130)), np.indices((150, 140))
    for line in (abs(leaves[1] + leaves[0] / 9 - 18) < 2, abs(high[1] - 70) < 3):
        with pytest.raises(ValueError, match=r"no (ink|digit) stands out from"):
            read_picture(ndimage.gaussian_filter(np.where(line, 0, 1).astype(np.float32), 0.7))


def test_a_page_without_lines_is_left_as_it_is() -> None:
    depth = (255 - LARGE_PAGE) / np.float32(255)
    depth[150] = np.linspace(0, 1, depth.shape[1]) > 0.5  # a line that doesn't reach both edges
    assert erase_rules(depth) is depth
