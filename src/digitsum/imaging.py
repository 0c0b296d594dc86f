"""Any picture of a handwritten digit, or of a number, prepared as MNIST's images were.

    image = read_picture("photo.jpg")   # uint8 [28, 28], 0 background, 255 ink
    images = read_number("photo.jpg")   # uint8 [K, 28, 28], of a row of digits from left to right

MNIST's own steps are the last ones: the digit is scaled to fit a box of 20 x 20, with grey levels from
averaging areas, and its centre of mass is put at the centre of 28 x 28 ("The MNIST database of handwritten
digits", LeCun, Cortes and Burges). The steps before them find the ink. All are plain sums, largest values
and averages of areas, so that a web page can repeat them on a canvas.
"""

import io
import os
import threading
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")  # what Pillow may decode: the fewer, the safer
MAX_BYTES = 40_000_000
MAX_PIXELS = 40_000_000

WORKING = 500  # pixels: a longer side is shrunk to at most this before the ink is found
PAPER = 1 / 3  # of the longer side: what is dark and narrower is ink, what is wider is paper or shadow
AROUND = 1 / 9  # of the longer side: as far lie a pixel's surroundings, to which it is light or dark
DARKEST = 1 / 2  # of what is brightest: a deeper shadow isn't evened out, as that would magnify its noise
FAINTEST = 0.1  # of the paper's brightness: less contrast is no ink
BLOCKS = 64  # of columns, in each of which a line is looked for
STEEPEST = 0.12  # rows down for each column: 7 degrees; steeper lines aren't looked for
TURN = 4  # rows by which the falls of the lines that are looked for differ
THICKEST = 1 / 36  # of the columns: a line is lower, but for its blur; a stroke may be higher
ENDS = 4  # blocks at each edge: in half of them a line is seen
EDGE = 3  # pixels that a line's blur adds to its thickness
VISIBLE = 0.04  # of the paper's brightness: a fainter line leaves no trace in what follows
COVERED = 0.5  # of the blocks that a line crosses: in as many it is seen, or it is none
LEFT = 1 / 4  # of the ink before: what is fainter without the lines is only their rest
SPECK = 0.1  # of the largest piece's area: what is smaller and low is dust
CRUMB = 0.02  # of the same: so small a piece may be part of a thin stroke that is broken
SMALLEST = 1 / 40  # of the longer side: a smaller digit is a speck too, and so is a single pixel
LEAST = 10  # pixels: several that are all smaller are specks
MOST = 100  # pieces of ink: more are specks
FRAGMENT = 0.52  # of the tallest piece's height: a lower one is part of the digit that is nearest to it
BREAK = 0.03  # of the same: so narrow a gap lies within a stroke that is broken
LEVEL = 0.4  # of the lower one's height: pieces that share fewer rows aren't side by side
OVERLAP = 0.6  # of the same, where they share columns, too
ASIDE = 0.5  # of the narrower one's width: pieces as far apart aren't above each other
GAP = 0.2  # of the height of both: as much paper between pieces above each other makes them two lines
BESIDE = 0.8  # of the rows that two pieces share: in more of them one digit is all to the left of another
RIM = 2  # pixels around a stroke that keep their grey levels
LARGE = 100  # pixels, the longer side of the digit when its strokes are measured and thickened
STROKE = 8  # pixels of LARGE: thinner strokes are made as thick; nine in ten of MNIST's are 7 to 14
BOX = 20  # pixels, the longer side of the digit in the end
SIDE = 28  # pixels, of the image in the end
# An image may be of two digits if its rows have more than HIGH * rows + surety - RUNS runs of ink; surety is
# -log(1 - probability). Chosen on MNIST's training split, of whose digits 0.1 % have more.
HIGH = 2
RUNS = 8

Picture = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | npt.NDArray[Any]
UInt8Array = npt.NDArray[np.uint8]
Grey = UInt8Array | npt.NDArray[np.float32]  # 0 black to 255 white; float32 of deeper pictures
Ink = npt.NDArray[np.float32]  # 0 none to 1 a whole stroke's
Mask = npt.NDArray[np.bool]
Ints = npt.NDArray[np.intp]

# the filters for warnings belong to the whole process: two threads that change them would mix them up
_quiet = threading.Lock()


