"""Very many pictures: read the number in each, add, and write what comes of it as Parquet.

    score("pictures/*.parquet", "scores", addend=7)
    score("s3://bucket/pictures", "s3://bucket/scores", addend_column="n", scheduler="tcp://10.0.0.1:8786")

One process does a file at a time, and holds a batch of its rows. A file's scores are written whole or not at
all, so a job that was interrupted goes on with the files that are missing.

Nothing here needs torch.
"""

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from digitsum.errors import InputError
from digitsum.files import digest
from digitsum.prediction import MAX_ADDEND_DIGITS, Predictor, check_any_addend, find_model
from digitsum.scoring import parquet, tables
from digitsum.scoring.manifest import RESULTS, Job, begin, replacing, sweep
from digitsum.scoring.parallel import check_everywhere, each, name_everywhere, progress
from digitsum.scoring.tables import Part, Row

FORMULA = "^[=+@\t\r-]"  # how a text begins that a spreadsheet runs
GROUP_BYTES = 8_000_000  # of scores that are written as one row group

Batch = tuple[pa.RecordBatch, list[Row], list[Any]]  # the columns that are kept, the rows, their addends


class Count(NamedTuple):
    """Rows, and how many of them have an error."""

    rows: int
    errors: int


@dataclass(frozen=True)
class Scores:
    """What `score` did.

    Attributes
    ----------
    rows, errors
        How many rows were written, and how many of them have an error.
    files, already_scored
        How many files the scores have, and how many of them an earlier job had written.
    failed
        A sentence for each file that couldn't be scored.
    """

    rows: int
    errors: int
    files: int
    already_scored: int
    failed: list[str]


