"""prepare.js beside imaging.py and strips.py: the same images and strips, to the byte, the same sentences.

The node that playwright's package brings runs it, so this needs no browser.
"""

import base64
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from drawing import drawn, levels
from node import Ask, asked
from numpy.random import Generator
from PIL import Image
from scipy import ndimage

from digitsum import mnist
from digitsum.errors import InputError
from digitsum.reading import imaging, strips
from digitsum.reading.decoding import MAX_BYTES, MAX_PIXELS, decode
from digitsum.reading.finding import find
from digitsum.reading.imaging import read_picture
from digitsum.reading.strips import Row, narrow, read_row

Pixels = np.ndarray  # uint8, [H, W] or RGBA, [H, W, 4]
Reader = Callable[[Pixels], Any]

NAMES: dict[Reader, str] = {read_picture: "readPicture", read_row: "readRow"}


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """One process for all questions: it gives what prepare.js answers."""
    with asked("prepare.js", tmp_path_factory.mktemp("node")) as ask:
        yield ask


def reading(ask: Ask, reader: Reader, pixels: Pixels) -> Row | str:
    """What prepare.js reads in a picture, the image of one digit as a row, too, or the sentence."""
    rgba = np.asarray(Image.fromarray(pixels).convert("RGBA"))
    picture = {"width": rgba.shape[1], "height": rgba.shape[0], "pixels": base64_of(rgba)}
    answer = ask(reader=NAMES[reader], picture=picture)
    if isinstance(answer, str):
        return answer
    pixels = np.frombuffer(base64.b64decode(answer["pixels"]), np.uint8)
    return Row(pixels.reshape(answer["height"], answer["width"]), answer.get("mayHaveLost", False))


def base64_of(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def read(reader: Reader, pixels: Pixels) -> Row | str:
    """What Python reads in a picture, likewise."""
    try:
        found = reader(pixels)
    except InputError as refusal:
        return str(refusal)
    return found if isinstance(found, Row) else Row(found, may_have_lost=False)


def is_read_alike(ask: Ask, reader: Reader, pixels: Pixels) -> bool:
    """Whether Python reads it; prepare.js reads the same or says the same."""
    expected, answer = read(reader, pixels), reading(ask, reader, pixels)
    if isinstance(expected, str) or isinstance(answer, str):
        assert answer == expected
        return False
    np.testing.assert_array_equal(answer.strip, expected.strip)
    assert answer.may_have_lost == expected.may_have_lost
    return True


# Constants


@pytest.mark.parametrize(
    ("reader", "module", "name", "value"),
    [(read_picture, imaging, "BOX", 18), (read_row, strips, "PAPER_AROUND", 0.2)],
)
def test_a_constant_that_is_changed_in_python_is_changed_in_prepare_js(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ask: Ask,
    reader: Reader,
    module: ModuleType,
    name: str,
    value: float,
) -> None:
    page = clean(mnist.load().images[7, 0], np.random.default_rng(0))
    assert is_read_alike(ask, reader, page)
    monkeypatch.setattr(module, name, value)
    with asked("prepare.js", tmp_path) as changed:
        assert is_read_alike(changed, reader, page)
    with pytest.raises(AssertionError):
        is_read_alike(ask, reader, page)


# One digit, drawn in many ways


def shade(page: np.ndarray) -> np.ndarray:
    """Brightness from 1 to 0.5 from the left to the right."""
    return np.linspace(1, 0.5, page.shape[1])


def unchanged(image: np.ndarray, rng: Generator) -> Pixels:
    return image


def negative(image: np.ndarray, rng: Generator) -> Pixels:
    return 255 - image


def clean(image: np.ndarray, rng: Generator) -> Pixels:
    return levels(255 * (1 - drawn(image, rng)))


def chalk(image: np.ndarray, rng: Generator) -> Pixels:
    return levels(255 * drawn(image, rng))


def thick(image: np.ndarray, rng: Generator) -> Pixels:
    """Strokes three pixels thicker that nearly fill 28 x 28, dark on light or light on dark."""
    rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
    ink = np.pad(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], 1)
    ink = ndimage.grey_dilation(ink, (3, 3))
    height, width = (round(26 * side / max(ink.shape)) for side in ink.shape)
    page = np.zeros((28, 28), np.uint8)
    page[1 : 1 + height, 1 : 1 + width] = Image.fromarray(ink).resize((width, height))
    return page if rng.random() < 0.5 else 255 - page


