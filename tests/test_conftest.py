"""What tests have in common, in a session of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = """
import os
from pathlib import Path
import pytest

def make(folder):
    folder.mkdir(parents=True)
    with (Path.cwd() / "made").open("a") as file:
        file.write("once ")

@pytest.mark.parametrize("number", range(4))
def test_a_folder_is_made_once(once, number):
    assert once("shared", make).name == "shared"

def test_the_home_is_the_tests():
    home = Path.home()
    assert (home.exists(), home.name.startswith("digitsum-tests-"), list(home.iterdir())) == (True, True, [])
    assert not {"XDG_CONFIG_HOME", "JUPYTER_PATH", "MPLCONFIGDIR"} & os.environ.keys()
    (home / ".bashrc").write_text("a line")

def test_of_other_rights():
    pytest.skip("only root does this")

def test_that_lacks_something():
    pytest.skip("chromium isn't installed")
"""


def test_tests_have_a_home_share_what_is_made_once_and_fail_on_ci_if_one_is_missing(
    tmp_path: Path,
) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "JUPYTER_PATH", "MPLCONFIGDIR"), str(home))
    command = [sys.executable, "-m", "pytest", "-p", "no:schemathesis", "--numprocesses", "2"]
    environment["CI"] = "true"
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert re.search("^=+ 1 failed, 5 passed, 1 skipped in ", done.stdout, re.MULTILINE), done.stdout
    assert "Skipped: chromium isn't installed (on CI whatever is skipped has failed)" in done.stdout
    assert (tmp_path / "made").read_text() == "once "
    assert list(home.iterdir()) == []
