import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from digitsum.files import SUMMED, SUMS, read, replacing

FOLDER_EVENTS = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir")  # that Python tells hooks of


def test_replacing_writes_the_whole_file_and_its_folder(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "file") as temporary:
        temporary.write_text("content")
        assert not (tmp_path / "new" / "file").exists()
    assert (tmp_path / "new" / "file").read_text() == "content"
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "file"]


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_replacing_interrupted_leaves_the_old_file(tmp_path: Path, interruption: type[BaseException]) -> None:
    (tmp_path / "file").write_text("old")

    def write() -> None:
        with replacing(tmp_path / "file") as temporary:
            temporary.write_text("half of the n")
            raise interruption

    with pytest.raises(interruption):
        write()
    assert (tmp_path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


# The sums of a run


def check(run: Path) -> str:
    """Ask sha256sum, which knows nothing of this package."""
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS],  # noqa: S607
        cwd=run,
        capture_output=True,
        text=True,
        env={"LC_ALL": "C"},
    )
    return done.stdout + done.stderr


def start_run(run: Path) -> None:
    with replacing(run / "config.json", starts_run=True) as file:
        file.write_text("{}")


def write(path: Path, content: str) -> None:
    with replacing(path) as file:
        file.write_text(content)


def test_the_files_of_a_run_are_listed_as_sha256sum_lists_them(tmp_path: Path) -> None:
    start_run(tmp_path)
    for name in SUMMED[1:]:
        for content in ("old", "new"):
            write(tmp_path / name, content)
    write(tmp_path / "report.html", "a page, which is only looked at")
    assert check(tmp_path) == "".join(f"{name}: OK\n" for name in SUMMED)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([SUMS, *SUMMED, "report.html"])
    assert read(tmp_path / "metrics.csv") == b"new"


def test_files_elsewhere_are_not_listed(tmp_path: Path) -> None:
    write(tmp_path / "model.onnx", "content")
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]
    assert read(tmp_path / "model.onnx") == b"content"


def test_a_file_that_is_not_listed_is_read_as_it_is(tmp_path: Path) -> None:
    start_run(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"by hand")
    assert read(tmp_path / "model.onnx") == b"by hand"


def test_a_changed_file_is_noticed_until_its_line_is_deleted(tmp_path: Path) -> None:
    start_run(tmp_path)
    (tmp_path / "config.json").write_bytes(b"{]")
    with pytest.raises(
        ValueError, match=rf"^{tmp_path / 'config.json'} is damaged: its SHA-256 isn't the one in SHA256SUMS "
    ):
        read(tmp_path / "config.json")
    (tmp_path / SUMS).write_bytes(b"")
    assert read(tmp_path / "config.json") == b"{]"


@pytest.mark.parametrize(
    "line", [b"\0", b"no digest", b"0" * 63 + b"  config.json", b"0" * 64 + b"  ../file"]
)
def test_a_damaged_list_is_named(tmp_path: Path, line: bytes) -> None:
    start_run(tmp_path)
    with (tmp_path / SUMS).open("ab") as file:
        file.write(line + b"\n")
    message = rf"^{tmp_path / SUMS} is damaged: its line 2 isn't a SHA-256 and a name; delete SHA256SUMS"
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "config.json")
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "config.json", "new")
    assert (tmp_path / "config.json").read_bytes() == b"{}"


@pytest.mark.parametrize("listed", [True, False])
def test_killed_at_any_moment_leaves_a_file_that_counts_as_good(tmp_path: Path, listed: bool) -> None:
    """Kill a process that replaces a file before each of its system calls that change a folder."""
    script = f"""
import os, sys
from pathlib import Path
from digitsum.files import replacing

left = int(sys.argv[1])

def count(event, arguments):
    global left
    if event in {FOLDER_EVENTS}:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)

with replacing(Path("metrics.csv")) as file:
    file.write_text("new")
    sys.addaudithook(count)
"""
    found = []
    for moment in itertools.count():
        run = tmp_path / str(moment)
        start_run(run)
        if listed:
            write(run / "metrics.csv", "old")
        else:  # as in the folder of an earlier version
            (run / "metrics.csv").write_text("old")
        ended = subprocess.run([sys.executable, "-c", script, str(moment)], cwd=run).returncode
        found.append(read(run / "metrics.csv").decode())
        write(run / "metrics.csv", "newer")
        assert sorted(path.name for path in run.iterdir()) == sorted([SUMS, "config.json", "metrics.csv"])
        assert check(run) == "config.json: OK\nmetrics.csv: OK\n"
        if not ended:
            break
        assert ended == -signal.SIGKILL
    assert found == sorted(found, reverse=True)  # old, and new from some moment on
    assert {"old", "new"} == set(found)
    assert len(found) > 5


def test_a_reader_never_takes_a_file_that_is_being_replaced_for_damaged(tmp_path: Path) -> None:
    start_run(tmp_path)
    write(tmp_path / "metrics.csv", "0")
    script = """
from itertools import count
from pathlib import Path
from digitsum.files import replacing
for i in count():
    with replacing(Path("metrics.csv")) as file:
        file.write_text(str(i))
    print(i, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while int(read(tmp_path / "metrics.csv")) < 100:
            pass
        writer.kill()
