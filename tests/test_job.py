import codecs
import csv
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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

FILES, ROWS = 6, 150  # of the jobs that are killed: a second's work
SCORE = [sys.executable, "-m", "digitsum", "score", "--model", "exact"]
RESULTS = ["number", "sum", "probability", "sum_probability", "consistent", "uncertain", "error"]


def image(number: int = 0) -> np.ndarray:
    """An embedded image, [28, 28]."""
    return mnist.load().images[number, 0]


def write(path: Path, columns: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def job(out: object, model: str = "exact", **changes: Any) -> Job:
    sha256 = hashlib.sha256((WEIGHTS / model / "model.onnx").read_bytes()).hexdigest()
    addend = None if "addend_column" in changes else 7
    settings = {"addend": addend, "addend_column": None, "column": None, "csv": False} | changes
    return Job(tables.address(str(out)), model, sha256, **settings)


def scores_of(folder: Path, columns: dict[str, Any], **changes: Any) -> pa.Table:
    """Write columns as a Parquet file, and read its scores."""
    (part,) = tables.find(str(write(folder / "a.parquet", columns)))
    score_file(part, job(folder / "out", **changes))
    return pq.read_table(folder / "out" / "a.parquet")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def seven(tmp_path: Path) -> tables.Part:
    """Seven rows, in seven batches."""
    images = mnist.load().images[:7].reshape(7, 784)
    (part,) = tables.find(str(write(tmp_path / "a.parquet", {"id": range(7), "image": list(images)})))
    return part


# What a file of scores holds


def test_scores_are_the_predictors_and_an_error_takes_its_row_alone(tmp_path: Path) -> None:
    images = mnist.load().images[:, 0]
    pages = [page_of(*images[:20]), *(page_of(image) for image in images[20:40]), page_of(*images[40:43])]
    pictures = [png(page) for page in pages]
    addends = [10**30, *range(21)]
    columns = {"n": [*map(str, addends), "5"], "image": [*pictures, b"no picture"]}
    *rows, wrong = scores_of(tmp_path, columns, model="row", addend_column="n").to_pylist()
    predictor = Predictor(threads=1)
    for row, picture, addend in zip(rows, pictures, addends, strict=True):
        answer = predictor.predict_number(picture, addend)
        assert (row["n"], row["number"], row["sum"]) == (str(addend), str(answer.number), str(answer.sum))
        assert (row["consistent"], row["uncertain"], row["error"]) == (True, answer.uncertain, None)
        assert row["probability"] == pytest.approx(answer.probability, abs=1e-5)
        assert row["sum_probability"] == pytest.approx(answer.sum_probability, abs=1e-5)
    assert len(rows[0]["sum"]) == 31
    assert wrong["error"].startswith("the picture can't be read: it is none of PNG, ")
    assert [wrong[name] for name in RESULTS[:-1]] == [None] * 6


def test_a_digits_sum_is_the_networks_second_output_also_where_it_contradicts_the_first(
    tmp_path: Path,
) -> None:
    """The reference reads the embedded image 594, a 4, as a 9, and adds 7 to it as to a 4."""
    four = image(594)
    (digits,), (sums,) = Predictor("concat", threads=1).probabilities(
        four[np.newaxis, np.newaxis], np.array([7])
    )
    assert (digits.argmax(), sums.argmax()) == (9, 11)
    columns = {"image": [four.ravel()] * 2, "n": [7, 10]}
    network, exact = scores_of(tmp_path, columns, model="concat", addend_column="n").to_pylist()
    assert (network["number"], network["sum"]) == ("9", "11")
    assert network["probability"] == pytest.approx(float(digits[9]), abs=1e-5)
    assert network["sum_probability"] == pytest.approx(float(sums[11]), abs=1e-5)
    assert (network["consistent"], network["uncertain"]) == (False, True)
    assert (exact["number"], exact["sum"], exact["consistent"]) == ("9", "19", True)
    assert exact["sum_probability"] == exact["probability"]


MISSING = "the addend is missing: it should be a whole number from 0 on"


@pytest.mark.parametrize(
    ("addends", "wrong"),
    [
        (pa.array([1, -1, None, 3]), ["-1", None]),
        (pa.array([1.0, 1.5, float("nan"), 3.0]), ["1.5", "nan"]),
        (pa.array([Decimal("1.00"), Decimal("1.50"), None, Decimal("3.00")]), ["1.5", None]),
        (pa.array([1, -1, None, 3]).dictionary_encode(), ["-1", None]),
        (pa.array(["1", "-1", None, "7.5"]), ["'-1'", None, "'7.5'"]),
        (pa.array(["1", "-1", None, "3"]).dictionary_encode(), ["'-1'", None]),
        (pa.array(["1", "", "9" * 1001, "3"], pa.large_string()), ["''", f"'{'9' * 1001}'"]),
        (pa.nulls(4), [None] * 4),
    ],
)
def test_a_wrong_addend_is_its_rows_error(tmp_path: Path, addends: pa.Array, wrong: list[str | None]) -> None:
    columns = {"image": [image().ravel()] * 4, "n": addends}
    rows = scores_of(tmp_path, columns, addend_column="n").to_pylist()
    assert [row["error"] for row in rows if row["error"]] == [
        f"a number's addend is a whole number from 0 on, not {value}" if value else MISSING for value in wrong
    ]
    for addend, row in zip(addends.to_pylist(), rows, strict=True):
        assert row["error"] or int(row["sum"]) - int(row["number"]) == int(addend)


def test_addends_are_also_the_names_of_folders_and_the_scores_lie_in_such(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [1, 2, 3], "n": [3, 9, None], "image": [image().ravel()] * 3})
    frame.to_parquet(tmp_path / "data", partition_cols=["n"])
    for part in tables.find(str(tmp_path / "data")):
        score_file(part, job(tmp_path / "out", addend_column="n"))
    hive = dataset.partitioning(flavor="hive")  # which takes n from the folders' names
    table = dataset.dataset(tmp_path / "out", partitioning=hive, exclude_invalid_files=False).to_table()
    scores = sorted(table.to_pylist(), key=itemgetter("id"))
    number = scores[0]["number"]
    assert [(row["id"], row["n"], row["sum"], row["error"]) for row in scores] == [
        (1, 3, str(int(number) + 3), None),
        (2, 9, str(int(number) + 9), None),
        (3, None, None, MISSING),
    ]