def shadow(image: np.ndarray, rng: Generator) -> Pixels:
    ink = drawn(image, rng)
    return levels(240 * (1 - 0.85 * ink) * shade(ink))


def photo(image: np.ndarray, rng: Generator) -> Pixels:
    ink = drawn(image, rng)
    return levels(220 * (1 - 0.8 * ink) * shade(ink) + rng.normal(0, 5, ink.shape))


def thin_pen(image: np.ndarray, rng: Generator) -> Pixels:
    return levels(250 - 200 * (drawn(image, rng) > 0.97))  # only the middle of each stroke


def blackboard(image: np.ndarray, rng: Generator) -> Pixels:
    ink = drawn(image, rng)
    return levels((40 + 170 * ink) * shade(ink) + rng.normal(0, 8, ink.shape))


def framed(image: np.ndarray, rng: Generator) -> Pixels:
    """On clean paper with a dark line around it."""
    return levels(np.pad(255 * (1 - drawn(image, rng)), int(rng.integers(1, 5))))


def figure(image: np.ndarray, rng: Generator) -> Pixels:
    """Enlarged, as a sheet on a clean page."""
    return np.pad(np.kron(image, np.ones((5, 5), np.uint8)), int(rng.integers(1, 40)), constant_values=255)


def red_on_a_table_with_dust(image: np.ndarray, rng: Generator) -> Pixels:
    ink = drawn(image, rng)
    ink[tuple(rng.integers(0, ink.shape, (20, 2)).T)] = 1
    page = 255 - ink[..., np.newaxis] * (255 - np.array([200, 60, 40]))
    return levels(np.pad(page, ((30, 0), (0, 40), (0, 0)), constant_values=50))


def transparent(image: np.ndarray, rng: Generator) -> Pixels:
    """Ink of any colour on a transparent canvas."""
    ink = drawn(image, rng)
    picture = np.empty((*ink.shape, 4))
    picture[...] = [*rng.integers(0, 256, 3), 255]
    picture[..., 3] *= ink
    return levels(picture)


def transparent_white(image: np.ndarray, rng: Generator) -> Pixels:
    """As a canvas in dark mode saves it."""
    picture = transparent(image, rng)
    picture[..., :3] = rng.integers(235, 256)
    return picture


