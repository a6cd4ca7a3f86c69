"""States that neurons keep between calls, and how they are cleared.

With ``init_hidden=True`` a neuron keeps its membrane. :func:`reset` clears the
neurons of one network. snnTorch's own calls have to work as well, and they know no
network: ``Leaky.reset_hidden()`` and ``Leaky.detach_hidden()`` go through a list of
every neuron that was ever built, which keeps each of them alive, and
``snntorch.utils.reset(net)`` calls these two for the classes it finds among the
children of ``net``.

So the neurons here stand in that list by :class:`_Entry`, which holds them weakly,
and ``snntorch.utils.reset`` is told which network it was given (:func:`_for_one_network`):
it clears the neurons of that network, however deep, and no other's.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import snntorch.utils
import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

# The modules that snnTorch's class-level calls may reach, by id; None for all.
_reachable: ContextVar[frozenset[int] | None] = ContextVar("_reachable", default=None)


class KeepsState(SpikingNeuron):
    """A neuron of snnTorch's that is freed when dropped and reset with its network."""

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles take the kept state along, but not its graph.
        state = dict(super().__getstate__())
        buffers = dict(state["_buffers"])
        for name in ("syn", "mem"):
            if name in buffers:
                buffers[name] = buffers[name].detach()
        state["_buffers"] = buffers
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        _enter(self)


class _Entry:
    """A neuron's place in snnTorch's list.

    snnTorch asks for the class of an entry, then reads and replaces its states. An
    entry is of its neuron's class as long as that lives and may be reached; what is
    asked of it after that goes nowhere.
    """

    neuron: weakref.ref[KeepsState]

    def __init__(self, neuron: KeepsState) -> None:
        object.__setattr__(self, "neuron", weakref.ref(neuron))

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        neuron, reachable = self.neuron(), _reachable.get()
        if neuron is None or (reachable is not None and id(neuron) not in reachable):
            return _Entry
        return type(neuron)

    def __getattr__(self, name: str) -> Tensor:
        neuron = self.neuron()
        return torch.zeros(0) if neuron is None else getattr(neuron, name)

    def __setattr__(self, name: str, state: Tensor) -> None:
        neuron = self.neuron()
        if neuron is not None:
            setattr(neuron, name, state)


def reset(network: nn.Module) -> None:
    """Clear the kept states of one network, and of that network only.

    Needed between windows where neurons were built with ``init_hidden=True``.
    ``snntorch.utils.reset`` does the same for the neurons here; snnTorch's own it
    finds among the network's children only, and clears in every other network too.

    Args:
        network: any module; snnTorch's own neurons inside are reset as well.

    Example:
        >>> from bsnn_tha import AnnealedLeaky
        >>> network = nn.Sequential(nn.Linear(4, 3), AnnealedLeaky(0.9, init_hidden=True))
        >>> spikes = network(torch.rand(2, 4))
        >>> reset(network)
        >>> network[1].mem.abs().sum().item()
        0.0
    """
    for module in network.modules():
        if isinstance(module, SpikingNeuron) and hasattr(module, "reset_mem"):
            module.reset_mem()


@contextlib.contextmanager
def entered_weakly(neuron: KeepsState) -> Iterator[None]:
    """Set up snnTorch's part of a neuron; snnTorch's list holds it weakly afterwards."""
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            SpikingNeuron.instances.remove(neuron)
    _enter(neuron)


def _enter(neuron: KeepsState) -> None:
    instances, entry = SpikingNeuron.instances, _Entry(neuron)
    for place, other in enumerate(instances):
        if type(other) is _Entry and other.neuron() is None:
            # In its place: the list never shrinks under a loop over its length.
            instances[place] = entry
            return
    instances.append(entry)


def _for_one_network(original: Callable[[nn.Module], None]) -> Callable[[nn.Module], None]:
    """``snntorch.utils.reset``, which reaches the neurons of the network it is given."""

    @functools.wraps(original)
    def reset_network(net: nn.Module) -> None:
        reached = _reachable.set(frozenset(map(id, net.modules())))
        try:
            original(net)
        finally:
            _reachable.reset(reached)
        for module in net.modules():
            if isinstance(module, KeepsState):
                module.reset_mem()

    return reset_network


snntorch.utils.reset = _for_one_network(snntorch.utils.reset)
