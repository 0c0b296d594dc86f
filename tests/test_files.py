import itertools
import os
import shutil
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from digitsum.errors import InputError
from digitsum.files import SUMMED, SUMS, locked, read, read_json, reason, remove, replacing, user_cache

FOLDER_EVENTS = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir")  # that Python tells hooks of


@pytest.mark.parametrize("interruption", [None, ValueError, KeyboardInterrupt])
def test_replacing_writes_the_whole_file_and_its_folder_or_leaves_the_old(
    tmp_path: Path, interruption: type[BaseException] | None
) -> None:
    file = tmp_path / "new" / "file"
    write(file, "old")

    def replace_it() -> None:
        with replacing(file) as temporary:
            temporary.write_text("new")
            assert file.read_text() == "old"
            if interruption:
                raise interruption

    with pytest.raises(interruption) if interruption else nullcontext():
        replace_it()
    assert file.read_text() == ("old" if interruption else "new")
    assert list(file.parent.iterdir()) == [file]


def make(place: Path, kind: str) -> None:
    """Make something other than a file; a device is one of our own."""
    if kind == "device":
        try:
            os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 3))  # as the null device
        except PermissionError:
            pytest.skip("only root makes devices")
    elif kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place.with_name("pipe"))
        place.symlink_to("pipe")


@pytest.mark.parametrize("kind", ["device", "folder", "link to a pipe"])
def test_only_a_file_is_replaced_or_read(tmp_path: Path, kind: str) -> None:
    make(tmp_path / "place", kind)
    before = {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    message = rf"^{tmp_path / 'place'} is a folder, a device or the like, not a file"
    with pytest.raises(InputError, match=message + " to replace: choose another$"):
        write(tmp_path / "place", "content")
    with pytest.raises(InputError, match=message + "$"):
        read(tmp_path / "place")
    assert {path.name: path.lstat().st_mode for path in tmp_path.iterdir()} == before


def test_a_file_is_no_folder_to_write_into_or_run_to_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refusal = rf"^{tmp_path / 'file'} isn't a folder: choose another place for new$"
    for place in (tmp_path / "file" / "new", tmp_path / "file" / "folder" / "new"):
        with pytest.raises(InputError, match=refusal):
            write(place, "content")
        with pytest.raises(InputError, match=refusal), locked(place):
            pass
    with pytest.raises(InputError, match=rf"^{tmp_path / 'file'} isn't a folder: choose another$"):
        locked(tmp_path / "file").__enter__()


def test_a_link_to_a_file_is_replaced_and_the_file_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link", "new")
    assert (tmp_path / "file").read_text() == "precious"
    assert read(tmp_path / "link") == b"new"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[" * 100_000, "isn't a JSON object: it is nested too deeply"),
        (b"[1]", "isn't a JSON object"),
        (b"{", "Expecting property name enclosed in double quotes"),
        (b'"\xff"', "'utf-8' codec can't decode"),
    ],
)
def test_a_file_of_no_json_object_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=why):
        read_json(tmp_path / "config.json")


# A full disk and a folder that can't be written to


def fill(file: Path) -> None:
    with file.open("wb") as opened:
        while True:
            opened.write(bytes(100_000))


def test_a_full_disk_keeps_the_last_good_file_the_list_and_nothing_else(small_disk: Path) -> None:
    start_run(small_disk)
    write(small_disk / "evaluation.json", "good")
    with (
        pytest.raises(OSError, match=r"checkpoint.ckpt can't be written: No space left on device$"),
        replacing(small_disk / "checkpoint.ckpt") as file,
    ):
        fill(file)
    assert sorted(path.name for path in small_disk.iterdir()) == [SUMS, "checkpoint.ckpt", "evaluation.json"]
    for block in (100_000, 4096):  # to the last block
        with suppress(OSError), (small_disk / "other").open("ab") as other:
            while other.write(bytes(block)):
                other.flush()
    with pytest.raises(OSError, match=r"evaluation.json can't be written: No space left on device$"):
        write(small_disk / "evaluation.json", "new")
    assert read(small_disk / "evaluation.json") == b"good"
    assert check(small_disk) == "checkpoint.ckpt: OK\nevaluation.json: OK\n"