def read_picture(picture: Picture) -> UInt8Array:
    """Read a picture of one digit, drawn, scanned or photographed, and prepare it as MNIST's images were.

    Dark ink on light paper and light ink on a dark board are both found, on an uneven background too.
    Transparency counts as white paper, and a photo is turned as its EXIF data say. Dust, and what touches the
    picture's edge beside a digit, is left out. Very thin strokes are thickened. Some paper should be left
    around the digit: of pictures cut exactly to their ink, one in twenty is misread.

    A picture that looks as MNIST's, 28 x 28 with most pixels exactly black, comes back unchanged. Of an
    animation the first frame is read: a phone's JPEG, too, may hide further frames behind the photo.

    Parameters
    ----------
    picture
        The path of a file, its bytes, the file opened for reading bytes, a Pillow image, or an array
        [H, W], [H, W, 3] or [H, W, 4], bool, uint8, uint16 or float from 0 to 1, where 0 is black. A file is
        PNG, JPEG, GIF, BMP, TIFF or WEBP, of at most 40 million bytes and pixels.

    Returns
    -------
    uint8 array, [28, 28]
        0 is background, 255 is ink.

    Raises
    ------
    ValueError
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
        raise ValueError(
            f"{_name(picture)} can't be read: it shows {len(images)} digits, not one;"
            " read_number, `digitsum predict` and POST /numbers read rows of digits"
        )
    return cast(UInt8Array, images[0])


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
    ValueError
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
    source = _read(picture)
    try:
        return _prepare(_decode(source))
    except ValueError as error:
        raise ValueError(f"{_name(picture)} can't be read: {error}") from error


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


def may_be_two(images: UInt8Array, probabilities: npt.NDArray[Any]) -> Mask:
    """Tell which images may show two digits that touch, which the network can be sure of all the same.

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


def _name(picture: Picture) -> str:
    return os.fspath(picture) if isinstance(picture, str | os.PathLike) else "the picture"


# From a file or an array to grey levels, shrunk


def _read(picture: Picture) -> bytes | Image.Image | npt.NDArray[Any]:
    """Read a file, at most one byte more than is allowed."""
    if isinstance(picture, str | os.PathLike):
        with Path(picture).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    if isinstance(picture, bytes | Image.Image | np.ndarray):
        return picture
    if not hasattr(picture, "read"):
        kind = type(picture).__name__
        raise TypeError(f"a picture is a path, bytes, an open file, a Pillow image or an array, not a {kind}")
    return picture.read(MAX_BYTES + 1)


def _decode(source: bytes | Image.Image | npt.NDArray[Any]) -> Grey:
    """Give grey levels [H, W] of a picture that is turned upright and shrunk to WORKING."""
    # a decoder can fail in many ways, and it warns of what is an error here or doesn't matter
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = _open(source)
            image.getexif()  # warns here, and is kept; a JPEG's pixels are decoded later, with no lock
        factor = _factor(max(image.size))
        factor //= _decode_smaller(image, factor)
        ImageOps.exif_transpose(image, in_place=True)
        return _shrink(_grey(image), factor)
    except UnidentifiedImageError as error:
        raise ValueError(f"it is none of {', '.join(FORMATS)}; save it as PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has more than {MAX_PIXELS} pixels; make it smaller") from error
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"it is damaged: {error or type(error).__name__}") from error


def _open(source: bytes | Image.Image | npt.NDArray[Any]) -> Image.Image:
    """Open the picture: of a file only the header is read, and a caller's Pillow image is copied."""
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        _check_size(*source.size)
        return ImageOps.exif_transpose(source)
    if len(source) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes; make it smaller")
    image = Image.open(io.BytesIO(source), formats=FORMATS)
    _check_size(*image.size)
    return image


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"an array should be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}")
    _check_size(array.shape[1], array.shape[0])
    if array.dtype.kind == "f":
        _check_range(array, 1)
        colours = array.ndim == 3
        array = np.rint(255 * array).astype(np.uint8) if colours else array.astype(np.float32)
    elif array.dtype not in (np.bool, np.uint8) and (array.dtype != np.uint16 or array.ndim == 3):
        raise ValueError(f"an array should be uint8 from 0 to 255 or float from 0 to 1, not {array.dtype}")
    return Image.fromarray(array)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, more than {MAX_PIXELS}; make it smaller")
    if width * height == 0:
        raise ValueError(f"it has {width} x {height} pixels, so it shows nothing")


