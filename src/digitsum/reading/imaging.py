"""Any picture of a handwritten digit, or of a number, prepared as MNIST's images were.

    image = read_picture("photo.jpg")   # uint8 [28, 28], 0 background, 255 ink
    images = read_number("photo.jpg")   # uint8 [K, 28, 28], of a row of digits from left to right

MNIST's own steps are the last ones: the digit is scaled to fit a box of 20 x 20, with grey levels from
averaging areas, and its centre of mass is put at the centre of 28 x 28 ("The MNIST database of handwritten
digits", LeCun, Cortes and Burges). Before them the picture is decoded to grey levels (decoding.py), the paper
is evened out, its lines are taken away (ruling.py), and the pieces of ink that aren't dust are put together
into digits (pieces.py). All are plain sums, largest values and averages of areas, so that a web page can
repeat them on a canvas.
"""

import os
from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from digitsum.errors import InputError
from digitsum.reading.decoding import Grey, Picture, decode, read
from digitsum.reading.morphology import close, over_squares
from digitsum.reading.pieces import find_digits
from digitsum.reading.ruling import erase_rules
from digitsum.types import Array, Mask, UInt8Array

PAPER = 1 / 3  # of the longer side: what is dark and narrower is ink, what is wider is paper or shadow
AROUND = 1 / 9  # of the longer side: as far lie a pixel's surroundings, to which it is light or dark
EVEN = 2  # grey levels: pixels at the edge that differ less from its median are as bright as it
MOSTLY = 2 / 3  # of the pixels at an edge: where as many are as bright, it is that of a drawing or a sheet
DARKEST = 1 / 2  # of what is brightest: a deeper shadow isn't evened out, as that would magnify its noise
FAINTEST = 0.1  # of the paper's brightness: less contrast is no ink
LEFT = 1 / 4  # of the ink before: what is fainter without the lines is only their rest
STRONG = 0.45  # of a whole stroke's ink: what has more makes the digit
LARGE = 100  # pixels, the longer side of the digit when its strokes are measured and thickened
STROKE = 8  # pixels of LARGE: thinner strokes are made as thick; nine in ten of MNIST's are 7 to 14
BOX = 20  # pixels, the longer side of the digit in the end
SIDE = 28  # pixels, of the image in the end
# An image may be of two digits if its rows have more than HIGH * rows + surety - RUNS runs of ink; surety is
# -log(1 - probability). Chosen on MNIST's training split, of whose digits 0.1 % have more.
HIGH = 2
RUNS = 8

Ink = npt.NDArray[np.float32]  # 0 none to 1 a whole stroke's


def read_picture(picture: Picture) -> UInt8Array:
    """Read a picture of one digit, drawn, scanned or photographed, and prepare it as MNIST's images were.

    Dark ink on light paper and light ink on a dark board are both found, on an uneven background too.
    Transparency counts as white paper, or as black where the ink is white. A photo is turned as its EXIF
    data say. Dust, and what touches the picture's edge beside a digit, is left out. Very thin strokes are
    thickened. Some paper should be left around the digit: of pictures cut exactly to their ink, one in
    twenty is misread.

    A picture that looks as MNIST's, 28 x 28 with most pixels exactly black, comes back unchanged. Of an
    animation the first frame is read: a phone's JPEG, too, may hide further frames behind the photo. Of a
    TIFF it is the first page, and the logger "digitsum" warns where there are more.

    Parameters
    ----------
    picture
        The path of a file, its bytes, the file opened for reading bytes, a Pillow image, or an array
        [H, W], [H, W, 3] or [H, W, 4], bool, uint8, uint16 or float from 0 to 1, where 0 is black. A file is
        PNG, JPEG, GIF, BMP, TIFF or WEBP, of at most 40 million bytes and pixels; a JPEG may have 80 million
        pixels.

    Returns
    -------
    uint8 array, [28, 28]
        0 is background, 255 is ink.

    Raises
    ------
    InputError
        It isn't such a picture, is damaged or too large, or shows no digit.
    OSError
        The path can't be read.
    TypeError
        It is nothing that holds a picture.

    Examples
    --------
    >>> page = np.full((300, 400), 230, np.uint8)
    >>> page[100:200, 50:60] = 40  # a one, dark on light, far from the centre
    >>> image = read_picture(page)
    >>> image.shape, image.dtype, image.max()
    ((28, 28), dtype('uint8'), np.uint8(255))
    >>> [np.ptp(axis) + 1 for axis in np.nonzero(image)]  # 20 rows, as in MNIST
    [np.int64(20), np.int64(2)]
    """
    images = read_number(picture)
    if len(images) > 1:
        raise several_digits(picture, len(images))
    return cast(UInt8Array, images[0])


