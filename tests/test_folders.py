import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image

from digitsum import mnist
from digitsum.data import folders
from digitsum.errors import InputError
from digitsum.reading.imaging import read_picture


def bar(grey: int | tuple[int, ...], mode: str = "L") -> Image.Image:
    """A one, light on dark and 28 x 28, as MNIST has it: it is read as it is."""
    image = Image.new(mode, (28, 28))
    image.paste(grey, (12, 4, 16, 24))
    return image


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten sub-folders with two pictures each, whose grey says which: 150 + 10 * label + 0 or 1."""
    for label in range(10):
        folder = tmp_path / "pictures" / str(label)
        folder.mkdir(parents=True)
        for i, suffix in enumerate(("bmp", "png")):
            bar(150 + 10 * label + i).save(folder / f"{i}.{suffix}")
        (folder / ".hidden").write_bytes(b"no picture")
    return tmp_path / "pictures"


@pytest.fixture
def strays(pictures: Path) -> Path:
    """The same with five files that can't be read, and a folder."""
    (pictures / "3" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (pictures / "5" / "broken.png").write_bytes((pictures / "5" / "1.png").read_bytes()[:50])
    (pictures / "5" / "notes.txt").write_text("no picture")
    (pictures / "7" / "link.png").symlink_to("nowhere.png")
    Image.new("L", (40, 40), "white").save(pictures / "8" / "empty.png")
    (pictures / "9" / "more").mkdir()
    return pictures


def test_pictures_come_sorted_then_shuffled_with_the_labels_of_their_folders(
    pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digits = mnist.load(pictures)
    order = np.random.default_rng(0).permutation(20)
    assert digits.labels.tolist() == (order // 2).tolist()
    assert digits.images.shape == (20, 1, 28, 28)
    assert digits.images[:, 0, 20, 14].tolist() == [150 + 10 * (i // 2) + i % 2 for i in order]
    assert (digits.images.dtype, digits.labels.dtype) == (np.uint8, np.int64)
    assert caplog.messages == []


def test_pictures_in_colour_become_grey(pictures: Path) -> None:
    for path in pictures.glob("4/*.*"):
        path.unlink()
    bar((255, 255, 0), "RGB").save(pictures / "4" / "yellow.png")
    digits = mnist.load(str(pictures))
    assert digits.images[digits.labels == 4].max() == 226  # ITU-R 601: 0.299 + 0.587 of 255


@pytest.mark.parametrize("size", [(28, 28), (480, 400)])
def test_pictures_of_any_size_are_read_as_predict_reads_them(pictures: Path, size: tuple[int, int]) -> None:
    path = pictures / "6" / "own.jpg"
    page = Image.new("L", size, 220)
    page.paste(40, (size[0] // 3, size[1] // 4, size[0] // 2, size[1] // 2))
    page.save(path)
    expected = read_picture(path)
    assert np.ptp(np.nonzero(expected)[0]) + 1 == 20
    assert any(np.array_equal(image[0], expected) for image in mnist.load(pictures).images)


def test_files_that_can_not_be_read_are_skipped_counted_and_the_first_named(
    strays: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert mnist.load(strays).labels.shape == (20,)
    (message,) = caplog.messages
    formats = "it is none of PNG, JPEG, GIF, BMP, TIFF, WEBP; save it as PNG or JPEG"
    assert message.startswith(
        f"5 of 25 files in {strays} were skipped: 3/Thumbs.db ({formats}), 5/broken.png ("
    )
    assert message.endswith(f", 5/notes.txt ({formats}), and 2 more")


def test_deeper_folders_have_the_label_of_the_first(pictures: Path, caplog: pytest.LogCaptureFixture) -> None:
    for folder, grey in (("3/anna", 251), ("3/anna/9/late", 252), ("7/10", 253), (".trash/7", 254)):
        (pictures / folder).mkdir(parents=True)
        bar(grey).save(pictures / folder / "2.png")
    for hidden in ("3/.ipynb_checkpoints", "__MACOSX/3"):
        (pictures / hidden).mkdir(parents=True)
        (pictures / hidden / "2.png").write_bytes(b"no picture")
    digits = mnist.load(pictures)
    found = dict(zip(digits.images.max(axis=(1, 2, 3)).tolist(), digits.labels.tolist(), strict=True))
    usual = {150 + 10 * label + i: label for label in range(10) for i in range(2)}
    assert found == usual | {251: 3, 252: 3, 253: 7}
    assert caplog.messages == []


def test_a_linked_label_is_read_and_links_to_deeper_folders_are_named(
    pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (pictures / "4").rename(tmp_path / "fours")
    (pictures / "4").symlink_to(tmp_path / "fours")
    (pictures / "6" / "circle").symlink_to(pictures / "6")
    assert np.bincount(mnist.load(pictures).labels).tolist() == [2] * 10
    assert caplog.messages == [
        f"1 of 21 files in {pictures} were skipped: 6/circle (a link to a folder, which isn't followed)"
    ]


def test_what_is_no_folder_of_pictures_of_each_digit_is_refused(strays: Path) -> None:
    with pytest.raises(InputError, match=r"is one set of pictures, it has no test split: use --split train$"):
        mnist.load(strays, "test")
    for path in [*strays.glob("3/[01].*"), *strays.glob("5/[01].*")]:
        path.unlink()
    with pytest.raises(InputError, match=r"should have pictures of each digit, but has none of 3, 5$"):
        mnist.load(strays)
    for label in ("2", "8"):
        (strays / label).rename(strays / f"no {label}")
    with pytest.raises(InputError, match=r"pictures should have sub-folders 0 to 9, but lacks 2, 8$"):
        mnist.load(strays)


def test_many_pictures_are_read_on_all_cores(strays: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, effective = [], joblib.effective_n_jobs
    monkeypatch.setattr("joblib.effective_n_jobs", lambda jobs: asked.append(jobs) or effective(2))
    monkeypatch.setattr(folders, "cores", lambda: 7)
    expected = mnist.load(strays)
    assert asked == []  # so few that one process is quicker
    monkeypatch.setattr(folders, "POOLED", 25)
    folders._read_pictures.cache_clear()
    digits = mnist.load(strays)
    assert asked[0] == 7
    np.testing.assert_array_equal(digits.images, expected.images)
    np.testing.assert_array_equal(digits.labels, expected.labels)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_shown_on_a_terminal_only(
    pictures: Path, errors_on: Callable[[bool], io.StringIO], terminal: bool
) -> None:
    errors = errors_on(terminal)
    mnist.load(pictures)
    assert ("pictures" in errors.getvalue()) == terminal


SERIAL = """
import _multiprocessing, errno, sys
from digitsum import mnist
from digitsum.data import folders

def no_semaphore(*_, **__):
    raise FileNotFoundError(errno.ENOENT, "No such file or directory")

if sys.argv[2] == "no shm":
    _multiprocessing.SemLock = no_semaphore
folders.POOLED = 20
print(len(mnist.load(sys.argv[1]).labels))
"""


@pytest.mark.parametrize("way", ["no shm", "forbidden"])
def test_many_pictures_are_read_by_one_process_where_there_can_be_no_other(pictures: Path, way: str) -> None:
    environment = os.environ | ({"JOBLIB_MULTIPROCESSING": "0"} if way == "forbidden" else {})
    command = [sys.executable, "-W", "error", "-c", SERIAL, str(pictures), way]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("20\n", "", 0)


def test_pictures_are_read_again_only_when_changed(strays: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, again = mnist.load(strays), mnist.load(strays)
    np.testing.assert_array_equal(first.images, again.images)
    assert len(caplog.messages) == 1
    again.images[:] = 0  # a copy of its own
    np.testing.assert_array_equal(first.images, mnist.load(strays).images)
    bar(255).save(strays / "5" / "broken.png")
    assert mnist.load(strays).labels.shape == (21,)
    assert [message.split()[0] for message in caplog.messages] == ["5", "4"]
