"""A user's own pictures: a folder with sub-folders 0 to 9."""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from digitsum.cores import cores
from digitsum.data.digits import Digits, describe, import_extra, os_error_as, shuffle
from digitsum.errors import InputError
from digitsum.files import reason
from digitsum.reading.imaging import read_picture
from digitsum.types import Int64Array, UInt8Array

POOLED = 100  # pictures: to read fewer takes no longer than to start the other processes
NAMED = 3  # of the files that are skipped

log = logging.getLogger("digitsum")


def load_pictures(folder: Path, split: str) -> Digits:
    """Load the pictures of a user's folder, each read as `read_picture` does, shuffled in a fixed order.

    A file that can't be read is skipped, and a warning says so.

    Parameters
    ----------
    folder
        With sub-folders `0` to `9` of pictures of one digit each, in folders of their own too.
    split
        "train": a folder is one set of pictures.

    Raises
    ------
    InputError
        It isn't such a folder, has no picture of one of the digits, or has no such split.
    OSError
        A folder can't be read.
    """
    with os_error_as(f"{folder} can't be read"):
        if not folder.is_dir():
            raise InputError(
                f"the data are mnist5k, mnist or a folder with sub-folders 0 to 9, not {describe(folder)}"
            )
        if split == "test":
            raise InputError(f"{folder} is one set of pictures, it has no test split: use --split train")
        missing = [str(label) for label in range(10) if not (folder / str(label)).is_dir()]
        if missing:
            raise InputError(f"{folder} should have sub-folders 0 to 9, but lacks {', '.join(missing)}")
        paths = sorted(path for label in range(10) for path in _walk(folder / str(label)))
        files = tuple((path, (state := path.lstat()).st_size, state.st_mtime_ns) for path in paths)
    return shuffle(*_read_pictures(folder, files))


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
        joblib = import_extra("joblib")
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
