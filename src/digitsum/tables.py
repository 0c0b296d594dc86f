"""Very many pictures: Parquet files and folders of pictures, at paths and addresses, by the batch of rows.

    for part in find("s3://bucket/pictures"):
        with opened(part) as table:
            column = picture_column(table.schema_arrow, part)
            for batch in record_batches(table):
                rows = read_rows(batch[column])

Addresses are whatever fsspec knows.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from digitsum.decoding import Picture
from digitsum.errors import InputError
from digitsum.imaging import SIDE, UInt8Array, are_prepared, read_number

PICTURES = 1_000  # of a folder: as many count as a file
PIXELS = SIDE * SIDE
BATCH_ROWS = 2_048  # that are in memory at once
BATCH_BYTES = 16_000_000  # of the same, if all rows of a file are as large as those of its largest group
BUFFER_BYTES = 1_000_000  # of a column that are read at once
STAMPS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")

Row = UInt8Array | str  # the images of a number's digits, [K, 28, 28], or why there are none


class StoreError(OSError):
    """One sentence that says which place can't be read or written, and why."""


class Part(NamedTuple):
    """What one process reads by itself: a Parquet file, or some pictures.

    Attributes
    ----------
    name
        That of the Parquet file without its ending, or one for the pictures.
    base, files
        The address of a folder, and the names of the files in it.
    size
        Of the files, bytes.
    state
        A digest of the files' names, sizes and times, or what a store has instead of times.
    """

    name: str
    base: str
    files: tuple[str, ...]
    size: int
    state: str

    @property
    def is_table(self) -> bool:
        """Whether it is a Parquet file."""
        return _is_table(self.files[0])

    @property
    def address(self) -> str:
        """Of the file, or of the first one."""
        return f"{self.base}/{self.files[0]}"

    def __str__(self) -> str:
        more = len(self.files) - 1
        return shown(self.address) + (f" and {more} more" if more else "")


def find(source: str, out: str | None = None) -> list[Part]:
    """List what there is to read: each Parquet file, or each thousand pictures.

    Parameters
    ----------
    source
        A file, a folder (all in it, at any depth; if any is a Parquet file, only these) or a pattern such as
        data/*.parquet, as a path or as an address. The name of a Parquet file ends in .parquet; names that
        start with a dot are left out. Links to files are followed, links to folders aren't.
    out
        A folder's whole `address`: what lies in it is left out.

    Raises
    ------
    InputError
        There is nothing, or the address isn't one that `address` takes.
    OSError
        The store can't be reached.
    """
    with reaching(source):
        fs, path = _reach(source)
        if fs.isdir(path):
            base, found = path, listed(fs, path)
        elif fs.exists(path):
            base, found = path.rpartition("/")[0], {path: fs.info(path)}
        else:
            base, found = re.split(r"/[^/]*[*?\[]", path)[0], fs.glob(path, detail=True)
    base, home = base.rstrip("/"), fs.unstrip_protocol(base).rstrip("/")
    files = {
        name: info
        for name, info in (
            (path.removeprefix(f"{base}/"), _followed(fs, found[path])) for path in sorted(found)
        )
        if info["type"] == "file"
        and not re.search(r"(^|/)\.", name)
        and not f"{home}/{name}".startswith(f"{out}/")
    }
    if not files:
        raise InputError(f"there are no Parquet files or pictures at {source}")
    tables = [name for name in files if _is_table(name)]
    if tables:
        return [_part(name.removesuffix(".parquet"), home, files, [name]) for name in tables]
    names = list(files)
    groups = [names[start : start + PICTURES] for start in range(0, len(names), PICTURES)]
    return [_part(f"pictures-{i:06}", home, files, group) for i, group in enumerate(groups)]


@contextmanager
def reaching(place: object) -> Iterator[None]:
    """Make a StoreError of whatever a store fails with: each has errors of its own."""
    try:
        yield
    except (InputError, StoreError):
        raise
    except OSError as error:
        raise StoreError(str(error) if str(place) in str(error) else f"{place}: {error}") from error
    except Exception as error:
        if type(error).__module__ == "builtins" and not isinstance(error, ImportError):
            raise  # a mistake of this program
        raise StoreError(f"{place} can't be reached: {error}") from error


def listed(fs: Any, folder: str) -> dict[str, Any]:
    """List all files in a folder, by path, as they are now: a store's listing may be one from before."""
    fs.invalidate_cache()
    found: dict[str, Any] = fs.find(folder, detail=True)
    return found


def _followed(fs: Any, info: dict[str, Any]) -> dict[str, Any]:
    """Give what a link leads to in place of the link; one that leads nowhere is a file that can't be read."""
    if not info.get("islink"):
        return info
    return dict(fs.info(info["name"])) if fs.exists(info["name"]) else info | {"type": "file"}


def _is_table(name: str) -> bool:
    return name.endswith(".parquet")


def _part(name: str, base: str, files: dict[str, Any], names: list[str]) -> Part:
    states = [(each, files[each]["size"], _stamp(files[each])) for each in names]
    state = hashlib.sha256(json.dumps(states).encode()).hexdigest()
    return Part(name, base, tuple(names), sum(size for _, size, _ in states), state)


