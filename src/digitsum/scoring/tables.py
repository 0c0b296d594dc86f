"""Very many pictures: Parquet files and folders of pictures, at paths and addresses, by the batch of rows.

    for part in find("s3://bucket/pictures"):
        with opened(part) as table:
            column = picture_column(table.schema, part)
            for batch in parquet.record_batches(table):
                rows = read_rows(batch[column])

Addresses are whatever fsspec knows.
"""

import hashlib
import json
import logging
import math
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from digitsum.errors import InputError
from digitsum.files import reason
from digitsum.reading import strips
from digitsum.reading.decoding import Picture
from digitsum.reading.imaging import SIDE, are_prepared, read_picture
from digitsum.scoring.parquet import Table, open_table
from digitsum.types import UInt8Array

TABLES, MAGIC = (
    (".parquet", ".parq", ".pq"),
    b"PAR1",
)  # what says that a file is Parquet: its name or its start
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp")  # names that need no other look
NO_KEY = "__HIVE_DEFAULT_PARTITION__"  # hive's null
PICTURES = 1_000  # of a folder: as many count as a file
PIXELS = SIDE * SIDE
STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")

# the image of a digit, [28, 28], or a number's strip; or why there is none
Row = UInt8Array | strips.Row | str
Read = Callable[[Picture], UInt8Array | strips.Row]  # `Predictor.read`

log = logging.getLogger("digitsum")


class StoreError(OSError):
    """One sentence that says which place can't be read or written, and why."""


class Part(NamedTuple):
    """What one process reads by itself: a Parquet file, or some pictures.

    Attributes
    ----------
    name
        That of the Parquet file, without .parquet, or one for the pictures.
    base, files
        The address of a folder, and the names of the files in it.
    size
        Of the files, bytes.
    state
        A digest of the files' names, sizes and times, or what a store has instead of times.
    is_table
        Whether it is a Parquet file.
    """

    name: str
    base: str
    files: tuple[str, ...]
    size: int
    state: str
    is_table: bool = True

    @property
    def address(self) -> str:
        """Of the file, or of the first one."""
        return f"{self.base}/{self.files[0]}"

    @property
    def keys(self) -> dict[str, str | None]:
        """The columns that the folders' names hold, as hive has it: addend=7/part-0.parquet.

        Examples
        --------
        >>> Part("a", "file:///data/n=7.0", ("of=a%20b/a.parquet",), 0, "").keys
        {'n': '7', 'of': 'a b'}
        """
        pairs = [folder.split("=", 1) for folder in self.address.split("/")[:-1] if "=" in folder]
        return {
            unquote(name): None if value == NO_KEY else re.sub(r"^([0-9]+)\.0$", r"\1", unquote(value))
            for name, value in pairs
        }

    def __str__(self) -> str:
        more = len(self.files) - 1
        return shown(self.address) + (f" and {more} more" if more else "")


def find(source: str, out: str | None = None) -> list[Part]:
    """List what there is to read: each Parquet file, or each thousand pictures.

    Parameters
    ----------
    source
        A file, a folder (all in it, at any depth; if any is a Parquet file, only these, and a warning says
        so) or a pattern such as data/*.parquet, as a path or as an address. A Parquet file is told by its
        name's ending or, if that isn't a picture's either, by its first bytes. In folders and by patterns
        names that start with a dot or, but for pictures', with _ are left out, as is what lies in such
        folders. Links to files are followed, links to folders aren't.
    out
        A folder's whole `address`: what lies in it is left out.

    Raises
    ------
    InputError
        There is nothing, or the address isn't one that `address` takes; or two files' scores would have one
        name.
    OSError
        The store can't be reached.
    """
    with reaching(source):
        fs, path = _reach(source)
        base, found = _found(fs, path)
        home = fs.unstrip_protocol(base).rstrip("/")
        files = {
            name: info
            for name, info in found.items()
            if info["type"] != "directory" and not f"{home}/{name}".startswith(f"{out}/")
        }
        if not files:
            raise InputError(f"there are no Parquet files or pictures at {source}")
        tables = _tables(fs, base, files)
    if tables:
        _warn_of(files.keys() - tables, source)
        return _named_once(
            [_part(name.removesuffix(".parquet"), home, files, [name]) for name in files if name in tables]
        )
    names = list(files)
    groups = [names[start : start + PICTURES] for start in range(0, len(names), PICTURES)]
    return [_part(f"pictures-{i:06}", home, files, group, is_table=False) for i, group in enumerate(groups)]


