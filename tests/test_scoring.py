import codecs
import csv
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from operator import itemgetter
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawing import page_of, png
from pyarrow import dataset

from digitsum import mnist
from digitsum.errors import InputError
from digitsum.files import WEIGHTS
from digitsum.prediction import Predictor
from digitsum.scoring import job as scoring
from digitsum.scoring import parquet, tables
from digitsum.scoring.job import score, score_file
from digitsum.scoring.manifest import MANIFEST, Job

FILES, ROWS = 8, 150
BROKEN = 3  # the row of each file that shows nothing
RESULTS = ["number", "sum", "probability", "sum_probability", "consistent", "uncertain", "error"]


def write(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def job(out: object, model: str = "exact", **changes: Any) -> Job:
    sha256 = hashlib.sha256((WEIGHTS / model / "model.onnx").read_bytes()).hexdigest()
    settings = {"addend": 7, "addend_column": None, "column": None, "csv": False} | changes
    return Job(tables.address(str(out)), model, sha256, **settings)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.rglob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def digest(folder: Path) -> str:
    return hashlib.sha256(json.dumps(rows_of(folder)).encode()).hexdigest()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of embedded images, which say where they are from and what to add."""
    folder, digits = tmp_path_factory.mktemp("data"), mnist.load()
    for number, rows in enumerate(np.arange(FILES * ROWS).reshape(FILES, ROWS)):
        pixels = digits.images[rows].reshape(-1, 784).copy()
        pixels[BROKEN] = 0
        image = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), 784)
        columns = {"id": rows, "image": image, "n": rows % 10, "label": digits.labels[rows]}
        write(folder / f"{number}.parquet", columns)
    return folder


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Their scores, made in this process, a file after the other."""
    out = tmp_path_factory.mktemp("expected")
    for part in tables.find(str(data)):
        score_file(part, job(out))
    return out


# What a file of scores holds


def test_scores_are_the_predictors(data: Path, expected: Path) -> None:
    predictor, rows, images = Predictor("exact", threads=1), rows_of(expected), mnist.load().images
    assert [row["id"] for row in rows] == list(range(FILES * ROWS))
    for row in rows[:ROWS]:
        if row["id"] == BROKEN:
            continue
        answer = predictor.predict_number(images[row["id"], 0], 7)
        assert (row["number"], row["sum"]) == (str(answer.number), str(answer.sum))
        assert (row["consistent"], row["uncertain"], row["error"]) == (True, answer.uncertain, None)
        assert row["probability"] == pytest.approx(answer.probability, abs=1e-5)
        assert row["sum_probability"] == pytest.approx(answer.sum_probability, abs=1e-5)
    (bad, *others) = [row for row in rows if row["error"]]
    assert [row["id"] for row in others] == [ROWS * file + BROKEN for file in range(1, FILES)]
    assert bad["error"].startswith("the picture can't be read: no ink stands out")
    assert [bad[name] for name in RESULTS[:-1]] == [None] * 6


def test_a_digits_sum_is_the_networks_second_output_also_where_it_contradicts_the_first(
    tmp_path: Path,
) -> None:
    """The reference reads the embedded image 594, a 4, as a 9, and adds 7 to it as to a 4."""
    image = mnist.load().images[594:595]
    digits, sums = Predictor("concat", threads=1).probabilities(image, np.array([7]))
    assert (digits.argmax(), sums.argmax()) == (9, 11)
    write(tmp_path / "a.parquet", {"image": list(image.reshape(1, 784)) * 2, "n": [7, 10]})
    (part,) = tables.find(str(tmp_path / "a.parquet"))
    score_file(part, job(tmp_path / "out", "concat", addend=None, addend_column="n"))
    network, exact = rows_of(tmp_path / "out")
    assert (network["number"], network["sum"]) == ("9", "11")
    assert network["probability"] == pytest.approx(float(digits[0, 9]), abs=1e-5)
    assert network["sum_probability"] == pytest.approx(float(sums[0, 11]), abs=1e-5)
    assert (network["consistent"], network["uncertain"]) == (False, True)
    assert (exact["number"], exact["sum"], exact["consistent"]) == ("9", "19", True)
    assert exact["sum_probability"] == exact["probability"]


def test_a_row_of_twenty_digits_is_read_and_added_to_exactly(tmp_path: Path) -> None:
    images = mnist.load().images[:, 0]
    pictures = [png(page_of(*images[:20])), png(page_of(*images[20:23])), b"no picture"]
    write(tmp_path / "a.parquet", {"image": pictures, "n": pa.array([str(10**30), "0", "5"])})
    (part,) = tables.find(str(tmp_path / "a.parquet"))
    assert score_file(part, job(tmp_path / "out", addend=None, addend_column="n")) == (3, 1)
    long, short, wrong = rows_of(tmp_path / "out")
    for row, picture, addend in ((long, pictures[0], 10**30), (short, pictures[1], 0)):
        answer = Predictor("exact", threads=1).predict_number(picture, addend)
        assert (row["number"], row["sum"]) == (str(answer.number), str(answer.sum))
        assert row["probability"] == pytest.approx(answer.probability, abs=1e-5)
        assert row["uncertain"] == answer.uncertain
    assert len(long["sum"]) == 31
    assert wrong["error"].startswith("the picture can't be read: it is none of PNG, ")


MISSING = "the addend is missing: it should be a whole number from 0 on"


@pytest.mark.parametrize(
    ("addends", "wrong"),
    [
        (pa.array([1, -1, None, 3]), ["-1", None]),
        (pa.array([1, 200, 255, 3], pa.uint8()), []),
        (pa.array([1.0, 1.5, float("nan"), 3.0]), ["1.5", "nan"]),
        (pa.array([Decimal("1.00"), Decimal("1.50"), None, Decimal("3.00")]), ["1.5", None]),
        (pa.array([1, -1, None, 3]).dictionary_encode(), ["-1", None]),
        (pa.array(["1", "-1", None, "7.5"]), ["'-1'", None, "'7.5'"]),
        (pa.array(["1", "-1", None, "3"], pa.string_view()), ["'-1'", None]),
        (pa.array(["1", "-1", None, "3"]).dictionary_encode(), ["'-1'", None]),
        (pa.array(["1", "", "9" * 1001, "3"], pa.large_string()), ["''", f"'{'9' * 1001}'"]),
        (pa.nulls(4), [None] * 4),
    ],
)
def test_a_wrong_addend_is_its_rows_error(tmp_path: Path, addends: pa.Array, wrong: list[str | None]) -> None:
    one = png(mnist.load().images[0, 0])
    write(tmp_path / "a.parquet", {"image": [one] * 4, "n": addends})
    (part,) = tables.find(str(tmp_path / "a.parquet"))
    score_file(part, job(tmp_path / "out", addend=None, addend_column="n"))
    rows = rows_of(tmp_path / "out")
    assert [row["error"] for row in rows if row["error"]] == [
        f"a number's addend is a whole number from 0 on, not {value}" if value else MISSING for value in wrong
    ]
    added = [int(row["sum"]) - int(row["number"]) for row in rows if not row["error"]]
    assert added == [
        int(value) for value, row in zip(addends.to_pylist(), rows, strict=True) if not row["error"]
    ]


def test_addends_are_also_the_names_of_folders_and_the_scores_lie_in_such(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"id": [1, 2, 3], "n": [3, 9, None], "image": list(mnist.load().images[:3].reshape(3, 784))}
    )
    frame.to_parquet(tmp_path / "data", partition_cols=["n"])
    for part in tables.find(str(tmp_path / "data")):
        score_file(part, job(tmp_path / "out", addend=None, addend_column="n"))
    hive = dataset.partitioning(flavor="hive")  # which takes n from the folders' names
    table = dataset.dataset(tmp_path / "out", partitioning=hive, exclude_invalid_files=False).to_table()
    scores = sorted(table.to_pylist(), key=itemgetter("id"))
    assert [(row["id"], row["n"], row["error"]) for row in scores] == [
        (1, 3, None),
        (2, 9, None),
        (3, None, MISSING),
    ]
    assert [int(row["sum"]) - int(row["number"]) for row in scores[:2]] == [3, 9]


