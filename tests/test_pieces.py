from pathlib import Path

import drawing
import numpy as np
import pytest
from drawing import PAGE, SEVEN
from PIL import Image
from scipy import ndimage

from digitsum import mnist
from digitsum.reading import pieces
from digitsum.reading.imaging import read_number, read_picture

# Pieces


def test_pieces_connect_over_corners_and_not_over_the_edge() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    found = pieces.connected(mask)
    assert found.labels.tolist() == [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 3]]
    assert found.areas.tolist() == [2, 1, 1]
    assert found.boxes.tolist() == [[0, 1, 0, 1], [0, 0, 3, 3], [2, 2, 3, 3]]


def masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    noise = {f"{share:.0%}": rng.random((60, 45)) < share for share in (0.01, 0.2, 0.4, 0.6, 0.99)}
    row, column = np.indices((41, 41))
    rings = np.maximum(abs(row - 20), abs(column - 20)) % 2 == 0
    comb = (column % 2 == 0) | (row == 40)  # whose teeth are joined last
    snake = (row % 2 == 0) | ((column == 0) & (row % 4 == 1)) | ((column == 40) & (row % 4 == 3))
    spiral = rings & ((row != column + 1) | (row > 20)) | (row == column + 2) & (row < 20)
    full = {
        "a row": np.ones((1, 9), bool),
        "a column": np.ones((9, 1), bool),
        "one": np.ones((1, 1), bool),
        "none": np.zeros((5, 4), bool),
    }
    shapes = {"rings": rings, "comb": comb, "upside down": comb[::-1], "snake": snake, "spiral": spiral}
    return {**noise, **shapes, **full}


@pytest.mark.parametrize("mask", masks().values(), ids=masks())
def test_pieces_are_those_of_scipy_in_the_order_of_their_first_pixels(mask: np.ndarray) -> None:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found = pieces.connected(mask)
    order = np.unique(labels[mask], return_index=True)[1].argsort()  # scipy's numbers may go another way
    ours = np.zeros(count + 1, int)
    ours[order + 1] = np.arange(1, count + 1)
    np.testing.assert_array_equal(found.labels, ours[labels])
    assert found.areas.tolist() == np.bincount(found.labels[mask], minlength=count + 1)[1:].tolist()
    assert found.boxes.tolist() == [
        [rows.start, rows.stop - 1, columns.start, columns.stop - 1]
        for rows, columns in ndimage.find_objects(found.labels)
    ]


# Rows of digits


