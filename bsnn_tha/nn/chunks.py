"""A window run in chunks of time steps: less memory, for a second forward pass.

For the backward pass only each chunk's inputs and outputs and the membranes at its ends are
kept; one chunk at a time is run again (:mod:`bsnn_tha.nn.recompute`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.nn.connection import Connection
from bsnn_tha.nn.recompute import recompute_in_backward
from bsnn_tha.nn.window import NetworkWindow

Run = Callable[[Tensor, int | None, Sequence[Tensor | None], bool], NetworkWindow]
"""Runs a piece of a window: its input, T of a constant one, the state it starts from, and whether
to record the output membranes."""


def check_chunks(network: nn.Module, chunk_steps: int, steps: int) -> None:
    """Raise unless a network's windows can be run in such chunks.

    Args:
        network: in the mode, ``train()`` or ``eval()``, that it is to run in.
        chunk_steps: of a chunk; the whole window, if there are no more.
        steps: of the window.

    Raises:
        InvalidValueError: a chunk below one step, neurons that keep their own membranes, or, of
            more than one chunk in training, a norm that needs the whole window.
    """
    if chunk_steps < 1:
        raise InvalidValueError(f"chunk_steps must be at least 1, but got {chunk_steps}")
    if any(getattr(module, "init_hidden", False) for module in network.modules()):
        raise InvalidValueError(
            "chunk_steps needs neurons that get their membranes from the chunk before, "
            "but got init_hidden=True; leave it out and pass state to continue a window"
        )
    for module in network.modules() if chunk_steps < steps else ():
        if module.training and getattr(module, "needs_whole_window", False):
            raise InvalidValueError(
                f"training with {type(module).__name__} needs the whole window, whose "
                f"statistics it takes, but got chunk_steps={chunk_steps}; leave it out, or "
                "choose norm='per-step'"
            )


def run_in_chunks(
    network: nn.Module,
    run: Run,
    input: Tensor,
    num_steps: int | None,
    membranes: Sequence[Tensor | None],
    record: bool,
    chunk_steps: int,
) -> NetworkWindow:
    """The window, one chunk after the other.

    Args:
        network: whose windows ``run`` computes.
        run: one piece.
        input: ``[time, batch, ...]``, or ``[batch, ...]`` for each of ``num_steps``.
        num_steps: T of a constant input; None otherwise.
        membranes: the state to start from, one of each layer; None stands for zero.
        record: the output membranes too.
        chunk_steps: of a chunk; the last may be shorter.
    """
    pieces: list[tuple[Tensor, int | None]]
    if num_steps is None:
        pieces = [(piece, None) for piece in input.split(chunk_steps)]
    else:
        starts = range(0, num_steps, chunk_steps)
        pieces = [(input, min(chunk_steps, num_steps - start)) for start in starts]
    spikes, recorded = [], []
    for piece, steps in pieces:
        if torch.is_grad_enabled():
            chunk = _recomputed(network, run, piece, steps, membranes, record)
        else:
            chunk = run(piece, steps, membranes, record)
        membranes = chunk.state
        spikes.append(chunk.spikes)
        if chunk.membranes is not None:
            recorded.append(chunk.membranes)
    return chunk._replace(
        spikes=torch.cat(spikes), membranes=torch.cat(recorded) if record else None
    )


def _recomputed(
    network: nn.Module,
    run: Run,
    input: Tensor,
    num_steps: int | None,
    membranes: Sequence[Tensor | None],
    record: bool,
) -> NetworkWindow:
    """One piece, which is run again in the backward pass."""
    modes = [module.training for module in network.modules()]

    def run_again(input: Tensor, *tensors: Tensor | None) -> NetworkWindow:
        if modes != [module.training for module in network.modules()]:
            raise RuntimeError(
                "the network must stay in train() or eval() mode between a forward pass "
                "with chunk_steps and its backward pass, but was changed"
            )
        return run(input, num_steps, tensors[: len(membranes)], record)

    # What else a run reads is passed on to be watched: it would silently give
    # wrong gradients if changed in place before the backward pass. Running
    # statistics change with every training batch and are not read in it.
    watched: list[Tensor] = [*network.parameters()]
    connections = [m for m in network.modules() if isinstance(m, Connection)]
    norms = {module for c in connections if c.norm is not None for module in c.norm.modules()}
    for module in network.modules():
        if not (module in norms and module.training):
            watched += module.buffers(recurse=False)
    return recompute_in_backward(run_again, input, *membranes, *watched)
