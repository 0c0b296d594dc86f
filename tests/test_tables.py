import errno
import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawing import SEVEN, png
from fsspec.implementations.local import LocalFileSystem

from digitsum.errors import InputError
from digitsum.reading.imaging import read_picture
from digitsum.scoring import tables
from digitsum.scoring.parquet import record_batches
from digitsum.scoring.tables import find, opened, picture_column, read_rows

IMAGES = np.stack([SEVEN, SEVEN[::-1], SEVEN.T])
PIXELS = list(IMAGES.reshape(3, 784))


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


# Columns of pictures

FILES = [png(255 - image) for image in IMAGES]  # as on paper, and so as read_picture prepares them
COLUMNS = {
    "bytes": pa.array(FILES),
    "large bytes": pa.array(FILES, pa.large_binary()),
    "bytes in a struct": pa.array([{"bytes": file, "path": "x.png"} for file in FILES]),
    "a list": pa.array(PIXELS, pa.list_(pa.uint8())),
    "a large list": pa.array(PIXELS, pa.large_list(pa.uint8())),
    "a list of fixed size": pa.array(PIXELS, pa.list_(pa.uint8(), 784)),
    "binary of fixed size": pa.array([image.tobytes() for image in IMAGES], pa.binary(784)),
    "bytes in a dictionary": pa.array(FILES).dictionary_encode(),
    "bytes in a view": pa.array(FILES, pa.binary_view()),
    "bytes in views in a struct": pa.array(
        [{"bytes": file, "path": "x.png"} for file in FILES],
        pa.struct({"bytes": pa.binary_view(), "path": pa.string_view()}),
    ),
}


def batch_of(path: Path, **columns: Any) -> pa.RecordBatch:
    """Write columns, and read them again."""
    (part,) = find(str(write(path, columns)))
    with opened(part) as table:
        (batch,) = record_batches(table)
    return batch


@pytest.mark.parametrize("kind", COLUMNS)
def test_each_picture_of_a_column_is_read_as_read_picture_does_and_a_missing_one_says_so(
    kind: str, tmp_path: Path
) -> None:
    column = COLUMNS[kind]
    holes = pa.concat_arrays([column[:1], pa.nulls(1, column.type), column[2:]])
    batch = batch_of(tmp_path / "a.parquet", id=[1, 2, 3], label=["a", "b", "c"], image=holes)
    assert picture_column(batch.schema, PART) == "image"
    first, missing, last = read_rows(batch["image"])
    assert isinstance(missing, str)
    assert missing.startswith("the picture can't be read: ")
    pictures = FILES if "bytes" in kind else list(IMAGES)
    np.testing.assert_array_equal([first, last], [read_picture(pictures[i]) for i in (0, 2)])
    np.testing.assert_array_equal(read_rows(batch["image"].slice(2)), [last])


# Columns of addends and labels

