"""How many of the machine's cores are this process's to use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that this process may use; where the system does not tell, those that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
