import io
import json
import re
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from digitsum import mnist, tables
from digitsum.imaging import read_number
from digitsum.tables import find, opened, picture_column, read_rows, record_batches

IMAGES = mnist.load().images[:3, 0]
PIXELS = list(IMAGES.reshape(3, 784))


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


# Columns of pictures

FILES = [png(255 - image) for image in IMAGES]  # as on paper, and so as read_number prepares them
COLUMNS = {
    "bytes": pa.array(FILES),
    "large bytes": pa.array(FILES, pa.large_binary()),
    "bytes in a struct": pa.array([{"bytes": file, "path": "x.png"} for file in FILES]),
    "a list": pa.array(PIXELS, pa.list_(pa.uint8())),
    "a large list": pa.array(PIXELS, pa.large_list(pa.uint8())),
    "a list of fixed size": pa.array(PIXELS, pa.list_(pa.uint8(), 784)),
    "binary of fixed size": pa.array([image.tobytes() for image in IMAGES], pa.binary(784)),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_pictures_is_read_as_read_number_reads_each(kind: str) -> None:
    column = COLUMNS[kind]
    schema = pa.schema({"id": pa.int64(), "label": pa.string(), "image": column.type})
    assert picture_column(schema, PART) == "image"
    pictures = FILES if "bytes" in kind else list(IMAGES)
    for rows in (read_rows(column), read_rows(column.slice(1))):
        for row, picture in zip(rows, pictures[-len(rows) :], strict=True):
            np.testing.assert_array_equal(row, read_number(picture))


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_a_row_without_a_picture_says_so_and_the_others_are_read(column: pa.Array) -> None:
    first, missing, last = read_rows(pa.concat_arrays([column[:1], pa.nulls(1, column.type), column[2:]]))
    assert isinstance(missing, str)
    assert missing.startswith("the picture can't be read: ")
    np.testing.assert_array_equal(first, read_rows(column[:1])[0])
    np.testing.assert_array_equal(last, read_rows(column[2:])[0])


def test_a_list_of_another_length_or_with_a_hole_is_no_picture() -> None:
    whole, hole = PIXELS[0].tolist(), [None, *PIXELS[1].tolist()[1:]]
    for rows in (
        [whole[:783], whole],
        [[], whole],
        [[*whole, 0], whole],
        [hole, whole],
        [whole[:3], None, whole],
    ):
        *wrong, right = read_rows(pa.array(rows, pa.list_(pa.uint8())))
        assert set(wrong) == {"the picture can't be read: it should be 784 numbers, the rows of 28 x 28"}
        np.testing.assert_array_equal(right, IMAGES[:1])


def read_or_why_not(picture: np.ndarray) -> np.ndarray | str:
    try:
        return read_number(picture)
    except ValueError as error:
        return str(error)


def test_images_are_told_from_drawings_as_read_number_does() -> None:
    """Those as MNIST's come back as they are; counts and brightnesses lie on both sides of the rule."""
    chance = np.random.default_rng(0)
    images = np.zeros((60, 784), np.uint8)
    for image, (count, brightest) in zip(images, [(391, 128), (392, 128), (391, 127)] * 20, strict=True):
        image[chance.permutation(784)[:count]] = chance.integers(1, brightest + 1, count)
        image[image.argmax()] = brightest
    for row, image in zip(read_rows(pa.array(list(images))), images.reshape(-1, 28, 28), strict=True):
        np.testing.assert_array_equal(row, read_or_why_not(image))


PART = tables.Part("a", "file:///data", ("a.parquet",), 0, "")


@pytest.mark.parametrize(
    ("schema", "column", "message"),
    [
        (
            pa.schema({"id": pa.int64()}),
            None,
            "should have a column of pictures, of bytes or of 784 uint8, not id (",
        ),
        (
            pa.schema({"a": pa.binary(), "b": pa.binary()}),
            None,
            "has several columns of pictures, a, b: name one",
        ),
        (pa.schema({"a": pa.binary(), "b": pa.int64()}), "b", "of bytes or of 784 uint8, not b (int64)"),
        (pa.schema({"a": pa.binary(), "b": pa.int64()}), "c", "has no column c, but a, b"),
        (pa.schema({"a": pa.binary(783)}), None, "of 784 uint8, not a (fixed_size_binary[783])"),
        (pa.schema([("a", pa.binary()), ("a", pa.int64())]), None, "has several columns a: rename them"),
    ],
)
def test_a_file_without_one_column_of_pictures_is_refused(
    schema: pa.Schema, column: str, message: str
) -> None:
    with pytest.raises(ValueError, match=r"^/data/a\.parquet ") as refused:
        picture_column(schema, PART, column)
    assert message in str(refused.value)


def test_the_column_that_is_named_is_taken() -> None:
    assert picture_column(pa.schema({"a": pa.binary(), "b": pa.binary()}), PART, "b") == "b"


# Files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in (
        "b.parquet",
        "a.parquet",
        "deep/er/c.parquet",
        ".hidden/d.parquet",
        ".e.parquet",
        "notes.txt",
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
    fs = fsspec.filesystem("file")
    row = tables.read_file(fs, str(tmp_path / "links" / "broken.png"))
    assert row == "the picture can't be read: No such file or directory"


@pytest.mark.parametrize("source", ["zip://*.png::a.zip", "memory://one::a", "webhdfs://host:9870/pictures"])
def test_an_address_that_would_lose_its_host_or_chain_is_refused(source: str, tmp_path: Path) -> None:
    with ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("one.png", b"")
    source = source.replace("a.zip", str(tmp_path / "a.zip"))
    for place in (find, tables.address):
        with pytest.raises(
            ValueError, match=rf"^{re.escape(source)} holds a host or another address, which "
        ):
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


@pytest.mark.parametrize("broken", ["nothing", "text", "cut short", "a byte changed"])
def test_a_file_that_is_not_parquet_is_named(tmp_path: Path, broken: str) -> None:
    options = {"use_dictionary": False, "write_statistics": False, "write_page_checksum": True}
    path = write(tmp_path / "a.parquet", {"image": FILES}, **options)
    data = path.read_bytes()
    changed = data.replace(b"IDAT", b"IDOT", 1)
    path.write_bytes({"nothing": b"", "text": b"id,image", "cut short": data[:-9]}.get(broken, changed))
    (part,) = find(str(path))
    with pytest.raises(OSError, match=rf"^{path} can't be read as Parquet: "), opened(part) as table:
        list(record_batches(table))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    (part,) = find(str(write(tmp_path / "a.parquet", {"image": FILES})))
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(OSError, match=rf"^{tmp_path}/a.parquet can't be read as Parquet: "), opened(part):
        pass


def test_batches_have_fewer_rows_where_rows_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BATCH_BYTES", 100_000)
    noise = np.random.default_rng(0).integers(0, 256, (40, 30_000), dtype=np.uint8)
    columns = {"image": [row.tobytes() for row in noise]}
    (part,) = find(str(write(tmp_path / "a.parquet", columns, row_group_size=17)))
    with opened(part) as table:
        lengths = [len(batch) for batch in record_batches(table)]
    assert (sum(lengths), max(lengths)) == (40, 3)


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