def test_the_columns_of_the_file_are_kept_but_for_the_pictures(tmp_path: Path) -> None:
    kept = {
        "id": pa.array([5], pa.uint16()),
        "tags": pa.array([["a", "b"]]),
        "when": pa.array([0], pa.timestamp("s")),
        "view": pa.array(["v"], pa.string_view()),
        "category": pa.array(["c"]).dictionary_encode(),
        "price": pa.array([Decimal("1.50")]),
        "other": [png(image())],
    }
    for pictures in (kept["other"], pa.array([{"bytes": png(image()), "path": "x"}])):
        written = scores_of(tmp_path, kept | {"image": pictures}, column="image")
        assert written.schema.names == [*kept, *RESULTS]
        assert written.select(list(kept)).to_pydict() == pa.table(kept).to_pydict()
        assert written.schema.field("number").type == written.schema.field("sum").type == pa.string()


def test_a_file_without_rows_has_scores_without_rows(tmp_path: Path) -> None:
    scores = scores_of(tmp_path, {"id": pa.array([], pa.int8()), "image": pa.array([], pa.binary())})
    assert (scores.schema.names, len(scores)) == (["id", *RESULTS], 0)


def test_scores_of_many_batches_are_those_of_one(
    seven: tables.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score_file(seven, job(tmp_path / "one")) == (7, 0)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 1)
    monkeypatch.setattr(scoring, "GROUP_BYTES", 1)
    assert score_file(seven, job(tmp_path / "many")) == (7, 0)
    one, many = (pq.ParquetFile(tmp_path / out / "a.parquet") for out in ("one", "many"))
    assert many.read().to_pylist() == one.read().to_pylist()
    assert (one.num_row_groups, many.num_row_groups > 3) == (1, True)