def _found(fs: Any, path: str) -> tuple[str, dict[str, Any]]:
    """Return a folder, and what there is in it, by name; a file that is named itself may have any name."""
    if fs.isdir(path):
        base, found = path.rstrip("/"), listed(fs, path)
    elif fs.exists(path):
        base, _, name = path.rpartition("/")
        return base, {name: _followed(fs, fs.info(path))}
    else:
        base, found = re.split(r"/[^/]*[*?\[]", path)[0].rstrip("/"), fs.glob(path, detail=True)
    names = {place.removeprefix(f"{base}/"): place for place in sorted(found)}
    return base, {name: _followed(fs, found[names[name]]) for name in names if not _is_left_out(name)}


def _is_left_out(name: str) -> bool:
    """Whether a name is hidden, or no data, as _SUCCESS, _delta_log/0.json and _temporary/0/part-0.parquet.

    Examples
    --------
    >>> [_is_left_out(name) for name in ("_SUCCESS", "_temporary/0.parquet", ".a/b.png", "a/_DSC0042.JPG")]
    [True, True, True, False]
    """
    *folders, file = name.split("/")
    hidden = (".",) if _ends(file, IMAGES) else (".", "_")
    return file.startswith(hidden) or any(folder.startswith((".", "_")) for folder in folders)


def _ends(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings)


def _tables(fs: Any, base: str, files: dict[str, Any]) -> set[str]:
    """Return which files are Parquet; of those whose names don't tell the first bytes are read."""
    asked = [
        name
        for name, info in files.items()
        if info["type"] == "file" and info["size"] > len(MAGIC) and not _ends(name, TABLES + IMAGES)
    ]
    places = [f"{base}/{name}" for name in asked]
    starts = fs.cat_ranges(places, 0, len(MAGIC), on_error="return") if asked else []
    for start in starts:
        if isinstance(start, Exception) and not _is_of_file(fs, base, start):
            raise start
    told = {name for name, start in zip(asked, starts, strict=True) if start == MAGIC}
    return told | {name for name in files if _ends(name, TABLES)}


def _warn_of(others: set[str], source: str) -> None:
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        log.warning("%s has Parquet files: what else is there is left out, %s%s", source, min(others), more)


def _named_once(parts: list[Part]) -> list[Part]:
    """Refuse two files whose scores would have one name, as a.pq and a.pq.parquet."""
    by_name: dict[str, Part] = {}
    for part in parts:
        other = by_name.setdefault(part.name, part)
        if other is not part:
            raise InputError(f"the scores of {other} and of {part} would have one name: rename one")
    return parts


@contextmanager
def reaching(place: object) -> Iterator[None]:
    """Make a StoreError of whatever a store fails with: each has errors of its own."""
    try:
        yield
    except (InputError, StoreError):
        raise
    except OSError as error:
        why = reason(error)
        raise StoreError(why if str(place) in why else f"{place}: {why}") from error
    except Exception as error:
        if type(error).__module__ == "builtins" and not isinstance(error, ImportError):
            raise  # a mistake of this program
        raise StoreError(f"{place} can't be reached: {error}") from error


def _is_of_file(fs: Any, base: str, error: Exception) -> bool:
    """Whether an error is one file's: of the network it isn't, nor is it if its folder can't be reached."""
    kinds = OSError if isinstance(fs, LocalFileSystem) else (FileNotFoundError, PermissionError)
    passing = (ConnectionError, TimeoutError)
    return isinstance(error, kinds) and not isinstance(error, passing) and bool(fs.isdir(base))


