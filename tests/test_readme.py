"""Every example of the README, run as it stands there: a new one is found and run too."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from digitsum import mnist
from digitsum.config import Config
from digitsum.training.loop import fit

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
DIGIT = 3  # on the pictures that the examples read

BLOCKS = [token for token in MarkdownIt().parse((ROOT / "README.md").read_text()) if token.type == "fence"]
PROGRAMS = {f"line {block.map[0] + 2}": block.content for block in BLOCKS if block.info == "python"}
LINES = [line for block in BLOCKS if block.info == "sh" for line in block.content.splitlines()]
COMMANDS = [command for line in LINES if (command := re.split(r"\s*#", line)[0])]
MAKE = [command for command in COMMANDS if command.startswith("make ")]
SERVE = [command for command in COMMANDS if command.startswith("digitsum serve")]
ASK = [command for command in COMMANDS if command.startswith("curl ")]
OTHERS = [command for command in COMMANDS if command not in MAKE + SERVE + ASK]


def environment(**more: str) -> dict[str, str]:
    """`digitsum` is the one of this environment and this checkout, and a library's warning is an error.

    But for joblib's where /dev/shm isn't to be used.
    """
    warnings = "error,ignore::UserWarning:joblib._multiprocessing_helpers"
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": warnings} | more


def shell(command: str, **more: str) -> subprocess.CompletedProcess[str]:
    words = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(words, env=environment(**more), capture_output=True, text=True)


def assert_answers(example: str, output: str) -> None:
    """Each example has to print; one that adds to the picture's digit, both right answers."""
    assert output
    addend = re.search(r"addends?[ =](\d+)", example)
    if addend:
        assert re.search(rf"\b{DIGIT}\b.*\b{DIGIT + int(addend[1])}\b", output)


def interrupt(_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what examples name: pictures, and a run that was interrupted after an epoch."""
    folder = tmp_path_factory.mktemp("things")
    digits = mnist.load()
    with pytest.raises(KeyboardInterrupt):
        fit(Config(epochs=2, width=4, precision="32-true"), folder / "interrupted", on_epoch=interrupt)
    for name, image in zip(("photo.jpg", "scan.png"), digits.images[digits.labels == DIGIT], strict=False):
        ink = Image.fromarray(image[0]).resize((280, 280), Image.Resampling.BICUBIC)
        page = np.full((400, 600), 230, np.uint8)
        page[40:320, 90:370] -= np.asarray(ink) // 4 * 3
        Image.fromarray(page).save(folder / name)
    for digit in range(10):
        label = folder / "my_pictures" / str(digit)
        label.mkdir(parents=True)
        for i, image in enumerate(digits.images[digits.labels == digit][:10, 0]):
            Image.fromarray(image).save(label / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def _folder_with_the_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, things: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "scan.png", "my_pictures"):
        Path(name).symlink_to(things / name)


def test_every_block_is_run_or_is_output() -> None:
    assert {block.info for block in BLOCKS} == {"sh", "python", "text"}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_program(program: str) -> None:
    Path("program.py").write_text(program)
    done = shell(f"{shlex.quote(sys.executable)} program.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert_answers(program, done.stdout)


@pytest.mark.parametrize("command", OTHERS)
def test_command(
    command: str,
    run: Callable[..., tuple[int, str, str]],
    things: Path,
    finished_run: Path,
    request: pytest.FixtureRequest,
) -> None:
    if re.search(r"--data mnist\b|--preset fast", command) and "DIGITSUM_DATA" not in os.environ:
        pytest.skip("needs all of MNIST: DIGITSUM_DATA names its folder")
    if command.startswith("digitsum site"):
        request.getfixturevalue("onnxruntime_web")
    for folder in re.findall(r"runs/[\w-]+", command):
        shutil.copytree(things / "interrupted" if "--resume" in command else finished_run, folder)
    program, *arguments = shlex.split(command)
    if program == "digitsum":  # in this process, as loading torch takes longer than most of them
        code, output, errors = run(*arguments)
    else:
        done = shell(command)
        code, output, errors = done.returncode, done.stdout, done.stderr
    assert (code, errors) == (0, "")
    scores = "".join(file.read_text() for file in Path("scores").glob("*.csv"))
    assert_answers(command, output + scores)


@pytest.mark.parametrize("command", MAKE)
def test_make_has_the_target(command: str) -> None:
    """Dry: each installs an environment first, `make test` is what runs this, and `make train` takes long."""
    done = shell(f"cd {shlex.quote(str(ROOT))} && {command}", MAKEFLAGS="n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.fixture(params=SERVE)
def port(request: pytest.FixtureRequest) -> Iterator[str]:
    """The port of the service, a free one: the usual one may be taken."""
    command = [*shlex.split(request.param), "--port", "0"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr is not None
        log = ""
        while not (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", log)):
            log += service.stderr.readline()
            assert service.poll() is None, log
        yield found[1]
        service.terminate()
        log += service.stderr.read()
    assert service.returncode == 0
    assert not re.search("Traceback|Warning|ERROR", log)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl isn't installed")
@pytest.mark.parametrize("command", ASK)
def test_service_answers(command: str, port: str) -> None:
    done = shell(command.replace(":8000/", f":{port}/"))
    assert done.returncode == 0  # its errors are a progress meter
    assert_answers(command, done.stdout)