def test_addresses_are_read_and_written(seven: tables.Part, tmp_path: Path) -> None:
    score_file(seven, job(tmp_path / "out"))
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "a.parquet"), "/bucket/data/a.parquet")
    (part,) = tables.find("memory://bucket/data/*.parquet")
    score_file(part, job("memory://bucket/scores"))
    assert memory.find("/bucket/scores") == ["/bucket/scores/a.parquet"]
    assert memory.cat("/bucket/scores/a.parquet") == (tmp_path / "out" / "a.parquet").read_bytes()
    memory.rm("/bucket", recursive=True)


def test_a_failure_in_the_middle_leaves_nothing(
    seven: tables.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH_ROWS", 1)
    fail_after = iter("ab")
    monkeypatch.setattr(tables, "read_rows", lambda column, _: [next(fail_after)] * len(column))
    with pytest.raises(RuntimeError, match="StopIteration"):
        score_file(seven, job(tmp_path / "out"))
    assert names(tmp_path / "out") == []


def test_a_full_disk_is_said_in_words(
    seven: tables.Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=rf"^{tmp_path}/out/a\.parquet: No space left on device$"):
        score_file(seven, job(tmp_path / "out"))
    assert names(tmp_path / "out") == []


def test_another_model_than_the_jobs_is_refused(seven: tables.Part, tmp_path: Path) -> None:
    other = replace(job(tmp_path / "out"), model="concat")
    with pytest.raises(InputError, match=r"^the model concat isn't the same everywhere: expected sha256 "):
        score_file(seven, other)
    assert not (tmp_path / "out").exists()


# For spreadsheets


def test_csv_holds_no_formula_and_says_that_it_is_utf_8(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "a=1", "é"]
    columns = {
        "=name": texts,
        "category": pa.array(texts).dictionary_encode(),
        "bytes": pa.array([text.encode() for text in texts], pa.large_binary()),
        "number_of": list(range(-8, 0)),
        "image": [image().ravel()] * 8,
    }
    (part,) = tables.find(str(write(tmp_path / "a.parquet", columns)))
    score_file(part, job(tmp_path / "out", column="image", csv=True))
    path = tmp_path / "out" / "a.csv"
    assert path.read_bytes().startswith(codecs.BOM_UTF8)
    frame = pd.read_csv(path, keep_default_na=False, lineterminator="\n")
    safe = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", "'\r=1", "a=1", "é"]
    assert frame.columns.tolist() == ["'=name", "category", "bytes", "number_of", *RESULTS]
    for name in ("'=name", "category", "bytes"):
        assert frame[name].tolist() == safe
    assert frame["number_of"].tolist() == columns["number_of"]


# A job, in this process: as where no other can be started


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ImportError("this test starts no processes")

    monkeypatch.setattr("multiprocessing.synchronize.RLock", refuse)


@pytest.mark.usefixtures("alone")
def test_a_folder_of_pictures_becomes_csv(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "deep").mkdir(parents=True)
    (pictures / "deep" / "b.png").write_bytes(png(page_of(image(20), image(21), image(22))))
    (pictures / "=a.png").write_bytes(png(page_of(image(20))))
    (pictures / "notes.txt").write_text("no picture")
    os.mkfifo(pictures / "pipe.png")
    done = score(str(pictures), f"{tmp_path}/out", addend=1000, csv=True)
    assert done == scoring.Scores(rows=4, errors=2, files=1, already_scored=0, failed=[])
    with (tmp_path / "out" / "pictures-000000.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["'=a.png", "deep/b.png", "notes.txt", "pipe.png"]
    for row, name in zip(rows, ("=a.png", "deep/b.png"), strict=False):
        answer = Predictor().predict_number(pictures / name, 1000)
        assert (row["number"], row["sum"], row["error"]) == (str(answer.number), str(answer.sum), "")
    assert rows[2]["error"].startswith("the picture can't be read: it is none of PNG")
    assert rows[3]["error"] == "the picture can't be read: it is a folder, a device or the like"


@pytest.fixture
def scored(tmp_path: Path, alone: None) -> Path:
    """Two files of two rows, and a finished job of them."""
    for name in ("0.parquet", "1.parquet"):
        write(tmp_path / "data" / name, {"id": [1, 2], "n": ["3", "4"], "image": [image().ravel()] * 2})
    score(f"{tmp_path}/data", f"{tmp_path}/out", addend=7)
    return tmp_path


def ask_again(folder: Path, **changes: Any) -> scoring.Scores:
    return score(f"{folder}/data", f"{folder}/out", **{"addend": 7, "workers": 1} | changes)


def test_a_job_that_is_asked_again_does_what_is_missing_and_sweeps(scored: Path) -> None:
    scores = (scored / "out" / "0.parquet").read_bytes()
    (scored / "out" / f".0.parquet.{'0a' * 16}.part").write_text("left lying by a process that was killed")
    assert ask_again(scored) == scoring.Scores(0, 0, files=2, already_scored=2, failed=[])
    shutil.copy(scored / "data" / "0.parquet", scored / "data" / "2.parquet")
    (scored / "out" / "0.parquet").unlink()
    assert ask_again(scored) == scoring.Scores(4, 0, files=3, already_scored=1, failed=[])
    assert names(scored / "out") == [*names(scored / "data"), MANIFEST]
    assert all(path.read_bytes() == scores for path in (scored / "out").glob("*.parquet"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"addend": 8}, "{out} was written with addend 7, not 8: name another folder"),
        ({"model": "concat"}, "{out} was written with model sha256 "),
        ({"addend": None}, "say what to add: give either --addend or --addend-column"),
        ({"addend_column": "n"}, "say what to add: give either --addend or --addend-column"),
        ({"addend": -1}, "a number's addend is a whole number from 0 on, not -1"),
        ({"addend": None, "addend_column": "m"}, "{data}/0.parquet has no column m, but id, n, image"),
        (
            {"addend": None, "addend_column": "image"},
            "{data}/0.parquet: the column image should be of whole numbers or of text, not of list<",
        ),
        (
            {"column": "id"},
            "{data}/0.parquet should have a column of pictures, of bytes or of 784 uint8, not id",
        ),
        ({"model": "best"}, "there is no model 'best': name exact, concat, row, an ONNX file"),
    ],
)
def test_what_was_asked_wrongly_or_otherwise_is_refused(
    scored: Path, changes: dict[str, Any], message: str
) -> None:
    expected = message.format(out=scored / "out", data=scored / "data")
    with pytest.raises(InputError, match=f"^{re.escape(expected)}"):
        ask_again(scored, **changes)
    assert ask_again(scored).already_scored == 2