WAYS = [
    *(unchanged, negative, clean, chalk, thick, shadow, photo, thin_pen, blackboard, framed),
    *(figure, red_on_a_table_with_dust, transparent, transparent_white),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_digit_is_read_to_the_byte(ask: Ask, way: Callable[[np.ndarray, Generator], Pixels]) -> None:
    rng = np.random.default_rng(0)
    images = mnist.load().images[rng.integers(0, 5000, 6), 0]
    pictures = [way(image, rng) for image in images]
    for reader in NAMES:
        assert sum(is_read_alike(ask, reader, picture) for picture in pictures) >= 5


@pytest.mark.parametrize("shape", [(501, 470), (1204, 1003), (2001, 401), (1, 700), (3000, 2)])
def test_a_large_picture_is_shrunk_to_the_byte(ask: Ask, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    ink = drawn(mnist.load().images[7, 0], rng)
    rows, columns = (np.arange(side) * large // side for side, large in zip(shape, ink.shape, strict=True))
    page = 230 * (1 - 0.8 * ink[rows][:, columns]) + rng.normal(0, 4, shape)
    for reader in NAMES:
        is_read_alike(ask, reader, levels(page[..., np.newaxis] * [1, 0.95, 0.85]))


@pytest.mark.parametrize("side", [1, 2, 5, 8, 9, 12, 20])
def test_a_small_picture_is_read_to_the_byte(ask: Ask, side: int) -> None:
    rng = np.random.default_rng(side)
    for _ in range(5):
        page = 40 + 180 * ndimage.gaussian_filter(rng.random((side, side)) < 0.2, 0.5, output=float)
        for picture in (page, 255 - page, 255 * (rng.random((side, side + 3)) < 0.1)):
            for reader in NAMES:
                is_read_alike(ask, reader, levels(picture))


# Rows of digits


def line_of(rng: Generator, gap: tuple[float, float]) -> np.ndarray:
    """Draw three digits, 3 times as large, slanted, `gap` of their height apart: the share of ink."""
    digits, line, end = mnist.load(), np.zeros((150, 450)), 15
    for image in digits.images[rng.integers(0, 5000, 3), 0]:
        rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
        glyph = np.kron(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.ones((3, 3))) / 255
        top = int(rng.integers(22, 45))
        place = line[top : top + len(glyph), end : end + glyph.shape[1]]
        np.maximum(place, glyph, out=place)
        end += glyph.shape[1] + int(60 * rng.uniform(*gap))
    slant = rng.uniform(-0.3, 0.3)
    return np.stack([np.roll(row, round(slant * i)) for i, row in enumerate(line[:, : end + 45])])


def apart(rng: Generator) -> np.ndarray:
    return line_of(rng, (0.1, 0.8))


def near(rng: Generator) -> np.ndarray:
    return line_of(rng, (0, 0.1))


def touching(rng: Generator) -> np.ndarray:
    return line_of(rng, (-0.1, 0.3))


def broken(rng: Generator) -> np.ndarray:
    ink = touching(rng)
    return ink * (rng.random(ink.shape) < 0.9) * (np.arange(ink.shape[1]) % 23 > 3)


def thin(rng: Generator) -> np.ndarray:
    return (touching(rng) > 0.97).astype(float)


def at_the_edge(rng: Generator) -> np.ndarray:
    """Cut off within the first digit and the last."""
    return apart(rng)[:, 30:-75]


def cut_to_the_ink(rng: Generator) -> np.ndarray:
    ink = apart(rng)
    rows, columns = (np.flatnonzero((ink > 0.5).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def on_a_line(rng: Generator) -> np.ndarray:
    ink = apart(rng)
    ink[110:112] = 0.8
    return ink


def low_at_the_edge(rng: Generator) -> np.ndarray:
    """Beside something that may have been a digit."""
    ink = apart(rng)
    ink[50:90, -5:] = 1
    return ink


def thin_beside_low(rng: Generator) -> np.ndarray:
    ink = np.zeros((120, 200))
    ink[20:100, 60:62] = ink[60:100, 100:140] = 1
    return ink


WAYS_OF_ROWS = [
    *(apart, near, touching, broken, thin),
    *(at_the_edge, cut_to_the_ink, on_a_line, low_at_the_edge, thin_beside_low),
]


@pytest.mark.parametrize("way", WAYS_OF_ROWS)
def test_a_row_is_read_to_the_byte(ask: Ask, way: Callable[[Generator], np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(6):
        ink = way(rng)
        page = 230 * (1 - 0.8 * ink) * shade(ink) + rng.normal(0, 2, ink.shape)
        assert is_read_alike(ask, read_row, levels(page))
        is_read_alike(ask, read_picture, levels(page))


@pytest.mark.parametrize("width", [8, 9, 31, 32, 150, 1000])
def test_a_strip_is_made_narrower_to_the_byte(ask: Ask, width: int) -> None:
    strip = np.random.default_rng(0).integers(0, 256, (32, width), dtype=np.uint8)
    answer = ask(reader="narrow", picture={"height": 32, "width": width, "pixels": base64_of(strip)})
    expected = narrow(strip)
    assert (answer["height"], answer["width"]) == expected.shape
    assert answer["pixels"] == base64_of(expected)


@pytest.mark.parametrize("angle", [-25, -14, 8, 14, 25])
def test_a_row_that_falls_or_rises_is_turned_alike(ask: Ask, angle: int) -> None:
    ink = np.pad(line_of(np.random.default_rng(0), (0.1, 0.3)), ((40, 40), (0, 0)))
    page = Image.fromarray(levels(230 * (1 - 0.8 * ink)))
    turned = np.asarray(page.rotate(angle, Image.Resampling.BILINEAR, expand=True, fillcolor=230))
    assert find(turned, turned, "the page").ink.shape != turned.shape
    answer, expected = reading(ask, read_row, turned), read_row(turned)
    assert isinstance(answer, Row)
    assert answer.strip.shape == expected.strip.shape
    # sines of the last bit's difference may move a grey level over the half
    difference = np.abs(answer.strip.astype(int) - expected.strip)
    assert difference.max() <= 2
    assert np.count_nonzero(difference) <= 0.02 * difference.size


@pytest.mark.parametrize("shape", [(1700, 2300), (900, 3000), (2400, 700)])
def test_what_is_small_in_a_large_picture_is_cut_out_to_the_byte(ask: Ask, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    page = np.full(shape, 225.0)
    ink = apart(rng)
    for reader, shown in ((read_row, ink), (read_picture, ink[:, :70])):
        picture = page.copy()
        picture[400 : 400 + shown.shape[0], 200 : 200 + shown.shape[1]] *= 1 - 0.8 * shown
        picture = levels(picture + rng.normal(0, 3, shape))
        assert find(picture, decode(picture), "the page").ink.shape != decode(picture).shape
        assert is_read_alike(ask, reader, picture)


# Lines of the paper


def along(ink: np.ndarray) -> np.ndarray:
    """Lines from left to right, a little tilted."""
    rows, columns = np.indices(ink.shape)
    return (rows + 0.04 * columns) % 40 < 2


def squares(ink: np.ndarray) -> np.ndarray:
    return along(ink) | along(ink.T[:, ::-1]).T


def margin(ink: np.ndarray) -> np.ndarray:
    """A line near the left edge that leaves the page there."""
    rows, columns = np.indices(ink.shape)
    return abs(columns + 0.08 * rows - 8) < 1


def one(rng: Generator) -> np.ndarray:
    return drawn(mnist.load().images[rng.integers(5000), 0], rng)


def faint(rng: Generator) -> np.ndarray:
    return 0.19 * one(rng)


def nothing(rng: Generator) -> np.ndarray:
    return np.zeros(rng.integers(130, 260, 2))


@pytest.mark.parametrize("lines", [along, squares, margin])
@pytest.mark.parametrize("strength", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("way", [one, apart, touching, cut_to_the_ink, faint, nothing])
def test_lined_paper_is_read_to_the_byte(
    ask: Ask,
    way: Callable[[Generator], np.ndarray],
    lines: Callable[[np.ndarray], np.ndarray],
    strength: float,
) -> None:
    rng = np.random.default_rng(0)
    ink = way(rng)
    page = 230 * (1 - 0.8 * np.maximum(ink, strength * lines(ink))) * shade(ink)
    page = levels(page + rng.normal(0, 2, ink.shape))
    assert is_read_alike(ask, read_row, page) or way in (faint, nothing)
    assert is_read_alike(ask, read_picture, page) or way is not one


# What is refused


NO_INK = "no ink stands out from its background"
SPECKS = "no digit stands out from the specks"
IN_TWO_LINES = "its digits don't stand in one row"
TWO_LINES = np.pad(np.kron([[1, 0, 1], [0, 0, 0], [1, 0, 1]], np.ones((40, 10))), 20)
TWO_DIGITS = np.pad(np.kron([[1, 0, 1]], np.ones((40, 10))), 20)


@pytest.mark.parametrize("reader", NAMES)
@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (np.full((60, 40), 180), NO_INK),
        (128 + np.random.default_rng(0).normal(0, 20, (200, 200)), SPECKS),
        (np.zeros((28, 28)), NO_INK),
        (np.zeros((1, 1)), NO_INK),
        (np.zeros((90, 80, 4)), NO_INK),
        (255 * TWO_LINES, IN_TWO_LINES),
    ],
    ids=["grey", "noise", "black", "one pixel", "transparent", "two lines"],
)
def test_a_picture_without_a_number_is_refused_in_the_same_words(
    ask: Ask, reader: Reader, page: np.ndarray, sentence: str
) -> None:
    assert not is_read_alike(ask, reader, levels(page))
    assert str(reading(ask, reader, levels(page))).startswith(f"the picture can't be read: {sentence}")


def test_a_row_that_is_too_long_is_refused_in_the_same_words(ask: Ask) -> None:
    page = levels(255 - 255 * np.pad(np.ones((3, 470)), ((8, 8), (15, 15))))
    assert not is_read_alike(ask, read_row, page)
    assert "times as long as high, more than 150; show a part" in str(reading(ask, read_row, page))


def test_two_digits_are_refused_where_one_is_read_in_the_same_words(ask: Ask) -> None:
    page = levels(255 * TWO_DIGITS)
    assert is_read_alike(ask, read_row, page)
    assert not is_read_alike(ask, read_picture, page)
    assert str(reading(ask, read_picture, page)).startswith("the picture can't be read: it shows 2 digits,")


def test_too_many_bytes_or_pixels_and_what_is_no_picture_are_refused(ask: Ask) -> None:
    large = {"size": 1, "width": 10_000, "height": 9_000, "pixels": ""}
    refusals = [
        ({"size": MAX_BYTES + 1}, f"it has more than {MAX_BYTES} bytes; make it smaller"),
        (large, f"it has 10000 x 9000 pixels, more than {MAX_PIXELS}; make it smaller"),
        (
            {"size": MAX_BYTES},
            "it is damaged, or in no format that this browser reads; save it as PNG or JPEG",
        ),
    ]
    for (picture, sentence), reader in itertools.product(refusals, NAMES.values()):
        assert ask(reader=reader, picture=picture) == f"the picture can't be read: {sentence}"
