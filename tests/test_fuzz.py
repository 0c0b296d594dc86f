"""Does any input end in something other than an answer or a clear refusal?

Each target reads bytes that hypothesis makes of good examples. The library may raise InputError or OSError,
the command line end with 0, 1 or 2 and a sentence: all else is a finding. `make test` gives each target a few
examples, always the same ones, and `make test-slow` many more, always others.
"""

import atexit
import contextlib
import gzip
import hashlib
import io
import os
import re
import resource
import shutil
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from drawing import encoded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from digitsum import (
    Evaluation,
    Predictor,
    cli,
    compare,
    evaluate,
    load,
    mnist,
    to_onnx,
    write_report,
)
from digitsum.config import Config
from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.errors import InputError
from digitsum.files import SUMS, read
from digitsum.networks import FastNet
from digitsum.prediction import find_model
from digitsum.reading.decoding import FORMATS
from digitsum.reading.imaging import read_picture
from digitsum.reading.strips import read_row
from digitsum.reporting.page import SECTIONS
from digitsum.scoring import tables
from digitsum.scoring.job import score_file
from digitsum.scoring.manifest import Job
from digitsum.training.state import COLUMNS

REFUSED = (InputError, OSError)
KINDS = (np.uint8, np.bool, np.uint16, np.float16, np.float32, np.float64, np.int64, np.complex64)
WORDS = re.findall(
    r"\S+",
    """train evaluate report compare predict export data serve site score exact concat fast adapt mnist
    mnist5k run model.onnx digit.png pipe nowhere new / .. - -- = -a -h --help --version --shell bash 7 -1
    2.5 1e400 nan 999999999999999999999 0x7 test tensorboard --addend --json --model --to --data --data-dir
    --split --resume --out --preset --start-from --network --width --epochs --log --port --workers --host
    --fetch --allow-origin --no-augment --seed --batch-size --learning-rate --addends --addend-column --csv
    --column --scheduler""",
)


# What the targets read


@cache
def folder() -> Path:
    """Make the folder in which this process puts what it reads, beside a picture and a pipe."""
    made = Path(mkdtemp(prefix="fuzzing-"))
    atexit.register(shutil.rmtree, made)
    (made / "digit.png").write_bytes(drawn("PNG"))
    os.mkfifo(made / "pipe")
    return made


@cache
def run() -> Path:
    """Make a run, as small as can be, without a list of digests: what reads a file must notice by itself."""
    made, network = folder() / "run", FastNet(width=1)
    Config(network="fast", width=1).save(made)
    network.save_pretrained(made)
    Config(network="fast", width=1).save(made)
    (made / "metrics.csv").write_text("\n".join([",".join(COLUMNS), *[",".join("1" for _ in COLUMNS)] * 2]))
    images = np.zeros((10, 1, 28, 28), np.uint8)
    dataset = DigitSumDataset(Digits(images, np.arange(10)))
    evaluate(network, loader(dataset), "zeros", "all").save(made / "evaluation.json")
    return made


@contextmanager
def damaged(name: str, data: bytes) -> Iterator[Path]:
    """The run with other bytes in one of its files."""
    path = run() / name
    good = path.read_bytes() if path.exists() else None
    path.write_bytes(data)
    try:
        yield run()
    finally:
        path.unlink()
        if good is not None:
            path.write_bytes(good)


def drawn(kind: str) -> bytes:
    """Draw a seven."""
    page = np.full((40, 40), 230, np.uint8)
    page[8:11, 10:28] = page[8:32, 25:28] = 30
    return encoded(Image.fromarray(page), kind)


