"""A NIR file walked node by node, with the equations that each reader's documents give."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import torch
from torch.nn import functional as F


def walk(path: Path, reader: str, inputs: np.ndarray, num_steps: int) -> dict[str, np.ndarray]:
    """What comes out of every node, ``[time, batch, ...]``.

    Args:
        path: of the file.
        reader: by whose equations.
        inputs: ``[1 or time, batch, ...]``.
        num_steps: T.
    """
    graph = nir.read(path, type_check=reader != "sinabs")
    order = _order(graph)
    states: dict[str, list[torch.Tensor]] = {}
    before: dict[str, torch.Tensor] = {}
    steps: dict[str, list[np.ndarray]] = {name: [] for name in order}
    for step in range(num_steps):
        now: dict[str, torch.Tensor] = {}
        for name in order:
            node = graph.nodes[name]
            sources = [a for a, b in graph.edges if b == name]
            # A node that comes later in the order is read a time step late.
            given = [now.get(a, before.get(a)) for a in sources]
            total = sum(each for each in given if each is not None)
            if isinstance(node, nir.Input):
                total = torch.from_numpy(inputs[step % len(inputs)]).double()
            now[name] = _apply(node, total, states.setdefault(name, []), reader)
            steps[name].append(now[name].numpy())
        before = now
    return {name: np.stack(values) for name, values in steps.items()}


def _order(graph: nir.NIRGraph) -> list[str]:
    """From input to output, each after what it reads but for the ways back to neurons."""
    order: list[str] = []
    left = list(graph.nodes)
    while left:
        for name in left:
            late = ("reset_", "recurrent_")
            reads = [a for a, b in graph.edges if b == name and not a.startswith(late)]
            if name.endswith("_back"):
                reads = [a for a, b in graph.edges if b == name]
            if all(a in order for a in reads):
                order.append(name)
                left.remove(name)
                break
        else:
            raise AssertionError(f"a loop through {left}")
    return order


def _apply(node, x: torch.Tensor, state: list[torch.Tensor], reader: str) -> torch.Tensor:
    def of(value) -> torch.Tensor:
        return torch.as_tensor(np.asarray(value)).double()

    if isinstance(node, nir.Affine):
        return F.linear(x, of(node.weight), of(node.bias))
    if isinstance(node, nir.Conv2d):
        return F.conv2d(
            x,
            of(node.weight),
            of(node.bias),
            *(tuple(map(int, pair)) for pair in (node.stride, node.padding)),
        )
    if isinstance(node, nir.AvgPool2d):
        return F.avg_pool2d(x, tuple(map(int, node.kernel_size)))
    if isinstance(node, nir.SumPool2d):
        return F.avg_pool2d(x, tuple(map(int, node.kernel_size))) * int(np.prod(node.kernel_size))
    if isinstance(node, nir.Flatten):
        return x.flatten(node.start_dim, node.end_dim)
    if isinstance(node, nir.Input | nir.Output):
        return x
    if not state:
        state += [torch.zeros_like(x), torch.zeros_like(x)]
    i, v = state
    if reader == "sinabs":
        v = torch.exp(-1 / of(node.tau)) * v + x
        if isinstance(node, nir.LI):
            state[:] = [i, v]
            return v
        spikes = torch.trunc(v / of(node.v_threshold)).clamp(min=0)
        state[:] = [i, v - spikes * of(node.v_threshold)]
        return spikes
    dt = 1e-4
    if isinstance(node, nir.CubaLIF):
        i = i + dt / of(node.tau_syn) * (of(node.w_in) * x - i)
        v = v + dt / of(node.tau_mem) * (of(node.r) * i - v)
    else:
        drive = x if reader == "norse" else of(node.r) * x
        v = v + dt / of(node.tau) * (drive - v)
    threshold = of(node.v_threshold)
    fired = v >= threshold if reader == "spikingjelly" else v > threshold
    state[:] = [i, torch.where(fired, of(node.v_reset), v)]
    return fired.double()