def _open(fs: Any, path: str) -> Any:
    """Open a file; a pipe might keep whoever opens it waiting for ever."""
    if isinstance(fs, LocalFileSystem) and not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError("it is a folder, a device or the like")
    return fs.open(path, "rb")


def listed(fs: Any, folder: str) -> dict[str, Any]:
    """List all files in a folder, by path, as they are now: a store's listing may be one from before."""
    fs.invalidate_cache()
    found: dict[str, Any] = fs.find(folder, detail=True)
    return found


def _followed(fs: Any, info: dict[str, Any]) -> dict[str, Any]:
    """Return what a link leads to in place of the link; one that leads nowhere is an unreadable file."""
    if not info.get("islink"):
        return info
    return dict(fs.info(info["name"])) if fs.exists(info["name"]) else info | {"type": "file"}


def _part(name: str, base: str, files: dict[str, Any], names: list[str], is_table: bool = True) -> Part:
    states = [(each, files[each]["size"], _stamp(files[each])) for each in names]
    state = hashlib.sha256(json.dumps(states).encode()).hexdigest()
    return Part(name, base, tuple(names), sum(size for _, size, _ in states), state, is_table)


def _stamp(info: dict[str, Any]) -> str:
    """Return what changes with a file's content, as its store knows it."""
    return next((str(info[name]) for name in STAMPS if name in info), "")


def address(path: str) -> str:
    """Return the whole address of a path or an address.

    Raises
    ------
    InputError
        The address can't be given whole: it holds a host or another address, which fsspec keeps to itself.

    Examples
    --------
    >>> address("/data/pictures/"), address("memory://pictures")
    ('file:///data/pictures', 'memory:///pictures')
    """
    with reaching(path):
        fs, place = _reach(path)
        return str(fs.unstrip_protocol(place)).rstrip("/")


def _reach(source: str) -> tuple[Any, str]:
    """Return the store of an address, and the path there."""
    host = urlsplit(source).netloc if "://" in source else ""
    fs, path = url_to_fs(source)
    if "::" in source or host not in fs.unstrip_protocol(path):
        raise InputError(
            f"{source} holds a host or another address, which can't be kept: mount it or copy the files, or"
            " use a store whose addresses need neither, as s3://bucket/folder"
        )
    return fs, path


def shown(address: str) -> str:
    """Return an address as a person writes it.

    Examples
    --------
    >>> shown("file:///data/pictures"), shown("s3://bucket/pictures")
    ('/data/pictures', 's3://bucket/pictures')
    """
    return address.removeprefix("file://")


# Parquet files


@contextmanager
def opened(part: Part) -> Iterator[Table]:
    """Open a Parquet file.

    Raises
    ------
    OSError
        It isn't there or damaged, which may also show in the middle of the block: the file is named.
    """
    with reaching(part):
        try:
            with _open(*url_to_fs(part.address)) as file:
                yield open_table(file, str(part))
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{part} can't be read as Parquet: {reason(error)}") from error


def check_column(schema: pa.Schema, part: Part, column: str | None, *more: str) -> None:
    """Refuse a file that lacks a column, among its own and `more`; None stands for none.

    Raises
    ------
    InputError
        It does.
    """
    names = [*schema.names, *more]
    if column is not None and column not in names:
        raise InputError(f"{part} has no column {column}, but {', '.join(names)}")


def values(batch: pa.RecordBatch, part: Part, column: str) -> list[Any]:
    """Return a column's values, of the file or of its folders' names; whole numbers are int, others float.

    Examples
    --------
    >>> part = Part("a", "file:///data", ("n=7/a.parquet",), 0, "")
    >>> batch = pa.record_batch({"m": [1.0, 2.5, None]})
    >>> values(batch, part, "m"), values(batch, part, "n")
    ([1, 2.5, None], ['7', '7', '7'])
    """
    if column not in batch.schema.names:
        return [part.keys[column]] * len(batch)
    return [
        _number(value) if isinstance(value, float | Decimal) else value for value in batch[column].to_pylist()
    ]


