"""Any picture of a number -> its row of digits as a strip of 32 rows, for a network that reads all of it.

    strip, may_have_lost = read_row("cheque.jpg")   # uint8 [32, W], 0 paper, 255 ink

All between the top and the bottom of the row that was found (finding.py) is cut out as it is: lines, marks
and whatever touches. Strokes of a thin pen are thickened, and it is scaled to the strip's height.
`narrow` makes a strip narrower, for a second look.
"""

from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from digitsum.reading.decoding import Picture, decode, read
from digitsum.reading.finding import find, find_in_ink, named
from digitsum.reading.imaging import LARGE, are_prepared, ink_of, thicken
from digitsum.types import HEIGHT, Ink, UInt8Array

MARGIN = 4  # columns of paper before a strip in a batch, and at least as many after it
PAPER_AROUND = 0.06  # of the row's height, left around it
PEN = 6  # pixels of LARGE: thinner strokes are made as thick
SHORT = 256  # columns: a longer strip, whose digits would run into each other, isn't looked at again
NARROWER = 0.85  # times its width, a strip that is looked at again: a wide digit then looks less like two


class Row(NamedTuple):
    """A row of digits.

    Attributes
    ----------
    strip
        uint8 [32, W], 0 paper, 255 ink.
    may_have_lost
        Whether something as tall as a digit was left out.
    """

    strip: UInt8Array
    may_have_lost: bool


def read_row(picture: Picture, of_one: bool = False) -> Row:
    """Read a picture of a number as one strip.

    Parameters
    ----------
    picture
        As for `imaging.read_picture`.
    of_one
        Whether it should be one digit: what stands at the picture's edge beside it is left out.

    Raises
    ------
    InputError
        As for `imaging.read_picture`, or the digits stand in several rows.
    OSError, TypeError
        As for `imaging.read_picture`.

    Examples
    --------
    >>> page = np.full((300, 400), 230, np.uint8)
    >>> page[100:200, 50:60] = page[110:200, 90:100] = 40  # eleven
    >>> strip, may_have_lost = read_row(page)
    >>> strip.shape, may_have_lost
    ((32, 18), False)
    """
    with named(picture) as name:
        source = read(picture)
        grey = decode(source, name)
        if are_prepared(grey[np.newaxis]).all():
            place = find_in_ink(np.asarray(grey, np.float32) / np.float32(255))
        else:
            place = find(source, grey, name, of_one)
    margin = int(PAPER_AROUND * (place.bottom - place.top)) + 1  # it is paper beyond the picture's edge, too
    wide = np.pad(ink_of(place) if of_one else place.ink, margin)
    cut = wide[place.top : place.bottom + 2 * margin, place.left : place.right + 2 * margin]
    return Row(_to_strip(cut), place.may_have_lost)


def _to_strip(ink: Ink) -> UInt8Array:
    if len(ink) > LARGE:
        ink = _resize(ink, LARGE, Image.Resampling.BOX)
    ink = thicken(ink, PEN / LARGE * len(ink))
    kind = Image.Resampling.BOX if len(ink) > HEIGHT else Image.Resampling.BICUBIC
    return cast(UInt8Array, np.rint(255 * _resize(ink, HEIGHT, kind).clip(0, 1)).astype(np.uint8))


def _resize(ink: Ink, height: int, kind: Image.Resampling, times: float = 1) -> Ink:
    width = max(int(times * ink.shape[1] * height / len(ink) + 0.5), 8)
    return np.asarray(Image.fromarray(ink).resize((width, height), kind))


def narrow(strip: UInt8Array) -> UInt8Array:
    """Make a strip, uint8 [32, W], narrower for a second look.

    Examples
    --------
    >>> narrow(np.zeros((32, 100), np.uint8)).shape
    (32, 85)
    """
    narrower = _resize(strip.astype(np.float32), HEIGHT, Image.Resampling.BILINEAR, NARROWER)
    return cast(UInt8Array, np.rint(narrower).astype(np.uint8))


def pad(strips: list[UInt8Array], places: list[int] | None = None) -> UInt8Array:
    """Put strips, uint8 [32, W] each, into one array, uint8 [N, 1, 32, W], W the next multiple of 4.

    `places` says at which column each begins, `MARGIN` if not otherwise.

    Examples
    --------
    >>> pad([np.zeros((32, 5), np.uint8), np.zeros((32, 11), np.uint8)]).shape
    (2, 1, 32, 20)
    """
    places = places or [MARGIN] * len(strips)
    ends = [place + strip.shape[1] for place, strip in zip(places, strips, strict=True)]
    batch = np.zeros((len(strips), 1, HEIGHT, -(-(max(ends) + MARGIN) // 4) * 4), np.uint8)
    for row, strip, place, end in zip(batch, strips, places, ends, strict=True):
        row[0, :, place:end] = strip
    return batch
