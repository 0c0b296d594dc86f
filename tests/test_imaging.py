from collections.abc import Callable

import numpy as np
import pytest
import torch
from drawing import PAGE, SEVEN, drawn, encoded, levels, png
from PIL import Image
from scipy import ndimage

from digitsum import mnist, networks
from digitsum.data.digits import Digits
from digitsum.reading import imaging
from digitsum.reading.imaging import read_picture


@pytest.fixture(scope="module")
def digits() -> Digits:
    """The 5,000 embedded images, of MNIST's training split."""
    return mnist.load()


# MNIST's own procedure


def test_a_digit_fills_20_pixels_and_its_mass_is_at_the_centre() -> None:
    rows, columns = np.nonzero(SEVEN)
    assert (SEVEN.shape, SEVEN.dtype, SEVEN.max()) == ((28, 28), np.uint8, 255)
    assert np.ptp(rows) + 1 == 20
    assert np.ptp(columns) + 1 == 10  # half as wide as high
    mass = SEVEN / SEVEN.sum()
    assert np.round(mass.sum(axis=1) @ np.arange(28)) == 14
    assert np.round(mass.sum(axis=0) @ np.arange(28)) == 14


def test_the_box_and_the_centre_of_mnist_are_found_again(digits: Digits) -> None:
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


def test_an_image_of_mnist_comes_back_unchanged(digits: Digits) -> None:
    for image in digits.images[:, 0]:
        assert read_picture(image).tobytes() == image.tobytes()


@pytest.mark.usefixtures("real_mnist")
def test_the_official_test_images_come_back_unchanged() -> None:
    images = mnist.load("mnist", "test").images[:, 0]
    assert all(read_picture(image).tobytes() == image.tobytes() for image in images)


def test_an_image_of_mnist_comes_back_unchanged_from_a_file_and_from_floats(digits: Digits) -> None:
    image = digits.images[0, 0]
    files = [
        encoded(Image.fromarray(image).convert(mode), kind)
        for kind in ("PNG", "BMP", "TIFF")
        for mode in ("L", "RGB")
    ]
    for picture in (*files, image / 255):
        np.testing.assert_array_equal(read_picture(picture), image)


def test_prepared_are_images_with_bright_ink_and_mostly_black() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images.reshape(3, -1)[[0, 1, 2], :391] = [[128], [128], [127]]
    images[1, 13, 27] = 128  # half of 784 pixels are none any more
    assert imaging.are_prepared(images).tolist() == [True, False, False]
    assert imaging.are_prepared(images.astype(np.float32)).tolist() == [True, False, False]
    assert imaging.are_prepared(images[:0]).tolist() == []


def test_an_image_of_mnist_drawn_dark_on_light_is_prepared_as_any_picture(digits: Digits) -> None:
    image = digits.images[0, 0]
    prepared = read_picture(255 - image)
    assert (prepared == 0).mean() > 0.5
    assert np.corrcoef(prepared.ravel(), image.ravel())[0, 1] > 0.9


# How right the prepared pictures are read


def photo(page: np.ndarray) -> bytes:
    return encoded(Image.fromarray(levels(page)), "JPEG", quality=85)


