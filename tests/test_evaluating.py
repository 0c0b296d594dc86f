import hashlib
import time
from dataclasses import asdict
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawing import SEVEN

from digitsum import mnist
from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.errors import InputError
from digitsum.evaluation import Tally, evaluate
from digitsum.files import WEIGHTS
from digitsum.networks import load
from digitsum.scoring import parquet, tables
from digitsum.scoring.evaluating import Counted, count_file, evaluate_tables
from digitsum.scoring.tables import Part

TWO = np.stack([SEVEN, SEVEN])


def write(path: Path, images: np.ndarray, **columns: object) -> Part:
    pq.write_table(pa.table({"image": list(images.reshape(len(images), -1))} | columns), path)
    (part,) = tables.find(str(path))
    return part


def count(part: Part) -> Counted:
    sha256 = hashlib.sha256((WEIGHTS / "exact" / "model.safetensors").read_bytes()).hexdigest()
    return count_file(part, "exact", sha256, None, "label")


def test_files_are_evaluated_as_their_images_in_one_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = mnist.load()
    images, labels = digits.images[:60].copy(), digits.labels[:60].copy()
    images[17] = 0
    labels[:9] = (labels[:9] + 1) % 10  # so that some are wrong
    parts = [
        write(tmp_path / f"{number}.parquet", images[rows], label=labels[rows])
        for number, rows in enumerate(np.split(np.arange(60), [20, 45]))
    ]
    shown = np.arange(60) != 17
    dataset = DigitSumDataset(Digits(images[shown], labels[shown]))
    once = asdict(evaluate(load("exact"), loader(dataset), "data", "all"))
    assert 0.8 < once["digit_accuracy"] < 0.9
    found = evaluate_tables("exact", f"{tmp_path}/*.parquet", workers=1)
    monkeypatch.setattr(parquet, "BATCH_ROWS", 7)
    tally = reduce(Tally.plus, (count(part).tally for part in parts))
    in_batches = tally.evaluation(load("exact"), f"{tmp_path}/*.parquet", "all", time.perf_counter())
    for evaluation in (asdict(found), asdict(in_batches)):
        for name in ("digit_nll", "sum_nll", "digit_ece", "sum_ece"):
            assert evaluation.pop(name) == pytest.approx(once[name], rel=1e-5)
        same = evaluation.keys() - {"data", "seconds"}
        assert {name: evaluation[name] for name in same} == {name: once[name] for name in same}
    said = [record.getMessage() for record in caplog.records if record.name == "digitsum"]
    (message,) = [each for each in said if "no other process can be started" not in each]
    assert message.startswith(
        f"1 of 60 rows in {tmp_path}/*.parquet were skipped: row 17 of {parts[0]} (the pict"
    )


def test_rows_of_a_file_that_are_not_one_digit_are_skipped_and_named(tmp_path: Path) -> None:
    eleven = np.full((28, 28), 255, np.uint8)
    eleven[4:24, 6:8] = eleven[4:24, 20:22] = 0
    part = write(tmp_path / "a.parquet", np.stack([SEVEN, 0 * SEVEN, eleven, SEVEN]), label=[7] * 4)
    counted = count(part)
    assert (counted.rows, counted.skipped, counted.tally.confusion.sum()) == (4, 2, 20)
    empty, two = counted.reasons
    assert empty.startswith(f"row 1 of {part} (the picture can't be read: no ink stands out")
    assert two.startswith(f"row 2 of {part} (the picture can't be read: it shows 2 digits, not one; ")


def labels_of(*parts: Part) -> list[list[int]]:
    return [count(part).tally.confusion.sum(axis=1).nonzero()[0].tolist() for part in parts]


@pytest.mark.parametrize("labels", [pa.array([7.0, 3.0]), pa.array(["7", "3"]).dictionary_encode()])
def test_labels_are_whole_numbers_however_they_are_stored(tmp_path: Path, labels: pa.Array) -> None:
    assert labels_of(write(tmp_path / "a.parquet", TWO, label=labels)) == [[3, 7]]


def test_labels_are_also_the_names_of_folders(tmp_path: Path) -> None:
    frame = pd.DataFrame({"label": [7, 3], "image": list(TWO.reshape(2, 784))})
    frame.to_parquet(tmp_path, partition_cols=["label"])
    assert labels_of(*tables.find(f"{tmp_path}/*/*.parquet")) == [[3], [7]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pa.array([1, 10]), "is 10"),
        (pa.array([1, None]), "is missing"),
        (pa.array([1.0, 2.5]), r"is 2\.5"),
        (pa.array(["1", "x"]), "is 'x'"),
        (pa.array([1, -1]).dictionary_encode(), "is -1"),
    ],
)
def test_a_label_of_a_file_that_is_no_digit_is_refused(
    tmp_path: Path, labels: pa.Array, message: str
) -> None:
    part = write(tmp_path / "a.parquet", TWO, label=labels)
    rest = "it should be a whole number from 0 to 9$"
    with pytest.raises(InputError, match=f"^the label of row 1 of {part} {message}: {rest}"):
        count(part)


def test_a_file_without_labels_and_another_network_are_refused(tmp_path: Path) -> None:
    part = write(tmp_path / "a.parquet", TWO, digit=[1, 2])
    with pytest.raises(InputError, match=f"^{part} has no column label, but image, digit$"):
        count(part)
    with pytest.raises(InputError, match=r"^the network concat isn't the same everywhere: expected sha256 0"):
        count_file(part, "concat", "0" * 64, None, "digit")
