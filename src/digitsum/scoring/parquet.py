"""Parquet files by the batch of rows, also those made to do harm: a few bytes may stand for very many.

    with open("a.parquet", "rb") as file:
        for batch in record_batches(open_table(file, "a.parquet")):
            print(batch.num_rows)

A group of rows says how many values it has and how large its pages are unpacked: that is bounded before they
are. Then only what is written once, for many rows, becomes larger: bytes and text, which are read as the
dictionaries that they are stored as, and put in place piece by piece.
"""

from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from digitsum.errors import InputError
from digitsum.reading.decoding import MAX_BYTES

BATCH_ROWS = 2_048  # that are in memory at once
BATCH_BYTES = 16_000_000  # of the same
PACKED = 1_000  # times its size is what a group of more than MAX_BYTES may become; one of images takes 60
ROW_BYTES = 10 * MAX_BYTES  # of a row with lists of text, which isn't known before
FILE_BYTES = 100 * MAX_BYTES  # that all its rows may become, or PACKED times its size: scores take a disk
RESERVED = 1_024  # rows, of which values of fixed length take memory however few are read at once
BUFFER_BYTES = 1_000_000  # of a column that are read at once


class Table(NamedTuple):
    """An open Parquet file.

    Attributes
    ----------
    name
        That sentences say.
    schema
        Its columns, as `record_batches` gives them.
    file
        It itself, which reads some columns as dictionaries.
    dictionaries
        Which: their paths.
    """

    name: str
    schema: pa.Schema
    file: pq.ParquetFile
    dictionaries: set[str]


def open_table(file: IO[bytes], name: str) -> Table:
    """Read what a file says of its columns.

    Raises
    ------
    OSError, pyarrow.ArrowException
        It isn't Parquet.
    """
    plain = pq.ParquetFile(file)
    schema = pa.schema([field.with_type(_without_views(field.type)) for field in plain.schema_arrow])
    dictionaries = _dictionaries(plain.metadata, schema)
    found = pq.ParquetFile(
        file,
        metadata=plain.metadata,
        read_dictionary=dictionaries,
        buffer_size=BUFFER_BYTES,
        pre_buffer=False,
        page_checksum_verification=True,
    )
    return Table(name, schema, found, dictionaries)


def _without_views(kind: pa.DataType) -> pa.DataType:
    """Return a type without views, to which dictionaries can't be cast."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_views(field.type)) for field in kind])
    return {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}.get(kind, kind)


def _dictionaries(metadata: Any, schema: pa.Schema) -> set[str]:
    """Return which columns can be read as dictionaries: no differences, no types of others' own."""
    if any("extension<" in str(kind) for kind in schema.types):
        return set()
    columns = [column for i in range(metadata.num_row_groups) for column in _columns(metadata, i)]
    differences = {leaf.path for leaf, page in columns if "DELTA" in "".join(page.encodings)}
    return {leaf.path for leaf, _ in columns if leaf.physical_type == "BYTE_ARRAY"} - differences


def _columns(metadata: Any, group: int) -> list[tuple[Any, Any]]:
    """Return what a file says of its columns, and what a group of its rows does."""
    pages = metadata.row_group(group)
    return [(metadata.schema.column(i), pages.column(i)) for i in range(metadata.num_columns)]


def record_batches(table: Table, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Read rows, BATCH_ROWS at a time, or as many as BATCH_BYTES hold.

    Raises
    ------
    InputError
        They would become far larger than the file is.
    OSError, pyarrow.ArrowException
        It is damaged.
    """
    schema = table.schema if columns is None else pa.schema([table.schema.field(name) for name in columns])
    most = max(FILE_BYTES, PACKED * sum(_check_group(table, i) for i in range(table.file.num_row_groups)))
    rows = min(max(int(BATCH_BYTES / _row_bytes(table)), 1), BATCH_ROWS)
    for batch in table.file.iter_batches(rows, columns=columns, use_threads=False):
        for piece in _pieces(batch, table.name):
            plain = piece.cast(schema)
            most -= plain.nbytes
            if most < 0:
                raise InputError(
                    f"{table.name} can't be read: it becomes too large; write it as several files"
                )
            yield plain


def _check_group(table: Table, number: int) -> int:
    """Return the bytes of a group of rows; refuse one that would become far more."""
    metadata, element = table.file.metadata, max(map(_element, table.schema.types))
    group = _columns(metadata, number)
    packed = sum(page.total_compressed_size for _, page in group)
    rows = min(metadata.row_group(number).num_rows, RESERVED)
    lists = element * sum(page.num_values for leaf, page in group if leaf.max_repetition_level)
    unpacked = max(sum(page.total_uncompressed_size for _, page in group), rows * _fixed(table), lists)
    if unpacked > max(MAX_BYTES, PACKED * packed):
        raise InputError(
            f"{table.name} can't be read: {packed:,} bytes of it would become {unpacked:,}; write it with"
            " fewer rows in a group"
        )
    return int(packed)


def _row_bytes(table: Table) -> float:
    """Return how many bytes a row has: the most of fixed length, in the mean of a group, or of differences.

    A value that is stored as its difference from the one before may be as long as all differences.
    """
    metadata, most = table.file.metadata, float(_fixed(table))
    for i in range(metadata.num_row_groups):
        mean = metadata.row_group(i).total_byte_size / max(metadata.row_group(i).num_rows, 1)
        texts = [(leaf, page) for leaf, page in _columns(metadata, i) if leaf.physical_type == "BYTE_ARRAY"]
        longest = sum(
            page.total_uncompressed_size for leaf, page in texts if leaf.path not in table.dictionaries
        )
        most = max(most, mean, longest)
    return most


def _fixed(table: Table) -> int:
    return sum(map(_width, table.schema.types))


def _width(kind: pa.DataType) -> int:
    """Return how many bytes a value takes at least, also a null; 8 of a number, and of any length."""
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    if pa.types.is_fixed_size_binary(kind):
        return int(kind.byte_width)
    return max(8, sum(map(_width, _children(kind))))


def _element(kind: pa.DataType) -> int:
    """Return how many bytes an element takes at least of the lists of any length that a type has."""
    is_list = not pa.types.is_struct(kind) and not pa.types.is_fixed_size_list(kind)
    own = map(_width, _children(kind)) if is_list else []
    return max([8, *own, *map(_element, _children(kind))])


def _children(kind: pa.DataType) -> list[pa.DataType]:
    return [kind.field(i).type for i in range(kind.num_fields)]


def _pieces(batch: pa.RecordBatch, name: str) -> Iterator[pa.RecordBatch]:
    """Halve a batch until each piece fits BATCH_BYTES, or is a row."""
    size = sum(map(_size, batch.columns))
    if size <= BATCH_BYTES or (len(batch) == 1 and size <= ROW_BYTES):
        yield batch
    elif len(batch) == 1:
        raise InputError(f"{name} can't be read: a row of it may become {size:,} bytes; leave its lists out")
    else:
        middle = len(batch) // 2
        for rows in (range(middle), range(middle, len(batch))):
            yield from _pieces(batch.take(pa.array(rows)), name)  # a slice would keep all elements of lists


def _size(column: pa.Array) -> int:
    """Return how many bytes a column has at most when each row has its own value."""
    if pa.types.is_dictionary(column.type):
        return len(column) * (pc.max(pc.binary_length(column.dictionary)).as_py() or 0)
    if pa.types.is_struct(column.type):
        return sum(map(_size, column.flatten()))
    if hasattr(column, "values"):  # lists of any kind
        return _size(column.values)
    return int(column.nbytes)
