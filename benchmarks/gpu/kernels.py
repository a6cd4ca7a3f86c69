"""Stage 1: whether every kernel computes the paper's equations on this device.

The reference is tensor operations on the CPU. Spikes and membranes must be the same bits: a
sum and a product round the same way everywhere. Gradients are rounded in another order, so
they are compared with a loop of their own over the same membranes, in float32 at least.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.gpu.setting import Row, Setting
from benchmarks.peers.agreement import compare
from benchmarks.peers.worker import Peer
from benchmarks.peers.workload import PAPERS, draw, from_preset
from bsnn_tha import lif_sequence
from bsnn_tha.equations.lif import RESETS, Reset
from bsnn_tha.equations.surrogate import SURROGATES, Surrogate
from bsnn_tha.equations.threshold_gradient import WINDOWS, ThresholdGradient

TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1e-2,
}
"""‖gradient − reference‖ / ‖reference‖ that is rounding."""

CENTRE = 0.75
"""Of the surrogate: beside the thresholds, and a number in every precision."""


def rows(setting: Setting) -> Iterator[Row]:
    """One line for each dtype, reset and surrogate; then one for each network."""
    steps, neurons = (5, (2, 67)) if setting.tiny else (100, (64, 1031))
    for dtype, reset, (name, surrogate) in itertools.product(TOLERANCE, RESETS, SURROGATES.items()):
        if setting.tiny and dtype is torch.float16:
            continue  # slow on a CPU, and nothing else than bfloat16
        for window in WINDOWS if name == "fast_sigmoid" else WINDOWS[:1]:
            path = ThresholdGradient(window, fired_only=window != "none")
            found = _scan(setting, (steps, *neurons), dtype, reset, surrogate(0.8, 1.3), path)
            yield {
                "kernel": "lif",
                "dtype": str(dtype).removeprefix("torch."),
                "case": f"{reset}, {name}, threshold gradient {window}",
                **found,
                "holds": found["equal"] == 1.0 and found["gradient"] <= TOLERANCE[dtype],
            }
    for name in PAPERS:
        yield _network(setting, name)


def _scan(
    setting: Setting,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    reset: Reset,
    surrogate: Surrogate,
    path: ThresholdGradient,
) -> Row:
    """Share of equal spikes and membranes; the worst tensor's relative gradient error."""
    generator = torch.Generator().manual_seed(0)
    current = torch.randn(shape, generator=generator).mul_(0.7).add_(0.2).to(dtype)
    upstream = [torch.randn(shape, generator=generator).to(dtype) for _ in range(2)]
    beta = torch.rand(shape[1:], generator=generator).to(dtype)
    theta = 0.5 + torch.rand(shape[1:], generator=generator).to(dtype)

    def run(device: str, backend: str) -> tuple[list[Tensor], list[Tensor]]:
        """Spikes and membranes, and the leaves they came from."""
        leaves = [tensor.to(device).requires_grad_() for tensor in (current, beta, theta)]
        window = lif_sequence(
            leaves[0],
            leaves[1],
            leaves[2],
            torch.tensor(CENTRE, dtype=dtype, device=device),
            surrogate,
            reset=reset,
            record=True,
            backend=backend,  # type: ignore[arg-type]
            threshold_gradient=path,
        )
        assert window.membranes is not None
        return [window.spikes, window.membranes], leaves

    outputs, leaves = run(setting.device, "triton")
    given = [gradient.to(setting.device) for gradient in upstream]
    gradients = torch.autograd.grad(outputs, leaves, given)
    wanted, _ = run("cpu", "reference")
    same = torch.stack([o.cpu() == w for o, w in zip(outputs, wanted, strict=True)]).all(0)
    # The kernels' working precision; for float32 a better one, which has no edges to fall off.
    wide = torch.float32 if dtype.itemsize == 2 else torch.float64
    tensors = [tensor.detach().to(wide) for tensor in (wanted[1], beta, theta, *upstream)]
    right = _gradients(*tensors, reset=reset, surrogate=surrogate, path=path)
    errors = [_relative(g.cpu(), r) for g, r in zip(gradients, right, strict=True)]
    return {"equal": float(same.double().mean()), "gradient": max(errors)}


def _gradients(
    membranes: Tensor,
    beta: Tensor,
    theta: Tensor,
    g_spikes: Tensor,
    g_membranes: Tensor,
    *,
    reset: Reset,
    surrogate: Surrogate,
    path: ThresholdGradient,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the current, β and θ, by the chain rule from the last step to the first (Eq. 7)."""
    g_current = torch.empty_like(membranes)
    g_beta, g_theta, carried = (torch.zeros_like(beta) for _ in range(3))
    centre = torch.tensor(CENTRE, dtype=membranes.dtype)
    for t in reversed(range(len(membranes))):
        before = membranes[t - 1] if t else torch.zeros_like(beta)
        fired = (before >= theta).to(beta.dtype)
        through = surrogate(membranes[t], centre) * g_spikes[t]
        g_current[t] = g = carried + g_membranes[t] + through
        g_theta -= through * path(membranes[t] - theta)
        kept = 1 - fired if reset == "zero" else torch.ones_like(fired)
        g_beta += g * before * kept
        carried = beta * g * kept
        if reset == "subtract":
            g_theta -= g * fired
    return g_current, g_beta, g_theta


def _relative(found: Tensor, wanted: Tensor) -> float:
    error = (found.double() - wanted.double()).norm() / wanted.double().norm()
    return float(error) if error.isfinite() else float("inf")


def _network(setting: Setting, name: str) -> Row:
    """A whole network of the paper, without dropout, beside the plain loop on the CPU."""
    workload = from_preset(name).without_dropout()
    workload = workload.shrunk(30, 2) if setting.tiny else workload.shrunk(100, 8)
    arrays = draw(workload)
    agreement = compare(
        Peer("ours", workload, arrays, setting.device).outputs(),
        Peer("reference", workload, arrays).outputs(),
    )
    return {
        "kernel": "network",
        "dtype": "float32",
        "case": name,
        "equal": agreement.equal,
        "gradient": 1 - agreement.cosine,
        "holds": agreement.holds,
    }
