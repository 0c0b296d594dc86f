"""prepare.js beside imaging.py: the same images, to the byte, and the same sentences.

The node that playwright's package brings runs it, so this needs no browser.
"""

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import playwright
import pytest
from drawing import drawn, levels
from numpy.random import Generator
from PIL import Image
from scipy import ndimage

from digitsum import mnist
from digitsum.reading import decoding, imaging
from digitsum.reading.decoding import MAX_BYTES, MAX_PIXELS
from digitsum.reading.imaging import may_be_two, read_number
from digitsum.serving.page import network_script

NODE = Path(playwright.__file__).parent / "driver" / "node"

Pixels = np.ndarray  # uint8, [H, W] or RGBA, [H, W, 4]
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """One process for all questions: it gives what prepare.js answers."""
    with asked(tmp_path_factory.mktemp("node")) as ask:
        yield ask


@contextmanager
def asked(folder: Path) -> Iterator[Ask]:
    """Start node with prepare.js and the constants as they are now."""
    (folder / "prepare.js").write_bytes(network_script("prepare.js"))
    command = [NODE, Path(__file__).with_name("prepare_in_node.js"), folder / "prepare.js"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin
        assert node.stdout

        def ask(**question: Any) -> Any:
            print(json.dumps(question), file=node.stdin, flush=True)
            return json.loads(node.stdout.readline())

        yield ask
        node.stdin.close()
    assert node.returncode == 0


def reading(ask: Ask, pixels: Pixels) -> str | np.ndarray:
    """What prepare.js reads in a picture: the images, [K, 28, 28], or the sentence."""
    rgba = np.asarray(Image.fromarray(pixels).convert("RGBA"))
    picture = {"width": rgba.shape[1], "height": rgba.shape[0], "pixels": base64_of(rgba)}
    answer = ask(picture=picture)
    return answer if isinstance(answer, str) else np.stack([image_of(each) for each in answer])


def base64_of(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def image_of(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(28, 28)


def digits_read_alike(ask: Ask, pixels: Pixels) -> int:
    """How many digits Python reads, 0 if it refuses; prepare.js reads the same or says the same."""
    try:
        expected: str | np.ndarray = read_number(pixels)
    except ValueError as refusal:
        expected = str(refusal)
    answer = reading(ask, pixels)
    assert type(answer) is type(expected), (answer, expected)
    np.testing.assert_array_equal(answer, expected)
    return 0 if isinstance(expected, str) else len(expected)


# Constants


@pytest.mark.parametrize(("module", "name", "value"), [(imaging, "BOX", 18), (decoding, "WORKING", 100)])
def test_a_constant_that_is_changed_in_python_is_changed_in_prepare_js(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ask: Ask, module: ModuleType, name: str, value: int
) -> None:
    page = clean(mnist.load().images[7, 0], np.random.default_rng(0))
    before = reading(ask, page)
    monkeypatch.setattr(module, name, value)
    with asked(tmp_path) as changed:
        assert digits_read_alike(changed, page) == 1
        assert not np.array_equal(reading(changed, page), before)


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
    counts = [digits_read_alike(ask, way(image, rng)) for image in images]
    assert counts.count(1) >= 4


@pytest.mark.parametrize("shape", [(501, 470), (1204, 1003), (2001, 401), (1, 700), (3000, 2)])
def test_a_large_picture_is_shrunk_to_the_byte(ask: Ask, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    ink = drawn(mnist.load().images[7, 0], rng)
    rows, columns = (np.arange(side) * large // side for side, large in zip(shape, ink.shape, strict=True))
    page = 230 * (1 - 0.8 * ink[rows][:, columns]) + rng.normal(0, 4, shape)
    digits_read_alike(ask, levels(page[..., np.newaxis] * [1, 0.95, 0.85]))


@pytest.mark.parametrize("side", [1, 2, 5, 8, 9, 12, 20])
def test_a_small_picture_is_read_to_the_byte(ask: Ask, side: int) -> None:
    rng = np.random.default_rng(side)
    for _ in range(5):
        page = 40 + 180 * ndimage.gaussian_filter(rng.random((side, side)) < 0.2, 0.5, output=float)
        for picture in (page, 255 - page, 255 * (rng.random((side, side + 3)) < 0.1)):
            digits_read_alike(ask, levels(picture))


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


def on_squares(rng: Generator) -> np.ndarray:
    """Over lines a little tilted."""
    ink = touching(rng)
    rows, columns = np.indices(ink.shape)
    lines = ((rows + 0.04 * columns) % 40 < 2) | ((columns - 0.03 * rows) % 40 < 2)
    return np.maximum(ink, 0.7 * lines)


def in_two_lines(rng: Generator) -> np.ndarray:
    ink = apart(rng)
    return np.vstack([ink, ink[::-1]])


ROWS = {
    apart: {3},
    near: {1, 2, 3},
    touching: {2, 3},
    broken: {3, 4, 6},
    thin: {1, 2, 3},
    on_squares: {1, 2, 3},
    in_two_lines: {0},
}


@pytest.mark.parametrize(("way", "counts"), ROWS.items())
def test_a_row_is_read_to_the_byte(
    ask: Ask, way: Callable[[Generator], np.ndarray], counts: set[int]
) -> None:
    rng, found = np.random.default_rng(0), set()
    for _ in range(6):
        ink = way(rng)
        page = 230 * (1 - 0.8 * ink) * shade(ink) + rng.normal(0, 2, ink.shape)
        found.add(digits_read_alike(ask, levels(page)))
    assert found == counts


def test_what_may_be_two_is_told_alike(ask: Ask) -> None:
    rng, answers = np.random.default_rng(0), []
    for _ in range(100):
        image = levels(255 * (ndimage.gaussian_filter(rng.random((28, 28)), rng.uniform(0, 3)) > 0.5))
        image *= np.arange(28)[:, np.newaxis] < rng.integers(4, 29)
        share = rng.choice([0, 0.5, 0.95, 0.9999, 1])
        answers.append(ask(image=base64_of(image), probability=share))
        assert answers[-1] == may_be_two(image[np.newaxis], np.array([share]))[0]
    assert 20 < sum(answers) < 80


# What is refused


NO_INK = "no ink stands out from its background"
TWO_LINES = np.kron([[1, 1, 1], [1, 0, 1], [1, 1, 1], [1, 0, 1], [1, 1, 1]], np.ones((40, 10)))


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (np.full((60, 40), 180), NO_INK),
        (128 + np.random.default_rng(0).normal(0, 20, (200, 200)), "no digit stands out from the specks"),
        (np.zeros((28, 28)), NO_INK),
        (np.zeros((1, 1)), NO_INK),
        (np.zeros((90, 80, 4)), NO_INK),
        (255 * TWO_LINES, "its digits don't stand in one row"),
    ],
    ids=["grey", "noise", "black", "one pixel", "transparent", "two lines"],
)
def test_a_picture_without_a_number_is_refused_in_the_same_words(
    ask: Ask, page: np.ndarray, sentence: str
) -> None:
    with pytest.raises(ValueError, match=rf"^the picture can't be read: {sentence}") as refusal:
        read_number(levels(page))
    assert reading(ask, levels(page)) == str(refusal.value)


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
    for picture, sentence in refusals:
        assert ask(picture=picture) == f"the picture can't be read: {sentence}"