def several_digits(picture: Picture, count: int) -> InputError:
    """Return the error of a picture that should show one digit."""
    return InputError(
        f"{name_of(picture)} can't be read: it shows {count} digits, not one;"
        " read_number and `digitsum predict` read rows of digits"
    )


def read_number(picture: Picture) -> UInt8Array:
    """Read a picture of a number, a row of digits, and prepare each digit as `read_picture` does.

    Pieces of ink that lie above each other, or one within the other, are one digit; pieces side by side are
    several. Low ones belong to the digit that is nearest. On paper with lines, what touches the
    picture's edge is left out.

    Parameters
    ----------
    picture
        As for `read_picture`.

    Returns
    -------
    uint8 array, [K, 28, 28]
        The digits from left to right, K at least 1; 0 is background, 255 is ink.

    Raises
    ------
    InputError
        As for `read_picture`, or the digits stand in several rows.
    OSError, TypeError
        As for `read_picture`.

    Examples
    --------
    >>> page = np.full((300, 400), 230, np.uint8)
    >>> page[100:200, 50:60] = page[110:200, 90:100] = 40  # eleven
    >>> read_number(page).shape
    (2, 28, 28)
    """
    name = name_of(picture)
    try:
        return _prepare(decode(read(picture), name))
    except InputError as error:
        raise InputError(f"{name} can't be read: {error}") from error


def fit_ink(ink: Ink) -> UInt8Array:
    """Make ink, float32 [H, W] of 0 to 1, an image as MNIST's, uint8 [28, 28]: the last steps of reading.

    Examples
    --------
    >>> page = np.zeros((300, 400), np.float32)
    >>> page[100:200, 50:60] = 1  # a one
    >>> fit_ink(page).shape
    (28, 28)
    """
    return _centre(_fit(_thicken(_crop(ink)), BOX))


def may_be_two(images: UInt8Array, probabilities: Array) -> Mask:
    """Return which images may show two digits that touch, which the network can be sure of all the same.

    They are low, and their rows cross many strokes: the more the surer the network is, the more they may be.

    Parameters
    ----------
    images
        uint8 [K, 28, 28], as `read_number` gives them.
    probabilities
        Of the most probable digit of each, [K].

    Returns
    -------
    bool array, [K]

    Examples
    --------
    >>> image = np.zeros((2, 28, 28), np.uint8)
    >>> image[0, 4:24, 13:15] = 255  # a one
    >>> image[1, 10:18, 4:24:4] = 255  # a fence
    >>> may_be_two(image, np.array([0.99, 0.99]))
    array([False,  True])
    """
    ink = images > 127
    runs = np.count_nonzero(ink & ~np.pad(ink, ((0, 0), (0, 0), (1, 0)))[..., :-1], axis=(1, 2))
    surety = -np.log(np.maximum(1 - probabilities.astype(np.float64), 1e-6))
    rows = np.count_nonzero(ink.any(axis=2), axis=1)
    return cast(Mask, runs > HIGH * rows + surety - RUNS)


def are_prepared(images: Grey) -> Mask:
    """Return which images look as all of MNIST do: bright ink, and most pixels exactly black.

    Those come back unchanged from reading.

    Parameters
    ----------
    images
        uint8 or float32 [N, 28, 28], 0 black to 255 white.

    Returns
    -------
    bool array, [N]

    Examples
    --------
    >>> image = np.zeros((28, 28), np.uint8)
    >>> image[4:24, 13:15] = 255  # a one
    >>> are_prepared(np.stack([image, 255 - image]))
    array([ True, False])
    """
    flat = images.reshape(-1, SIDE * SIDE)
    return cast(Mask, (flat.max(axis=1) > 127) & ((flat == 0).sum(axis=1) > SIDE * SIDE / 2))


def name_of(picture: Picture) -> str:
    """Return what a sentence calls a picture."""
    return os.fspath(picture) if isinstance(picture, str | os.PathLike) else "the picture"


