"""Time actions beside each other."""

import time
from collections.abc import Callable, Sequence

import numpy as np


def quickest(actions: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Do all actions in turn, `rounds` times after once for nothing, and return the least seconds of each."""
    seconds = np.empty((rounds + 1, len(actions)))
    for row in seconds:
        for i, action in enumerate(actions):
            start = time.perf_counter()
            action()
            row[i] = time.perf_counter() - start
    least: list[float] = seconds[1:].min(axis=0).tolist()
    return least
