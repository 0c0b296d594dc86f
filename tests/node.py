"""Scripts of the page in the node that playwright's package brings, without a browser."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import playwright

from digitsum.serving.page import network_script

NODE = Path(playwright.__file__).parent / "driver" / "node"

Ask = Callable[..., Any]


@contextmanager
def asked(script: str, folder: Path) -> Iterator[Ask]:
    """Start node with a script, which NAME_in_node.js beside this asks, and the constants as they are now."""
    file = folder / script
    file.write_bytes(network_script(script))
    command = [NODE, Path(__file__).with_name(f"{file.stem}_in_node.js"), file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin
        assert node.stdout

        def ask(**question: Any) -> Any:
            print(json.dumps(question), file=node.stdin, flush=True)
            return json.loads(node.stdout.readline())

        yield ask
        node.stdin.close()
    assert node.returncode == 0
