"""Execute the tour from start to end and store it with its outputs: `make tour`."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

TOUR = Path(__file__).with_name("tour.ipynb")
LONGEST = 300  # seconds after which a cell hangs; the longest takes ten


def execute(folder: Path) -> nbformat.NotebookNode:
    """Execute the stored tour in `folder`, and give it with its new outputs.

    Of the machine and the day it holds nothing, no times and no versions.
    """
    tour = nbformat.read(TOUR, as_version=4)
    client = NotebookClient(
        tour,
        timeout=LONGEST,
        record_timing=False,
        coalesce_streams=True,  # else what a slow cell prints comes in pieces
        resources={"metadata": {"path": folder}},
    )
    client.execute()
    tour.metadata.language_info = {"name": "python"}
    return tour


if __name__ == "__main__":
    nbformat.write(execute(TOUR.parent), TOUR)
