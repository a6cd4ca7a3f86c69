"""The forward scan of :mod:`bsnn_tha.functional.recurrent_lif`, compiled for the CPU by numba.

A sample goes through all steps while its membranes stay in the cache. Spikes are few: what
comes back to a step is a sum of the weights' columns that belong to the step before's spikes, which
lie one after the other in the transposed weights. With weights of ±1 that sum is a whole
number, and equal to a product's to the last bit; with others up to the order of summation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import Reset
from bsnn_tha.kernels import tuning
from bsnn_tha.kernels.cpu.compiled import run
from bsnn_tha.kernels.cpu.lif_step import fires, integrate

DTYPES = (torch.float32, torch.float64)


def forward(
    current: Tensor, weight: Tensor, start: Tensor | None, dynamics: Dynamics
) -> tuple[Tensor, Tensor]:
    """As :func:`bsnn_tha.kernels.recurrent_tensors.forward`, for :data:`DTYPES`."""
    steps, rows, neurons = current.shape
    spikes, membranes = (torch.empty(current.shape, dtype=current.dtype) for _ in range(2))
    state = torch.zeros(rows, neurons, dtype=current.dtype)
    if start is not None:
        state.copy_(start)
    arguments = (
        _memory(current),
        _memory(weight.t()),
        *(_memory(its.expand(rows, neurons)) for its in (dynamics.beta, dynamics.threshold)),
        _memory(state),
        _memory(spikes),
        _memory(membranes),
        _memory(torch.empty_like(state)),
        _memory(torch.empty(rows, neurons, dtype=torch.int32)),
        start is not None,
        steps,
        rows,
        neurons,
    )
    work = steps * rows * neurons
    run(forward_scan, (dynamics.reset, current.dtype), arguments, rows, work // tuning.LIF_THREAD)
    return spikes, membranes


def forward_scan(reset: Reset, dtype: torch.dtype) -> Callable[..., None]:
    """The scan; the dtype is for `run`, which compiles one for each."""
    subtract, zero = reset == "subtract", reset == "zero"

    def scan(  # type: ignore[no-untyped-def]
        current, columns,
        beta, threshold, state,
        spikes, membranes,
        sums, listed,
        started, steps, rows, neurons, first, last,
    ):  # fmt: skip
        for row in range(first, last):
            of = row * neurons
            decay, theta = beta[of : of + neurons], threshold[of : of + neurons]
            membrane, back = state[of : of + neurons], sums[of : of + neurons]
            fired = listed[of : of + neurons]
            count = 0
            if started:
                for i in range(neurons):
                    if membrane[i] >= theta[i]:
                        fired[count] = i
                        count += 1
            for t in range(steps):
                at = (t * rows + row) * neurons
                inputs, kept = current[at : at + neurons], membranes[at : at + neurons]
                z = spikes[at : at + neurons]
                back[:] = 0
                for k in range(count):
                    column = columns[fired[k] * neurons : (fired[k] + 1) * neurons]
                    for i in range(neurons):
                        back[i] += column[i]
                for i in range(neurons):
                    total = inputs[i] + back[i]
                    u = integrate(membrane[i], total, decay[i], theta[i], subtract, zero)
                    membrane[i] = u
                    kept[i] = u
                    z[i] = fires(u, theta[i])
                count = 0
                for i in range(neurons):
                    if z[i] > 0:
                        fired[count] = i
                        count += 1

    return scan


def _memory(values: Tensor):  # type: ignore[no-untyped-def]
    return values.detach().contiguous().flatten().numpy()