def test_a_folder_that_can_t_be_written_to_stays_readable(small_disk: Path) -> None:
    start_run(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)  # noqa: S607
    with pytest.raises(OSError, match=rf"^{small_disk} can't be written to: Read-only file system$"):
        write(small_disk / "checkpoint.ckpt", "new")
    for place in (small_disk / "config.json", small_disk / "new" / "config.json"):
        with pytest.raises(OSError, match=rf"^{place} can't be written: Read-only file system$"):
            write(place, "new")
    with pytest.raises(OSError, match=rf"^{small_disk / 'new'} can't be written to: Read-only file system$"):
        locked(small_disk / "new").__enter__()
    assert read(small_disk / "checkpoint.ckpt") == b"{}"


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
    with replacing(run / "checkpoint.ckpt", starts_run=True) as file:
        file.write_text("{}")


def write(path: Path, content: str) -> None:
    with replacing(path) as file:
        file.write_text(content)


def test_the_files_of_a_run_that_nobody_edits_are_listed_as_sha256sum_lists_them(tmp_path: Path) -> None:
    start_run(tmp_path)
    others = ["config.json", "metrics.csv", "report.html"]
    for name in (*SUMMED, *others):
        for content in ("old", "new"):
            write(tmp_path / name, content)
    assert check(tmp_path) == "".join(f"{name}: OK\n" for name in SUMMED)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([SUMS, *SUMMED, *others])
    assert read(tmp_path / "model.onnx") == b"new"


def test_what_people_edit_is_never_damaged_whatever_an_earlier_version_listed(tmp_path: Path) -> None:
    start_run(tmp_path)
    with (tmp_path / SUMS).open("a") as file:
        file.write(f"{'0' * 64}  config.json\n{'1' * 64}  metrics.csv\n")
    for name in ("config.json", "metrics.csv"):
        (tmp_path / name).write_text("by hand")
        assert read(tmp_path / name) == b"by hand"
    write(tmp_path / "model.onnx", "new")
    assert check(tmp_path) == "checkpoint.ckpt: OK\nmodel.onnx: OK\n"


def test_what_is_removed_is_no_longer_listed(tmp_path: Path) -> None:
    start_run(tmp_path)
    for name in ("model.onnx", "report.html"):
        write(tmp_path / name, "old")
    remove(tmp_path, "model.onnx", "report.html", "evaluation.json")
    assert check(tmp_path) == "checkpoint.ckpt: OK\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [SUMS, "checkpoint.ckpt"]


def test_a_file_is_on_the_disk_before_it_is_renamed_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reached the disk, by inode, and each rename, in the order in which the system was asked."""
    asked: list[tuple[str, int | str]] = []
    fsync, rename = os.fsync, Path.replace

    def record_fsync(descriptor: int) -> None:
        asked.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def record_rename(old: Path, new: Path) -> Path:
        asked.append(("rename", new.name))
        return rename(old, new)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_rename)
    start_run(tmp_path)
    write(tmp_path / "metrics.csv", "new")
    inode = {path.name: path.stat().st_ino for path in (tmp_path, *tmp_path.iterdir())}
    folder = ("fsync", inode[tmp_path.name])
    ends = ["rename", "rename", "rename", "rename"]
    assert [event for event, _ in asked] == [word for end in ends for word in ("fsync", end, "fsync")]
    assert asked[3:6] == [("fsync", inode["checkpoint.ckpt"]), ("rename", "checkpoint.ckpt"), folder]
    assert asked[7:9] == [("rename", SUMS), folder]
    assert asked[9:] == [("fsync", inode["metrics.csv"]), ("rename", "metrics.csv"), folder]


@pytest.mark.parametrize("listed", [True, False])
def test_a_file_that_is_not_listed_is_read_as_it_is_also_without_a_run(tmp_path: Path, listed: bool) -> None:
    if listed:
        start_run(tmp_path)
        (tmp_path / "model.onnx").write_bytes(b"by hand")
    else:
        write(tmp_path / "model.onnx", "by hand")
    assert read(tmp_path / "model.onnx") == b"by hand"
    assert (tmp_path / SUMS).exists() == listed


def test_every_flipped_bit_is_noticed_until_the_file_s_line_is_deleted(tmp_path: Path) -> None:
    start_run(tmp_path)
    place = tmp_path / "checkpoint.ckpt"
    with replacing(place) as file:
        file.write_bytes(bytes(range(20)))
    for bit in range(160):
        content = bytearray(range(20))
        content[bit // 8] ^= 1 << bit % 8
        place.write_bytes(content)
        with pytest.raises(
            InputError, match=rf"^{place} is damaged: its SHA-256 isn't the one in SHA256SUMS "
        ):
            read(place)
    (tmp_path / SUMS).write_bytes(b"")
    assert read(place) == bytes(content)


@pytest.mark.parametrize(
    "line", [b"\0", b"no digest", b"0" * 63 + b"  checkpoint.ckpt", b"0" * 64 + b"  ../file"]
)
def test_a_damaged_list_is_named(tmp_path: Path, line: bytes) -> None:
    start_run(tmp_path)
    with (tmp_path / SUMS).open("ab") as file:
        file.write(line + b"\n")
    message = rf"^{tmp_path / SUMS} is damaged: its line 2 isn't a SHA-256 and a name; delete SHA256SUMS"
    with pytest.raises(InputError, match=message):
        read(tmp_path / "checkpoint.ckpt")
    with pytest.raises(InputError, match=message):
        write(tmp_path / "checkpoint.ckpt", "new")
    assert (tmp_path / "checkpoint.ckpt").read_bytes() == b"{}"


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
    if event in {FOLDER_EVENTS} and (event != "open" or arguments[2] & os.O_CREAT):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)

with replacing(Path("evaluation.json")) as file:
    file.write_text("new")
    sys.addaudithook(count)
"""
    start_run(tmp_path / "whole")
    if listed:
        write(tmp_path / "whole" / "evaluation.json", "old")
    else:  # as in the folder of an earlier version
        (tmp_path / "whole" / "evaluation.json").write_text("old")
    found = []
    for moment in itertools.count():
        run = shutil.copytree(tmp_path / "whole", tmp_path / str(moment))
        ended = subprocess.run([sys.executable, "-c", script, str(moment)], cwd=run).returncode
        found.append(read(run / "evaluation.json").decode())
        write(run / "evaluation.json", "newer")
        assert sorted(path.name for path in run.iterdir()) == sorted(
            [SUMS, "checkpoint.ckpt", "evaluation.json"]
        )
        assert check(run) == "checkpoint.ckpt: OK\nevaluation.json: OK\n"
        if not ended:
            break
        assert ended == -signal.SIGKILL
    assert found == sorted(found, reverse=True)  # old, and new from some moment on
    assert {"old", "new"} == set(found)
    assert len(found) > 5


