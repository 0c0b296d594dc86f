"""Where the package's own files are, and files written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

ASSETS = Path(__file__).parent / "assets"
NETWORKS = ("exact", "concat")  # that come with the package, each in a folder of its name


def locate(name: str | Path) -> Path:
    """Give the folder of a network of the package for its name, and any other name as the path that it is.

    Examples
    --------
    >>> locate("exact") == ASSETS / "exact"
    True
    >>> str(locate("runs/first"))
    'runs/first'
    >>> locate("./exact") == locate(Path("exact")) == Path("exact")  # a user's own folder of that name
    True
    """
    return ASSETS / name if name in NETWORKS else Path(name)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path; when the block ends well, what was written there replaces `path`.

    The temporary file lies in `path`'s own folder (made if missing), so the replacement is one atomic
    rename; when the block fails or is interrupted, `path` stays as it was and nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)
