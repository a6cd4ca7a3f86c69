"""Fixtures that several test modules use."""

from __future__ import annotations

import os
from pathlib import Path

# One thread, here and in the processes that tests start: the networks are tiny,
# and results do not depend on how many cores there are. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data files, or a skip that says how to provide one."""
    configured = os.environ.get("BSNN_THA_DATA")
    if configured:
        root = Path(configured).expanduser()
    else:
        root = Path(__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        pytest.skip(f"no data files in {root}; set BSNN_THA_DATA to a folder that has them")
    return root
