"""Rows as strips: where the row lies, how level and how high it is, and what is left out."""

import numpy as np
import pytest
from PIL import Image

from digitsum.errors import InputError
from digitsum.reading.strips import MARGIN, NARROWER, narrow, pad, read_row

DIGITS = np.zeros((60, 300), bool)  # six upright strokes, 60 pixels high
for left in range(10, 300, 50):
    DIGITS[:, left : left + 8] = True


def page(ink: np.ndarray = DIGITS, height: int = 300, width: int = 400, top: int = 120) -> np.ndarray:
    """Put ink, black on white, on a page."""
    pixels = np.full((height, width), 255, np.uint8)
    pixels[top : top + len(ink), 50 : 50 + ink.shape[1]][ink] = 0
    return pixels


def strokes(strip: np.ndarray) -> int:
    """Count the strokes that the middle of a strip crosses."""
    middle = strip[16] > 127
    return int(np.count_nonzero(middle[1:] & ~middle[:-1]) + middle[0])


def test_a_row_fills_a_strip_but_for_a_margin() -> None:
    strip, may_have_lost = read_row(page())
    assert (strip.dtype, len(strip), may_have_lost) == (np.uint8, 32, False)
    inked = np.flatnonzero((strip > 127).any(axis=1))
    assert (inked[0], inked[-1]) == (2, 29)
    assert strokes(strip) == 6
    # 258 of 60 pixels, with as much margin as above
    assert abs(strip.shape[1] - (258 + 8) / (60 + 8) * 32) <= 1


@pytest.mark.parametrize("angle", [-30, -20, -10, 10, 20, 30])
def test_a_row_that_falls_or_rises_is_levelled(angle: int) -> None:
    upright = page(height=500, width=500, top=220)
    turned = Image.fromarray(upright).rotate(angle, Image.Resampling.BILINEAR, fillcolor=255)
    strip, _ = read_row(turned)
    assert strokes(strip) == 6
    assert abs(strip.shape[1] - read_row(upright).strip.shape[1]) <= 16


def test_a_small_number_in_a_large_photo_is_cut_out_of_the_full_one() -> None:
    photo = np.full((3000, 4000), 225, np.uint8)
    photo[1500:1560, 2000:2300][DIGITS] = 40
    strip, _ = read_row(photo)
    assert strokes(strip) == 6
    close = read_row(photo[1300:1760, 1800:2500]).strip
    assert abs(strip.shape[1] - close.shape[1]) <= 2


def test_light_ink_on_a_dark_board_is_read_as_dark_ink_is() -> None:
    np.testing.assert_array_equal(read_row(255 - page()).strip, read_row(page()).strip)


def test_strokes_of_a_thin_pen_are_thickened() -> None:
    thin = np.zeros((120, 100), bool)
    thin[:, 50] = True
    strip, _ = read_row(page(thin))
    assert strip.max() == 255
    assert np.count_nonzero(strip[16] > 127) >= 2


def test_a_line_under_the_row_does_not_make_the_strip_higher() -> None:
    ruled = page()
    ruled[200:203] = 0
    strip, _ = read_row(ruled)
    inked = np.flatnonzero((strip > 127).any(axis=1))
    assert (inked[0], inked[-1]) == (2, 29)


@pytest.mark.parametrize("fall", [0, 40])
def test_digits_that_stand_on_a_line_are_kept_beside_a_speck(fall: int) -> None:
    ruled = page(width=600)
    for column in range(600):
        row = 178 - 20 * fall // 40 + column * fall // 600
        ruled[row : row + 3, column] = 0
    ruled[250:256, 60:66] = 0
    assert strokes(read_row(ruled).strip) == 6


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_shadow_across_the_picture_is_no_part_of_the_row(share: float) -> None:
    rows, columns = np.mgrid[:400, :600]
    shade = 1 / (1 + np.exp((columns - share * 600 + rows / 2) / 12))
    grey = np.maximum(page(height=400, width=600, top=160), 70)
    shadowed = (grey * (0.9 - 0.4 * shade)).astype(np.uint8)
    strip, may_have_lost = read_row(shadowed)
    assert (strokes(strip), may_have_lost) == (6, False)
    assert abs(strip.shape[1] - read_row(page()).strip.shape[1]) <= 2


def test_the_corner_of_a_table_beside_the_paper_is_no_part_of_the_row() -> None:
    photo = np.full((460, 680), 70, np.uint8)
    photo[60:, 80:] = page(height=400, width=600, top=160) * 0.9
    assert strokes(read_row(photo).strip) == 6


def test_a_dark_border_does_not_turn_faint_ink_into_paper() -> None:
    cell = np.full((40, 40), 160, np.uint8)
    cell[6:26, 18:21] = 120  # a one
    cell[:, :2] = 90
    cell[-4:] = 65
    strip, _ = read_row(cell)
    assert strokes(strip) == 1
    assert strip.shape[1] < 20


