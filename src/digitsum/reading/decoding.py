"""Whatever a picture comes as, a file or an array, decoded to grey levels and made as small as is needed.

    grey = decode(read("photo.jpg"))  # [H, W], 0 black to 255 white, neither side over 500 pixels

A file may be damaged or made to do harm: its bytes and pixels are bounded before any pixel is decoded, and
whatever a decoder fails with becomes one clear sentence.
"""

import io
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from digitsum.errors import InputError
from digitsum.types import Array, UInt8Array

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")  # what Pillow may decode: the fewer, the safer
MAX_BYTES = 40_000_000
MAX_PIXELS = 40_000_000
MAX_JPEG_PIXELS = 80_000_000  # its decoder makes it smaller, so a pixel takes half the memory, at worst
# Of a JPEG: a camera writes up to a dozen scans, each over all pixels, and one block of EXIF data
REPEATED, MAX_REPEATED = (b"\xff\xda\0", b"Exif\0\0"), 100
WORKING = 500  # pixels: a longer side is shrunk to at most this before the ink is found
LIGHT = 230  # grey levels: ink as light as this isn't seen on white paper

Picture = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | Array
Source = bytes | Image.Image | Array  # a picture that is read and is still to be decoded
Part = tuple[float, float, float, float]  # top, bottom, left, right, as shares
WHOLE: Part = (0, 1, 0, 1)
Grey = UInt8Array | npt.NDArray[np.float32]  # 0 black to 255 white; float32 of deeper pictures

log = logging.getLogger("digitsum")
# the filters for warnings belong to the whole process: two threads that change them would mix them up
_filters = threading.Lock()


def read(picture: Picture) -> Source:
    """Read a file, at most one byte more than is allowed; what is none comes back as it is.

    Raises
    ------
    InputError
        An open file is empty or stands at its end.
    OSError
        The path can't be read.
    TypeError
        It is nothing that holds a picture.

    Examples
    --------
    >>> read(io.BytesIO(b"GIF89a"))
    b'GIF89a'
    """
    if isinstance(picture, str | os.PathLike):
        with Path(picture).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    if isinstance(picture, bytes | Image.Image | np.ndarray):
        return picture
    if not hasattr(picture, "read"):
        kind = type(picture).__name__
        raise TypeError(f"a picture is a path, bytes, an open file, a Pillow image or an array, not a {kind}")
    data = bytearray()
    # a file without a buffer gives less than is asked for
    while len(data) <= MAX_BYTES and (more := picture.read(MAX_BYTES + 1 - len(data))):
        if isinstance(more, str):
            raise TypeError(
                'a picture is read from a file opened for bytes, as open(path, "rb") does, not text'
            )
        data += more
    if not data:
        raise InputError("no bytes are left in the open file: seek(0) goes back to its start")
    return bytes(data)