def _check_range(array: npt.NDArray[Any], most: int) -> None:
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= most):  # which NaN isn't either
        raise ValueError(
            f"its {array.dtype} numbers should be scaled to 0 to {most}, but are {low} to {high}"
        )


def _factor(longer: int) -> int:
    """Tell how many times smaller a picture becomes: a power of two, or three of them, which is quick.

    Examples
    --------
    >>> [_factor(longer) for longer in (28, 500, 501, 1500, 2001, 3001, 4032)]
    [1, 1, 2, 3, 6, 8, 12]
    """
    factor = -(-longer // WORKING)
    zeros = max(factor.bit_length() - 2, 0)
    return -(-factor >> zeros) << zeros


def _decode_smaller(image: Image.Image, factor: int) -> int:
    """Let a JPEG's decoder, which can do it up to 8 times, make the picture smaller; tell how many times."""
    width, height = image.size
    times = min(factor & -factor, 8)  # the largest power of two that divides it
    image.draft(None, (max(width // times, 1), max(height // times, 1)))  # of other formats nothing changes
    return -(-max(width, height) // max(image.size))


def _grey(image: Image.Image) -> Image.Image:
    """Give grey levels, 0 to 255, with the fractions that 16 bits or floats have."""
    if image.mode == "F" or image.mode.startswith("I"):
        most = 1 if image.mode == "F" else 65_535
        array = np.asarray(image)
        _check_range(array, most)
        return Image.fromarray(array.astype(np.float32) * np.float32(255 / most))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L")


def _shrink(image: Image.Image, factor: int) -> Grey:
    """Average blocks of `factor` x `factor` pixels; the last ones may have fewer."""
    return np.asarray(image.reduce((min(factor, image.width), min(factor, image.height))))


# From grey levels to MNIST


def _prepare(grey: Grey) -> UInt8Array:
    if _is_prepared(grey):
        return np.rint(grey).astype(np.uint8)[np.newaxis]
    ink, has_rules = _find_ink(grey if _is_dark_on_light(grey) else 255 - grey, float(grey.max()))
    pieces = _pieces(ink > 1 / 2)
    owners = _with_rim(_group(pieces, _choose(pieces, has_rules)))
    return np.stack([fit_ink(ink * (owners == number)) for number in range(1, owners.max() + 1)])


def _is_prepared(grey: Grey) -> bool:
    """Tell whether the picture looks as all of MNIST do: bright ink, and most pixels exactly black."""
    if grey.shape != (SIDE, SIDE):
        return False
    return bool(grey.max() > 127 and np.count_nonzero(grey) < SIDE * SIDE / 2)


def _is_dark_on_light(grey: Grey) -> bool:
    """Tell whether what stands out from its surroundings is darker than they are.

    That is the sign of the third moment: a shadow, which is as much too dark as too light, adds nothing.
    """
    light = grey - _mean_around(grey, int(max(grey.shape) * AROUND))
    return bool(np.sum(light * light * light) <= 0)  # `** 3` takes a hundred times as long


def _mean_around(grey: Grey, radius: int) -> npt.NDArray[np.float64]:
    """Average the square around each pixel; beyond the edge the picture goes on as at the edge."""
    size = 2 * radius + 1
    wide = np.pad(grey, ((radius + 1, radius), (radius + 1, radius)), mode="edge")
    sums = wide.cumsum(axis=0, dtype=np.float64)
    sums = (sums[size:] - sums[:-size]).cumsum(axis=1)
    return cast(npt.NDArray[np.float64], (sums[:, size:] - sums[:, :-size]) / size**2)


def _find_ink(grey: Grey, brightest: float) -> tuple[Ink, bool]:
    """Give the amount of ink, 0 to 1, of dark ink on light paper, and whether that has lines.

    `brightest` is the picture's brightest level: on a bright page seen as light ink it is noise that's dark.
    """
    paper = _close(grey, int(max(grey.shape) * PAPER / 2))
    depth = (paper - grey) / np.maximum(paper, np.float32(max(DARKEST * max(paper.max(), brightest), 1)))
    middle = depth.size // 2
    noise = np.partition(depth, middle, axis=None)[middle]  # by which `paper` is too bright throughout
    whole: Ink = np.maximum(depth - noise, 0)
    rest = _erase_rules(_erase_rules(whole).T).T
    ink = _strength(rest)
    if ink < max(FAINTEST, LEFT * _strength(whole)):
        raise ValueError("no ink stands out from its background (what is transparent counts as white)")
    return np.minimum(rest / np.float32(ink), 1), not np.may_share_memory(rest, whole)


def _strength(depth: Ink) -> float:
    """Give the ink's depth: the mean of all depths weighted by their fourth powers.

    Unlike Otsu's threshold it finds few ink pixels among many of noisy paper, and unlike the deepest pixel it
    isn't led by one of them.
    """
    weight = np.square(np.square(depth))
    return float(np.sum(weight * depth) / max(np.sum(weight), np.float32(1e-9)))


def _erase_rules(depth: Ink) -> Ink:
    """Take away the lines that run from the left edge to the right one, but not the strokes they cross."""
    height, width = depth.shape
    thickest = int(width * THICKEST) + EDGE
    if width < BLOCKS or height < 2 * thickest:
        return depth
    edges = np.arange(BLOCKS + 1) * width // BLOCKS
    blocks = np.add.reduceat(depth, edges[:-1], axis=1, dtype=np.float64) / np.diff(edges)
    borders = blocks[:, :ENDS], blocks[:, -ENDS:], blocks[:1], blocks[-1:]
    if sum(border.max() >= VISIBLE for border in borders) < 2:  # the quick way out
        return depth
    ridge = blocks - _open_columns(blocks, thickest)
    ridge[ridge < max(VISIBLE, 2 * ridge.mean())] = 0
    starts, falls = _find_rules(ridge, width)
    if not len(starts):
        return depth
    size = _thickness(ridge > 0, starts + _drop(falls, BLOCKS), thickest) + EDGE
    rows = starts + _drop(falls, width) + size
    band = np.zeros((height + 2 * size, width), np.uint8)  # lines just outside have an edge inside, too
    inside = (rows >= 0) & (rows < len(band))
    band[rows[inside], inside.nonzero()[1]] = 1
    reach = size // 2 + 2
    return np.where(
        _over_columns(np.maximum, band, 2 * reach + 1)[size - reach :][:height],
        _open_columns(depth, size),
        depth,
    )


def _find_rules(ridge: npt.NDArray[np.float64], width: int) -> tuple[Ints, Ints]:
    """Find straight lines from edge to edge: the rows at which they start and how far they fall, both [N, 1].

    By Hough's transform: the highest point of each ridge votes for every line through it.
    """
    height, wide = len(ridge), np.pad(ridge, ((1, 1), (0, 0)))
    row, block = np.nonzero((ridge > wide[:-2]) & (ridge >= wide[2:]))
    most = int(width * STEEPEST)
    falls = np.arange(-most, most + 1, TURN)[:, np.newaxis]
    drops, size = _drop(falls, BLOCKS), height + 2 * most + 2
    places = row - drops[:, block] + most + 1 + size * np.arange(len(falls))[:, np.newaxis]
    votes = np.bincount(places.ravel(), minlength=size * len(falls)).reshape(-1, size)
    votes = votes[:, :-2] + votes[:, 1:-1] + votes[:, 2:]  # the row above or below is near enough
    best = votes.argmax(axis=0)
    starts = np.arange(-most, height + most)[:, np.newaxis]
    rows = starts + drops[best]
    inside = (rows >= 0) & (rows < height)
    near = _over_columns(np.maximum, np.pad(ridge > 0, ((2, 2), (0, 0))), 5)
    seen = near[rows.clip(0, height - 1), np.arange(BLOCKS)] & inside
    found = seen.sum(axis=1) >= np.maximum(COVERED * inside.sum(axis=1), 1)
    for end in (slice(ENDS), slice(-ENDS, None)):  # a stroke with paper around it doesn't reach both edges
        found &= (seen | ~inside)[:, end].sum(axis=1) >= ENDS / 2
    return starts[found], falls[best[found]]


def _drop(falls: Ints, parts: int) -> Ints:
    """Tell how many rows lines have fallen in the middle of each of as many parts of the width."""
    return ((2 * np.arange(parts) + 1) * falls + parts) // (2 * parts)


def _thickness(thin: Mask, rows: Ints, most: int) -> int:
    """Give the mean height of what is thin around lines, where there is any."""
    sums, reach = np.pad(thin.cumsum(axis=0), ((1, 0), (0, 0))), most // 2
    low, high = ((rows + end).clip(0, len(thin)) for end in (-reach, reach + 1))
    counts = sums[high, np.arange(BLOCKS)] - sums[low, np.arange(BLOCKS)]
    return int(counts.sum() // np.count_nonzero(counts))


def _open_columns(depth: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Take away what is lower than `size` rows; beyond the edge there is nothing."""
    lowest = _over_columns(np.minimum, np.pad(depth, ((size - 1, size - 1), (0, 0))), size)
    return _over_columns(np.maximum, lowest, size)


def _close(grey: Grey, radius: int) -> Grey:
    """Give the paper's brightness: what is dark and narrower than the square is filled from around it."""
    highest = _over_squares(np.maximum, np.pad(grey, 2 * radius, mode="edge"), radius)
    return _over_squares(np.minimum, highest, radius)


def _over_squares(choose: np.ufunc, array: npt.NDArray[Any], radius: int) -> npt.NDArray[Any]:
    """Give the highest (np.maximum) or lowest (np.minimum) value of each square that lies in the array."""
    for _ in range(2):  # along the columns, then, transposed, along the rows
        array = _over_columns(choose, array, 2 * radius + 1).T
    return array


def _over_columns(choose: np.ufunc, array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Give the highest or lowest value of each `size` pixels above each other that lie in the array."""
    reach = 1
    while reach < size:  # each pixel knows that of `reach` pixels from itself on
        step = min(reach, size - reach)
        array = choose(array[:-step], array[step:])
        reach += step
    return array


class _Pieces(NamedTuple):
    """The connected pieces of a mask, in the order of their first pixels."""

    labels: npt.NDArray[np.int32]  # [H, W], 0 for no piece, 1 for the first
    areas: Ints  # [N], of the first piece on, pixels
    boxes: Ints  # [N, 4], the first and last row, then column


def _pieces(mask: Mask) -> _Pieces:
    """Find the connected pieces, corners connect too, by way of runs: pixels side by side in a row."""
    flat, width = np.pad(mask, ((0, 0), (1, 1))).ravel(), mask.shape[1] + 2
    starts, ends = (np.flatnonzero(flat[1:] != flat[:-1]) + 1).reshape(-1, 2).T
    first = np.searchsorted(ends, starts + width)  # of the runs below that touch one
    counts = np.searchsorted(starts, ends + width, side="right") - first
    runs = np.arange(len(starts))
    below = np.arange(counts.sum()) + np.repeat(first - counts.cumsum() + counts, counts)
    _, piece = np.unique(_join(runs, np.repeat(runs, counts), below), return_inverse=True)  # of each run

    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(piece + 1, ends - starts)
    order = piece.argsort(kind="stable")
    begin = np.flatnonzero(np.diff(piece[order], prepend=-1))
    areas = np.add.reduceat((ends - starts)[order], begin)
    rows, left, right = starts // width, starts % width - 1, ends % width - 2
    least, most = np.minimum.reduceat, np.maximum.reduceat
    sides = (least, rows), (most, rows), (least, left), (most, right)
    return _Pieces(labels, areas, np.stack([of(side[order], begin) for of, side in sides], axis=1))


def _join(items: Ints, one: Ints, other: Ints) -> Ints:
    """Give each of the items 0, 1, 2, ... the least item that the pairs connect it with.

    Examples
    --------
    >>> _join(np.arange(6), np.array([1, 3, 5]), np.array([5, 4, 4]))
    array([0, 1, 2, 1, 1, 1])
    """
    root = items.copy()  # the least known yet
    while np.any(root[one] != root[other]):
        least = np.minimum(root[one], root[other])
        for side in (one, other):
            np.minimum.at(root, root[side], least)
        root = root[root]
    return root


def _choose(pieces: _Pieces, has_rules: bool) -> Ints:
    """Tell which pieces of ink may be parts of digits."""
    areas, (top, bottom, left, right) = pieces.areas, pieces.boxes.T
    height, width = pieces.labels.shape
    inside = (top > 0) & (bottom < height - 1) & (left > 0) & (right < width - 1)
    # the rest of a line, or an edge of the table, a shadow or a neighbouring digit, unless all else is dust
    if has_rules or max(areas[inside], default=0) >= SPECK * areas.max():
        areas = np.where(inside, areas, 0)
    heights = bottom - top + 1
    large = areas >= max(SPECK * areas.max(), 1)
    tall = (areas > 0) & (heights >= FRAGMENT * heights[large].max(initial=0))
    chosen = tall | (areas >= max(CRUMB * areas.max(), 1))
    extent = max(heights[tall].max(initial=0), (right - left + 1)[tall].max(initial=0))
    if (
        extent < max(SMALLEST * max(height, width), 2 if tall.sum() == 1 else LEAST)
        or max(areas[tall].sum(), 2 * areas.max()) < areas.sum() / 2
        or chosen.sum() > MOST
    ):
        raise ValueError("no digit stands out from the specks on its background; write it larger and darker")
    return np.flatnonzero(chosen)


def _group(pieces: _Pieces, chosen: Ints) -> UInt8Array:
    """Tell which digit lies where, the first from the left is 1, of pieces that stand in one row."""
    digit = np.zeros(len(pieces.areas) + 1, np.uint8)  # of each label
    digit[chosen + 1] = 1 if len(chosen) == 1 else _number(pieces, chosen)
    return digit[pieces.labels]


def _number(pieces: _Pieces, chosen: Ints) -> Ints:
    """Give each piece the number of its digit, counted from left to right from 1 on; 0 is dust."""
    boxes, (starts, ends) = pieces.boxes[chosen], _ends(pieces, chosen)
    body = _join(
        np.arange(len(chosen)), *np.nonzero(_are_broken(pieces, chosen) | _are_one(boxes, starts, ends))
    )
    around = np.stack([_around(boxes[body == first]) for first in body])  # of each piece's body
    heights = around[:, 1] - around[:, 0] + 1
    is_low = heights < FRAGMENT * heights.max()
    areas = pieces.areas[chosen]
    is_dust = is_low & (np.bincount(body, areas)[body] < SPECK * areas.max())
    tall = np.flatnonzero(~is_low)
    body[is_low] = body[tall[_nearest(boxes[is_low], boxes[tall], starts[tall], ends[tall])]]

    firsts, place = np.unique(body, return_inverse=True)
    top, bottom, left, right = around[firsts].T
    order = (left + right).argsort(kind="stable")
    top, bottom = top[order], bottom[order]
    if np.any(_shared(top[1:], bottom[1:], top[:-1], bottom[:-1]) < LEVEL):
        raise ValueError("its digits don't stand in one row; show one row at a time")
    return np.where(is_dust, 0, order.argsort()[place] + 1)


def _ends(pieces: _Pieces, chosen: Ints) -> tuple[Ints, Ints]:
    """Give the first and the last column of each piece in each row, [N, H]; elsewhere 0 and the width."""
    height, width = pieces.labels.shape
    starts, ends = np.zeros((len(chosen), height), int), np.full((len(chosen), height), width)
    for i, piece in enumerate(chosen):
        top, bottom, left, right = pieces.boxes[piece]
        mine = pieces.labels[top : bottom + 1, left : right + 1] == piece + 1
        starts[i, top : bottom + 1] = left + mine.argmax(axis=1)
        ends[i, top : bottom + 1] = right - mine[:, ::-1].argmax(axis=1)
    return starts, ends


def _are_broken(pieces: _Pieces, chosen: Ints) -> Mask:
    """Tell which two pieces, [N, N], only a narrow gap keeps apart: grown by half of it they connect."""
    top, bottom, _, _ = pieces.boxes[chosen].T
    radius = int((bottom - top + 1).max() * BREAK / 2 + 0.5)
    is_chosen = np.zeros(len(pieces.areas) + 1, bool)
    is_chosen[chosen + 1] = True
    grown = _pieces(_over_squares(np.maximum, np.pad(is_chosen[pieces.labels], 2 * radius), radius)).labels
    first = (pieces.labels[top] == chosen[:, np.newaxis] + 1).argmax(axis=1)  # column of its first row
    label = grown[top + radius, first + radius]
    return cast(Mask, label[:, np.newaxis] == label)


def _are_one(boxes: Ints, starts: Ints, ends: Ints) -> Mask:
    """Tell which two pieces, [N, N], are one digit: above each other, or one within the other."""
    pairs = [(side[:, np.newaxis], side) for side in boxes.T]
    (top, other_top), (bottom, other_bottom), (left, other_left), (right, other_right) = pairs
    rows = _shared(top, bottom, other_top, other_bottom)
    columns = _shared(left, right, other_left, other_right)
    level = rows >= np.where(columns > 0, OVERLAP, LEVEL)
    both = np.maximum(bottom, other_bottom) - np.minimum(top, other_top) + 1
    gap = np.maximum(top, other_top) - np.minimum(bottom, other_bottom)
    above = (columns > -ASIDE) & (gap < GAP * np.maximum(both, (bottom - top).max() + 1))
    before = (ends[:, np.newaxis] < starts).sum(axis=2)
    beside = np.maximum(before, before.T) > BESIDE * (1 - gap)
    return cast(Mask, np.where(level, ~beside, above))


def _shared(start: Ints, end: Ints, other_start: Ints, other_end: Ints) -> npt.NDArray[np.float64]:
    """Tell which part of the shorter of two intervals lies in the other; less than 0: they are apart."""
    both = np.minimum(end, other_end) - np.maximum(start, other_start) + 1
    return cast(npt.NDArray[np.float64], both / (np.minimum(end - start, other_end - other_start) + 1))


def _around(boxes: Ints) -> Ints:
    """Give the box around boxes."""
    top, bottom, left, right = boxes.T
    return np.array([top.min(), bottom.max(), left.min(), right.max()])


def _nearest(low: Ints, tall: Ints, starts: Ints, ends: Ints) -> Ints:
    """Tell which tall piece, of which the ends in each row are known, each low box is nearest to."""
    (top, bottom, left, right), each = low.T[:, :, np.newaxis], np.arange(len(tall))
    row = ((top + bottom) // 2).clip(tall[:, 0], tall[:, 1])
    down = np.maximum(tall[:, 0] - bottom, top - tall[:, 1]).clip(0)
    aside = np.maximum(starts[each, row] - right, left - ends[each, row]).clip(0)
    return cast(Ints, (down * down + aside * aside).argmin(axis=1))


def _with_rim(digits: UInt8Array) -> UInt8Array:
    """Give what lies around the strokes of a digit to it as well."""
    around = _over_squares(np.maximum, np.pad(digits, RIM), RIM)
    return np.where(digits, digits, around)


def _crop(ink: Ink) -> Ink:
    """Cut the digit out; half a stroke's ink is its edge."""
    strong = ink > 1 / 2
    rows, columns = np.flatnonzero(strong.any(axis=1)), np.flatnonzero(strong.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _thicken(ink: Ink) -> Ink:
    """Make strokes at least as thick as MNIST's thin ones; a thinner one would turn faint in 28 x 28.

    The thickness of a stroke is twice its area by its outline, the sum of all differences of neighbours.
    """
    if max(ink.shape) > LARGE:
        ink = _fit(ink, LARGE)
    wide = np.pad(ink, 1)
    outline = np.abs(np.diff(wide, axis=0)).sum() + np.abs(np.diff(wide, axis=1)).sum()
    missing = STROKE / LARGE * max(ink.shape) - 2 * ink.sum() / outline
    radius = max(int(missing / 2 + 0.5), 0)
    return _over_squares(np.maximum, np.pad(ink, 2 * radius), radius)


def _fit(ink: Ink, longer: int) -> Ink:
    """Scale by averaging areas, so that the longer side has `longer` pixels."""
    height, width = (max(int(size * longer / max(ink.shape) + 0.5), 1) for size in ink.shape)
    return cast(Ink, _overlaps(ink.shape[0], height) @ ink @ _overlaps(ink.shape[1], width).T)


def _overlaps(before: int, after: int) -> Ink:
    """Tell which part of each of `after` pixels lies on each of `before` pixels, [after, before].

    Examples
    --------
    >>> _overlaps(3, 2).round(2)
    array([[0.67, 0.33, 0.  ],
           [0.  , 0.33, 0.67]], dtype=float32)
    """
    edges = np.arange(after + 1)[:, np.newaxis] * before / after
    pixels = np.arange(before)
    parts = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    return (parts.clip(0) * after / before).astype(np.float32)


def _centre(ink: Ink) -> UInt8Array:
    """Put the centre of mass on the pixel (14, 14), as in MNIST, unless the digit would be cut off."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    place = []
    for axis, size in enumerate(ink.shape):
        mass = ink.sum(axis=1 - axis)
        centre = int(mass @ np.arange(size) / mass.sum() + 0.501)  # errors of rounding shouldn't decide a tie
        place.append(min(max(SIDE // 2 - centre, 0), SIDE - size))
    top, left = place
    image[top : top + ink.shape[0], left : left + ink.shape[1]] = 255 * ink / ink.max() + 0.5
    return image