def stored(columns: dict[str, list[Any]]) -> bytes:
    """Write a Parquet file."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


# The targets


def idx(data: bytes) -> None:
    """Read IDX files, raw or gzipped: one, and both of a split."""
    for dimensions in (1, 3):
        with suppress(*REFUSED):
            mnist.read_idx(data, dimensions, "file")
    cut = 2 + int.from_bytes(data[:2], "big")
    for name, content in zip(mnist.FILES["test"], (data[2:cut], data[cut:]), strict=True):
        (folder() / name).write_bytes(content)
    with suppress(*REFUSED):
        mnist.load("mnist", "test", folder())


def picture(data: bytes) -> None:
    """Read a picture as one digit and as a number."""
    with suppress(*REFUSED):
        image = read_picture(data)
        assert (str(image.dtype), image.shape) == ("uint8", (28, 28))
    with suppress(*REFUSED):
        strip = read_row(data).strip
        assert (str(strip.dtype), len(strip)) == ("uint8", 32)


def pixels(data: bytes) -> None:
    """Read an array of pixels, whose kind, height and colours the first bytes say."""
    kind, height, colours = (data[:3] + bytes(3))[:3]
    array = np.frombuffer(data[3:], np.uint8)
    array = array[: len(array) // 16 * 16].view(KINDS[kind % len(KINDS)])
    shape = (height, -1, colours) if colours else (height, -1)
    with suppress(ValueError):  # where the bytes don't fill the shape
        array = array.reshape(shape)
    with suppress(*REFUSED), np.errstate(invalid="ignore"):
        strip = read_row(array).strip
        assert (str(strip.dtype), len(strip)) == ("uint8", 32)


def config(data: bytes) -> None:
    """Read the settings of a run, and what depends on them."""
    with damaged("config.json", data) as run:
        for reader in (Config.load, load, partial(page, without=("log", "evaluation"))):
            with suppress(*REFUSED):
                reader(run)


def evaluation(data: bytes) -> None:
    """Read an evaluation."""
    with damaged("evaluation.json", data) as run, suppress(*REFUSED):
        Evaluation.load(run / "evaluation.json")
        page(run)
        compare([run], folder() / "comparison.html")


def metrics(data: bytes) -> None:
    """Read a log."""
    with damaged("metrics.csv", data) as run, suppress(*REFUSED):
        compare([run], folder() / "comparison.html")
        page(run)


def page(run: Path, without: tuple[str, ...] = ()) -> None:
    """Write the page of a run, but for what the images and the network's answers need."""
    left_out = ("data", "network", "answers", *without)
    with patch.dict(SECTIONS, dict.fromkeys(left_out, lambda _: "left out")):
        write_report(run)


def weights(data: bytes) -> None:
    """Read weights."""
    with damaged("model.safetensors", data) as run, suppress(*REFUSED):
        load(run)


def sums(data: bytes) -> None:
    """Read a file that a list of digests may speak of."""
    with damaged(SUMS, data) as run, suppress(*REFUSED):
        assert read(run / "evaluation.json") == (run / "evaluation.json").read_bytes()


def onnx(data: bytes) -> None:
    """Read a model."""
    with damaged("model.onnx", data) as run, suppress(*REFUSED):
        Predictor(run, threads=1)


def parquet(data: bytes) -> None:
    """Score a Parquet file, with one addend and with a column of them."""
    path, out = folder() / "pictures.parquet", folder() / "scores"
    path.write_bytes(data)
    out.mkdir(exist_ok=True)
    sha256 = hashlib.sha256(find_model("concat").read_bytes()).hexdigest()
    for addend, column in ((7, None), (None, "n")):
        job = Job(tables.address(str(out)), "concat", sha256, addend, column, None, csv=False)
        for part in tables.find(str(path)):
            with suppress(*REFUSED):
                score_file(part, job)


def words(data: bytes) -> None:
    """Run the command line with a word a line; nothing is trained, served or downloaded."""
    arguments = os.fsdecode(data.replace(b"\0", b"")).split("\n")
    errors = io.StringIO()
    with (
        contextlib.chdir(run().parent),
        patch.object(sys, "argv", ["digitsum", *arguments]),
        patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data))),
        patch.object(cli, "_train"),
        patch("digitsum.serving.app.serve"),
        patch("digitsum.scoring.job.each", return_value=()),
        patch("digitsum.data.mnist.fetch"),
        patch("digitsum.serving.site._download", side_effect=OSError("it is left out")),
        redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")),
        redirect_stderr(errors),
    ):
        try:
            cli.main()
            code: object = 0
        except SystemExit as ending:
            code = ending.code or 0
    assert code in (0, 1, 2), (arguments, code)
    assert code == 0 or "digitsum: " in errors.getvalue(), (arguments, errors.getvalue())


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (idx, picture, pixels, config, evaluation, metrics, weights, sums, onnx, parquet, words)
}


