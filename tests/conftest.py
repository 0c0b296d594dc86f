import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from digitsum import cli
from digitsum.mnist import Digits

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Threads that wait for each other on cores that another program wants take ten times as long as one alone.
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; also that of the commands that tests run

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


LONG = [
    *("test_readme.py", "test_cli.py", "test_report.py", "test_hosts.py", "test_tour.py", "test_training.py"),
    *("test_scoring.py", "test_page.py", "test_service.py", "test_prediction.py", "test_export.py"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, or one process would be left with one at the end."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests out of the user's cache; they share one, as parsing the embedded images takes 2 s."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder in one that they share
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(scope="session")
def digitsum_main() -> Callable[..., int]:
    """Run the command line in this process and give its exit code."""

    def main(*arguments: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["digitsum", *map(str, arguments)])
            with pytest.raises(SystemExit) as ending:
                cli.main()
        return int(ending.value.code or 0)

    return main


@pytest.fixture
def run(
    digitsum_main: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process and give its exit code, output and errors."""
    return lambda *arguments: (digitsum_main(*arguments), *capfd.readouterr())


@pytest.fixture
def digits() -> Digits:
    """Forty images of noise, four a digit."""
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 28, 28), dtype=np.uint8)
    return Digits(images, np.arange(40) % 10)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A user's folder: ten sub-folders of four pictures, a bar whose place is the digit."""
    from PIL import Image

    for digit in range(10):
        folder = tmp_path / "pictures" / str(digit)
        folder.mkdir(parents=True)
        for i in range(4):
            image = np.zeros((28, 28), np.uint8)
            image[2 * digit + 4 : 2 * digit + 6, 4 + i : 20 + i] = 255
            Image.fromarray(image).save(folder / f"{i}.png")
    return tmp_path / "pictures"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if not shutil.which("mount") or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("only root mounts disks")
    yield folder
    subprocess.run(["umount", folder], check=True)  # noqa: S607


@pytest.fixture(scope="session")
def real_mnist() -> None:
    """Skip where the four files of MNIST aren't."""
    if "DIGITSUM_DATA" not in os.environ:
        pytest.skip("needs all of MNIST: DIGITSUM_DATA names its folder")


@pytest.fixture(scope="session")
def weasyprint() -> None:
    """Skip where WeasyPrint lacks Pango, which pip can't install; asked, as it is run, in its own process."""
    asked = [sys.executable, "-m", "weasyprint", "--info"]
    if subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("WeasyPrint can't be run: it needs Pango, a library of the system's")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's chromium, driven by playwright."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if not chromium:
        pytest.skip("chromium isn't installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()
