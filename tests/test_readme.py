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

import pytest
from markdown_it import MarkdownIt

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
SHOWN = {"seven.png": 7, "forty-two.jpg": 42}  # by the sample pictures

BLOCKS = [token for token in MarkdownIt().parse((ROOT / "README.md").read_text()) if token.type == "fence"]
PROGRAMS = {f"line {block.map[0] + 2}": block.content for block in BLOCKS if block.info == "python"}
LINES = [line for block in BLOCKS if block.info == "sh" for line in block.content.splitlines()]
COMMANDS = [command for line in LINES if (command := re.split(r"\s*#", line)[0])]
MAKE = [command for command in COMMANDS if command.startswith("make ")]
SERVE = [command for command in COMMANDS if command.startswith("digitsum serve")]
ASK = [command for command in COMMANDS if command.startswith("curl ")]
ACTIVATE = ["source .venv/bin/activate"]  # the tests run in the environment that they are of
OTHERS = [command for command in COMMANDS if command not in MAKE + SERVE + ASK + ACTIVATE]


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
    """Each example has to print, and of each sample picture the sum with what is added on the same line."""
    assert output
    for line in example.splitlines():
        if addend := re.search(r"addends?[ =](\d+)", line):
            for picture in filter(line.__contains__, SHOWN):
                assert re.search(rf"\b{SHOWN[picture] + int(addend[1])}\b", output)


@pytest.fixture(autouse=True)
def _folder_with_the_examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("examples").symlink_to(ROOT / "examples")


def test_every_block_is_run_or_is_output() -> None:
    assert {block.info for block in BLOCKS} == {"sh", "python", "text"}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_program(program: str) -> None:
    Path("program.py").write_text(program)
    done = shell(f"{shlex.quote(sys.executable)} program.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert_answers(program, done.stdout)


@pytest.mark.usefixtures("real_mnist", "onnxruntime_web")
def test_commands_in_their_order(run: Callable[..., tuple[int, str, str]]) -> None:
    for command in OTHERS:
        program, *arguments = shlex.split(command)
        assert program == "digitsum"
        code, output, errors = run(*arguments)  # in this process, as loading torch takes longer than most
        assert (command, code, errors) == (command, 0, "")
        assert_answers(command, output)


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
