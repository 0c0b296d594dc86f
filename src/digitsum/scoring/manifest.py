"""A folder of scores, and what they were made of, which `MANIFEST` says: with others they aren't mixed."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import fsspec
import pyarrow as pa
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from digitsum.errors import InputError
from digitsum.files import replace
from digitsum.scoring import tables
from digitsum.scoring.tables import Part

MANIFEST = "_digitsum.json"  # what reads a folder of Parquet leaves out names that start with _
RESULTS = pa.schema(
    {
        "number": pa.string(),
        "sum": pa.string(),
        "probability": pa.float64(),
        "sum_probability": pa.float64(),
        "consistent": pa.bool_(),
        "uncertain": pa.bool_(),
        "error": pa.string(),
    }
)


@dataclass(frozen=True)
class Job:
    """What `score` was told, as each process that scores a file is told."""

    out: str
    model: str
    model_sha256: str
    addend: int | None
    addend_column: str | None
    column: str | None
    csv: bool

    def target(self, part: str) -> str:
        """Return the name of the scores of a part with this name."""
        return f"{part}.{'csv' if self.csv else 'parquet'}"

    def settings(self) -> dict[str, Any]:
        """Return what all scores in a folder have in common; a model is the same wherever it lies."""
        same = {name: value for name, value in asdict(self).items() if name not in ("out", "model")}
        return same | {"columns": ", ".join(RESULTS.names)}


def begin(parts: list[Part], job: Job) -> list[Part]:
    """Write down what the scores are made of, and tell which parts have none yet."""
    fs, out = url_to_fs(job.out)
    if fs.exists(out) and not fs.isdir(out):
        raise InputError(f"{tables.shown(job.out)} is no folder: name one for the scores")
    sweep(job.out)
    there = {path.removeprefix(f"{out}/") for path in tables.listed(fs, out)}
    now = {"settings": job.settings(), "files": {part.name: part.state for part in parts}}
    before = _manifest(job.out, there)
    if before:
        _compare(before, now, there, job)
    if before != now:
        with replacing(f"{job.out}/{MANIFEST}") as file:
            file.write(json.dumps(now, indent=1).encode())
    return [part for part in parts if job.target(part.name) not in there]


def _manifest(out: str, there: set[str]) -> dict[str, Any] | None:
    """Read what the scores in a folder were made of; None: there are none."""
    if not there:
        return None
    if MANIFEST not in there:
        raise InputError(f"{tables.shown(out)} isn't empty, and no scores of digitsum: name a new folder")
    try:
        with fsspec.open(f"{out}/{MANIFEST}") as file:
            manifest: dict[str, Any] = json.load(file)
        if not all(isinstance(manifest[name], dict) for name in ("settings", "files")):
            raise TypeError("it isn't made of two tables")
        return manifest
    except (ValueError, TypeError, KeyError) as error:
        place = f"{tables.shown(out)}/{MANIFEST}"
        raise InputError(f"{place} is damaged: name a new folder for the scores") from error


def _compare(before: dict[str, Any], now: dict[str, Any], there: set[str], job: Job) -> None:
    """Refuse to mix the scores that are there with others."""
    out = tables.shown(job.out)
    for name, value in now["settings"].items():
        old = before["settings"].get(name)
        if old != value:
            what = name.replace("_", " ")
            raise InputError(f"{out} was written with {what} {old}, not {value}: name another folder")
    for name, state in before["files"].items():
        target = job.target(name)
        if target in there and now["files"].get(name) != state:
            what = "has changed since" if name in now["files"] else "isn't there any more"
            raise InputError(
                f"{out}/{target} was made of a file that {what}: remove it, or name a new folder"
            )


def sweep(out: str) -> None:
    """Remove what processes that were killed left lying."""
    fs, path = url_to_fs(out)
    for name in tables.listed(fs, path):
        if re.search(r"/\.[^/]*\.[0-9a-f]{32}\.part$", name):
            with suppress(FileNotFoundError):
                fs.rm(name)


@contextmanager
def replacing(address: str) -> Iterator[IO[bytes]]:
    """Yield an open file; when the block ends well it replaces what is at the address, else it is removed."""
    fs, path = url_to_fs(address)
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.{uuid4().hex}.part"
    fs.makedirs(folder, exist_ok=True)
    try:
        with fs.open(temporary, "wb") as file:
            yield file
        if isinstance(fs, LocalFileSystem):
            replace(Path(temporary), Path(path))
        else:
            fs.mv(temporary, path)
    except BaseException:
        with suppress(OSError):
            fs.rm(temporary)
        raise
