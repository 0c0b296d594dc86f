import io
import logging
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pytest
from platformdirs import user_cache_path

from digitsum import cli
from digitsum.config import Config
from digitsum.data.digits import Digits
from digitsum.serving import site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Threads that wait for each other on cores that another program wants take ten times as long as one alone.
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; also that of the commands that tests run

# where a user's programs keep what is theirs, which tests neither read nor change
USERS = re.compile(r"(XDG|JUPYTER)_.*|MPLCONFIGDIR|IPYTHONDIR")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",  # which not every machine has
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_configure(config: pytest.Config) -> None:
    """Let the tests have a home of their own, before anything of the user's is read.

    All processes of a session share it, as parsing the embedded images takes 2 s.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # which has inherited all this
    runtime = user_cache_path("digitsum") / site.ARCHIVE
    home = TemporaryDirectory(prefix="digitsum-tests-")
    config.add_cleanup(home.cleanup)
    for name in filter(USERS.fullmatch, list(os.environ)):
        del os.environ[name]
    os.environ["HOME"] = home.name
    if runtime.exists():
        (cached := user_cache_path("digitsum")).mkdir(parents=True)
        (cached / site.ARCHIVE).symlink_to(runtime)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a skipped test fail on CI, but for one that says "only ...": of another system, or other rights."""
    report = yield
    if report.skipped and os.environ.get("CI") and isinstance(report.longrepr, tuple):
        *_, reason = report.longrepr
        if not reason.startswith("Skipped: only "):
            report.outcome, report.longrepr = "failed", f"{reason} (on CI whatever is skipped has failed)"
    return report


@pytest.fixture(autouse=True)
def _warnings_are_logged() -> Iterator[None]:
    """Have the package log again what a service, or a further process of a training, keeps to itself."""
    yield
    logging.getLogger("digitsum").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Let the first of a session's processes that needs a folder make it, for all of them to read."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder in one that they share
        shared = shared.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        from filelock import FileLock

        with FileLock(shared / f"{name}.lock"):
            if not (shared / name).exists():
                make(shared / f"{name}.part" / name)
                (shared / f"{name}.part" / name).rename(shared / name)
        return shared / name

    return folder


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


@pytest.fixture(scope="session")
def finished_run(digitsum_main: Callable[..., int], once: Callable[..., Path]) -> Path:
    """The folder of a short training of `concat` on the embedded images with all in it, to read only.

    Beside it lies printed.txt, what the command line printed.
    """
    short = ("--epochs", 2, "--width", 4, "--no-augment", "--precision", "32-true", "--log", "tensorboard")

    def train(folder: Path) -> None:
        with redirect_stdout(io.StringIO()) as printed:
            assert digitsum_main("train", *short, "--out", folder / "run") == 0
        (folder / "printed.txt").write_text(printed.getvalue())

    return once("finished", train) / "run"


@pytest.fixture(scope="session")
def onnxruntime_web() -> None:
    """Have onnxruntime-web in the tests' cache: the user's, or else a downloaded one."""
    try:
        site._archive()
    except OSError as error:
        pytest.skip(str(error))


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
def config(pictures: Path) -> Config:
    """Settings of a training on them that takes a moment."""
    return Config(data=str(pictures), epochs=2, batch_size=8, width=4, precision="32-true")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots out of reports, which take most of their time."""
    monkeypatch.setattr("digitsum.reporting.plots.svg", lambda figure: "<svg></svg>")


@pytest.fixture
def errors_on(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], io.StringIO]:
    """Make the errors' stream one that is a terminal, or none."""

    def errors_on(terminal: bool) -> io.StringIO:
        stream = io.StringIO()
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    return errors_on


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


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two hosts, 10.213.0.1 and 10.213.0.2, joined by a cable of their own: the names of their networks."""

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)  # noqa: S607

    names = [f"digitsum-{os.getpid()}-{end}" for end in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "cable", "netns", names[1])
        for number, name in enumerate(names, start=1):
            ip("-n", name, "address", "add", f"10.213.0.{number}/24", "dev", "cable")
            for link in ("lo", "cable"):
                ip("-n", name, "link", "set", link, "up")
        yield names
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"hosts can't be made here: that needs ip and the rights of an administrator: {error}")
    finally:
        for name in names:
            if Path("/run/netns", name).exists():
                ip("netns", "delete", name)


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a user without a home folder, whom the system doesn't know."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.fixture(scope="session")
def semaphores() -> None:
    """Skip where no process can share work with others, as there is no /dev/shm that can be written."""
    try:
        multiprocessing.Lock()
    except (ImportError, OSError) as error:
        pytest.skip(f"only where processes can share memory: {error}")


@pytest.fixture(scope="session")
def real_mnist() -> None:
    """Skip where the four files of MNIST aren't."""
    if "DIGITSUM_DATA" not in os.environ:
        pytest.skip("needs all of MNIST: DIGITSUM_DATA names its folder")


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