def decode(source: Source, name: str = "the picture", part: Part = WHOLE, longest: int | None = None) -> Grey:
    """Return the grey levels of a picture, or of a part of it, turned upright and shrunk to WORKING.

    A TIFF with further pages is read with a warning of the logger "digitsum".

    Parameters
    ----------
    source
        The bytes of a file in one of FORMATS, a Pillow image, which stays as it is, or an array [H, W],
        [H, W, 3] or [H, W, 4], bool, uint8, uint16 or float from 0 to 1, where 0 is black.
    name
        What a warning calls it.
    part
        From which share of its upright height to which, then of its width.
    longest
        Pixels: a longer side is shrunk to at most this, `WORKING` if not otherwise.

    Returns
    -------
    uint8 or float32 array, [H, W]
        0 is black, 255 is white; float32, with fractions, if the picture has 16 or 32 bits a pixel.

    Raises
    ------
    InputError
        It isn't such a picture, is damaged or too large.

    Examples
    --------
    >>> decode(np.array([[0, 0.5, 1]]))
    array([[  0. , 127.5, 255. ]], dtype=float32)
    >>> decode(np.full((1500, 1000), 40, np.uint8)).shape
    (500, 334)
    """
    if isinstance(source, np.ndarray):
        image = _crop(_from_array(source), part)
        return _grey(image, _factor(max(image.size), longest))
    try:
        with _quiet():
            image = _open(source)
        if image.format == "PNG":
            image.load()  # or its pixels would be decoded for its EXIF data, while other threads wait
        if part == WHOLE and image.format == "TIFF" and getattr(image, "is_animated", False):
            log.warning("%s has further pages: the first is read", name)
        with _quiet():
            image.getexif()  # warns here, and is kept; a JPEG's pixels are decoded later
        _decode_smaller(image, part, longest)
        ImageOps.exif_transpose(image, in_place=True)
        image = _crop(image, part)
        return _grey(image, _factor(max(image.size), longest))
    except UnidentifiedImageError as error:
        raise InputError(f"it is none of {', '.join(FORMATS)}; save it as PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"it has more than {MAX_PIXELS} pixels; make it smaller") from error
    except (InputError, MemoryError, RecursionError):
        raise
    except Exception as error:
        # no list of what damaged bytes end in is complete: struct.error, KeyError, TypeError, SystemError ...
        raise InputError(_explain(error)) from error


def _crop(image: Image.Image, part: Part) -> Image.Image:
    if part == WHOLE:
        return image
    (top, bottom), (left, right) = (
        (int(start * size), max(int(end * size), int(start * size) + 1))
        for start, end, size in zip(part[::2], part[1::2], reversed(image.size), strict=True)
    )
    return image.crop((left, top, right, bottom))


def _explain(error: Exception) -> str:
    """Return what a decoder fails with as a sentence; Pillow's own are of three kinds."""
    if "MAX_TEXT" in str(error):
        return "the text or colour profile beside its pixels is too long; save it anew without it"
    told = isinstance(error, OSError | SyntaxError | ValueError)
    return f"it is damaged: {error}" if told else "it is damaged"


@contextmanager
def _quiet() -> Iterator[None]:
    """Let nothing warn, as it would of what is an error here or doesn't matter; one thread at a time."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open(source: bytes | Image.Image) -> Image.Image:
    """Open the picture: of a file only the header is read, and a caller's Pillow image is copied."""
    if isinstance(source, Image.Image):
        _check_size(*source.size)
        return ImageOps.exif_transpose(source)
    if not source:
        raise InputError("it is empty")
    if len(source) > MAX_BYTES:
        raise InputError(f"it has more than {MAX_BYTES} bytes; make it smaller")
    if source.startswith(b"\xff\xd8") and max(map(source.count, REPEATED)) > MAX_REPEATED:
        raise InputError(f"it repeats a part of a JPEG more than {MAX_REPEATED} times; save it anew")
    image = Image.open(io.BytesIO(source), formats=FORMATS)
    _check_size(*image.size, MAX_JPEG_PIXELS if image.format in ("JPEG", "MPO") else MAX_PIXELS)
    return image


def _from_array(array: Array) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise InputError(f"an array should be [H, W], [H, W, 3] or [H, W, 4], not {list(array.shape)}")
    _check_size(array.shape[1], array.shape[0])
    has_colours = array.ndim == 3
    if array.dtype.kind == "f":
        _check_range(array, 1)
        array = np.rint(255 * array).astype(np.uint8) if has_colours else array.astype(np.float32)
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:  # of either order of bytes
        array = (array >> 8).astype(np.uint8) if has_colours else array.astype(np.uint16)
    elif array.dtype == np.bool:
        array = 255 * array.astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InputError(
            "an array should be bool, uint8 from 0 to 255, uint16 from 0 to 65535 or float from 0 to 1, not"
            f" {array.dtype}"
        )
    return Image.fromarray(array)


def _check_size(width: int, height: int, most: int = MAX_PIXELS) -> None:
    if width * height > most:
        raise InputError(f"it has {width} x {height} pixels, more than {most}; make it smaller")
    if width * height == 0:
        raise InputError(f"it has {width} x {height} pixels, so it shows nothing")


def _check_range(array: Array, most: int) -> None:
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= most):  # which NaN isn't either
        raise InputError(
            f"its {array.dtype} numbers should be scaled to 0 to {most}, but are {low} to {high}"
        )


def _factor(longer: int, longest: int | None = None) -> int:
    """Return how many times smaller a picture becomes: a power of two, or three of them, which is quick.

    Examples
    --------
    >>> [_factor(longer) for longer in (28, 500, 501, 1500, 2001, 3001, 4032)]
    [1, 1, 2, 3, 6, 8, 12]
    """
    factor = -(-longer // (longest or WORKING))
    zeros = max(factor.bit_length() - 2, 0)
    return -(-factor >> zeros) << zeros


def _decode_smaller(image: Image.Image, part: Part, longest: int | None) -> None:
    """Let a JPEG's decoder, which can do it up to 8 times, make the picture smaller."""
    width, height = image.size
    down, across = part[1] - part[0], part[3] - part[2]
    # of the part; whichever side is up
    longer = min(max(width * across, height * down), max(width * down, height * across))
    factor = _factor(int(longer), longest)
    times = min(factor & -factor, 8)  # the largest power of two that divides it
    image.draft(None, (max(width // times, 1), max(height // times, 1)))  # of other formats nothing changes


def _grey(image: Image.Image, factor: int) -> Grey:
    """Return grey levels, 0 to 255, with the fractions that 16 bits or floats have, shrunk."""
    if image.mode == "F" or image.mode.startswith("I"):
        most = 1 if image.mode == "F" else 65_535
        array = np.asarray(image)
        _check_range(array, most)
        return _shrink(Image.fromarray(array.astype(np.float32) * np.float32(255 / most)), factor)
    if image.mode == "LAB":
        return _shrink(image.getchannel("L"), factor)
    if not image.has_transparency_data:
        return _shrink(image.convert("L"), factor)
    if image.mode == "La":  # which can't become RGBA at once
        image = image.convert("LA")
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema()[0] == 255:  # opaque throughout, as most are
        return _shrink(image.convert("L"), factor)
    white = _on_paper(image, "white", factor)
    if white.min() < LIGHT:
        return white
    black = _on_paper(image, "black", factor)
    return black if black.mean() < 255 / 2 else white  # where most is transparent


def _on_paper(image: Image.Image, colour: str, factor: int) -> Grey:
    """Return the grey levels of an RGBA image on paper of a colour, shrunk."""
    return _shrink(Image.alpha_composite(Image.new("RGBA", image.size, colour), image).convert("L"), factor)


def _shrink(image: Image.Image, factor: int) -> Grey:
    """Average blocks of `factor` x `factor` pixels; the last ones may have fewer."""
    return np.asarray(image.reduce((min(factor, image.width), min(factor, image.height))))