def test_the_columns_of_the_file_are_kept_but_for_the_pictures(tmp_path: Path) -> None:
    kept = {
        "id": pa.array([5], pa.uint16()),
        "tags": pa.array([["a", "b"]]),
        "when": pa.array([0], pa.timestamp("s")),
        "view": pa.array(["v"], pa.string_view()),
        "category": pa.array(["c"]).dictionary_encode(),
        "price": pa.array([Decimal("1.50")]),
    }
    one = [png(mnist.load().images[0, 0])]
    for columns in ({"image": one, "other": one}, {"image": pa.array([{"bytes": one[0], "path": "x"}])}):
        write(tmp_path / "a.parquet", kept | columns)
        (part,) = tables.find(str(tmp_path / "a.parquet"))
        score_file(part, job(tmp_path / "out", column="image"))
        written = pq.read_table(tmp_path / "out" / "a.parquet")
        others = [name for name in columns if name != "image"]
        assert written.schema.names == [*kept, *others, *RESULTS]
        for name, column in kept.items():
            assert written[name].to_pylist() == column.to_pylist()
        assert written.schema.field("number").type == written.schema.field("sum").type == pa.string()


def test_a_file_without_rows_has_scores_without_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", {"id": pa.array([], pa.int8()), "image": pa.array([], pa.binary())})
    (part,) = tables.find(str(tmp_path / "a.parquet"))
    assert score_file(part, job(tmp_path / "out")) == (0, 0)
    assert pq.read_table(tmp_path / "out" / "a.parquet").schema.names == ["id", *RESULTS]