def _prepare(grey: Grey) -> UInt8Array:
    if grey.shape == (SIDE, SIDE) and are_prepared(grey[np.newaxis]):
        return np.rint(grey).astype(np.uint8)[np.newaxis]
    ink, has_rules = _find_ink(find_depth(grey, is_dark_on_light(grey)))
    owners = find_digits(ink > STRONG, has_rules)
    return np.stack([fit_ink(ink * (owners == number)) for number in range(1, owners.max() + 1)])


# From grey levels to ink


def is_dark_on_light(grey: Grey) -> bool:
    """Return whether the ink is darker than the paper.

    Where the edge doesn't tell, it is the sign of the third moment of what stands out from its surroundings:
    a shadow, which is as much too dark as too light, adds nothing. Of strokes as thick as the surroundings
    are wide the holes alone would stand out, which is why the edge is asked first.
    """
    radius = int(max(grey.shape) * AROUND)
    is_edge_light = _is_edge_light(grey, max(radius, 1))
    if is_edge_light is not None:
        return is_edge_light
    light = grey - _mean_around(grey, radius)
    return bool(np.sum(light * light * light) <= 0)  # `** 3` takes a hundred times as long


def _is_edge_light(grey: Grey, radius: int) -> bool | None:
    """Return whether a drawing's paper is light, by its edge of one level; None where that doesn't tell.

    A dark line around lighter paper isn't paper, nor is what a sheet lies on that has such an edge itself.
    """
    edge = _border(grey, 1)
    level = _median(edge)
    if np.count_nonzero(abs(edge - level) <= EVEN) < MOSTLY * edge.size:
        return None
    middle = (float(grey.min()) + float(grey.max())) / 2
    is_light = bool(level >= middle)
    if not is_light and np.mean(_border(grey, radius) >= middle) >= 1 / 2:
        return True
    other = (grey >= middle) != is_light
    if not other.any():
        return None
    edge = _border(_crop(other.astype(np.float32)), 1)
    return is_light if np.count_nonzero(edge) < MOSTLY * edge.size else None


def _border(grey: Grey, width: int) -> npt.NDArray[np.float32]:
    """Return the pixels, [N], that are less than `width` from the edge."""
    inside = np.zeros(grey.shape, bool)
    inside[width:-width, width:-width] = True
    return grey[~inside].astype(np.float32)


def _mean_around(grey: Grey, radius: int) -> npt.NDArray[np.float64]:
    """Average the square around each pixel; beyond the edge the picture goes on as at the edge."""
    size = 2 * radius + 1
    sums: Array = grey
    exact = np.int32 if grey.dtype == np.uint8 else np.float64  # whole numbers add up in a third of the time
    for _ in range(2):  # along the rows, then, transposed, along the columns
        ends = np.pad(sums, ((0, 0), (radius + 1, radius)), mode="edge").cumsum(axis=1, dtype=exact)
        sums = (ends[:, size:] - ends[:, :-size]).T.copy()
    return sums / size**2


def find_depth(grey: Grey, is_dark: bool, close: Callable[[Array, int], Array] = close) -> Ink:
    """Return how much darker than its paper each pixel is, 0 to 1; of ink that isn't dark, how much lighter.

    `close` fills what is dark and narrow, which leaves the paper.
    """
    brightest = float(grey.max())  # of light ink it is noise on a bright page that is dark
    if not is_dark:
        grey = 255 - grey
    paper = close(grey, int(max(grey.shape) * PAPER / 2))
    dark = np.float32(max(DARKEST * max(paper.max(), brightest), 1))
    depth = cast(Ink, (paper - grey) / np.maximum(paper, dark))
    return cast(Ink, np.maximum(depth - _median(depth), 0))  # by which `paper` is too bright throughout


def scale_depth(depth: Ink, whole: float, least: float = 0) -> Ink:
    """Return the amount of ink, 0 to 1, of what is darker than its paper, by `whole` where a stroke is.

    Raises
    ------
    InputError
        That is no more than noise, or less than `least`.
    """
    if whole < max(FAINTEST, least):
        raise InputError("no ink stands out from its background")
    return cast(Ink, np.minimum(depth / np.float32(whole), 1))