@cache
def seeds(target: str) -> list[bytes]:
    """Good examples of what a target reads."""
    if target == "idx":
        pair = [
            struct.pack(">HBBI", 0, 8, 1, 2) + b"\7\2",
            struct.pack(">HBB3I", 0, 8, 3, 2, 28, 28) + bytes(1568),
        ]
        split = [struct.pack(">H", len(each)) + each + pair[0] for each in (pair[1], gzip.compress(pair[1]))]
        return [*pair, *split]
    if target == "picture":
        return [drawn(kind) for kind in FORMATS]
    if target == "pixels":
        return [bytes([kind, 40, 0]) + np.ones((40, 40), KINDS[kind]).tobytes() for kind in range(len(KINDS))]
    if target == "words":
        return ["\n".join(line.split()).encode() for line in LINES]
    if target == "sums":
        return [b"%s  evaluation.json\n" % (b"0" * 64)]
    if target == "parquet":
        return [
            stored({"picture": [drawn("PNG"), b"", None], "n": [1, 2, None]}),
            stored({"pixels": pa.array([[0] * 784, [255] * 784], pa.list_(pa.uint8())), "n": ["1", "x"]}),
        ]
    if target == "onnx":
        to_onnx(FastNet(width=1), folder() / "model.onnx")
        return [(folder() / "model.onnx").read_bytes()]
    names = {"weights": "model.safetensors", "metrics": "metrics.csv"}
    return [(run() / names.get(target, f"{target}.json")).read_bytes()]


LINES = [
    "predict digit.png --addend 7 --json --model run",
    "train --data run --epochs 3 --preset fast --no-augment --width 4 --seed 1 --out new",
    "train --resume run",
    "evaluate run --data mnist --split test --json",
    "export run --to pipe",
    "compare run run --to new",
    "serve --port 7 --workers 2 --allow-origin * --host ::1",
    "site new --model exact",
    "score digit.png new --addend 7 --csv --workers 1",
    "data --fetch --data-dir run",
    "predict - -a ٣",
]


# Examples

EXAMPLES = {"config": 20, "evaluation": 12, "metrics": 12, "words": 40}  # others, which are quicker, have 100
SLOW = 25  # times as many
# no example may take so many CPU seconds, nor all add so much to this process: many times what any needs
SECONDS, KILOBYTES = 50, 2_000_000


@st.composite
def changed(draw: st.DrawFn, target: str) -> bytes:
    """Change good bytes in a few places, or cut them."""
    data: bytes = draw(st.sampled_from(seeds(target)))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.integers(0, 8) | st.just(len(data)))
        data = data[:start] + draw(st.binary(max_size=8)) + data[end:]
    return data


COMMANDS = st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=8).map(
    lambda words: "\n".join(words).encode(errors="surrogatepass")
)


@pytest.mark.parametrize(
    ("target", "times"),
    [
        *((target, 1) for target in TARGETS if target != "onnx"),  # whose example takes seconds to make
        *(pytest.param(target, SLOW, marks=pytest.mark.slow) for target in TARGETS),
    ],
)
def test_whatever_is_read_gives_an_answer_or_a_documented_error(target: str, times: int) -> None:
    @settings(
        max_examples=times * EXAMPLES.get(target, 100),
        derandomize=times == 1,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(COMMANDS if target == "words" else changed(target) | st.binary(max_size=100))
    def check(data: bytes) -> None:
        start = time.process_time()
        TARGETS[target](data)
        assert time.process_time() - start < SECONDS

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < KILOBYTES