def shade(page: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness from 1 to 0.5 across the page, in any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    row, column = np.ogrid[: page.shape[0], : page.shape[1]]
    along = np.sin(angle) * row / page.shape[0] + np.cos(angle) * column / page.shape[1]
    return 1 - 0.5 * (along - along.min()) / np.ptp(along)


def black_on_white(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    return photo(255 * (1 - ink))


def shadow(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    return photo(240 * (1 - 0.85 * ink) * shade(ink, rng))


def noisy_pencil(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    return photo((200 - 50 * ink) * shade(ink, rng) + rng.normal(0, 6, ink.shape))


def blackboard(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    return photo((40 + 170 * ink) * shade(ink, rng) + rng.normal(0, 8, ink.shape))


def on_a_table(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    page = np.pad(235 * (1 - 0.85 * ink), ((30, 0), (0, 40)), constant_values=50)
    return photo(page * shade(page, rng) + rng.normal(0, 5, page.shape))


def yellow_ink(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    return photo(255 - ink[..., np.newaxis] * (255 - np.array([250, 220, 40])))


def dust(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    ink = ink.copy()
    ink[tuple(rng.integers(0, ink.shape, (20, 2)).T)] = 1
    return photo(255 * (1 - ink))


def transparent(ink: np.ndarray, rng: np.random.Generator) -> bytes:
    picture = np.zeros((*ink.shape, 4), np.uint8)
    picture[..., 3] = 255 * ink
    return png(picture)


WAYS = [black_on_white, shadow, noisy_pencil, blackboard, on_a_table, yellow_ink, dust, transparent]


@pytest.mark.parametrize("way", WAYS)
def test_digits_drawn_large_are_read_right(
    digits: Digits, way: Callable[[np.ndarray, np.random.Generator], bytes]
) -> None:
    rng, count = np.random.default_rng(0), 20
    pictures = [way(drawn(image, rng, (5, 10)), rng) for image in digits.images[:count, 0]]
    images = torch.from_numpy(np.stack([read_picture(picture) for picture in pictures])[:, np.newaxis])
    with torch.no_grad():
        read = networks.load("exact").encode(images).argmax(dim=1)
    assert (read.numpy() == digits.labels[:count]).sum() >= count - 2


def test_a_stroke_of_nearly_half_the_ink_is_part_of_the_digit() -> None:
    page = np.zeros((120, 160))
    page[20:100, 60:70], page[90:100, 70:110] = 1, 0.47  # the foot of a thick L
    image = read_picture(levels(255 * (1 - page)))
    assert np.ptp(np.nonzero(image.max(axis=0))) + 1 == 13  # 50 pixels of 80, in 20


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


@pytest.mark.parametrize("scale", [1, 10])
@pytest.mark.parametrize("is_dark", [False, True])
def test_the_holes_of_a_thick_digit_that_fills_the_picture_are_no_ink(scale: int, is_dark: bool) -> None:
    rows, columns = np.indices((28, 28))
    upper, lower = (np.hypot(rows - middle, columns - 13.5) for middle in (8.5, 18.5))
    eight = (np.minimum(upper, lower) < 8) & (upper >= 3) & (lower >= 3)
    page = np.kron(eight, np.ones((scale, scale)))
    image = read_picture(np.where(page == is_dark, 20, 230).astype(np.uint8))
    assert [np.ptp(axis) + 1 for axis in np.nonzero(image)] == [20, 12]  # 26 x 16
    paper, _ = ndimage.label(image < 128)
    assert np.bincount(paper.ravel())[1:].tolist() == [580, 16, 16]  # around it, and holes of 4 x 4


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_dark_line_around_a_clean_page_is_neither_paper_nor_ink(width: int) -> None:
    np.testing.assert_array_equal(read_picture(np.pad(PAGE, width)), SEVEN)


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize("width", [20, 40, 80])
def test_what_a_clean_sheet_lies_on_is_no_paper(width: int, is_dark: bool) -> None:
    sheet = np.kron(np.where(SEVEN > 127, 255, 0).astype(np.uint8), np.ones((10, 10), np.uint8))
    page = np.pad(sheet, width, constant_values=255)  # as a figure with an image of MNIST is saved
    seen = read_picture(255 - page if is_dark else page)
    assert np.corrcoef(seen.ravel(), SEVEN.ravel())[0, 1] > 0.95


def test_a_thin_line_is_thickened_and_a_thick_one_is_not() -> None:
    def stroke(width: int) -> np.ndarray:
        page = np.full((500, 500), 255, np.uint8)
        page[50:450, 250 : 250 + width] = 0
        return read_picture(page)

    # of 400 pixels, 32 are as thick as MNIST's thin strokes: 1.6 of 20
    ink = [stroke(width).sum() / 255 / 20 for width in (2, 8, 32, 80)]
    assert ink == pytest.approx([1.6, 1.6, 1.6, 4], abs=0.4)
    assert all(stroke(width).max() == 255 for width in (2, 8, 32, 80))


def test_a_large_photo_is_read_as_a_small_one() -> None:
    large = np.kron(PAGE, np.ones((20, 20), np.uint8))
    assert np.abs(read_picture(large).astype(int) - SEVEN).max() <= 32


# What can't be read


@pytest.mark.parametrize(
    "picture", [np.full((28, 28), 0.0), np.ones((28, 28)), np.full((60, 40), 0.7), np.eye(1)]
)
def test_a_blank_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^the picture can't be read: no ink stands out from its"):
        read_picture(picture)


@pytest.mark.parametrize("contrast", [6, -6])
def test_a_faint_contrast_on_bright_paper_is_no_ink(contrast: int) -> None:
    page = np.full((120, 100), 225, np.uint8)
    page[30:90, 40:60] += np.uint8(contrast % 256)
    with pytest.raises(ValueError, match="no ink stands out from"):
        read_picture(page)


@pytest.mark.parametrize("deviation", [1, 5, 20, 60])
@pytest.mark.parametrize("size", [60, 200])
def test_noise_is_refused(deviation: int, size: int) -> None:
    noise = 128 + np.random.default_rng(0).normal(0, deviation, (size, size))
    with pytest.raises(ValueError, match=r"no (ink|digit) stands out from|in one row|not one"):
        read_picture(noise.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(("side", "smallest"), [(400, 4), (60, 2), (20, 2)])
def test_a_digit_is_at_least_a_part_in_125_of_the_longer_side(side: int, smallest: int) -> None:
    page = np.full((side, side), 255, np.uint8)
    page[side // 3 : side // 3 + smallest, side // 2] = 0
    assert read_picture(page).max() == 255
    page[side // 3] = 255
    with pytest.raises(ValueError, match="no digit stands out from the specks"):
        read_picture(page)