NUMBERS = {
    "float64, whole": (pa.array([7.0, 7.5, None, float("nan")]), [7, 7.5, None]),
    "float16": (pa.array([7, 7.5, None], pa.float16()), [7, 7.5, None]),
    "decimal": (pa.array([Decimal("7.00"), Decimal("7.50"), None]), [7, 7.5, None]),
    "decimal, long": (pa.array([Decimal(10) ** 30], pa.decimal128(38, 2)), [10**30]),
    "a dictionary": (pa.array([7, 8, None]).dictionary_encode(), [7, 8, None]),
    "text": (pa.array(["7", "-1", None]), ["7", "-1", None]),
    "text in a view": (pa.array(["7", "-1", None], pa.string_view()), ["7", "-1", None]),
    "text in a dictionary": (pa.array(["7", "-1", None]).dictionary_encode(), ["7", "-1", None]),
    "large text": (pa.array(["7", "-1", None], pa.large_string()), ["7", "-1", None]),
    "nulls": (pa.nulls(3), [None] * 3),
    "uint64": (pa.array([2**64 - 1, 0, None], pa.uint64()), [2**64 - 1, 0, None]),
    "pandas' categories": (pa.Array.from_pandas(pd.Categorical([7.0, 7.5, None])), [7, 7.5, None]),
    "pandas' Int64": (pa.Array.from_pandas(pd.array([7, 8, None], "Int64")), [7, 8, None]),
    "pandas' text": (pa.Array.from_pandas(pd.Series(["7", "-1", None])), ["7", "-1", None]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_whole_numbers_are_whole_however_they_are_stored(kind: str, tmp_path: Path) -> None:
    column, expected = NUMBERS[kind]
    found = tables.values(batch_of(tmp_path / "a.parquet", n=column), PART, "n")[:3]
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


def test_a_frame_that_pandas_wrote_by_keys_has_them_from_its_folders(tmp_path: Path) -> None:
    frame = pd.DataFrame({"n": [7.0, 7.0, None], "k": ["a b", "c/d", "a b"], "image": FILES})
    frame.to_parquet(tmp_path / "data", partition_cols=["n", "k"])
    parts = find(str(tmp_path / "data"))
    found = []
    for part in parts:
        with opened(part) as table:
            (batch,) = record_batches(table)
        found.append((batch.schema.names, *(tables.values(batch, part, name) for name in "nk")))
    assert found == [
        (["image"], ["7"], ["a b"]),
        (["image"], ["7"], ["c/d"]),
        (["image"], [None], ["a b"]),
    ]


@pytest.mark.parametrize("wrong", [PIXELS[0][:783], [], [*PIXELS[0], 0], [None, *PIXELS[0][1:]], None])
def test_a_list_of_another_length_or_with_a_hole_is_no_picture(wrong: Any) -> None:
    no, yes = read_rows(pa.array([wrong, PIXELS[0]], pa.list_(pa.uint8())))
    assert no == "the picture can't be read: it should be 784 numbers, the rows of 28 x 28"
    np.testing.assert_array_equal(yes, IMAGES[0])


def read_or_why_not(picture: np.ndarray) -> np.ndarray | str:
    try:
        return read_picture(picture)
    except ValueError as error:
        return str(error)


def test_images_are_told_from_drawings_as_read_picture_does() -> None:
    """Those as MNIST's come back as they are; counts and brightnesses lie on both sides of the rule."""
    rng = np.random.default_rng(0)
    images = np.zeros((60, 784), np.uint8)
    for image, (count, brightest) in zip(images, [(391, 128), (392, 128), (391, 127)] * 20, strict=True):
        image[rng.permutation(784)[:count]] = rng.integers(1, brightest + 1, count)
        image[image.argmax()] = brightest
    for row, image in zip(read_rows(pa.array(list(images))), images.reshape(-1, 28, 28), strict=True):
        np.testing.assert_array_equal(row, read_or_why_not(image))


PART = tables.Part("a", "file:///data", ("a.parquet",), 0, "")


BYTES = {"a": pa.binary(), "b": pa.int64()}
NONE = "should have a column of pictures, of bytes or of 784 uint8, not "


@pytest.mark.parametrize(
    ("fields", "column", "message"),
    [
        (
            {"b": pa.int64()},
            None,
            NONE + "b (int64)",
        ),
        (BYTES | {"b": pa.binary()}, None, "has several columns of pictures, a, b: name one with --column"),
        (BYTES, "b", NONE + "b (int64)"),
        (BYTES, "c", "has no column c, but a, b"),
        ({"a": pa.binary(783)}, None, NONE + "a (fixed_size_binary[783])"),
        ([("a", pa.binary()), ("a", pa.int64())], None, "has several columns a: rename them"),
    ],
)
def test_a_file_without_one_column_of_pictures_is_refused(fields: Any, column: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^/data/a\.parquet {re.escape(message)}$"):
        picture_column(pa.schema(fields), PART, column)


def test_the_column_that_is_named_is_taken() -> None:
    assert picture_column(pa.schema(BYTES | {"b": pa.binary()}), PART, "b") == "b"


# Files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files whose content is their name."""
    for name in (
        *("b.parquet", "a.parquet", "deep/er/c.parquet", ".hidden/d.parquet", ".e.parquet"),
        *("_SUCCESS", "_delta_log/0.parquet", "deep/_temporary/0/f.parquet", "_metadata"),
    ):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    return tmp_path / "data"


def names(parts: list[tables.Part]) -> list[str]:
    return [file for part in parts for file in part.files]


def test_a_folder_is_its_parquet_files_at_any_depth(files: Path) -> None:
    parts = find(str(files))
    assert names(parts) == ["a.parquet", "b.parquet", "deep/er/c.parquet"]
    assert [part.name for part in parts] == ["a", "b", "deep/er/c"]
    assert [part.size for part in parts] == [9, 9, 17]
    assert Path(parts[2].address.removeprefix("file://")).read_text() == "deep/er/c.parquet"
    assert find(f"file://{files}/") == parts


def test_a_file_says_itself_that_it_is_parquet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.parquet", "b.PARQUET", "c.pq", "part-00000", "f.snappy", "x.png"):
        write(tmp_path / "data" / name, {"image": FILES})
    for name, content in (("d.parq", "damaged"), ("notes.txt", "no table"), ("empty", "")):
        (tmp_path / "data" / name).write_text(content)
    asked: list[str] = []
    cat_ranges = LocalFileSystem.cat_ranges

    def noted(self: LocalFileSystem, paths: list[str], *rest: Any, **more: Any) -> list[bytes]:
        asked.extend(Path(path).name for path in paths)
        return list(cat_ranges(self, paths, *rest, **more))

    monkeypatch.setattr(LocalFileSystem, "cat_ranges", noted)
    parts = find(str(tmp_path / "data"))
    assert names(parts) == ["a.parquet", "b.PARQUET", "c.pq", "d.parq", "f.snappy", "part-00000"]
    assert [part.name for part in parts] == ["a", "b.PARQUET", "c.pq", "d.parq", "f.snappy", "part-00000"]
    assert all(part.is_table for part in parts)
    assert asked == ["f.snappy", "notes.txt", "part-00000"]
    (record,) = caplog.records
    what = f"{tmp_path}/data has Parquet files: what else is there is left out, empty and 2 more"
    assert record.getMessage() == what


def test_a_store_is_asked_what_its_files_are(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/store/one": b"PAR1....PAR1", "/store/two": b"GIF89a"})
    assert names(find("memory://store")) == ["one"]
    (part,) = find("memory://store/two")
    assert (part.files, part.is_table) == (("two",), False)
    memory.rm("/store", recursive=True)


def test_a_photo_may_begin_with_a_line_and_what_is_named_has_any_name(tmp_path: Path) -> None:
    for name in ("_DSC0042.JPG", "_notes", "a.png", ".b.png"):
        (tmp_path / name).write_text(name)
    for source, found in (
        ("", ["_DSC0042.JPG", "a.png"]),
        ("*", ["_DSC0042.JPG", "a.png"]),
        ("_notes", ["_notes"]),
        (".b.png", [".b.png"]),
    ):
        assert names(find(f"{tmp_path}/{source}")) == found


def test_two_files_whose_scores_would_have_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a.pq", "a.pq.parquet"):
        (tmp_path / name).write_text(name)
    message = rf"^the scores of {tmp_path}/a\.pq and of {tmp_path}/a\.pq\.parquet would have one name: rename"
    with pytest.raises(InputError, match=message):
        find(str(tmp_path))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["a.parquet", "b.parquet"]),
        ("[b-z].parquet", ["b.parquet"]),
        ("**/c.parquet", ["deep/er/c.parquet"]),
        ("deep/*/*.parquet", ["er/c.parquet"]),
        ("a.parquet", ["a.parquet"]),
        ("deep", ["er/c.parquet"]),
    ],
)
def test_a_pattern_is_what_it_matches_and_a_file_itself(
    files: Path, pattern: str, expected: list[str]
) -> None:
    assert names(find(f"{files}/{pattern}")) == expected


def test_what_lies_in_the_folder_of_scores_is_left_out(files: Path) -> None:
    assert names(find(str(files), tables.address(str(files / "deep")))) == ["a.parquet", "b.parquet"]
    assert "deep/er/c.parquet" in names(find(str(files), tables.address(str(files / "dee"))))
    with pytest.raises(ValueError, match=r"^there are no Parquet files or pictures at "):
        find(str(files), tables.address(str(files)))


@pytest.mark.parametrize("pattern", ["", "/*.png"])
def test_links_to_files_are_followed_and_broken_ones_are_rows(tmp_path: Path, pattern: str) -> None:
    for folder in ("links", "real"):
        (tmp_path / folder).mkdir()
    (tmp_path / "real" / "a.png").write_text("a picture")
    (tmp_path / "links" / "a.png").symlink_to("../real/a.png")
    (tmp_path / "links" / "broken.png").symlink_to("nowhere")
    (tmp_path / "links" / "folder.png").symlink_to("../real")
    (before,) = find(f"{tmp_path}/links{pattern}")
    assert before.files == ("a.png", "broken.png")
    assert before.size == len("a picture")
    (tmp_path / "real" / "a.png").write_text("another one")
    (after,) = find(f"{tmp_path}/links{pattern}")
    assert after.state != before.state  # which is the file's, not the link's
    row = tables.read_file(LOCAL, str(tmp_path / "links"), "broken.png")
    assert row == "the picture can't be read: No such file or directory"


LOCAL = fsspec.filesystem("file")


def test_a_file_that_can_not_be_read_is_a_row_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "whole.png").write_bytes(FILES[0])
    (part,) = find(str(tmp_path))
    assert part.files == ("loop.png", "pipe", "pipe.png", "whole.png")
    for name, why in {
        "loop.png": "Too many levels of symbolic links",
        "pipe": "it is a folder, a device or the like",
        "pipe.png": "it is a folder, a device or the like",
        "folder.png": "it is a folder, a device or the like",
        f"{'n' * 300}.png": "File name too long",
        "gone.png": "No such file or directory",
        "whole.png/x.png": "Not a directory",
    }.items():
        assert tables.read_file(LOCAL, str(tmp_path), name) == f"the picture can't be read: {why}"
    np.testing.assert_array_equal(tables.read_file(LOCAL, str(tmp_path), "whole.png"), read_picture(FILES[0]))


