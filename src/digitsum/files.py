"""Where the package's own files are; files written whole or not at all, and noticed when damaged.

A run folder's `SHA256SUMS` lists the digests of those of its files that nobody edits, as `sha256sum` writes
them: `sha256sum --check SHA256SUMS` reads it too.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from digitsum.errors import InputError

WEIGHTS = Path(__file__).parent / "weights"
NETWORKS = ("exact", "concat", "row")  # that come with the package, each in a folder of its name
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # disk, quota, largest file
SUMS = "SHA256SUMS"
SUMMED = ("checkpoint.ckpt", "model.safetensors", "model.onnx", "evaluation.json")
EDITED = ("config.json", "metrics.csv")  # by people; earlier versions listed their digests too
Sums = dict[str, list[str]]  # digests of each file, two while it is being replaced


def locate(name: str | Path) -> Path:
    """Return the folder of a network of the package for its name, and any other name as the path that it is.

    Examples
    --------
    >>> locate("exact") == WEIGHTS / "exact"
    True
    >>> str(locate("runs/first"))
    'runs/first'
    >>> locate("./exact") == locate(Path("exact")) == Path("exact")  # a user's own folder of that name
    True
    """
    return WEIGHTS / name if name in NETWORKS else Path(name)


def user_cache() -> Path:
    """Return the folder of the user's cache, whether it is there or not.

    Raises
    ------
    OSError
        There is no home folder to keep it in.
    """
    from platformdirs import user_cache_path

    with suppress(RuntimeError):
        folder = user_cache_path("digitsum")
        if folder.is_absolute():  # where there is no home, older versions give "~/.cache", others raise
            return folder
    raise OSError("there is no home folder for the cache: set HOME or XDG_CACHE_HOME to a folder of yours")


def reason(error: BaseException) -> str:
    """Return why something failed: of an error of the system its words alone, without number and file.

    Examples
    --------
    >>> reason(PermissionError(13, "Permission denied", "letter.png"))
    'Permission denied'
    >>> reason(ValueError("it is cut short"))
    'it is cut short'
    """
    inner = getattr(error, "reason", None)  # of an address that can't be opened
    cause = inner if isinstance(inner, OSError) else error
    return getattr(cause, "strerror", None) or str(cause)


@contextmanager
def replacing(path: Path, starts_run: bool = False) -> Iterator[Path]:
    """Yield a temporary path; when the block ends well, what was written there replaces `path`.

    The temporary file lies in `path`'s own folder (made if missing), so the replacement is one atomic
    rename; when the block fails or is interrupted, `path` stays as it was and nothing is left behind.

    Parameters
    ----------
    path
        Of a file, new or old. One of a run (`SUMMED`) is listed in `SHA256SUMS` where its folder has one.
    starts_run
        Whether to list it in any case: the folder becomes that of a run.

    Raises
    ------
    InputError
        Something other than a file is there, as a folder or a device; or another process is writing the run.
    OSError
        The folder can't be written to, or the disk is full.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a folder, a device or the like, not a file to replace: choose another")
    _check_parents(path)
    listed = path.name in SUMMED and (starts_run or (path.parent / SUMS).exists())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            locked(path.parent) if listed else nullcontext(),
            TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder,
        ):
            temporary = Path(folder) / path.name
            yield temporary
            if listed:
                _replace_and_list(temporary, path)
            else:
                replace(temporary, path)
    except OSError as error:
        # the system names the temporary file, or none; what has no number has its sentence
        if error.errno in FULL or (error.errno and error.filename):
            raise OSError(f"{path} can't be written: {reason(error)}") from error
        raise


def _check_parents(path: Path) -> None:
    """Refuse a path that goes through a file."""
    nearest = next(filter(Path.exists, path.parents), None)
    if nearest and not nearest.is_dir():
        raise InputError(f"{nearest} isn't a folder: choose another place for {path.name}")