def test_a_single_stroke_that_leans_stays_as_it_is() -> None:
    leaning = np.full((300, 300), 255, np.uint8)
    for row in range(50, 250):
        leaning[row, 240 - row // 2 : 248 - row // 2] = 0
    strip, _ = read_row(leaning)
    assert abs(strip.shape[1] - (107 + 26) / (200 + 26) * 32) <= 2  # with the margin


def test_three_digits_that_rise_steeply_are_levelled() -> None:
    upright = page(DIGITS[:, :130], height=400, width=400, top=170)
    turned = Image.fromarray(upright).rotate(30, Image.Resampling.BILINEAR, fillcolor=255)
    strip, _ = read_row(turned)
    assert strokes(strip) == 3
    assert abs(strip.shape[1] - read_row(upright).strip.shape[1]) <= 16


def test_a_faint_shadow_in_the_corner_is_no_lost_digit() -> None:
    rows, columns = np.mgrid[:300, :400]
    shade = np.clip((70 - rows - columns) / 100, 0, 1)
    assert not read_row((page() * (0.9 - 0.5 * shade)).astype(np.uint8)).may_have_lost


def test_a_border_around_the_picture_is_no_part_of_the_row() -> None:
    bordered = page()
    bordered[:4] = bordered[-4:] = 0
    bordered[:, :4] = bordered[:, -4:] = 0
    np.testing.assert_array_equal(read_row(bordered).strip, read_row(page()).strip)


def test_digits_at_the_edge_of_the_picture_are_kept() -> None:
    cut = page()[120:180, 60:318]  # to the ink
    assert strokes(read_row(cut).strip) == 6


@pytest.mark.parametrize(("height", "count", "is_lost"), [(60, 7, False), (36, 6, True), (20, 6, False)])
def test_a_stroke_at_the_edge_is_kept_if_it_is_as_tall_as_a_digit_and_else_told(
    height: int, count: int, is_lost: bool
) -> None:
    beside = page()
    beside[120 : 120 + height, -8:] = 0
    strip, may_have_lost = read_row(beside)
    assert (strokes(strip), may_have_lost) == (count, is_lost)


def test_several_rows_are_refused() -> None:
    both = page(height=400)
    both[250:310, 50:350][DIGITS] = 0
    with pytest.raises(InputError, match=r"its digits don't stand in one row; show one row at a time$"):
        read_row(both)


def test_a_picture_without_ink_is_refused() -> None:
    with pytest.raises(InputError, match="no ink stands out from its background"):
        read_row(np.full((100, 200), 200, np.uint8))


def test_a_long_row_keeps_the_pixels_that_its_digits_need() -> None:
    long = np.full((100, 6000), 255, np.uint8)
    for left in range(100, 5900, 100):
        long[20:80, left : left + 8] = 0
    assert strokes(read_row(long).strip) == 58


def test_an_image_as_mnist_s_is_taken_as_it_is() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[4:24, 12:16] = 255
    strip, _ = read_row(image)
    assert strip.max() == 255
    assert strokes(strip) == 1


def test_strips_are_padded_to_a_common_width_that_four_divides() -> None:
    batch = pad([np.full((32, 5), 7, np.uint8), np.full((32, 10), 9, np.uint8)])
    assert batch.shape == (2, 1, 32, 20)
    assert np.flatnonzero(batch[0, 0, 0]).tolist() == list(range(MARGIN, MARGIN + 5))
    assert np.flatnonzero(batch[1, 0, 31]).tolist() == list(range(MARGIN, MARGIN + 10))


def test_beside_a_single_digit_what_is_at_the_edge_is_left_out() -> None:
    page = np.full((120, 200), 255, np.uint8)
    page[30:90, 60:70] = 0
    alone = read_row(page, of_one=True).strip
    page[30:90, :10] = 0  # a neighbour
    np.testing.assert_array_equal(read_row(page, of_one=True).strip, alone)
    assert read_row(page).strip.shape[1] > 2 * alone.shape[1]


def test_a_strip_is_made_narrower_for_a_second_look() -> None:
    strip = np.zeros((32, 200), np.uint8)
    strip[8:24, 40:80] = 255
    narrower = narrow(strip)
    assert (narrower.dtype, narrower.shape) == (np.uint8, (32, round(200 * NARROWER)))
    assert np.flatnonzero((narrower > 127).any(axis=1)).tolist() == list(range(8, 24))
    inked = np.flatnonzero((narrower > 127).any(axis=0))
    assert (inked[0], inked[-1] + 1) == pytest.approx((40 * NARROWER, 80 * NARROWER), abs=1)
    assert narrow(strip[:, :8]).shape == (32, 8)  # the narrowest
