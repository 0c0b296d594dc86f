"""Any picture of a handwritten digit, prepared as MNIST's images were.

    image = read_picture("photo.jpg")   # uint8 [28, 28], 0 background, 255 ink

MNIST's own steps are the last ones: the digit is scaled to fit a box of 20 x 20, with grey levels from
averaging areas, and its centre of mass is put at the centre of 28 x 28 ("The MNIST database of handwritten
digits", LeCun, Cortes and Burges). Before them the picture is decoded to grey levels (decoding.py), the paper
is evened out (paper.py), and the pieces of ink that make the digit are found (finding.py). All are plain
sums, largest values and averages of areas, so that a web page can repeat them on a canvas.
"""

from typing import cast

import numpy as np
import numpy.typing as npt

from digitsum.errors import InputError
from digitsum.reading.decoding import Grey, Picture, decode, read
from digitsum.reading.finding import Place, find, named
from digitsum.reading.morphology import over_squares
from digitsum.reading.paper import STRONG, crop
from digitsum.types import Ink, Mask, UInt8Array

GREY = 2  # pixels around the pieces of a digit that keep their grey levels
LARGE = 100  # pixels, the longer side of the digit when its strokes are measured and thickened
STROKE = 8  # pixels of LARGE: thinner strokes are made as thick; nine in ten of MNIST's are 7 to 14
BOX = 20  # pixels, the longer side of the digit in the end
SIDE = 28  # pixels, of the image in the end


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
        It isn't such a picture, is damaged or too large, or shows no digit or several.
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
    with named(picture) as name:
        source = read(picture)
        grey = decode(source, name)
        if are_prepared(grey[np.newaxis]).all():
            return np.rint(grey).astype(np.uint8)
        place = find(source, grey, name, of_one=True)
        if place.apart > 1:
            raise InputError(f"it shows {place.apart} digits, not one; the network row reads rows of digits")
        return fit_ink(ink_of(place)[place.top : place.bottom, place.left : place.right])


def ink_of(place: Place) -> Ink:
    """Return the ink of the pieces that were chosen, and of a little around them."""
    return place.ink * over_squares(np.maximum, np.pad(place.chosen, GREY), GREY)


def fit_ink(ink: Ink) -> UInt8Array:
    """Make ink, float32 [H, W] of 0 to 1, an image as MNIST's, uint8 [28, 28]: the last steps of reading.

    Examples
    --------
    >>> page = np.zeros((300, 400), np.float32)
    >>> page[100:200, 50:60] = 1  # a one
    >>> fit_ink(page).shape
    (28, 28)
    """
    return _centre(_fit(_thicken_digit(crop(ink)), BOX))


def are_prepared(images: Grey) -> Mask:
    """Return which images look as all of MNIST do: bright ink, and most pixels exactly black.

    Those come back unchanged from reading.

    Parameters
    ----------
    images
        uint8 or float32 [N, H, W], 0 black to 255 white.

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
    if images.shape[1:] != (SIDE, SIDE):
        return np.zeros(len(images), bool)
    flat = images.reshape(-1, SIDE * SIDE)
    return cast(Mask, (flat.max(axis=1) > 127) & ((flat == 0).sum(axis=1) > SIDE * SIDE / 2))


def _thicken_digit(ink: Ink) -> Ink:
    if max(ink.shape) > LARGE:
        ink = _fit(ink, LARGE)
    return thicken(ink, STROKE / LARGE * max(ink.shape))


def thicken(ink: Ink, least: float) -> Ink:
    """Make strokes at least so many pixels thick: thinner ones would turn faint in few pixels.

    The thickness of a stroke is twice its area by its outline.

    Examples
    --------
    >>> ink = np.zeros((9, 50), np.float32)
    >>> ink[4, 3:47] = 1
    >>> np.flatnonzero(thicken(ink, 3)[:, 25])
    array([4, 5, 6])
    """
    mask = np.pad(ink > STRONG, 1)
    outline = np.count_nonzero(mask[1:] != mask[:-1]) + np.count_nonzero(mask[:, 1:] != mask[:, :-1])
    radius = max(int((least - 2 * mask.sum() / max(int(outline), 1)) / 2 + 0.5), 0)
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