def test_a_file_that_is_not_parquet_is_named_and_the_others_are_scored(
    scored: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    (scored / "data" / "0broken.parquet").write_text("no Parquet")
    write(scored / "data" / "2.parquet", {"image": [image().ravel(), np.zeros(784, np.uint8)]})
    write(scored / "data" / "3.parquet", {"image": [b""], "sum": [1]})
    write(scored / "data" / "4.parquet", {"picture": ["x.png"]})
    code, output, errors = run("score", f"{scored}/data", f"{scored}/out", "-a7", "--workers=1")
    assert code == 1
    assert output == f"{scored}/out: 2 rows written, 1 with an error; 6 files, 2 already scored\n"
    assert [line.split(" can't be", 1)[0].split(" should", 1)[0] for line in sorted(errors.splitlines())] == [
        f"digitsum: {scored}/data/0broken.parquet",
        f"digitsum: {scored}/data/3.parquet has a column sum, which its scores have as well: rename it",
        f"digitsum: {scored}/data/4.parquet",
    ]
    assert names(scored / "out") == ["0.parquet", "1.parquet", "2.parquet", MANIFEST]


# Processes that are killed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of embedded images."""
    folder = tmp_path_factory.mktemp("data")
    for number, rows in enumerate(np.split(np.arange(FILES * ROWS), FILES)):
        images = mnist.load().images[rows].reshape(-1, 784)
        write(folder / f"{number}.parquet", {"id": rows, "image": list(images)})
    return folder


@pytest.fixture(scope="module")
def expected(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Their scores, made in this process, a file after the other, by name."""
    out = tmp_path_factory.mktemp("expected")
    for part in tables.find(str(data)):
        score_file(part, job(out))
    return contents(out)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != MANIFEST}


@contextmanager
def started(*command: object, stderr: int = subprocess.PIPE, **more: Any) -> Iterator[subprocess.Popen[str]]:
    told = [str(word) for word in command]
    with subprocess.Popen(told, stdout=subprocess.PIPE, stderr=stderr, text=True, **more) as process:
        try:
            yield process
        finally:
            process.kill()


def caught(find: Callable[[], list[psutil.Process]], out: Path) -> tuple[psutil.Process, str]:
    """Suspend a process as it writes scores when others are written, and give it and what it writes."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        for process in find():
            process.suspend()
            parts = [Path(file.path).name for file in process.open_files() if file.path.endswith(".part")]
            if parts and any(out.glob("*.parquet")):
                return process, parts[0].split(".")[1]
            process.resume()
        time.sleep(0.002)
    raise AssertionError("no process was caught at work")


def workers(pid: int) -> list[psutil.Process]:
    children = psutil.Process(pid).children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.usefixtures("semaphores")
def test_a_process_that_is_killed_costs_its_file_which_is_scored_when_asked_again(
    data: Path, expected: dict[str, bytes], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    with ThreadPoolExecutor(1) as other:
        killed = other.submit(score, str(data), str(out), model="exact", addend=7, workers=1)
        worker, name = caught(lambda: workers(os.getpid()), out)
        worker.kill()
        done = killed.result()
    sentence = "the process that did it was killed, ran out of memory or crashed: ask again"
    assert done.failed == [f"{data}/{name}.parquet: {sentence}"]
    assert done.rows == (FILES - 1) * ROWS
    assert contents(out).keys() == expected.keys() - {f"{name}.parquet"}
    request.getfixturevalue("alone")
    again = score(str(data), str(out), model="exact", addend=7)
    assert (again.rows, again.already_scored, again.failed) == (ROWS, FILES - 1, [])
    assert contents(out) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("semaphores")
def test_a_job_that_is_interrupted_says_so_and_goes_on_with_what_is_missing(
    data: Path, expected: dict[str, bytes], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    out = tmp_path / "out"
    # a script's background jobs ignore this signal, and hand that on to what they start
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    with started(*SCORE, data, out, "-a7", "--workers=1", start_new_session=True) as process:
        signal.signal(signal.SIGINT, ours)
        worker, _ = caught(lambda: workers(process.pid), out)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        worker.resume()
        assert process.communicate(timeout=600) == ("", "digitsum: interrupted\n")
    assert process.returncode == 130
    assert not psutil.wait_procs([worker], timeout=200)[1]
    there = len(list(out.glob("*.parquet")))
    assert there > 0
    request.getfixturevalue("alone")
    done = score(str(data), str(out), model="exact", addend=7)
    assert (done.files, done.already_scored, done.rows) == (FILES, there, (FILES - there) * ROWS)
    assert contents(out) == expected


# A cluster


@pytest.mark.slow
def test_a_cluster_on_two_hosts_scores_as_one_process_does_though_a_worker_is_killed(
    data: Path, expected: dict[str, bytes], tmp_path: Path, hosts: list[str]
) -> None:
    out, address = tmp_path / "out", "tcp://10.213.0.1:8786"
    one, other = (["ip", "netns", "exec", host] for host in hosts)
    dask, quiet = [sys.executable, "-m", "dask"], {"stderr": subprocess.DEVNULL}
    worker = [*other, *dask, "worker", address, "--host=10.213.0.2", "--nthreads=1", "--no-nanny"]
    with (
        started(*one, *dask, "scheduler", "--host", address, "--no-dashboard", **quiet),
        started(*worker, "--no-dashboard", "--local-directory", tmp_path / "a", **quiet) as first,
        started(*worker, "--no-dashboard", "--local-directory", tmp_path / "b", **quiet) as second,
        started(*one, *SCORE, data, out, "-a7", "--scheduler", address) as process,
    ):
        dask_workers = [psutil.Process(each.pid) for each in (first, second)]
        killed, _ = caught(lambda: dask_workers, out)
        killed.kill()
        output, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    assert f"{FILES * ROWS:,} rows written, 0 with an error; {FILES} files, 0 already scored" in output
    assert contents(out) == expected