def _number(value: float | Decimal) -> int | float:
    is_whole = math.isfinite(value) and value.as_integer_ratio()[1] == 1
    return int(value) if is_whole else float(value)


def picture_column(schema: pa.Schema, part: Part, column: str | None = None) -> str:
    """Return the name of a file's column of pictures, or check the one that is named.

    Raises
    ------
    InputError
        There is none, or there are several, or two columns have one name.
    """
    check_column(schema, part, column)
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise InputError(f"{part} has several columns {twice[0]}: rename them")
    kinds: dict[str, Any] = {field.name: field.type for field in schema if column in (None, field.name)}
    found = [name for name, kind in kinds.items() if _is_picture(kind)]
    if len(found) > 1:
        raise InputError(
            f"{part} has several columns of pictures, {', '.join(found)}: name one with --column"
        )
    if not found:
        there = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise InputError(
            f"{part} should have a column of pictures, of bytes or of {PIXELS} uint8, not {there}"
        )
    (name,) = found
    return name


def _is_picture(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _is_picture(kind.value_type)
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_picture(kind.field("bytes").type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return bool(kind.value_type == pa.uint8())
    if types.is_fixed_size_binary(kind):
        return bool(kind.byte_width == PIXELS)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


# Pictures


def read_rows(pictures: pa.Array, read: Read = read_picture) -> list[Row]:
    """Read a column of pictures: of each row what `read` gives, or why it can't be read.

    Parameters
    ----------
    pictures
        Bytes of files (in a struct, too, as `bytes`); or 784 uint8, the rows of 28 x 28, as a list or as
        binary of this fixed size.
    """
    if pa.types.is_struct(pictures.type):
        pictures = pc.struct_field(pictures, "bytes")
    if pa.types.is_dictionary(pictures.type):
        pictures = pictures.dictionary_decode()
    if pa.types.is_binary(pictures.type) or pa.types.is_large_binary(pictures.type):
        return [_read(picture.as_py(), read) for picture in pictures]
    whole, images = _pixels(pictures)
    found = _read_images(images, read)
    wrong = f"the picture can't be read: it should be {PIXELS} numbers, the rows of {SIDE} x {SIDE}"
    return [next(found) if is_whole else wrong for is_whole in whole]


def read_file(fs: Any, base: str, name: str, read: Read = read_picture) -> Row:
    """Read a picture that is a file of this name in the folder `base`.

    Raises
    ------
    OSError
        A fault of the store, or one that may pass, such as the network's: it isn't the picture's.
    """
    try:
        with _open(fs, f"{base}/{name}") as file:
            return _read(file, read)
    except OSError as error:
        if not _is_of_file(fs, base, error):
            raise
        return f"the picture can't be read: {reason(error)}"


def _read(picture: Picture | None, read: Read) -> Row:
    try:
        if picture is None:
            raise InputError("the picture can't be read: there is none")
        row: Row = read(picture)
        return row
    except InputError as error:
        return str(error)


def _pixels(column: pa.Array) -> tuple[list[bool], UInt8Array]:
    """Return which rows have all pixels, and give theirs, uint8 [M, 28, 28]."""
    if pa.types.is_fixed_size_binary(column.type):
        whole = column.is_valid()
        data = b"".join(column.filter(whole).to_pylist())
        return whole.to_pylist(), np.frombuffer(data, np.uint8).reshape(-1, SIDE, SIDE)
    whole = pc.fill_null(pc.equal(pc.list_value_length(column), PIXELS), False)
    if column.flatten().null_count:
        rows = column.to_pylist()
        whole = pa.array([row is not None and len(row) == PIXELS and None not in row for row in rows])
    return whole.to_pylist(), column.filter(whole).flatten().to_numpy().reshape(-1, SIDE, SIDE)


def _read_images(images: UInt8Array, read: Read) -> Iterator[Row]:
    """Read images, [M, 28, 28]; those as MNIST's, which come back unchanged, are told all at once."""
    for image, is_prepared in zip(images, are_prepared(images).tolist(), strict=True):
        yield image if is_prepared and read is read_picture else _read(image, read)