def _find_ink(depth: Ink) -> tuple[Ink, bool]:
    """Return the amount of ink, 0 to 1, without lines, and whether there were any."""
    rest = erase_rules(erase_rules(depth).T).T
    return scale_depth(rest, strength(rest), LEFT * strength(depth)), not np.may_share_memory(rest, depth)


def _median(depth: Ink) -> np.float32:
    """Return the middle of numbers of at least 0, of an even count the higher of both.

    Their bits are in the same order as they: the upper halves are counted, then the lower ones of those that
    share the middle's upper half. `np.partition` takes fifteen times as long where most are equal.

    Examples
    --------
    >>> _median(np.array([[0.5, 0, 0.25, 0.75]], np.float32))
    np.float32(0.5)
    """
    bits = depth.ravel().view(np.uint32)
    high, place = _find_place(bits >> 16, bits.size // 2)
    low, _ = _find_place(bits[bits >> 16 == high] & 0xFFFF, place)
    return np.uint32(high << 16 | low).view(np.float32)


def _find_place(numbers: Array, place: int) -> tuple[int, int]:
    """Return the number at a place of the sorted ones, and its own place among those equal to it."""
    counts = np.bincount(numbers)
    ends = counts.cumsum()
    number = int(np.searchsorted(ends, place, side="right"))
    return number, place - int(ends[number] - counts[number])


def strength(depth: Ink) -> float:
    """Return the ink's depth: the mean of all depths weighted by their fourth powers.

    Unlike Otsu's threshold it finds few ink pixels among many of noisy paper, and unlike the deepest pixel it
    isn't led by one of them.
    """
    weight = np.square(np.square(depth))
    return float(np.sum(weight * depth, dtype=np.float64) / max(np.sum(weight, dtype=np.float64), 1e-9))


# From ink to MNIST


def _crop(ink: Ink) -> Ink:
    """Cut the digit out: what is fainter at its edge goes."""
    strong = ink > STRONG
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _thicken(ink: Ink) -> Ink:
    """Make strokes at least as thick as MNIST's thin ones; a thinner one would turn faint in 28 x 28.

    The thickness of a stroke is twice its area by its outline, the sum of all differences of neighbours.
    """
    if max(ink.shape) > LARGE:
        ink = _fit(ink, LARGE)
    wide = np.pad(ink, 1).astype(np.float64)
    outline = np.abs(np.diff(wide, axis=0)).sum() + np.abs(np.diff(wide, axis=1)).sum()
    missing = STROKE / LARGE * max(ink.shape) - 2 * wide.sum() / outline
    radius = max(int(missing / 2 + 0.5), 0)
    return over_squares(np.maximum, np.pad(ink, 2 * radius), radius)


def _fit(ink: Ink, longer: int) -> Ink:
    """Scale by averaging areas, so that the longer side has `longer` pixels."""
    height, width = (max(int(size * longer / max(ink.shape) + 0.5), 1) for size in ink.shape)
    rows, columns = _overlaps(ink.shape[0], height), _overlaps(ink.shape[1], width)
    return (rows @ ink @ columns.T).astype(np.float32)


def _overlaps(before: int, after: int) -> npt.NDArray[np.float64]:
    """Return which part of each of `after` pixels lies on each of `before` pixels, [after, before].

    Examples
    --------
    >>> _overlaps(3, 2).round(2)
    array([[0.67, 0.33, 0.  ],
           [0.  , 0.33, 0.67]])
    """
    edges = np.arange(after + 1)[:, np.newaxis] * before / after
    pixels = np.arange(before)
    parts = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return parts.clip(0) * after / before


def _centre(ink: Ink) -> UInt8Array:
    """Put the centre of mass on the pixel (14, 14), as in MNIST, unless the digit would be cut off."""
    image, ink = np.zeros((SIDE, SIDE), np.uint8), ink.astype(np.float64)
    place = []
    for axis, size in enumerate(ink.shape):
        mass = ink.sum(axis=1 - axis)
        centre = int(mass @ np.arange(size) / mass.sum() + 0.501)  # errors of rounding shouldn't decide a tie
        place.append(min(max(SIDE // 2 - centre, 0), SIDE - size))
    top, left = place
    image[top : top + ink.shape[0], left : left + ink.shape[1]] = 255 * ink / ink.max() + 0.5
    return image
