"""Stage 2: how near the neurons' kernels come to what the memory gives.

A scan has next to nothing to calculate: its floor is the bytes that must be moved. Counted is
what has to be read and written at least; the yardstick is a copy of one large tensor.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.gpu.setting import Row, Setting
from bsnn_tha import lif_sequence
from bsnn_tha.equations.surrogate import FastSigmoid, Triangle

SHAPES = {
    "MNIST conv2": (100, 1024, 64, 4, 4),
    "SHD hidden": (333, 256, 3000),
    "DVS conv1": (100, 128, 16, 14, 14),
    "T = 6, MNIST conv1": (6, 8192, 16, 12, 12),
}
"""Windows of the papers' layers, with batches that are several times a cache."""


def rows(setting: Setting) -> Iterator[Row]:
    """A copy; then each layer, forward and backward, for each dtype."""
    numbers = 1 << 12 if setting.tiny else 1 << 28
    copied = _copy(setting, numbers)
    gigabytes = _per_second(2 * 4 * numbers, copied)
    yield {"layer": "copy", "dtype": "float32", "way": "", "ms": copied, "gb_s": gigabytes}
    for name, shape in SHAPES.items():
        window = tuple(min(size, 3) for size in shape) if setting.tiny else shape
        for dtype in (torch.float32, torch.bfloat16):
            for row in _layer(setting, window, dtype, triangle=name.startswith("T = 6")):
                yield {"layer": name, **row, "of_copy": row["gb_s"] / gigabytes}


def _copy(setting: Setting, numbers: int) -> float:
    """Milliseconds of a copy of so many float32."""
    source = torch.randn(numbers, device=setting.device)
    target = torch.empty_like(source)
    return setting.median_ms(lambda: target.copy_(source))


def _layer(
    setting: Setting, shape: tuple[int, ...], dtype: torch.dtype, triangle: bool
) -> Iterator[Row]:
    device, backend = setting.device, "triton"
    current = torch.randn(shape, device=device, dtype=dtype).requires_grad_()
    upstream = torch.randn_like(current)
    beta, theta = (torch.tensor(value, device=device, dtype=dtype) for value in (0.95, 1.2))
    surrogate = Triangle(1.0) if triangle else FastSigmoid(2.5)

    def forward():  # type: ignore[no-untyped-def]
        return lif_sequence(current, beta, theta, theta, surrogate, backend=backend)  # type: ignore[arg-type]

    spikes = forward().spikes

    def backward() -> None:
        torch.autograd.grad(spikes, current, upstream, retain_graph=True)

    # Read currents, write spikes and membranes; read gradients and membranes, write gradients.
    for way, work in (("forward", forward), ("backward", backward)):
        taken = setting.median_ms(work)
        yield {
            "dtype": str(dtype).removeprefix("torch."),
            "way": way,
            "ms": taken,
            "gb_s": _per_second(3 * current.nbytes, taken),
        }


def _per_second(moved: int, milliseconds: float) -> float:
    """GB/s."""
    return moved / milliseconds / 1e6