def _stamp(info: dict[str, Any]) -> str:
    """Give what changes with a file's content, as its store knows it."""
    return next((str(info[name]) for name in STAMPS if name in info), "")


def address(path: str) -> str:
    """Give the whole address of a path or an address.

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
    """Give the store of an address, and the path there."""
    host = urlsplit(source).netloc if "://" in source else ""
    fs, path = url_to_fs(source)
    if "::" in source or host not in fs.unstrip_protocol(path):
        raise InputError(
            f"{source} holds a host or another address, which can't be kept: mount it or copy the files, or"
            " use a store whose addresses need neither, as s3://bucket/folder"
        )
    return fs, path


def shown(address: str) -> str:
    """Give an address as a person writes it.

    Examples
    --------
    >>> shown("file:///data/pictures"), shown("s3://bucket/pictures")
    ('/data/pictures', 's3://bucket/pictures')
    """
    return address.removeprefix("file://")


# Parquet files


@contextmanager
def opened(part: Part) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file.

    Raises
    ------
    OSError
        It isn't there or damaged, which may also show in the middle of the block: the file is named.
    """
    with reaching(part):
        try:
            with fsspec.open(part.address, "rb") as file:
                yield pq.ParquetFile(
                    file, buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
                )
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"{part} can't be read as Parquet: {error}") from error


def record_batches(table: pq.ParquetFile, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Read rows, BATCH_ROWS at a time, or as many as BATCH_BYTES hold."""
    groups = [table.metadata.row_group(i) for i in range(table.num_row_groups)]
    heaviest = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1)
    rows = min(max(int(BATCH_BYTES / max(heaviest, 1)), 1), BATCH_ROWS)
    yield from table.iter_batches(rows, columns=columns, use_threads=False)


def check_columns(schema: pa.Schema, part: Part, *columns: str | None) -> None:
    """Refuse a file that lacks one of the columns; None stands for none.

    Raises
    ------
    InputError
        It does.
    """
    for column in columns:
        if column is not None and column not in schema.names:
            raise InputError(f"{part} has no column {column}, but {', '.join(schema.names)}")


def picture_column(schema: pa.Schema, part: Part, column: str | None = None) -> str:
    """Give the name of a file's column of pictures, or check the one that is named.

    Raises
    ------
    InputError
        There is none, or there are several, or two columns have one name.
    """
    check_columns(schema, part, column)
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
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_picture(kind.field("bytes").type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return bool(kind.value_type == pa.uint8())
    if types.is_fixed_size_binary(kind):
        return bool(kind.byte_width == PIXELS)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


# Pictures


def read_rows(pictures: pa.Array) -> list[Row]:
    """Read a column of pictures: of each row its digits, uint8 [K, 28, 28], or why it can't be read.

    Parameters
    ----------
    pictures
        Bytes of files (in a struct, too, as `bytes`); or 784 uint8, the rows of 28 x 28, as a list or as
        binary of this fixed size.
    """
    if pa.types.is_struct(pictures.type):
        pictures = pc.struct_field(pictures, "bytes")
    if pa.types.is_binary(pictures.type) or pa.types.is_large_binary(pictures.type):
        return [_read(picture.as_py()) for picture in pictures]
    whole, images = _pixels(pictures)
    found = _read_images(images)
    wrong = f"the picture can't be read: it should be {PIXELS} numbers, the rows of {SIDE} x {SIDE}"
    return [next(found) if is_whole else wrong for is_whole in whole]


def read_file(fs: Any, path: str) -> Row:
    """Read a picture that is a file.

    Raises
    ------
    OSError
        A fault that may pass, such as the network's: it isn't the picture's.
    """
    try:
        with fs.open(path, "rb") as file:
            return _read(file)
    except (FileNotFoundError, PermissionError) as error:
        return f"the picture can't be read: {error.strerror or error}"


def _read(picture: Picture | None) -> Row:
    try:
        if picture is None:
            raise InputError("the picture can't be read: there is none")
        return read_number(picture)
    except InputError as error:
        return str(error)


def _pixels(column: pa.Array) -> tuple[list[bool], UInt8Array]:
    """Tell which rows have all pixels, and give theirs, uint8 [M, 28, 28]."""
    if pa.types.is_fixed_size_binary(column.type):
        whole = column.is_valid()
        data = b"".join(column.filter(whole).to_pylist())
        return whole.to_pylist(), np.frombuffer(data, np.uint8).reshape(-1, SIDE, SIDE)
    whole = pc.fill_null(pc.equal(pc.list_value_length(column), PIXELS), False)
    if column.flatten().null_count:
        rows = column.to_pylist()
        whole = pa.array([row is not None and len(row) == PIXELS and None not in row for row in rows])
    return whole.to_pylist(), column.filter(whole).flatten().to_numpy().reshape(-1, SIDE, SIDE)


def _read_images(images: UInt8Array) -> Iterator[Row]:
    """Read images, [M, 28, 28]; those as MNIST's, which come back unchanged, are told all at once."""
    for image, is_prepared in zip(images, are_prepared(images).tolist(), strict=True):
        yield image[np.newaxis] if is_prepared else _read(image)
