from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from digitsum.errors import InputError
from digitsum.scoring import parquet
from digitsum.scoring.parquet import open_table, record_batches

LARGE = 200_000
BYTES = b"x" * LARGE
SAME = pa.DictionaryArray.from_arrays(
    pa.array(np.zeros(500, np.int32)), pa.array([BYTES])
)  # 100 MB in 200 KB
TEXT = SAME.cast(pa.dictionary(pa.int32(), pa.string()))
EMPTY = pa.array([b""] * 500)
MEANS = pa.array(np.arange(0, 501, 10, dtype=np.int32))  # where lists of ten begin
ROWS = pa.array([0, 500], pa.int32())  # where one of all does


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_batches_have_fewer_rows_where_rows_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_BYTES", 100_000)
    noise = np.random.default_rng(0).integers(0, 256, (40, 30_000), dtype=np.uint8)
    path = write(tmp_path / "a.parquet", {"image": [row.tobytes() for row in noise]}, row_group_size=17)
    with path.open("rb") as file:
        batches = list(record_batches(open_table(file, "a")))
    assert pa.Table.from_batches(batches)["image"].to_pylist() == [row.tobytes() for row in noise]
    assert max(map(len, batches)) == 3


KEPT = {
    "text": pa.array(["a", "b", None]),
    "large text": pa.array(["a", "b", None], pa.large_string()),
    "a list": pa.array([["a"], ["b", None], None]),
    "a large list": pa.array([["a"], ["b", None], None], pa.large_list(pa.string())),
    "a list of two": pa.array([["a", "x"], ["b", "c"], None], pa.list_(pa.string(), 2)),
    "a list of structs": pa.array([[{"a": "x", "b": 1}], [], None]),
    "a map": pa.array([[("k", "v")], [], None], pa.map_(pa.string(), pa.string())),
    "a category": pa.array(["a", "b", None]).dictionary_encode().cast(pa.dictionary(pa.uint8(), pa.string())),
    "a decimal": pa.array([1, 2, None], pa.decimal128(9, 2)),
    "times": pa.array([0, 1, None], pa.timestamp("us", "UTC")),
    "an extension": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}", "1", None])),
    "nulls": pa.nulls(3),
}


@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}], ids=["", "plain"])
@pytest.mark.parametrize("size", [10**6, 1], ids=["", "in pieces"])
def test_columns_come_back_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], size: int
) -> None:
    monkeypatch.setattr(parquet, "BATCH_BYTES", size)
    with write(tmp_path / "a.parquet", KEPT, **options).open("rb") as file:
        batches = list(record_batches(open_table(file, "a")))
    assert len(batches) == (3 if size == 1 else 1)
    found = pa.Table.from_batches(batches)
    assert found.schema.remove_metadata() == pa.table(KEPT).schema
    assert found.to_pylist() == pa.table(KEPT).to_pylist()


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_values_that_are_stored_as_differences_are_read(tmp_path: Path, encoding: str) -> None:
    columns = {"image": [b"abc", b"abd", None], "key": ["x", "y", "x"]}
    options = {"use_dictionary": ["key"], "column_encoding": {"image": encoding}}
    with write(tmp_path / "a.parquet", columns, **options).open("rb") as file:
        table = open_table(file, "a")
        assert table.dictionaries == {"key"}
        assert pa.Table.from_batches(record_batches(table)).to_pydict() == columns


# Files made to do harm: a few hundred bytes each

POOLS = []  # which outlive what they hold


@contextmanager
def measured() -> Iterator[pa.MemoryPool]:
    """Arrow's memory while the block lasts."""
    before = pa.default_memory_pool()
    POOLS.append(pa.proxy_memory_pool(before))
    pa.set_memory_pool(POOLS[-1])
    try:
        yield POOLS[-1]
    finally:
        pa.set_memory_pool(before)


MANY = {
    "pictures": {"image": SAME},
    "a key": {"image": EMPTY, "key": TEXT},
    "lists of keys": {"image": EMPTY[:50], "keys": pa.ListArray.from_arrays(MEANS, TEXT)},
    "pictures in a struct": {"image": pa.StructArray.from_arrays([SAME], ["bytes"])},
    "differences": {"image": pa.array([BYTES] * 500)},
    "of another type": {"image": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["x" * LARGE] * 500))},
}


@pytest.mark.parametrize("kind", MANY)
def test_values_that_stand_for_many_rows_take_little_memory(kind: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"compression": "zstd", "store_schema": False, "write_statistics": False}
    if kind == "differences":
        options |= {"use_dictionary": False, "column_encoding": {"image": "DELTA_BYTE_ARRAY"}}
    path = write(tmp_path / "a.parquet", MANY[kind], **options)
    assert path.stat().st_size < 3_000
    with path.open("rb") as file, measured() as memory:
        assert sum(map(len, record_batches(open_table(file, "a")))) == len(MANY[kind]["image"])
    assert memory.max_memory() < 70_000_000  # of 100 MB and more


FEWER = "; write it with fewer rows in a group"
LISTS = pa.list_(pa.uint8(), 10**5)
LARGER = {
    "a row of a long list": (
        {"image": pa.ListArray.from_arrays(pa.array([0, 10**6], pa.int32()), np.zeros(10**6, np.uint8))},
        rf"[0-9]+ bytes of it would become 8,000,000{FEWER}",
    ),
    "a page": (
        {"image": pa.array([bytes(5 * 10**6)])},
        rf"[0-9]+ bytes of it would become 5,000,\d{{3}}{FEWER}",
    ),
    "bytes of fixed size": (
        {"image": EMPTY[:50], "key": pa.nulls(50, pa.binary(10**5))},
        rf"[0-9]+ bytes of it would become 5,000,400{FEWER}",
    ),
    "lists of fixed size": (
        {"image": EMPTY[:50], "key": pa.nulls(50, LISTS)},
        rf"[0-9]+ bytes of it would become 40,000,400{FEWER}",
    ),
    "lists of lists of fixed size": (
        {"image": EMPTY[:1], "key": pa.array([[None] * 50], pa.list_(LISTS))},
        rf"[0-9]+ bytes of it would become 40,000,000{FEWER}",
    ),
    "a row of many values": (
        {"image": EMPTY[:1], "keys": pa.ListArray.from_arrays(ROWS, TEXT)},
        r"a row of it may become 100,\d{3},\d{3} bytes; leave its lists out",
    ),
}


@pytest.mark.parametrize(("columns", "message"), LARGER.values(), ids=LARGER)
def test_what_would_become_far_larger_than_the_file_is_refused(
    columns: dict[str, pa.Array], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_BYTES", 4 * 10**6)
    monkeypatch.setattr(parquet, "ROW_BYTES", 40 * 10**6)
    path = write(tmp_path / "a.parquet", columns, compression="zstd", write_statistics=False)
    with (
        path.open("rb") as file,
        pytest.raises(InputError, match=rf"^/data/a can't be read: {message}$"),
    ):
        list(record_batches(open_table(file, "/data/a")))


def test_rows_that_all_together_become_far_larger_than_the_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {"image": EMPTY, "key": TEXT}
    path = write(tmp_path / "a.parquet", columns, store_schema=False, write_statistics=False)
    monkeypatch.setattr(parquet, "FILE_BYTES", 20 * 10**6)
    with path.open("rb") as file:
        batches = record_batches(open_table(file, "a"))
        assert len(next(batches)) == 62  # of 200 KB each
        with pytest.raises(
            InputError, match=r"^a can't be read: it becomes too large; write it as several files$"
        ):
            list(batches)
