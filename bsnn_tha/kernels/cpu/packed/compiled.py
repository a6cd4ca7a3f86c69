"""How pieces of the packed loops are compiled: into their callers, and without counting references.

numba counts the references of every array that a function is given, with atomic instructions:
a hundred and more of them a layer and time step took longer than what small layers compute. Whoever
calls from Python holds all arrays; nothing here may allocate one.
"""

from __future__ import annotations

from typing import Any

import numba
from numba.core.cpu import CPUTargetOptions

OPTIONS: dict[str, Any] = {"error_model": "numpy"}
"""Of the entry and of all pieces."""
if hasattr(CPUTargetOptions, "_nrt"):  # numba's own, and no promise: slower without, not wrong
    OPTIONS["_nrt"] = False


def piece(function: Any) -> Any:
    """Compile a function into whichever calls it."""
    return numba.njit(function, forceinline=True, **OPTIONS)
