"""PyTorch's idle threads sleep, if they are told so before PyTorch is loaded.

OpenMP reads ``OMP_WAIT_POLICY`` once, then. Left alone, idle threads spin for milliseconds
after each operation, on the cores that the compiled loops want. The package imports this
module first, and sets it where nobody has; in a program that has imported torch before,
that comes too late, and the loops say so when they first use several threads.
"""

import os
import sys

SPIN = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
"""Whether PyTorch was loaded without anybody having decided."""

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