@pytest.mark.parametrize(
    ("error", "is_row"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (PermissionError(errno.EACCES, "Permission denied"), True),
        (OSError("a library's own"), True),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), False),
        (TimeoutError(errno.ETIMEDOUT, "Connection timed out"), False),
    ],
)
def test_an_error_of_a_file_is_its_rows_and_one_of_the_store_is_not(
    error: OSError, is_row: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(FILES[0])

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(LOCAL, "open", refuse)
    if is_row:
        expected = f"the picture can't be read: {error.strerror or error}"
        assert tables.read_file(LOCAL, str(tmp_path), "a.png") == expected
    else:
        with pytest.raises(type(error)):
            tables.read_file(LOCAL, str(tmp_path), "a.png")


def test_a_file_whose_folder_is_gone_too_is_the_stores_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tables.read_file(LOCAL, str(tmp_path / "unmounted"), "a.png")


def test_what_a_remote_store_refuses_but_for_a_missing_file_is_the_stores_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/store/a.png", FILES[0])
    row = tables.read_file(memory, "/store", "b.png")
    assert isinstance(row, str)
    assert row.startswith("the picture can't be read: ")

    def refuse(*_: object) -> None:
        raise OSError(errno.EBUSY, "Please reduce your request rate")

    monkeypatch.setattr(memory, "open", refuse)
    with pytest.raises(OSError, match="reduce your request rate"):
        tables.read_file(memory, "/store", "a.png")
    memory.rm("/store", recursive=True)


@pytest.mark.parametrize("source", ["zip://*.png::a.zip", "memory://one::a", "webhdfs://host:9870/pictures"])
def test_an_address_that_would_lose_its_host_or_chain_is_refused(source: str, tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("one.png", b"")
    source = source.replace("a.zip", str(tmp_path / "a.zip"))
    for place in (find, tables.address):
        with pytest.raises(InputError, match=f"^{re.escape(source)} holds a host or another address, which "):
            place(source)


@pytest.mark.parametrize("source", ["nowhere", "*.png", "empty", "memory://nowhere"])
def test_nothing_to_read_is_refused(files: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    (files / "empty").mkdir()
    monkeypatch.chdir(files)
    with pytest.raises(ValueError, match=r"^there are no Parquet files or pictures at "):
        find(source)


def test_pictures_are_counted_by_the_thousand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PICTURES", 3)
    for i in range(7):
        (tmp_path / f"{i}.png").touch()
    parts = find(str(tmp_path))
    assert [part.name for part in parts] == ["pictures-000000", "pictures-000001", "pictures-000002"]
    assert names(parts) == [f"{i}.png" for i in range(7)]
    assert str(parts[0]) == f"{tmp_path}/0.png and 2 more"


def test_a_change_of_a_file_changes_its_state_alone(files: Path) -> None:
    before = find(str(files))
    (files / "a.parquet").write_text("b.parquet")
    after = find(str(files))
    assert [one.state == other.state for one, other in zip(before, after, strict=True)] == [False, True, True]


# Rows


@pytest.mark.parametrize("broken", ["nothing", "text", "cut short", "a byte changed", "gone", "a pipe"])
def test_a_file_that_is_not_parquet_is_named(tmp_path: Path, broken: str) -> None:
    options = {"use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    path = write(tmp_path / "a.parquet", {"image": FILES}, **options)
    (part,) = find(str(path))
    data = path.read_bytes()
    changed = data.replace(b"IDAT", b"IDOT", 1)
    path.write_bytes({"nothing": b"", "text": b"id,image", "cut short": data[:-9]}.get(broken, changed))
    if broken in ("gone", "a pipe"):
        path.unlink()
    if broken == "a pipe":
        os.mkfifo(path)
    why = {"gone": "No such file or directory$", "a pipe": "it is a folder, a device or the like$"}
    message = f"^{path} can't be read as Parquet: {why.get(broken, '')}"
    with pytest.raises(OSError, match=message), opened(part) as table:
        list(record_batches(table))


def test_an_address_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(json.dumps(tables.address("scores/"))) == f"file://{tmp_path}/scores"


class OfTheStore(Exception):  # noqa: N818
    """What a library of a store may raise."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OfTheStore("no credentials"), "s3://bucket can't be reached: no credentials"),
        (ImportError("Install s3fs"), "s3://bucket can't be reached: Install s3fs"),
        (PermissionError("denied"), "s3://bucket: denied"),
        (OSError(errno.ENOSPC, "No space left on device", ".a.part"), "s3://bucket: No space left on device"),
        (OSError("s3://bucket is full"), "s3://bucket is full"),
    ],
)
def test_a_store_that_fails_is_named(error: Exception, message: str) -> None:
    with (
        pytest.raises(OSError, match=f"^{message}$"),
        tables.reaching("where the scores are"),
        tables.reaching("s3://bucket"),
    ):
        raise error


def test_a_mistake_of_the_user_or_the_program_stays_what_it_is() -> None:
    for error in (ValueError("no column"), KeyError("x")):
        with pytest.raises(type(error)), tables.reaching("s3://bucket"):
            raise error
