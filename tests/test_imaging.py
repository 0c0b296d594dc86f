import io
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from scipy import ndimage

from digitsum import imaging, mnist, networks
from digitsum.imaging import may_be_two, read_number, read_picture

REAL_MNIST = os.environ.get("DIGITSUM_DATA")
needs_mnist = pytest.mark.skipif(not REAL_MNIST, reason="needs MNIST: set DIGITSUM_DATA to its folder")

# a seven, black on white, 60 x 30 pixels in a page of 120 x 100
PAGE = np.full((120, 100), 255, np.uint8)
PAGE[30:90, 60:70] = 0
PAGE[30:40, 40:70] = 0
SEVEN = read_picture(PAGE)

Chance = np.random.Generator


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> mnist.Digits:
    """The 5,000 embedded images, of MNIST's training split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        return mnist.load()


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def extent(image: np.ndarray) -> tuple[int, ...]:
    """The first and last row, then column, with ink."""
    rows, columns = np.nonzero(image)
    return rows.min(), rows.max(), columns.min(), columns.max()


# MNIST's own procedure


def test_a_digit_fills_20_pixels_and_its_mass_is_at_the_centre() -> None:
    rows, columns = np.nonzero(SEVEN)
    assert (SEVEN.shape, SEVEN.dtype, SEVEN.max()) == ((28, 28), np.uint8, 255)
    assert np.ptp(rows) + 1 == 20
    assert np.ptp(columns) + 1 == 10  # half as wide as high
    mass = SEVEN / SEVEN.sum()
    assert np.round(mass.sum(axis=1) @ np.arange(28)) == 14
    assert np.round(mass.sum(axis=0) @ np.arange(28)) == 14


def test_the_box_and_the_centre_of_mnist_are_found_again(digits: mnist.Digits) -> None:
    agreement = []
    for image in digits.images[:200, 0]:
        page = np.full((44, 40), 255, np.uint8)
        page[11:39, 5:33] = 255 - image
        there = read_picture(page)
        assert np.ptp(np.nonzero(there), axis=1).max() + 1 == 20
        agreement.append(np.corrcoef(there.ravel(), image.ravel())[0, 1])
    # a faint first row or a centre between two pixels moves some images by one pixel
    assert np.median(agreement) > 0.99
    assert np.mean(agreement) > 0.95


def test_grey_levels_are_averages_of_areas() -> None:
    page = np.full((220, 200), 255, np.uint8)
    page[20:80, 20:80] = 0  # 60 x 60 becomes 20 x 20, so 3 x 3 become one
    page[20:21, 20:23] = 255
    image = read_picture(page)
    assert image[4, 4] == 170  # 6 of 9
    assert (image[4:24, 4:24] == 255).sum() == 399


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (7, 13), (50, 9), (30, 30)])
def test_fit_keeps_the_mean_and_gives_every_pixel_its_area(shape: tuple[int, int]) -> None:
    ink = np.random.default_rng(0).random(shape, np.float32)
    scaled = imaging._fit(ink, 20)
    height, width = scaled.shape
    assert max(height, width) == 20
    # each pixel repeated so often that both grids divide it
    fine = np.repeat(np.repeat(ink, height, axis=0), width, axis=1)
    expected = fine.reshape(height, shape[0], width, shape[1]).mean(axis=(1, 3))
    np.testing.assert_allclose(scaled, expected, atol=1e-5)


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 30])
def test_highest_and_mean_around_agree_with_every_square(radius: int) -> None:
    array = np.random.default_rng(0).random((9, 14), np.float32)
    wide = np.pad(array, radius, mode="edge")
    squares = np.lib.stride_tricks.sliding_window_view(wide, (2 * radius + 1,) * 2)
    highest, lowest = (imaging._over_squares(choose, wide, radius) for choose in (np.maximum, np.minimum))
    np.testing.assert_array_equal(highest, squares.max(axis=(2, 3)))
    np.testing.assert_array_equal(lowest, squares.min(axis=(2, 3)))
    np.testing.assert_allclose(imaging._mean_around(array, radius), squares.mean(axis=(2, 3)), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("radius", [0, 1, 3, 8])
def test_the_paper_is_what_closing_gives(radius: int, dtype: type[np.generic]) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (17, 23)).astype(dtype)
    wide = np.pad(grey, radius, mode="edge")  # scipy, too, looks only so far beyond the edge
    closed = ndimage.grey_closing(wide, 2 * radius + 1, mode="nearest")
    inside = closed[radius : radius + 17, radius : radius + 23]
    np.testing.assert_array_equal(imaging._close(grey, radius), inside)


def test_pieces_connect_over_corners_and_not_over_the_edge() -> None:
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    pieces = imaging._pieces(mask)
    assert pieces.labels.tolist() == [[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 0, 3]]
    assert pieces.areas.tolist() == [2, 1, 1]
    assert pieces.boxes.tolist() == [[0, 1, 0, 1], [0, 0, 3, 3], [2, 2, 3, 3]]


def masks() -> dict[str, np.ndarray]:
    chance = np.random.default_rng(0)
    noise = {f"{share:.0%}": chance.random((60, 45)) < share for share in (0.01, 0.2, 0.4, 0.6, 0.99)}
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
def test_pieces_are_those_of_scipy(mask: np.ndarray) -> None:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    pieces = imaging._pieces(mask)
    assert len(pieces.areas) == len(pieces.boxes) == count
    pairs = {*zip(labels.ravel().tolist(), pieces.labels.ravel().tolist(), strict=True)}
    assert len(pairs) == len({ours for _, ours in pairs}) == len(np.unique(labels))  # one label for each
    for number, (rows, columns) in enumerate(ndimage.find_objects(pieces.labels)):
        box = [rows.start, rows.stop - 1, columns.start, columns.stop - 1]
        assert pieces.boxes[number].tolist() == box
        assert pieces.areas[number] == (pieces.labels == number + 1).sum()
    firsts = np.unique(pieces.labels[mask], return_index=True)[1]
    assert (np.diff(firsts) > 0).all()  # in the order of their first pixels


def test_an_image_of_mnist_comes_back_unchanged(digits: mnist.Digits) -> None:
    for image in digits.images[:, 0]:
        assert read_picture(image).tobytes() == image.tobytes()


@needs_mnist
def test_the_official_test_images_come_back_unchanged() -> None:
    images = mnist.load("mnist", "test", folder=REAL_MNIST).images[:, 0]
    assert all(read_picture(image).tobytes() == image.tobytes() for image in images)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_image_of_mnist_comes_back_unchanged_from_a_file(
    digits: mnist.Digits, kind: str, mode: str
) -> None:
    image = digits.images[0, 0]
    file = encoded(Image.fromarray(image).convert(mode), kind)
    np.testing.assert_array_equal(read_picture(file), image)
    np.testing.assert_array_equal(read_picture(image / 255), image)


def test_an_image_of_mnist_drawn_dark_on_light_is_prepared_as_any_picture(digits: mnist.Digits) -> None:
    image = digits.images[0, 0]
    prepared = read_picture(255 - image)
    assert (prepared == 0).mean() > 0.5
    assert np.corrcoef(prepared.ravel(), image.ravel())[0, 1] > 0.9


# How right the prepared pictures are read


def drawn(image: np.ndarray, chance: Chance) -> np.ndarray:
    """Draw the image 5 to 9 times as large, off-centre on a page: the share of ink, float [H, W]."""
    size = 28 * int(chance.integers(5, 10))
    large = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
    height, width = (int(size * chance.uniform(1.1, 1.8)) for _ in range(2))
    top, left = int(chance.integers(0, height - size)), int(chance.integers(0, width - size))
    page = np.zeros((height, width), np.float32)
    page[top : top + size, left : left + size] = np.asarray(large) / 255
    return page


def photo(page: np.ndarray) -> bytes:
    return encoded(Image.fromarray(np.rint(page.clip(0, 255)).astype(np.uint8)), "JPEG", quality=85)


def shade(page: np.ndarray, chance: Chance) -> np.ndarray:
    """Brightness from 1 to 0.5 across the page, in any direction."""
    angle = chance.uniform(0, 2 * np.pi)
    row, column = np.ogrid[: page.shape[0], : page.shape[1]]
    along = np.sin(angle) * row / page.shape[0] + np.cos(angle) * column / page.shape[1]
    return 1 - 0.5 * (along - along.min()) / np.ptp(along)


def black_on_white(ink: np.ndarray, chance: Chance) -> bytes:
    return photo(255 * (1 - ink))


def shadow(ink: np.ndarray, chance: Chance) -> bytes:
    return photo(240 * (1 - 0.85 * ink) * shade(ink, chance))


def noisy_pencil(ink: np.ndarray, chance: Chance) -> bytes:
    return photo((200 - 50 * ink) * shade(ink, chance) + chance.normal(0, 6, ink.shape))


def blackboard(ink: np.ndarray, chance: Chance) -> bytes:
    return photo((40 + 170 * ink) * shade(ink, chance) + chance.normal(0, 8, ink.shape))


def on_a_table(ink: np.ndarray, chance: Chance) -> bytes:
    page = np.pad(235 * (1 - 0.85 * ink), ((30, 0), (0, 40)), constant_values=50)
    return photo(page * shade(page, chance) + chance.normal(0, 5, page.shape))


def yellow_ink(ink: np.ndarray, chance: Chance) -> bytes:
    return photo(255 - ink[..., np.newaxis] * (255 - np.array([250, 220, 40])))


def dust(ink: np.ndarray, chance: Chance) -> bytes:
    ink = ink.copy()
    ink[tuple(chance.integers(0, ink.shape, (20, 2)).T)] = 1
    return photo(255 * (1 - ink))


def transparent(ink: np.ndarray, chance: Chance) -> bytes:
    picture = np.zeros((*ink.shape, 4), np.uint8)
    picture[..., 3] = 255 * ink
    return encoded(Image.fromarray(picture), "PNG")


WAYS = [black_on_white, shadow, noisy_pencil, blackboard, on_a_table, yellow_ink, dust, transparent]


@pytest.mark.parametrize("way", WAYS)
def test_digits_drawn_large_are_read_right(
    digits: mnist.Digits, way: Callable[[np.ndarray, Chance], bytes]
) -> None:
    chance, count = np.random.default_rng(0), 20
    pictures = [way(drawn(image, chance), chance) for image in digits.images[:count, 0]]
    images = torch.from_numpy(np.stack([read_picture(picture) for picture in pictures])[:, np.newaxis])
    with torch.no_grad():
        read = networks.load("exact").encode(images).argmax(dim=1)
    assert (read.numpy() == digits.labels[:count]).sum() >= count - 1


def test_dust_and_what_touches_the_edge_change_nothing() -> None:
    page = PAGE.copy()
    page[10:12, 80:82] = page[110, 20] = 0  # dust
    page[:, 97:] = page[117:] = 0  # the edge of the table
    np.testing.assert_array_equal(read_picture(page), SEVEN)


def test_a_digit_that_touches_the_edge_is_read_all_the_same() -> None:
    page = np.full((120, 100), 255, np.uint8)
    page[0:60, 30:40] = page[0:10, 10:40] = 0
    np.testing.assert_array_equal(read_picture(page), SEVEN)


def test_light_on_dark_is_as_dark_on_light() -> None:
    np.testing.assert_array_equal(read_picture(255 - PAGE), SEVEN)


def test_a_thin_line_is_thickened_and_a_thick_one_is_not() -> None:
    def stroke(width: int) -> np.ndarray:
        page = np.full((500, 500), 255, np.uint8)
        page[50:450, 250 : 250 + width] = 0
        return read_picture(page)

    # of 400 pixels, 32 are as thick as MNIST's thin strokes: 1.6 of 20
    ink = [stroke(width).sum() / 255 / 20 for width in (2, 8, 32, 80)]
    assert ink == pytest.approx([1.6, 1.6, 1.6, 4], abs=0.4)
    assert all(stroke(width).max() == 255 for width in (2, 8, 32, 80))


# Rows of digits


def page_of(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Black rectangles, the first and last row, then column, on a white page of 120 x 200 pixels."""
    page = np.full((120, 200), 255, np.uint8)
    for top, bottom, left, right in boxes:
        page[top : bottom + 1, left : right + 1] = 0
    return page