def replace(new: Path, path: Path) -> None:
    """Rename a file when it is on the disk, so that a power cut too leaves the old one or the new one."""
    _flush(new, os.O_RDWR)
    new.replace(path)
    with suppress(OSError):  # not every system lets a folder be opened
        _flush(path.parent, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace_and_list(new: Path, path: Path) -> None:
    """Replace a file of a run so that, whenever this is cut off, the digest of what is there is listed."""
    sums = _read_sums(path.parent)
    before = sums.get(path.name) or ([digest(path)] if path.exists() else [])
    after = digest(new)
    _write_sums(path.parent, sums | {path.name: [*before, after]})
    replace(new, path)
    _write_sums(path.parent, sums | {path.name: [after]})


def remove(run: Path, *names: str) -> None:
    """Remove files of a run that are there, and what `SHA256SUMS` says of them."""
    for name in names:
        (run / name).unlink(missing_ok=True)
    sums = _read_sums(run)
    if sums.keys() & set(names):
        _write_sums(run, {name: digests for name, digests in sums.items() if name not in names})


def read(path: Path) -> bytes:
    """Read a file; one that its folder's `SHA256SUMS` lists must be as it was written.

    Raises
    ------
    InputError
        It isn't, `SHA256SUMS` itself is damaged, or there is no file but a device or the like.
    FileNotFoundError
        It is missing.
    OSError
        It can't be read.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is a folder, a device or the like, not a file")
    while True:
        listed = _read_sums(path.parent).get(path.name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise type(error)(f"{path} can't be read: {reason(error)}") from error
        if not listed or hashlib.sha256(data).hexdigest() in listed:
            return data
        # whoever replaces a file lists the new digest first: only a list that stays says that it is damaged
        if _read_sums(path.parent).get(path.name) == listed:
            raise InputError(
                f"{path} is damaged: its SHA-256 isn't the one in {SUMS} (put a good copy in its place, or"
                " delete its line there if you changed it yourself)"
            )


def read_json(path: Path) -> dict[str, Any]:
    """Read a file, as `read` does, that holds one JSON object.

    Raises
    ------
    InputError
        As of `read`; or it isn't one.
    OSError
        As of `read`.
    """
    data = read(path)
    try:
        found = json.loads(data)
    except RecursionError:
        raise InputError(f"{path} isn't a JSON object: it is nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{path} isn't a JSON object: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} isn't a JSON object")
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_sums(folder: Path) -> Sums:
    path = folder / SUMS
    sums: Sums = {}
    if not path.is_file():
        return sums
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        match = re.fullmatch(rb"([0-9a-f]{64}) [ *]([^/]+)", line)
        if not match:
            raise InputError(
                f"{path} is damaged: its line {number} isn't a SHA-256 and a name; delete {SUMS} to use the"
                " files unchecked"
            )
        if (name := os.fsdecode(match[2])) not in EDITED:
            sums.setdefault(name, []).append(match[1].decode())
    return sums


def _write_sums(folder: Path, sums: Sums) -> None:
    lines = [f"{digest}  {name}\n" for name, digests in sums.items() for digest in dict.fromkeys(digests)]
    with replacing(folder / SUMS) as file:
        file.write_bytes(os.fsencode("".join(lines)))


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other processes from writing a run's files while the block lasts, or its process lives.

    The folder is made if missing. What a killed process left half written there is removed. A block inside
    another, of the same thread, is no conflict.

    Raises
    ------
    InputError
        Another process holds the lock, or the path goes through a file.
    OSError
        The folder can't be written to.
    """
    from filelock import FileLock, Timeout  # of the extra train

    _check_parents(run)
    if run.exists() and not run.is_dir():
        raise InputError(f"{run} isn't a folder: choose another")
    lock = FileLock(run.resolve() / ".lock", blocking=False, is_singleton=True)
    nested = lock.is_locked
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{run} is in use, by another training for instance: wait for its end, or choose another folder"
        ) from None
    except OSError as error:
        raise OSError(f"{run} can't be written to: {reason(error)}") from error
    try:
        if not nested:
            _sweep(run)
        yield
    finally:
        if not nested:
            with suppress(OSError):  # while it is held: who has opened it meanwhile sees that it is gone
                Path(lock.lock_file).unlink()
        lock.release()


def _sweep(run: Path) -> None:
    """Remove the temporary folders of `replacing` whose process was killed."""
    for name in (*SUMMED, *EDITED, SUMS):
        for folder in run.glob(f".{name}.????????"):
            with suppress(OSError):  # it is another's
                (folder / name).unlink(missing_ok=True)
                folder.rmdir()
