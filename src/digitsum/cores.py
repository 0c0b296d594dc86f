"""How many cores this process may use: in a container, or where they are shared out, fewer than there are."""

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Return how many cores this process may keep busy: of its affinity, within its container's limit.

    The limit is the quota of processor time of Linux's control groups, of version 2 or 1, rounded up.

    Examples
    --------
    >>> 1 <= cores() <= (os.cpu_count() or 1)
    True
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(math.ceil(min(allowed, _quota())), 1)


def _quota() -> float:
    """Return how many cores' time the control group grants; infinity where it sets no limit."""
    try:
        if (CGROUP / "cpu.max").exists():
            granted, period = (CGROUP / "cpu.max").read_text().split()
        else:
            granted, period = (
                (CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        return int(granted) / int(period) if int(granted) > 0 else math.inf
    except (OSError, ValueError):  # there are no such groups, or "max"
        return math.inf
