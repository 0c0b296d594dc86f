import numpy as np
import pytest

from digitsum.errors import InputError
from digitsum.reading.finding import Place, find
from digitsum.reading.imaging import read_picture

Box = tuple[int, int, int, int]  # the first and last row, then column

ONE: Box = (30, 89, 60, 69)
STUMP: Box = (30, 89, 0, 9)  # of a neighbour, at the left edge


def page_of(*boxes: Box) -> np.ndarray:
    """Black rectangles on a white page of 120 x 200 pixels."""
    page = np.full((120, 200), 255, np.uint8)
    for top, bottom, left, right in boxes:
        page[top : bottom + 1, left : right + 1] = 0
    return page


def place_of(*boxes: Box, of_one: bool = False) -> Place:
    page = page_of(*boxes)
    return find(page, page, "the page", of_one)


def sides(place: Place) -> Box:
    return place.top, place.bottom, place.left, place.right


def test_digits_apart_are_counted_and_strokes_that_share_columns_are_one() -> None:
    beside, bar = (30, 89, 110, 119), (20, 27, 55, 90)
    assert place_of(ONE, of_one=True).apart == 1
    assert place_of(ONE, beside, of_one=True).apart == 2
    assert place_of(ONE, bar, of_one=True).apart == 1


def test_beside_a_single_digit_what_is_at_the_edge_is_left_out() -> None:
    place = place_of(STUMP, ONE, of_one=True)
    assert sides(place) == (30, 90, 60, 70)
    assert not place.chosen[:, :20].any()
    np.testing.assert_array_equal(read_picture(page_of(STUMP, ONE)), read_picture(page_of(ONE)))


def test_what_touches_the_edge_above_a_single_digit_is_a_part_of_it() -> None:
    assert sides(place_of((0, 29, 60, 90), (35, 89, 60, 95), of_one=True)) == (0, 90, 60, 96)


def test_in_a_row_what_is_as_tall_as_a_digit_at_the_edge_is_one() -> None:
    assert sides(place_of(STUMP, ONE)) == (30, 90, 0, 70)


def test_a_single_digit_that_reaches_the_edge_is_kept_beside_something_low() -> None:
    assert sides(place_of((0, 99, 60, 69), (60, 89, 100, 109), of_one=True))[0] == 0


def test_a_picture_of_several_digits_is_refused_where_one_is_read() -> None:
    with pytest.raises(
        InputError, match=r"^the picture can't be read: it shows 2 digits, not one; the network"
    ):
        read_picture(page_of(ONE, (30, 89, 110, 119)))


def test_a_tall_thin_stroke_beside_a_low_blot_is_no_fault() -> None:
    assert place_of((20, 99, 40, 40), (60, 99, 100, 179), of_one=True).top == 20


def test_a_row_that_is_too_long_is_refused() -> None:
    page = np.full((12, 2_400), 255, np.uint8)
    page[4:8, 20:2380] = 0
    with pytest.raises(
        InputError, match=r"^its row is 5\d\d times as long as high, more than 150; show a part"
    ):
        find(page, page, "the page")


def test_digits_in_two_lines_are_refused_of_a_row_and_of_one() -> None:
    for of_one in (False, True):
        with pytest.raises(InputError, match="its digits don't stand in one row; show one row at a time"):
            place_of((10, 49, 60, 69), (70, 109, 60, 69), of_one=of_one)


@pytest.mark.parametrize("of_one", [False, True])
def test_a_thin_stroke_beside_a_low_blob_is_found(of_one: bool) -> None:
    stroke, blob = (20, 99, 60, 61), (60, 99, 100, 139)
    place = place_of(stroke, blob, of_one=of_one)
    assert (sides(place), place.apart) == ((20, 100, 60, 140), 1)