def pages_area(boxes: Sequence[tuple[int, int, int, int]]) -> int:
    return int((page_of(*boxes) == 0).sum())


STEM = (30, 89, 60, 69)  # with TOP it is the seven of PAGE
TOP = (30, 39, 40, 69)
ONE = (30, 89, 110, 119)


def test_a_row_is_read_from_left_to_right_each_digit_as_alone() -> None:
    ones = read_picture(page_of(ONE))
    for boxes, expected in (
        ((STEM, TOP, ONE), [SEVEN, ones]),
        (((30, 89, 20, 29), STEM, TOP), [ones, SEVEN]),
    ):
        images = read_number(page_of(*boxes))
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, expected)


def test_one_digit_is_a_row_of_one() -> None:
    np.testing.assert_array_equal(read_number(PAGE), SEVEN[np.newaxis])
    np.testing.assert_array_equal(read_number(SEVEN), SEVEN[np.newaxis])


def test_a_row_is_refused_where_one_digit_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "71.png"
    Image.fromarray(page_of(STEM, TOP, ONE)).save(path)
    with pytest.raises(ValueError, match=rf"^{path} can't be read: it shows 2 digits, not one; read_number,"):
        read_picture(path)


@pytest.mark.parametrize(
    ("boxes", "digits"),
    [
        ([(35, 89, 60, 69), (30, 34, 40, 45)], 1),  # a low piece is a part
        ([(30, 55, 60, 69), (62, 89, 60, 69)], 1),  # above each other
        ([(30, 55, 60, 69), (54, 89, 40, 57)], 1),  # that, and beside each other in two rows
        ([(30, 89, 60, 69), (30, 89, 72, 81)], 1),  # a narrow gap, as in a broken stroke
        ([(30, 89, 60, 69), (30, 89, 79, 88)], 2),
        ([(30, 89, 60, 69), (50, 89, 79, 88)], 2),  # of different heights
        ([(30, 89, 60, 69), (30, 89, 73, 82)], 2),  # so near are neighbours
        ([(30, 39, 40, 80), (30, 62, 40, 49), (45, 89, 70, 79)], 1),  # a broken seven
        ([(30, 55, 60, 69), (64, 89, 72, 95)], 1),  # the halves of a broken five
        ([(30, 89, 20, 29), (30, 89, 60, 69), (30, 38, 50, 55)], 2),  # a part of the nearer
        (
            [(30, 89, 60, 69), (30, 39, 60, 120), (80, 89, 60, 120), (50, 69, 100, 110)],
            1,
        ),  # one within another
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
    assert pages_area(crumbs[:1]) < imaging.SPECK * pages_area([(30, 89, 80, 129)])
    images = read_number(page_of(*crumbs, (30, 89, 80, 129)))
    np.testing.assert_array_equal(images[0], read_picture(page_of(*crumbs)))


def test_larger_dust_beside_digits_is_left_out_too() -> None:
    digits = [(30, 89, 80, 119), (30, 89, 150, 159)]
    dust = (50, 59, 30, 39)
    assert imaging.CRUMB < pages_area([dust]) / pages_area(digits[:1]) < imaging.SPECK
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


def test_embedded_digits_in_a_row_are_prepared_as_alone(digits: mnist.Digits) -> None:
    agreement = []
    for start in range(0, 50, 5):
        images = digits.images[start * 100 : (start + 5) * 100 : 100, 0]
        pages = [
            np.pad(np.kron(255 - image, np.ones((4, 4), np.uint8)), 8, constant_values=255)
            for image in images
        ]
        found = read_number(np.hstack(pages))
        assert len(found) == 5
        agreement += [
            np.corrcoef(read_picture(page).ravel(), image.ravel())[0, 1]
            for page, image in zip(pages, found, strict=True)
        ]
    # the paper and the ink's depth are the whole row's, which moves some images by one pixel
    assert np.median(agreement) > 0.99
    assert np.mean(agreement) > 0.95


def test_what_may_be_two_digits_is_seen_in_the_rows_of_runs() -> None:
    image = np.zeros((3, 28, 28), np.uint8)
    image[0, 4:24, 13:15] = 255  # one run in each of 20 rows
    image[1, 8:20, 4:24:2] = 255  # ten in each of 12
    image[2, 4:24, 4:24:9] = 255  # three in each of 20: 60 > 2 * 20 - 20.9 + 1.3 * surety if that is below 31
    assert may_be_two(image, np.array([0.999, 0.999, 0.999])).tolist() == [False, True, True]
    assert may_be_two(image[:1], np.array([0.5])).tolist() == [False]
    assert may_be_two(image[:1], np.array([1.0])).tolist() == [False]


# Paper with lines


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
@pytest.mark.parametrize("grey", [0, 100, 180])
@pytest.mark.parametrize("pitch", [45, 90])
def test_lines_are_taken_away_and_strokes_stay(pitch: int, grey: int, slope: float, squares: bool) -> None:
    (seen,) = read_number(ruled(LARGE_PAGE, pitch, grey, slope, squares))
    # a bit of a line at a stroke's edge can move the digit's centre by a pixel
    moved = [np.roll(seen, (down, right), axis=(0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    assert max(np.corrcoef(image.ravel(), LARGE_SEVEN.ravel())[0, 1] for image in moved) > 0.97


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("slope", [0, 0.05, -0.1])
@pytest.mark.parametrize("grey", [0, 100, 180])
def test_an_empty_page_with_lines_is_refused(grey: int, slope: float, squares: bool) -> None:
    page = ruled(np.full((300, 400), 255, np.uint8), 40, grey, slope, squares)
    with pytest.raises(ValueError, match=r"no (ink|digit) stands out from"):
        read_number(page)


@pytest.mark.parametrize("shape", [(230, 130), (150, 140)])
def test_a_line_that_leaves_at_the_side_or_is_high_beside_a_small_page_is_refused(
    shape: tuple[int, int],
) -> None:
    rows, columns = np.indices(shape)
    line = abs(columns + rows / 9 - 18) < 2 if shape[0] == 230 else abs(columns - 70) < 3
    with pytest.raises(ValueError, match=r"no (ink|digit) stands out from"):
        read_number(ndimage.gaussian_filter(np.where(line, 0, 1).astype(np.float32), 0.7))


def test_on_paper_with_lines_what_touches_the_edge_is_no_digit() -> None:
    page = np.full((300, 400), 255, np.uint8)
    page[110:130, 380:] = 0
    assert len(read_number(page)) == 1
    with pytest.raises(ValueError, match="no digit stands out from"):
        read_number(ruled(page, 40, 100, 0, False))


@pytest.mark.parametrize("contrast", [6, -6])
def test_a_faint_contrast_on_bright_paper_is_no_ink(contrast: int) -> None:
    page = np.full((120, 100), 225, np.uint8)
    page[30:90, 40:60] += np.uint8(contrast % 256)
    with pytest.raises(ValueError, match="no ink stands out from"):
        read_number(page)


def test_a_page_without_lines_is_left_as_it_is() -> None:
    depth = (255 - LARGE_PAGE) / np.float32(255)
    depth[150] = np.linspace(0, 1, depth.shape[1]) > 0.5  # a line that doesn't reach both edges
    assert imaging._erase_rules(depth) is depth


# Kinds of pictures


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "I", "I;16", "I;16B"]
)
def test_pillow_images_of_every_mode_are_read_alike(mode: str) -> None:
    image = Image.fromarray(PAGE)
    if mode in ("PA", "RGBa"):
        image = image.convert("LA" if mode == "PA" else "RGBA")
    picture = (
        Image.fromarray(PAGE.astype(np.uint16) * 257).convert(mode)
        if mode.startswith("I")
        else image.convert(mode)
    )
    np.testing.assert_array_equal(read_picture(picture), SEVEN)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_files_are_read_from_a_path_bytes_and_a_file(tmp_path: Path, kind: str) -> None:
    file = encoded(Image.fromarray(PAGE), kind)
    path = tmp_path / "seven"  # a format is known by its content
    path.write_bytes(file)
    for picture in (path, str(path), file, io.BytesIO(file)):
        np.testing.assert_array_equal(read_picture(picture), SEVEN)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_lossy_files_are_read_nearly_alike(kind: str, mode: str) -> None:
    image = Image.fromarray(PAGE).convert(mode if kind == "JPEG" else "RGB")
    difference = read_picture(encoded(image, kind)).astype(int) - SEVEN
    assert np.abs(difference).max() <= 8


@pytest.mark.parametrize(
    "array",
    [
        PAGE == 255,
        PAGE.astype(np.uint16) * 257,
        PAGE.astype(">u2") * 257,
        PAGE / 255,
        (PAGE / 255).astype(np.float16),
        np.repeat(PAGE[..., np.newaxis], 3, axis=2),
        np.repeat(PAGE[..., np.newaxis] / 255, 3, axis=2),
        np.dstack([PAGE, PAGE, PAGE, np.full_like(PAGE, 255)]),
        PAGE[::-1][::-1],
    ],
    ids=["bool", "uint16", "big-endian", "float64", "float16", "RGB", "float RGB", "RGBA", "view"],
)
def test_arrays_of_every_kind_are_read_alike(array: np.ndarray) -> None:
    np.testing.assert_array_equal(read_picture(array), SEVEN)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    # clipped to 255, the ink at 2,000 and the paper at 60,000 would be the same
    deep = np.where(PAGE == 0, 2_000, 60_000).astype(np.uint16)
    assert extent(read_picture(encoded(Image.fromarray(deep), "PNG"))) == extent(SEVEN)


@pytest.mark.parametrize("palette", [False, True], ids=["RGBA", "palette"])
def test_transparency_is_white_paper(palette: bool) -> None:
    picture = np.zeros((*PAGE.shape, 4), np.uint8)  # black everywhere, the paper transparent
    picture[..., 3] = 255 - PAGE
    file = encoded(Image.fromarray(picture), "PNG")
    if palette:
        file = encoded(Image.fromarray(PAGE // 255), "PNG", transparency=1)  # two dark greys, one transparent
    np.testing.assert_array_equal(read_picture(file), SEVEN)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_data_say(orientation: int) -> None:
    turns = {  # how a viewer turns what is stored, so the inverse stores what a viewer shows upright
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # shown turned by 270 degrees anticlockwise
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image, exif = Image.fromarray(PAGE), Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(turns[orientation]) if orientation > 1 else image
    np.testing.assert_array_equal(read_picture(encoded(stored, "PNG", exif=exif)), SEVEN)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_pillow_image_is_turned_and_stays_as_it_was(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(PAGE), kind, exif=exif)
    picture, same = Image.open(io.BytesIO(file)), Image.open(io.BytesIO(file))
    np.testing.assert_array_equal(read_picture(picture), read_picture(file))
    np.testing.assert_array_equal(picture, same)
    assert picture.getexif() == same.getexif()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_data_dont_matter(kind: str) -> None:
    whole, exif = encoded(Image.fromarray(PAGE), kind, quality=95), b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
    damaged = encoded(Image.fromarray(PAGE), kind, quality=95, exif=exif)
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        Image.open(io.BytesIO(damaged)).getexif()
    np.testing.assert_array_equal(read_picture(damaged), read_picture(whole))


@pytest.mark.parametrize("large", [False, True])
def test_of_a_jpeg_with_further_frames_the_first_is_read(large: bool) -> None:
    page = Image.fromarray(PAGE).resize((2000, 2400) if large else (100, 120))
    frames = [page, page.transpose(Image.Transpose.ROTATE_180)]
    file = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(file)).n_frames == 2
    np.testing.assert_array_equal(read_picture(file), read_picture(encoded(page, "JPEG")))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_read(kind: str) -> None:
    frames = [Image.fromarray(PAGE).convert("RGB"), Image.fromarray(PAGE[::-1]).convert("RGB")]
    options = {"lossless": True} if kind == "WEBP" else {}
    file = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(read_picture(file), SEVEN)


def large_jpeg(size: tuple[int, int], **options: object) -> bytes:
    """The seven, drawn on a grey page so large that its decoder makes it smaller."""
    image = Image.fromarray(PAGE).convert("L").resize(size, Image.Resampling.BICUBIC)
    return encoded(image.point(lambda level: 40 + level * 0.7).convert("RGB"), "JPEG", quality=90, **options)


@pytest.mark.parametrize("size", [(800, 960), (1000, 1200), (1667, 2001), (2001, 3333), (3000, 4032)])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"keep_rgb": True}], ids=str)
def test_a_jpeg_decoded_smaller_is_read_as_one_decoded_whole(
    size: tuple[int, int], options: dict[str, bool]
) -> None:
    file = large_jpeg(size, **options)
    whole = Image.open(io.BytesIO(file))
    expected = read_picture(np.asarray(whole))  # an array has no decoder
    assert np.abs(read_picture(file).astype(int) - expected).max() <= 4
    np.testing.assert_array_equal(read_picture(whole), expected)  # nor does what somebody else opened
    assert whole.size == size


def test_a_large_jpeg_isnt_decoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    grey = imaging._grey

    def seen(image: Image.Image) -> Image.Image:
        sizes.append(image.size)
        return grey(image)

    monkeypatch.setattr(imaging, "_grey", seen)
    for size in ((400, 500), (1000, 1200), (3000, 4000)):
        read_picture(large_jpeg(size))
    assert sizes == [(400, 500), (1000, 1200), (375, 500)]  # a third is no power of two


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_photo_is_turned_as_its_exif_data_say(orientation: int) -> None:
    turned = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = large_jpeg((1600, 2000), exif=exif)
    upright = imaging.ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
    assert (upright.width > upright.height) == (orientation > 4)
    if orientation in turned:
        straight = Image.open(io.BytesIO(large_jpeg((1600, 2000))))
        assert upright.transpose(turned[orientation]).tobytes() == straight.tobytes()
    assert np.abs(read_picture(file).astype(int) - read_picture(np.asarray(upright))).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("shape", [(1, 3000), (2001, 2), (5, 4001), (1, 60_000)])
def test_a_blank_strip_is_refused_as_any_blank_picture(shape: tuple[int, int], kind: str) -> None:
    with pytest.raises(ValueError, match=r"no ink stands out from its background"):
        read_picture(encoded(Image.fromarray(np.full(shape, 200, np.uint8)), kind))


@pytest.mark.parametrize("longer", [28, 500, 501, 1500, 1501, 2001, 3001, 4032, 65_500, 40_000_000])
def test_a_picture_is_shrunk_to_the_working_size_by_few_factors(longer: int) -> None:
    factor = imaging._factor(longer)
    allowed = sorted(times * 2**power for power in range(20) for times in (1, 3))
    assert factor == next(times for times in allowed if longer / times <= imaging.WORKING)


def test_blocks_are_averaged_and_the_last_may_have_fewer_pixels() -> None:
    page = np.random.default_rng(0).integers(0, 256, (14, 10)).astype(np.uint8)
    means = [[page[i : i + 6, j : j + 6].mean() for j in range(0, 10, 6)] for i in range(0, 14, 6)]
    np.testing.assert_allclose(imaging._shrink(Image.fromarray(page), 6), means, atol=0.51)


def test_a_large_photo_is_read_as_a_small_one() -> None:
    large = np.repeat(np.repeat(PAGE, 20, axis=0), 20, axis=1)
    assert np.abs(read_picture(large).astype(int) - SEVEN).max() <= 32


# What can't be read


@pytest.mark.parametrize(
    "picture",
    [np.zeros((28, 28), np.uint8), np.full((28, 28), 255, np.uint8), np.full((60, 40), 0.7), np.eye(1)],
    ids=["black", "white", "grey", "one pixel"],
)
def test_a_blank_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^the picture can't be read: no ink stands out from its"):
        read_picture(picture)


@pytest.mark.parametrize("deviation", [1, 5, 20, 60])
@pytest.mark.parametrize("size", [28, 200])
def test_noise_is_refused(deviation: int, size: int) -> None:
    noise = 128 + np.random.default_rng(0).normal(0, deviation, (size, size))
    with pytest.raises(ValueError, match=r"no (ink|digit) stands out from"):
        read_picture(noise.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(("side", "smallest"), [(400, 10), (60, 2), (20, 2)])
def test_a_digit_is_at_least_a_fortieth_of_the_longer_side(side: int, smallest: int) -> None:
    page = np.full((side, side), 255, np.uint8)
    page[side // 3 : side // 3 + smallest, side // 2] = 0
    assert read_picture(page).max() == 255
    page[side // 3] = 255
    with pytest.raises(ValueError, match="no digit stands out from the specks"):
        read_picture(page)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_cut_short_is_refused_wherever_it_is_cut(kind: str) -> None:
    whole = encoded(Image.fromarray(PAGE), kind)
    for size in range(0, len(whole) * 3 // 4, max(len(whole) // 40, 1)):
        with pytest.raises(ValueError, match=r"^the picture can't be read: it is (damaged|none of)"):
            read_picture(whole[:size])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_damaged_file_is_read_or_refused_and_nothing_else(kind: str) -> None:
    whole, chance = encoded(Image.fromarray(PAGE), kind), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(whole)
        for place in chance.integers(0, min(len(damaged), 300), 3):
            damaged[place] = chance.integers(256)
        try:
            assert read_picture(bytes(damaged)).shape == (28, 28)
        except ValueError as error:
            assert str(error).startswith("the picture can't be read: ")  # noqa: PT017


@pytest.mark.parametrize("kind", ["PPM", "ICO", "PDF"])
def test_a_format_that_is_not_listed_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"it is none of PNG, JPEG, .*; save it as PNG or JPEG$"):
        read_picture(encoded(Image.fromarray(PAGE), kind))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((10_000, 9_000), r"it has 10000 x 9000 pixels, more than 40000000"),  # Pillow would warn
        ((20_000, 10_000), r"it has more than 40000000 pixels"),  # Pillow refuses
    ],
)
def test_too_many_pixels_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], message: str
) -> None:
    file = encoded(Image.new("1", size), "PNG")
    monkeypatch.setattr(imaging, "_grey", None)  # which decodes
    with pytest.raises(ValueError, match=rf"^the picture can't be read: {message}; make it smaller$"):
        read_picture(file)


def test_too_many_bytes_are_refused_and_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imaging, "MAX_BYTES", 1000)
    file = io.BytesIO(encoded(Image.fromarray(PAGE), "BMP"))
    with pytest.raises(ValueError, match=r"it has more than 1000 bytes; make it smaller$"):
        read_picture(file)
    assert file.tell() == 1001


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (PAGE.astype(float), r"float64 numbers should be scaled to 0 to 1, but are 0.0 to 255.0"),
        (np.where(PAGE == 0, np.nan, 1), r"float64 numbers should be scaled to 0 to 1, but are nan to nan"),
        (PAGE / 255 - 0.1, r"should be scaled to 0 to 1, but are -0.1 to 0.9"),
        (PAGE.astype(np.int64), r"should be uint8 from 0 to 255 or float from 0 to 1, not int64"),
        (PAGE[0], r"should be \[H, W\], \[H, W, 3\] or \[H, W, 4\], not \[100\]"),
        (PAGE[..., np.newaxis], r"should be \[H, W\], .*, not \[120, 100, 1\]"),
        (PAGE[:0], r"it has 100 x 0 pixels, so it shows nothing"),
    ],
)
def test_an_array_of_another_kind_is_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^the picture can't be read: .*{message}"):
        read_picture(array)


