"""What every script here does: read its options, and keep what it prints in results/SCRIPT.txt."""

import argparse
import io
import os
import platform
import re
import shlex
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from digitsum.cores import cores
from digitsum.files import replacing

RESULTS = Path(__file__).parent / "results"


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser of options, whose help is the script's docstring as it stands."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def print_spread(rows: npt.ArrayLike, show: Callable[[str, np.ndarray], None]) -> None:
    """Print the mean of rows, one a seed, and of several the standard deviation."""
    table = np.asarray(rows, float)
    show("mean", table.mean(axis=0))
    if len(table) > 1:
        show("  sd", table.std(axis=0, ddof=1))


def record(main: Callable[[], None]) -> None:
    """Run a script; what it printed until its good end becomes the section of its command in the results."""
    script, options = Path(sys.argv[0]), sys.argv[1:]
    with redirect_stdout(_Both(sys.stdout)) as printed:
        main()
    command = shlex.join(["python", f"benchmarks/{script.name}", *options])
    path = RESULTS / f"{script.stem}.txt"
    told = printed.getvalue().strip("\n")
    kept = sections(path) | {command: f"# {machine()}\n\n{told}\n"}
    with replacing(path) as temporary:
        text = "\n".join(f"$ {command}\n{section}" for command, section in kept.items())
        temporary.write_text(text, encoding="utf-8")


class _Both(io.StringIO):
    """Keeps what is written, and hands it on at once."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def write(self, text: str) -> int:
        self._out.write(text)
        self._out.flush()
        return super().write(text)


def sections(path: Path) -> dict[str, str]:
    """Read results: under each command, in the order of their first run, the machine and what was printed."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = (part.split("\n", 1) for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:])
    return {command: section.rstrip("\n") + "\n" for command, section in parts}


def machine() -> str:
    """Describe what figures depend on: the processor, how much of it is used, and the versions."""
    info = Path("/proc/cpuinfo")  # Linux's
    text = info.read_text() if info.exists() else ""
    name = re.search(r"^model name\s*: (.*)", text, re.MULTILINE)
    processor = name[1] if name else platform.machine()
    count, threads = cores(), os.environ.get("OMP_NUM_THREADS")
    return ", ".join(
        [
            processor + " with AVX-512 bfloat16" * ("avx512_bf16" in text),
            f"{count} core{'s' * (count > 1)}" + f" (OMP_NUM_THREADS={threads})" * bool(threads),
            f"Python {platform.python_version()}",
            f"torch {version('torch')}",
            f"ONNX Runtime {version('onnxruntime')}",
        ]
    )
