"""What `import digitsum` does to its process: it sets how threads wait, and loads nothing heavy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from drawing import page_of
from PIL import Image

from digitsum import mnist

SAY = "import digitsum, os; print(os.environ.get('GOMP_SPINCOUNT'))"
HEAVY = {"torch", "pandas", "mlxtend", "lightning_fabric", "scipy", "pyarrow", "dask", "distributed"}


@pytest.mark.parametrize(
    ("users", "count"),
    [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
)
def test_threads_give_way_to_busy_processes_unless_the_user_has_said_how_they_wait(
    users: dict[str, str], count: str
) -> None:
    """OpenMP reads it when torch is loaded."""
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    others = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", SAY], env=others | users, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{count}\n", "")


@pytest.mark.parametrize(
    ("arguments", "needed", "heavy"),
    [
        (["-m", "digitsum", "--help"], "cyclopts", HEAVY | {"numpy"}),
        (["-c", "import digitsum.config"], "digitsum", HEAVY | {"numpy", "cyclopts", "rich"}),
        (["-m", "digitsum", "predict", "one.png", "-a", "1"], "onnxruntime", HEAVY),
    ],
)
def test_what_needs_no_torch_loads_nothing_heavy(
    tmp_path: Path, arguments: list[str], needed: str, heavy: set[str]
) -> None:
    Image.fromarray(page_of(mnist.load().images[0, 0])).save(tmp_path / "one.png")
    command = [sys.executable, "-X", "importtime", *arguments]
    loaded = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr
    modules = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in loaded.splitlines()}
    assert needed in modules
    assert not modules & heavy
