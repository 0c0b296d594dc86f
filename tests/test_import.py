"""What `import digitsum` does to its process: it sets how threads wait, and loads nothing heavy."""

import os
import subprocess
import sys

import pytest

SAY = "import digitsum, os, sys; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"


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
    assert (done.stdout, done.stderr) == (f"{count} False\n", "")
