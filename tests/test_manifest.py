import json
import os
import stat
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from digitsum.errors import InputError
from digitsum.scoring import tables
from digitsum.scoring.manifest import MANIFEST, Job, begin, replacing
from digitsum.scoring.tables import Part

A, B, C = (Part(name, "file:///data", (f"{name}.parquet",), 1, "as it was") for name in "abc")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def job(out: Path) -> Job:
    return Job(tables.address(str(out)), "exact", "0" * 64, 7, None, None, False)


def refused(message: str) -> AbstractContextManager[object]:
    return pytest.raises(InputError, match=f"^{message}$")


@pytest.fixture
def scored(job: Job, out: Path) -> Path:
    """The scores of A and B."""
    assert begin([A, B], job) == [A, B]
    for name in "ab":
        (out / f"{name}.parquet").touch()
    return out


def test_what_has_no_scores_is_missing_and_all_else_stays_as_it_is_but_for_what_was_left_lying(
    scored: Path, job: Job
) -> None:
    before = {path: path.stat().st_mtime_ns for path in scored.iterdir()}
    (scored / f".a.parquet.{'0a' * 16}.part").write_text("left lying by a process that was killed")
    assert begin([A, B], job) == []
    assert {path: path.stat().st_mtime_ns for path in scored.iterdir()} == before
    (scored / "a.parquet").unlink()
    assert begin([A, B, C], job) == [A, C]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"addend": 8}, "addend 7, not 8"),
        ({"addend": None, "addend_column": "n"}, "addend 7, not None"),
        ({"model_sha256": "1" * 64}, f"model sha256 {'0' * 64}, not {'1' * 64}"),
        ({"column": "image"}, "column None, not image"),
        ({"csv": True}, "csv False, not True"),
    ],
)
def test_scores_of_another_job_are_not_mixed(
    scored: Path, job: Job, changes: dict[str, Any], message: str
) -> None:
    with refused(f"{scored} was written with {message}: name another folder"):
        begin([A, B], replace(job, **changes))
    assert begin([A, B], job) == []


def test_scores_of_an_earlier_version_with_fewer_columns_are_not_mixed(scored: Path, job: Job) -> None:
    manifest = json.loads((scored / MANIFEST).read_text())
    del manifest["settings"]["columns"]
    (scored / MANIFEST).write_text(json.dumps(manifest))
    with refused(f"{scored} was written with columns None, not number, sum, probability, .*"):
        begin([A, B], job)


def test_scores_of_a_file_that_changed_or_went_are_not_mixed(scored: Path, job: Job) -> None:
    changed, rest = B._replace(state="another"), "remove it, or name a new folder"
    for parts, what in (([A, changed], "has changed since"), ([A], "isn't there any more")):
        with refused(f"{scored}/b.parquet was made of a file that {what}: {rest}"):
            begin(parts, job)
    (scored / "b.parquet").unlink()
    assert begin([A, changed], job) == [changed]


@pytest.mark.parametrize("content", ["", "[]", '{"settings": []}', '{"settings": {}, "files": []}'])
def test_a_damaged_manifest_is_named(scored: Path, job: Job, content: str) -> None:
    (scored / MANIFEST).write_text(content)
    with refused(f"{scored}/{MANIFEST} is damaged: name a new folder for the scores"):
        begin([A, B], job)


def test_a_folder_of_something_else_or_a_file_is_refused(out: Path, job: Job) -> None:
    out.write_text("a file")
    with refused(f"{out} is no folder: name one for the scores"):
        begin([A], job)
    out.unlink()
    out.mkdir()
    (out / "notes.txt").touch()
    with refused(f"{out} isn't empty, and no scores of digitsum: name a new folder"):
        begin([A], job)


def test_content_is_on_the_disk_before_it_has_its_name(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    with replacing(f"file://{out}/a") as file:
        file.write(b"scores")
    assert steps == [("sync", 6), ("name", 6)]
    assert [path.name for path in out.iterdir()] == ["a"]


def test_a_failure_in_the_middle_leaves_what_was_there(out: Path) -> None:
    out.mkdir()
    (out / "a").write_text("before")
    with pytest.raises(TypeError), replacing(f"file://{out}/a") as file:
        file.writelines([b"scores", "no bytes"])  # type: ignore[list-item]
    assert [path.name for path in out.iterdir()] == ["a"]
    assert (out / "a").read_text() == "before"