def score(
    source: str,
    out: str,
    *,
    addend: int | None = None,
    addend_column: str | None = None,
    column: str | None = None,
    model: str | Path = "row",
    csv: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Scores:
    """Read the number in each of very many pictures, add to it, and write the scores.

    Each Parquet file gets a file of scores, and so do each thousand pictures of a folder. They are the file's
    columns but for the pictures (or `picture`, the name in the folder) and `number`, `sum`, `probability`,
    `sum_probability`, `consistent`, `uncertain`, as `Prediction` has them, and `error`. For one digit
    and an addend from 0 to 9 the sum is the network's second output. Numbers and sums are text, as they may
    have any number of digits. Where a row can't be read, `error` says why in one sentence, and the others are
    null. Every row is there once, in the order of the file.

    Asked again, it goes on with the scores that are missing in `out`. One job at a time may write there.

    Parameters
    ----------
    source
        Parquet files or pictures, as `tables.find` takes them: data/*.parquet, s3://bucket/data.
    out
        A folder, new or an earlier job's: a path or an address.
    addend, addend_column
        One of both: what is added to each, 0 or more; or the column that says it, of whole numbers (also as
        float or decimal) or text, or the name of such folders as n=7.
    column
        That of the pictures, as `tables.read_rows` takes it. None: the only such column.
    model
        As for `Predictor`; in a cluster each worker has to find the same.
    csv
        Write CSV instead of Parquet, as spreadsheets read it: UTF-8 with a mark that says so, and an
        apostrophe before a text that they would take for a formula.
    workers, scheduler
        As for `parallel.each`. Whoever reaches a Dask scheduler can run programs on its workers.

    Raises
    ------
    InputError
        There is nothing to score; no such column or model; `out` has something else, or scores of other
        pictures, with another addend or by another model.
    OSError
        The source can't be listed, or `out` can't be written to.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from digitsum import mnist
    >>> images = pa.table({"image": list(mnist.load().images[:4].reshape(4, 784))})
    >>> with TemporaryDirectory() as folder:
    ...     pq.write_table(images, f"{folder}/four.parquet")
    ...     done = score(f"{folder}/four.parquet", f"{folder}/scores", addend=1000, workers=1)
    ...     scores = pq.read_table(f"{folder}/scores/four.parquet")
    >>> done.rows, done.errors, scores["sum"].to_pylist()
    (4, 0, ['1004', '1002', '1000', '1009'])
    """
    parts = tables.find(source, tables.address(out))
    job = _job(out, addend, addend_column, column, model, csv)
    _check(parts[0], job)
    with tables.reaching(out):
        missing = begin(parts, job)
    counts, failed = [Count(0, 0)], []
    with progress(sum(part.size for part in missing)) as show:
        for part, outcome in each(partial(score_file, job=job), missing, workers, scheduler):
            if isinstance(outcome, Exception):
                failed.append(str(outcome))
            else:
                counts.append(outcome)
                show(part.size, outcome.rows)
    with tables.reaching(out):
        sweep(job.out)
    rows, errors = map(sum, zip(*counts, strict=True))
    return Scores(rows, errors, len(parts), len(parts) - len(missing), failed)


def _job(
    out: str, addend: int | None, addend_column: str | None, column: str | None, model: str | Path, csv: bool
) -> Job:
    if (addend is None) == (addend_column is None):
        raise InputError("say what to add: give either --addend or --addend-column")
    addend = None if addend is None else check_any_addend(addend)
    Predictor(model)  # which refuses what is none
    name, sha256 = name_everywhere(model), digest(find_model(model))
    return Job(tables.address(out), name, sha256, addend, addend_column, column, csv)


# What there is to do


def _check(part: Part, job: Job) -> None:
    """Refuse a mistake in the columns' names before anything is written, if the first file can be read."""
    if part.is_table:
        with suppress(OSError), tables.opened(part) as table:
            _columns(table.schema, part, job)
    elif job.addend_column or job.column:
        raise InputError("pictures have no columns: give --addend alone")


# One file


def score_file(part: Part, job: Job) -> Count:
    """Score one part, and write its scores whole or not at all.

    Raises
    ------
    OSError
        It can't be read as Parquet, or its scores can't be written.
    InputError
        It hasn't the columns that it should have, CSV can't hold them, or this process finds another model
        than the job's.
    """
    predictor = _predictor(job.model, job.model_sha256)
    target = f"{job.out}/{job.target(part.name)}"
    with tables.reaching(tables.shown(target)), replacing(target) as file:
        groups = _grouped(_scored(predictor, *batch) for batch in _batches(part, job, predictor.read))
        try:
            return _write_csv(groups, file) if job.csv else _write(groups, file, pq.ParquetWriter)
        except pa.ArrowException as error:
            raise InputError(f"the scores of {part} can't be written: {error}") from error


def _write_csv(groups: Iterator[pa.Table], file: IO[bytes]) -> Count:
    file.write(codecs.BOM_UTF8)  # without it Excel takes the text for another encoding
    return _write(map(_for_spreadsheets, groups), file, pa.csv.CSVWriter)


def _write(groups: Iterator[pa.Table], file: IO[bytes], writer: Any) -> Count:
    rows = errors = 0
    first = next(groups)
    with writer(file, first.schema) as scores:
        for group in chain([first], groups):
            scores.write_table(group)
            rows += len(group)
            errors += len(group) - group["error"].null_count
    return Count(rows, errors)


@lru_cache(maxsize=1)
def _predictor(model: str, sha256: str) -> Predictor:
    """Load the model, once in each process."""
    check_everywhere(f"model {model}", find_model(model), sha256)
    return Predictor(model, threads=1)


def _batches(part: Part, job: Job, read: tables.Read) -> Iterator[Batch]:
    """Read a part, a batch of rows at a time; a Parquet file's first has none, but the columns."""
    if not part.is_table:
        with tables.reaching(part):
            fs, base = url_to_fs(part.base)
            rows = [tables.read_file(fs, base, name, read) for name in part.files]
        names = [os.fsencode(name).decode(errors="replace") for name in part.files]
        yield pa.record_batch({"picture": names}), rows, [job.addend] * len(rows)
        return
    with tables.opened(part) as table:
        column = _columns(table.schema, part, job)
        none = pa.RecordBatch.from_pylist([], table.schema)
        for batch in chain([none], parquet.record_batches(table)):
            name = job.addend_column
            added = tables.values(batch, part, name) if name else [job.addend] * len(batch)
            yield batch.drop_columns([column]), tables.read_rows(batch[column], read), added


def _columns(schema: pa.Schema, part: Part, job: Job) -> str:
    """Check a file's columns, and give the name of that of the pictures."""
    column, addend = tables.picture_column(schema, part, job.column), job.addend_column
    tables.check_column(schema, part, addend, *part.keys)
    if addend in schema.names and not _is_addend(schema.field(addend).type):
        kind = schema.field(addend).type
        raise InputError(f"{part}: the column {addend} should be of whole numbers or of text, not of {kind}")
    taken = [name for name in RESULTS.names if name in schema.names and name != column]
    if taken:
        raise InputError(f"{part} has a column {taken[0]}, which its scores have as well: rename it")
    return column


def _is_addend(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _is_addend(kind.value_type)
    kinds = (
        *(types.is_integer, types.is_floating, types.is_decimal, types.is_null),
        *(types.is_string, types.is_large_string),
    )
    return any(is_kind(kind) for is_kind in kinds)


def _scored(predictor: Predictor, keys: pa.RecordBatch, rows: list[Row], addends: list[Any]) -> pa.Table:
    """Return the scores of a batch of rows: the columns that are kept, and RESULTS."""
    checked = [_addend(addend) for addend in addends]
    columns: dict[str, list[Any]] = {name: [None] * len(rows) for name in RESULTS.names}
    readable: dict[int, Any] = {}
    for i, (row, added) in enumerate(zip(rows, checked, strict=True)):
        if isinstance(row, str) or isinstance(added, str):
            columns["error"][i] = row if isinstance(row, str) else added
        else:
            readable[i] = row, added
    answers = predictor.predict_rows(*map(list, zip(*readable.values(), strict=True))) if readable else []
    for i, answer in zip(readable, answers, strict=True):
        if isinstance(answer, InputError):
            columns["error"][i] = f"the picture can't be read: {answer}"
            continue
        for name, value in answer.to_dict().items():
            if name in columns:
                columns[name][i] = value
    arrays = [pa.array(columns[field.name], field.type) for field in RESULTS]
    return pa.table([*keys.columns, *arrays], pa.schema([*keys.schema, *RESULTS]))


def _addend(value: Any) -> int | str:
    """Return an addend as a whole number, or what is wrong with it."""
    if value is None:
        return "the addend is missing: it should be a whole number from 0 on"
    if isinstance(value, str) and re.fullmatch(rf"[0-9]{{1,{MAX_ADDEND_DIGITS}}}", value):
        return int(value)
    try:
        return check_any_addend(value)
    except InputError as error:
        return str(error)


# Writing


def _grouped(batches: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join tables until they are as large as a row group."""
    group: list[pa.Table] = []
    for batch in batches:
        group.append(batch)
        if sum(each.nbytes for each in group) > GROUP_BYTES:
            yield pa.concat_tables(group)
            group = []
    if group:
        yield pa.concat_tables(group)


def _for_spreadsheets(scores: pa.Table) -> pa.Table:
    """Return scores with an apostrophe before each text, also a column's name, that would be a formula."""
    columns = []
    for column in scores.columns:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if column.type in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
            column = pc.replace_substring_regex(column, FORMULA, r"'\0")
        columns.append(column)
    names = [re.sub(FORMULA, r"'\g<0>", name) for name in scores.schema.names]
    return pa.table(
        columns, names
    ).combine_chunks()  # before 24 pyarrow names columns again after an empty one