def test_scores_of_many_batches_are_those_of_one(
    data: Path, expected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", 7)
    monkeypatch.setattr(scoring, "GROUP_BYTES", 1_000)
    score_file(tables.find(str(data))[0], job(tmp_path / "out"))
    assert rows_of(tmp_path / "out") == rows_of(expected)[:ROWS]
    assert pq.ParquetFile(tmp_path / "out" / "0.parquet").num_row_groups > 3


def test_addresses_are_read_and_written(data: Path, expected: Path, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(data), "/bucket/data", recursive=True)
    (first, *_) = tables.find("memory://bucket/data/*.parquet")
    score_file(first, job("memory://bucket/scores"))
    assert memory.find("/bucket/scores") == ["/bucket/scores/0.parquet"]
    memory.get("/bucket/scores/0.parquet", str(tmp_path / "0.parquet"))
    assert (tmp_path / "0.parquet").read_bytes() == (expected / "0.parquet").read_bytes()
    memory.rm("/bucket", recursive=True)


def test_a_failure_in_the_middle_leaves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", 10)
    fail_after = iter("ab")
    monkeypatch.setattr(tables, "read_rows", lambda column: [next(fail_after)] * len(column))
    with pytest.raises(RuntimeError, match="StopIteration"):
        score_file(tables.find(str(data))[0], job(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


def test_another_model_than_the_jobs_is_refused(data: Path, tmp_path: Path) -> None:
    other = replace(job(tmp_path / "out"), model="concat")
    with pytest.raises(ValueError, match=r"^the model concat isn't the same everywhere: expected sha256 "):
        score_file(tables.find(str(data))[0], other)
    assert not (tmp_path / "out").exists()


def test_scores_are_on_the_disk_before_they_have_their_name(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, int]] = []
    rename = Path.replace

    def noted(old: Path, new: Path) -> None:
        steps.append(("name", old.stat().st_size))
        rename(old, new)

    def synced(number: int) -> None:
        if stat.S_ISREG(os.fstat(number).st_mode):  # not the folder
            steps.append(("sync", os.fstat(number).st_size))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", noted)
    for is_csv in (False, True):
        score_file(tables.find(str(data))[0], job(tmp_path / "out", csv=is_csv))
    sizes = [(tmp_path / "out" / name).stat().st_size for name in ("0.parquet", "0.csv")]
    assert steps == [(step, size) for size in sizes for step in ("sync", "name")]


def test_a_full_disk_is_said_in_words(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=rf"^{tmp_path}/out/0\.parquet: No space left on device$"):
        score_file(tables.find(str(data))[0], job(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []


# For spreadsheets


def test_csv_holds_no_formula_and_says_that_it_is_utf_8(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a=1", "é"]
    columns = {
        "=name": texts,
        "category": pa.array(texts).dictionary_encode(),
        "bytes": pa.array([text.encode() for text in texts], pa.large_binary()),
        "number_of": list(range(-8, 0)),
        "image": list(mnist.load().images[:8].reshape(8, 784)),
    }
    write(tmp_path / "a.parquet", columns)
    (part,) = tables.find(str(tmp_path / "a.parquet"))
    score_file(part, job(tmp_path / "out", column="image", csv=True))
    path = tmp_path / "out" / "a.csv"
    assert path.read_bytes().startswith(codecs.BOM_UTF8)
    frame = pd.read_csv(path, keep_default_na=False, lineterminator="\n")
    safe = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'\r=1", "a=1", "é"]
    assert frame.columns.tolist() == ["'=name", "category", "bytes", "number_of", *RESULTS]
    for name in ("'=name", "category", "bytes"):
        assert frame[name].tolist() == safe
    assert frame["number_of"].tolist() == columns["number_of"]


def test_a_name_of_a_picture_is_no_formula_either(tmp_path: Path) -> None:
    (tmp_path / "=1+1.png").write_bytes(png(255 - mnist.load().images[0, 0]))
    score_file(tables.find(str(tmp_path / "=1+1.png"))[0], job(tmp_path / "out", csv=True))
    assert pd.read_csv(tmp_path / "out" / "pictures-000000.csv")["picture"].tolist() == ["'=1+1.png"]


# A job, in this process: as where no other can be started


def start_no_processes(patch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ImportError("this test starts no processes")

    patch.setattr("multiprocessing.synchronize.RLock", refuse)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    start_no_processes(monkeypatch)


@pytest.mark.usefixtures("alone")
def test_a_folder_of_pictures_becomes_csv(tmp_path: Path) -> None:
    images = mnist.load().images[:, 0]
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    (tmp_path / "pictures" / "deep" / "b.png").write_bytes(png(page_of(*images[20:23])))
    (tmp_path / "pictures" / "a.png").write_bytes(png(page_of(*images[20:21])))
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    os.mkfifo(tmp_path / "pictures" / "pipe.png")
    done = score(f"{tmp_path}/pictures", f"{tmp_path}/out", addend=1000, csv=True)
    assert (done.rows, done.errors, done.files, done.already_scored, done.failed) == (4, 2, 1, 0, [])
    with (tmp_path / "out" / "pictures-000000.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["a.png", "deep/b.png", "notes.txt", "pipe.png"]
    for row, picture in zip(rows, ("a.png", "deep/b.png"), strict=False):
        answer = Predictor("exact").predict_number(tmp_path / "pictures" / picture, 1000)
        assert (row["number"], row["sum"], row["error"]) == (str(answer.number), str(answer.sum), "")
    assert rows[2]["error"].startswith("the picture can't be read: it is none of PNG")
    assert rows[3]["error"] == "the picture can't be read: it is a folder, a device or the like"


@pytest.fixture(scope="module")
def scored_once(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Two files, and a finished job of them."""
    folder = tmp_path_factory.mktemp("scored")
    for name in ("0.parquet", "1.parquet"):
        (folder / "data").mkdir(exist_ok=True)
        shutil.copy2(data / name, folder / "data" / name)
    with pytest.MonkeyPatch.context() as patch:
        start_no_processes(patch)
        score(f"{folder}/data", f"{folder}/out", addend=7)
    return folder


@pytest.fixture
def scored(scored_once: Path, tmp_path: Path, alone: None) -> Path:
    return shutil.copytree(scored_once, tmp_path / "scored")


def ask_again(folder: Path, **changes: Any) -> scoring.Scores:
    return score(f"{folder}/data", f"{folder}/out", **{"addend": 7, "workers": 1} | changes)


def test_a_finished_job_does_nothing_but_sweep(scored: Path) -> None:
    # the copy's files have the times of the original's, but not its folder
    before = {path: path.stat().st_mtime_ns for path in (scored / "out").iterdir()}
    (scored / "out" / f".0.parquet.{'0a' * 16}.part").write_text("left lying by a process that was killed")
    done = ask_again(scored)
    assert (done.rows, done.files, done.already_scored, done.failed) == (0, 2, 2, [])
    assert {path: path.stat().st_mtime_ns for path in (scored / "out").iterdir()} == before


def test_a_new_file_is_added_and_a_missing_one_is_done_again(
    scored: Path, data: Path, expected: Path
) -> None:
    shutil.copy(data / "2.parquet", scored / "data")
    (scored / "out" / "0.parquet").unlink()
    done = ask_again(scored)
    assert (done.rows, done.files, done.already_scored) == (2 * ROWS, 3, 1)
    assert rows_of(scored / "out") == rows_of(expected)[: 3 * ROWS]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"addend": 8}, "{out} was written with addend 7, not 8: name another folder"),
        (
            {"addend": None, "addend_column": "n"},
            "{out} was written with addend 7, not None: name another folder",
        ),
        ({"model": "concat"}, "{out} was written with model sha256 "),
        ({"csv": True}, "{out} was written with csv False, not True: name another folder"),
        ({"addend": None}, "say what to add: give either --addend or --addend-column"),
        ({"addend_column": "n"}, "say what to add: give either --addend or --addend-column"),
        ({"addend": -1}, "a number's addend is a whole number from 0 on, not -1"),
        ({"addend": None, "addend_column": "m"}, "{data}/0.parquet has no column m, but id, image, n, label"),
        (
            {"addend": None, "addend_column": "image"},
            "{data}/0.parquet: the column image should be of whole numb",
        ),
        (
            {"column": "id"},
            "{data}/0.parquet should have a column of pictures, of bytes or of 784 uint8, not id",
        ),
        ({"model": "best"}, "there is no model 'best': name exact, concat, an ONNX file"),
    ],
)
def test_what_was_asked_wrongly_or_otherwise_is_refused(
    scored: Path, changes: dict[str, Any], message: str
) -> None:
    expected = message.format(out=scored / "out", data=scored / "data")
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}"):
        ask_again(scored, **changes)
    assert ask_again(scored).already_scored == 2


def test_scores_of_an_earlier_version_with_fewer_columns_are_not_mixed(scored: Path) -> None:
    place = scored / "out" / MANIFEST
    manifest = json.loads(place.read_text())
    del manifest["settings"]["columns"]
    place.write_text(json.dumps(manifest))
    with pytest.raises(
        InputError, match=r"/out was written with columns None, not number, sum, probability, s"
    ):
        ask_again(scored)


def test_a_file_that_changed_or_went_is_not_mixed(scored: Path, data: Path, expected: Path) -> None:
    shutil.copy(data / "5.parquet", scored / "data" / "1.parquet")
    place = scored / "out" / "1.parquet"
    with pytest.raises(
        ValueError, match=rf"^{place} was made of a file that has changed since: remove it, or "
    ):
        ask_again(scored)
    place.unlink()
    assert ask_again(scored).rows == ROWS
    assert rows_of(scored / "out") == rows_of(expected)[:ROWS] + rows_of(expected)[5 * ROWS : 6 * ROWS]
    (scored / "data" / "1.parquet").unlink()
    with pytest.raises(
        ValueError, match=rf"^{place} was made of a file that isn't there any more: remove it, or"
    ):
        ask_again(scored)


def test_a_folder_with_something_else_is_refused(scored: Path) -> None:
    (scored / "out" / MANIFEST).write_text('{"settings": []}')
    with pytest.raises(
        ValueError, match=rf"^{scored}/out/{MANIFEST} is damaged: name a new folder for the scores$"
    ):
        ask_again(scored)
    (scored / "out" / MANIFEST).unlink()
    with pytest.raises(
        ValueError, match=rf"^{scored}/out isn't empty, and no scores of digitsum: name a new folder$"
    ):
        ask_again(scored)
    with pytest.raises(ValueError, match=rf"^{scored}/data/0.parquet is no folder: name one for the scores$"):
        score(f"{scored}/data/1.parquet", f"{scored}/data/0.parquet", addend=7)
    with pytest.raises(ValueError, match=r"^there are no Parquet files or pictures at "):
        score(f"{scored}/data", f"{scored}/data", addend=7)


def test_a_file_that_is_not_parquet_is_named_and_the_others_are_scored(
    scored: Path, data: Path, expected: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    (scored / "data" / "0broken.parquet").write_text("no Parquet")
    write(scored / "data" / "3.parquet", {"image": [b""], "sum": [1]})
    write(scored / "data" / "4.parquet", {"picture": ["x.png"]})
    shutil.copy(data / "2.parquet", scored / "data")
    code, output, errors = run("score", f"{scored}/data", f"{scored}/out", "-a7", "--workers=1")
    assert code == 1
    assert output == f"{scored}/out: {ROWS} rows written, 1 with an error; 6 files, 2 already scored\n"
    assert [line.split(" can't be", 1)[0].split(" should", 1)[0] for line in sorted(errors.splitlines())] == [
        f"digitsum: {scored}/data/0broken.parquet",
        f"digitsum: {scored}/data/3.parquet has a column sum, which its scores have as well: rename it",
        f"digitsum: {scored}/data/4.parquet",
    ]
    assert rows_of(scored / "out") == rows_of(expected)[: 3 * ROWS]


# Processes that are killed


@contextmanager
def started(*arguments: object, within: Sequence[str] = (), **more: Any) -> Iterator[subprocess.Popen[str]]:
    command = [*within, sys.executable, "-m", "digitsum", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def workers(pid: int, count: int) -> list[psutil.Process]:
    """Wait for the processes of a job."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children()
        found = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        if len(found) == count:
            return found
        time.sleep(0.02)
    raise AssertionError("the workers didn't start")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def caught(processes: list[psutil.Process], out: Path) -> tuple[psutil.Process, str]:
    """Suspend a process as it writes scores when others are written, and give it and what it writes."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        for process in processes:
            process.suspend()
            names = [Path(file.path).name for file in process.open_files() if file.path.endswith(".part")]
            if names and any(out.glob("*.parquet")):
                return process, names[0].split(".")[1]
            process.resume()
        time.sleep(0.002)
    raise AssertionError("no process was caught at work")


@pytest.mark.usefixtures("semaphores")
def test_a_process_that_is_killed_costs_its_file_which_is_scored_when_asked_again(
    data: Path, expected: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    with ThreadPoolExecutor(1) as other:
        job = other.submit(score, str(data), str(out), addend=7, workers=1)
        worker, name = caught(workers(os.getpid(), 1), out)
        worker.kill()
        done = job.result()
    sentence = "the process that did it was killed, ran out of memory or crashed: ask again"
    assert done.failed == [f"{data}/{name}.parquet: {sentence}"]
    assert (done.rows, done.errors) == ((FILES - 1) * ROWS, FILES - 1)
    assert files(out) == [*(file for file in files(expected) if file != f"{name}.parquet"), MANIFEST]
    request.getfixturevalue("alone")
    again = score(str(data), str(out), addend=7)
    assert (again.rows, again.already_scored, again.failed) == (ROWS, FILES - 1, [])
    assert digest(out) == digest(expected)
    assert files(out) == [*files(expected), MANIFEST]


@pytest.mark.usefixtures("semaphores")
def test_a_job_that_is_interrupted_says_so_and_goes_on_with_what_is_missing(
    data: Path, expected: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    # a script's background jobs ignore this signal, and hand that on to what they start
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    with started("score", data, out, "-a", 7, "--workers", 1, start_new_session=True) as process:
        signal.signal(signal.SIGINT, ours)
        worker, _ = caught(workers(process.pid, 1), out)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        worker.resume()
        assert process.communicate(timeout=600) == ("", "digitsum: interrupted\n")
    assert process.returncode == 130
    assert not psutil.wait_procs([worker], timeout=200)[1]
    there = len(list(out.glob("*.parquet")))
    assert there > 0
    request.getfixturevalue("alone")
    done = score(str(data), str(out), addend=7)
    assert (done.files, done.already_scored, done.rows) == (FILES, there, (FILES - there) * ROWS)
    assert digest(out) == digest(expected)
    assert files(out) == [*files(expected), MANIFEST]


# A cluster


@contextmanager
def cluster(
    folder: Path, starts: dict[str, list[str]], scheduler: str, *hosts: str
) -> Iterator[tuple[str, list[psutil.Process]]]:
    """A scheduler on a host, and a worker on each of the others; give its address, and the workers."""
    address = f"tcp://{scheduler}:{free_port()}"
    dask, quiet = [sys.executable, "-m", "dask"], ["--no-dashboard"]
    options = [*quiet, "--nthreads", "1", "--no-nanny", "--local-directory", str(folder / "dask")]
    commands = [[*starts[scheduler], *dask, "scheduler", "--host", address, *quiet]]
    commands += [[*starts[host], *dask, "worker", address, "--host", host, *options] for host in hosts]
    with ExitStack() as running:
        log = running.enter_context((folder / "cluster.log").open("wb"))
        processes = []
        for command in commands:
            processes.append(psutil.Popen(command, stdout=log, stderr=log))
            running.callback(processes[-1].wait)
            running.callback(processes[-1].kill)
        yield address, processes[1:]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def hosts() -> Iterator[dict[str, list[str]]]:
    """Two hosts, which only a cable connects: their addresses, and what starts a program there.

    Networks of one's own take Linux, iproute2 and root; elsewhere both are this one.
    """
    names = {f"10.77.0.{i}": f"digitsum-{os.getpid()}-{i}" for i in (1, 2)}
    first, second = names.values()
    ip = shutil.which("ip")
    if not ip or subprocess.run([ip, "netns", "add", first], capture_output=True).returncode:
        yield {"127.0.0.1": [], "localhost": []}
        return
    with ExitStack() as made:
        made.callback(subprocess.run, [ip, "netns", "delete", first])
        subprocess.run([ip, "netns", "add", second], check=True)
        made.callback(subprocess.run, [ip, "netns", "delete", second])
        cable = ["type", "veth", "peer", "name", "eth0", "netns", second]
        subprocess.run([ip, "link", "add", "eth0", "netns", first, *cable], check=True)
        for address, name in names.items():
            subprocess.run([ip, "-n", name, "address", "add", f"{address}/24", "dev", "eth0"], check=True)
            for device in ("lo", "eth0"):
                subprocess.run([ip, "-n", name, "link", "set", device, "up"], check=True)
        yield {address: [ip, "netns", "exec", name] for address, name in names.items()}


def test_a_cluster_on_two_hosts_scores_as_one_process_does_though_a_worker_is_killed(
    data: Path, expected: Path, tmp_path: Path, hosts: dict[str, list[str]]
) -> None:
    out, (first, second) = tmp_path / "out", hosts
    with (
        cluster(tmp_path, hosts, first, second, second) as (address, dask_workers),
        started("score", data, out, "-a", 7, "--scheduler", address, within=hosts[first]) as process,
    ):
        worker, _ = caught(dask_workers, out)
        worker.kill()
        output, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    assert f"{FILES * ROWS:,} rows written, {FILES} with an error; {FILES} files, 0 already scored" in output
    assert digest(out) == digest(expected)
    assert files(out) == [*files(expected), MANIFEST]