def test_only_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    ours = {".metrics.csv.abcd_123": ["metrics.csv"], ".SHA256SUMS.abcd_123": []}
    others = {
        ".metrics.csv.mine4567": ["metrics.csv", "thesis.txt"],
        ".metrics.csv.d": [],
        "metrics.csv.abcd_123": [],
    }
    for folder, names in (ours | others).items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    (tmp_path / ".metrics.csv.swp").touch()
    (tmp_path / ".config.json.abcd_123").touch()  # a file
    with locked(tmp_path):
        left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, ".metrics.csv.swp", ".config.json.abcd_123", ".lock"}
    assert (tmp_path / ".metrics.csv.mine4567" / "thesis.txt").exists()


def test_a_lock_is_kept_to_its_process_and_thread(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path), ThreadPoolExecutor() as pool:
        write_there = pool.submit(start_run, tmp_path)
        with pytest.raises(InputError, match=rf"^{tmp_path} is in use, by another training for instance: "):
            write_there.result()
        start_run(tmp_path)
    write(tmp_path / "checkpoint.ckpt", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [SUMS, "checkpoint.ckpt"]


def test_a_reader_never_takes_a_file_that_is_being_replaced_for_damaged(tmp_path: Path) -> None:
    start_run(tmp_path)
    write(tmp_path / "evaluation.json", "0")
    script = """
from itertools import count
from pathlib import Path
from digitsum.files import replacing
for i in count():
    with replacing(Path("evaluation.json")) as file:
        file.write_text(str(i))
    print(i, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while int(read(tmp_path / "evaluation.json")) < 20:
            pass
        writer.kill()


# The user's cache, and words for what failed


def test_user_cache_is_a_folder_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "digitsum"


@pytest.mark.parametrize("older", [False, True])
def test_user_cache_without_a_home_says_what_to_set(
    no_home: None, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    if older:
        monkeypatch.setattr("platformdirs.user_cache_path", lambda name: Path("~/.cache", name))
    with pytest.raises(OSError, match=r"^there is no home folder for the cache: set HOME or XDG_CACHE_HOME"):
        user_cache()


def test_reason_is_in_words_alone() -> None:
    refused = URLError(ConnectionRefusedError(111, "Connection refused"))
    assert reason(refused) == "Connection refused"
    unavailable = HTTPError("http://x", 503, "Service Unavailable", Message(), None)
    assert reason(unavailable) == "HTTP Error 503: Service Unavailable"
    assert reason(TimeoutError("timed out")) == "timed out"
    assert reason(OSError(28, "No space left on device", "/x")) == "No space left on device"
