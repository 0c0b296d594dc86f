"""A network evaluated on the images of Parquet files, of which it holds a batch of rows at a time."""

import logging
import re
import time
from collections.abc import Iterator
from functools import lru_cache, partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.errors import InputError
from digitsum.evaluation import Evaluation, Tally, run_trials
from digitsum.files import digest
from digitsum.networks import DigitSumNet, find, load
from digitsum.scoring import parquet, tables
from digitsum.scoring.parallel import check_everywhere, each, name_everywhere, progress
from digitsum.scoring.tables import Part
from digitsum.types import Array

NAMED = 3  # of the rows that are skipped

log = logging.getLogger("digitsum")


def evaluate_tables(
    name: str | Path,
    source: str,
    *,
    column: str | None = None,
    label_column: str = "label",
    workers: int | None = None,
    scheduler: str | None = None,
) -> Evaluation:
    """Evaluate a network on the images of Parquet files, of which it holds a batch of rows at a time.

    The counts are those of `evaluate` with all images in one go, and so is what is counted from them; the
    likelihoods and the calibration errors are the same but for the rounding of float32. A row that can't be
    read as one digit is skipped, and a warning says so.

    Parameters
    ----------
    name
        As for `load`; in a cluster each worker has to find the same.
    source
        Parquet files, as `tables.find` takes them.
    column
        That of the pictures, as `tables.read_rows` takes it. None: the only such column.
    label_column
        That of the digits, 0 to 9, whole numbers.
    workers, scheduler
        As for `parallel.each`. Whoever reaches a Dask scheduler can run programs on its workers.

    Raises
    ------
    InputError
        There are no such files, columns or network, a label isn't a digit, or there is no image.
    OSError
        A file can't be read.
    """
    start, network, parts = time.perf_counter(), load(name), tables.find(source)
    if not parts[0].is_table:
        raise InputError(f"there are no Parquet files at {source}")
    place = name_everywhere(name)
    sha256 = digest(_weights(place))
    count = partial(count_file, name=place, sha256=sha256, column=column, label_column=label_column)
    counted: dict[Part, Counted] = {}
    with progress(sum(part.size for part in parts)) as show:
        for part, outcome in each(count, parts, workers, scheduler):
            if isinstance(outcome, Exception):
                raise outcome
            counted[part] = outcome
            show(part.size, outcome.rows)
    in_order = [counted[part] for part in parts]  # sums of floats depend on it
    _warn_of(in_order, source)
    return reduce(Tally.plus, (each.tally for each in in_order)).evaluation(network, source, "all", start)


class Counted(NamedTuple):
    """What came of a file: its trials, its rows, how many were skipped, and of the first ones why."""

    tally: Tally
    rows: int
    skipped: int
    reasons: list[str]


def count_file(part: Part, name: str, sha256: str, column: str | None, label_column: str) -> Counted:
    """Evaluate a network, of which the weights have the digest, on one Parquet file.

    Raises what `evaluate_tables` does.
    """
    network, tally, rows, skipped = _network(name, sha256), Tally.none(), 0, 0
    reasons: list[str] = []
    for images, labels, unread in _labelled_images(part, column, label_column):
        if len(images):
            batches = loader(DigitSumDataset(Digits(images, labels)))
            tally = tally.plus(Tally.of(run_trials(network, batches)))
        reasons += [f"row {rows + i} of {part} ({why})" for i, why in list(unread.items())[:NAMED]]
        rows, skipped = rows + len(images) + len(unread), skipped + len(unread)
    return Counted(tally, rows, skipped, reasons[:NAMED])


@lru_cache(maxsize=1)
def _network(name: str, sha256: str) -> DigitSumNet:
    """Load a network, once in each process, which then keeps to one core."""
    check_everywhere(f"network {name}", _weights(name), sha256)
    torch.set_num_threads(1)
    return load(name)


def _weights(name: str) -> Path:
    return find(name) / "model.safetensors"


def _labelled_images(
    part: Part, column: str | None, label_column: str
) -> Iterator[tuple[Array, Array, dict[int, str]]]:
    """Read images [N, 1, 28, 28], labels [N], and why rows, by their number in the batch, can't be read."""
    with tables.opened(part) as table:
        column = tables.picture_column(table.schema, part, column)
        tables.check_column(table.schema, part, label_column, *part.keys)
        names = [name for name in (column, label_column) if name in table.schema.names]
        first = 0
        for batch in parquet.record_batches(table, names):
            rows, labels = tables.read_rows(batch[column]), tables.values(batch, part, label_column)
            labels = [_label(label, f"row {first + i} of {part}") for i, label in enumerate(labels)]
            first += len(batch)
            unread = {i: row for i, row in enumerate(rows) if isinstance(row, str)}
            read = [i for i in range(len(rows)) if i not in unread]
            images = np.array([rows[i] for i in read], np.uint8).reshape(-1, 1, 28, 28)
            yield images, np.array([labels[i] for i in read], np.int64), unread


def _label(value: Any, place: str) -> int:
    """Check a label, of which the names of folders make text."""
    label = int(value) if isinstance(value, str) and re.fullmatch("[0-9]", value) else value
    if type(label) is not int or not 0 <= label <= 9:
        came = "is missing" if value is None else f"is {value!r}"
        raise InputError(f"the label of {place} {came}: it should be a whole number from 0 to 9")
    return label


def _warn_of(counted: list[Counted], source: str) -> None:
    skipped, rows = sum(each.skipped for each in counted), sum(each.rows for each in counted)
    if skipped:
        reasons = [reason for each in counted for reason in each.reasons][:NAMED]
        more = [f"and {skipped - len(reasons)} more"] if skipped > len(reasons) else []
        log.warning("%s of %s rows in %s were skipped: %s", skipped, rows, source, ", ".join(reasons + more))