def test_numbers_of_32_bits_out_of_range_are_refused() -> None:
    picture = Image.fromarray(PAGE.astype(np.int32) * 1000)
    with pytest.raises(
        ValueError, match=r"its int32 numbers should be scaled to 0 to 65535, but are 0 to 255000$"
    ):
        read_picture(picture)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no picture")
    with pytest.raises(ValueError, match=rf"^{path} can't be read: it is none of"):
        read_picture(path)


def test_a_missing_path_is_an_os_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        read_picture(tmp_path / "missing.png")


def test_what_is_no_picture_at_all_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"^a picture is a path, bytes, .* or an array, not a NoneType$"):
        read_picture(None)  # type: ignore[arg-type]


def test_other_threads_neednt_wait_while_a_jpeg_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    load, locked = JpegImageFile.load, []

    def seen(image: JpegImageFile) -> object:
        locked.append(imaging._quiet.locked())
        return load(image)

    file = encoded(Image.fromarray(PAGE), "JPEG")
    monkeypatch.setattr(JpegImageFile, "load", seen)
    read_picture(file)
    assert set(locked) == {False}


def test_threads_leave_the_warnings_as_they_were() -> None:
    before = list(warnings.filters)
    file = encoded(Image.fromarray(PAGE), "PNG")
    threads = [threading.Thread(target=read_picture, args=(file,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