def page_of(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Black rectangles, the first and last row, then column, on a white page of 120 x 200 pixels."""
    page = np.full((120, 200), 255, np.uint8)
    for top, bottom, left, right in boxes:
        page[top : bottom + 1, left : right + 1] = 0
    return page


def area(*boxes: tuple[int, int, int, int]) -> int:
    return int((page_of(*boxes) == 0).sum())


STEM = (30, 89, 60, 69)  # with TOP it is the seven of PAGE
TOP = (30, 39, 40, 69)
ONE = (30, 89, 110, 119)


def test_a_row_is_read_from_left_to_right_each_digit_as_alone() -> None:
    one = read_picture(page_of(ONE))
    for page, expected in (
        (page_of(STEM, TOP, ONE), [SEVEN, one]),
        (page_of((30, 89, 20, 29), STEM, TOP), [one, SEVEN]),
        (PAGE, [SEVEN]),
        (SEVEN, [SEVEN]),
    ):
        images = read_number(page)
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, expected)


def test_a_row_is_refused_where_one_digit_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "71.png"
    Image.fromarray(page_of(STEM, TOP, ONE)).save(path)
    with pytest.raises(ValueError, match=rf"^{path} can't be read: it shows 2 digits, not one; read_number "):
        read_picture(path)


@pytest.mark.parametrize(
    ("boxes", "digits"),
    [
        ([(35, 89, 60, 69), (30, 34, 40, 45)], 1),  # a low piece is a part
        ([(30, 55, 60, 69), (62, 89, 60, 69)], 1),  # above each other
        ([(30, 55, 60, 69), (54, 89, 40, 57)], 1),  # that, and beside each other in two rows
        ([(30, 89, 60, 69), (30, 89, 74, 83)], 1),  # a narrow gap, as in a broken stroke
        ([(30, 89, 60, 69), (30, 89, 79, 88)], 2),
        ([(30, 89, 60, 69), (50, 89, 79, 88)], 2),  # of different heights
        ([(30, 89, 60, 69), (30, 89, 75, 84)], 2),  # so near are neighbours
        ([(30, 39, 40, 80), (30, 62, 40, 49), (45, 89, 70, 79)], 1),  # a broken seven
        ([(30, 55, 60, 69), (64, 89, 72, 95)], 1),  # the halves of a broken five
        ([(30, 89, 20, 29), (30, 89, 60, 69), (30, 38, 50, 55)], 2),  # a part of the nearer
        ([(30, 89, 60, 69), (30, 39, 60, 120), (80, 89, 60, 120), (50, 69, 100, 110)], 1),  # within another
    ],
)
def test_pieces_above_each_other_are_one_digit_and_beside_each_other_two(
    boxes: list[tuple[int, int, int, int]], digits: int
) -> None:
    assert len(read_number(page_of(*boxes))) == digits


def test_a_low_piece_belongs_to_the_digit_that_is_nearest() -> None:
    without, with_part = (30, 89, 20, 29), [(30, 89, 80, 89), (30, 38, 69, 75)]
    images = read_number(page_of(without, *with_part))
    np.testing.assert_array_equal(images, [read_picture(page_of(without)), read_picture(page_of(*with_part))])


def test_pieces_that_are_all_low_are_a_digit_where_they_lie_above_each_other() -> None:
    broken = [(30, 39, 30, 55), (45, 63, 50, 59), (69, 89, 28, 55)]  # a thin three's, say
    images = read_number(page_of(*broken, (30, 89, 80, 129)))
    np.testing.assert_array_equal(images[0], read_picture(page_of(*broken)))


def test_crumbs_of_a_stroke_beside_a_fat_digit_are_a_digit() -> None:
    crumbs = [(top, top + 9, 30, 37) for top in range(30, 82, 13)]
    assert area(crumbs[0]) < pieces.SPECK * area((30, 89, 80, 129))
    images = read_number(page_of(*crumbs, (30, 89, 80, 129)))
    np.testing.assert_array_equal(images[0], read_picture(page_of(*crumbs)))


def test_larger_dust_beside_digits_is_left_out_too() -> None:
    digits = [(30, 89, 80, 119), (30, 89, 150, 159)]
    dust = (50, 59, 30, 39)
    assert pieces.CRUMB < area(dust) / area(digits[0]) < pieces.SPECK
    np.testing.assert_array_equal(read_number(page_of(dust, *digits)), read_number(page_of(*digits)))


def test_digits_in_two_lines_are_refused() -> None:
    lines = page_of((10, 49, 60, 69), (10, 49, 90, 99), (70, 109, 60, 69), (70, 109, 90, 99))
    with pytest.raises(ValueError, match=r"its digits don't stand in one row; show one row at a time$"):
        read_number(lines)


def test_slanted_digits_whose_columns_overlap_are_two() -> None:
    page = np.full((120, 200), 255, np.uint8)
    for row in range(80):
        page[20 + row, 120 - row : 130 - row] = page[20 + row, 145 - row : 155 - row] = 0
    assert len(read_number(page)) == 2


def test_embedded_digits_in_a_row_are_prepared_as_alone() -> None:
    images, agreement = mnist.load().images[::100, 0], []
    for row in np.split(images, 10):
        found = read_number(drawing.page_of(*row))
        assert len(found) == 5
        for image, there in zip(row, found, strict=True):
            alone = read_picture(drawing.page_of(image))
            agreement.append(np.corrcoef(alone.ravel(), there.ravel())[0, 1])
    # the paper and the ink's depth are the whole row's, which moves some images by one pixel
    assert np.median(agreement) > 0.99
    assert np.mean(agreement) > 0.95
