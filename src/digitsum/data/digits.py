"""Images with their labels, and what reading them from files and folders has in common."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from digitsum.types import Int64Array, UInt8Array

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


def shuffle(images: UInt8Array, labels: Int64Array) -> Digits:
    """Put what is sorted by class into one fixed order, so that every prefix has all classes."""
    order = np.random.default_rng(0).permutation(len(labels))
    return Digits(images[order], labels[order])


def import_extra(module: str) -> ModuleType:
    """Import a module that only the extra `train` brings."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{module} isn't installed: pip install 'digitsum[train]'") from error


def expand_user(name: StrPath) -> Path:
    """Return the path of a folder; a shell leaves the ~ of --data=~/pictures as it is."""
    return Path(os.path.expanduser(name))  # noqa: PTH111  # Path's own raises where there is no home


def describe(folder: Path) -> str:
    """Name a folder that isn't there: of a relative one also from where it was looked for."""
    return str(folder) if folder.is_absolute() else f"{folder}, looked for from {Path.cwd()}"


@contextmanager
def os_error_as(what: str) -> Iterator[None]:
    """Let an error of the system be a sentence: what failed, and why."""
    try:
        yield
    except OSError as error:
        if error.strerror is None:  # it is a sentence
            raise
        raise type(error)(f"{what}: {error.strerror}") from error
