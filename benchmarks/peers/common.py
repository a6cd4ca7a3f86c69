"""What the peers' networks share: parameters, binary weights and the loss, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from benchmarks.peers.workload import Layer, Weights, Workload


class _StraightThroughSign(Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor) -> Tensor:
        return torch.where(latent >= 0, 1.0, -1.0)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> Tensor:
        return grad[0]


def binarize(latent: Tensor) -> Tensor:
    """Signs of the latent weights; the gradient passes unchanged."""
    return _StraightThroughSign.apply(latent)


class Connection(nn.Module):
    """Weights and what acts on their current alone: pooling and batch norm."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.weights = weights
        self.weight = nn.Parameter(torch.empty(weights.shape))
        self.bias = nn.Parameter(torch.empty(weights.outputs)) if weights.bias else None
        self.norm = nn.BatchNorm2d(weights.outputs) if weights.norm else None

    def current(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Before batch norm, ``[samples, ...]``."""
        its = self.weights
        if not its.kernel:
            seen = input.mean((-2, -1)) if its.of_means else input.flatten(1)
            return F.linear(seen, weight, bias)
        maps = F.conv2d(input, weight, stride=its.stride, padding=its.padding)
        return maps if its.pool == 1 else F.avg_pool2d(maps, its.pool)

    def step(self, input: Tensor) -> Tensor:
        """One time step in the published way: weights binarized here, every time."""
        current = self.current(input, binarize(self.weight), self.bias)
        return current if self.norm is None else self.norm(current)

    def window(self, input: Tensor, time: int = 0, scale: float = 1.0) -> Tensor:
        """All time steps at once but for batch norm by the statistics of each step.

        Args:
            input: ``[time, batch, ...]``, or ``[batch, time, ...]`` with ``time=1``.
            scale: a factor of the current, for libraries whose neurons count in
                other units; put into weights that are read once per window.
        """
        inside = 1.0 if self.norm is not None else scale
        weight = binarize(self.weight)
        bias: Tensor | None = self.bias
        if inside != 1.0:
            weight = weight * inside
            bias = None if bias is None else bias * inside
        current = self.current(input.flatten(0, 1), weight, bias)
        current = current.unflatten(0, input.shape[:2])
        return current if self.norm is None else self._normalised(self.norm, current, time, scale)

    def _normalised(self, norm: nn.BatchNorm2d, current: Tensor, time: int, scale: float) -> Tensor:
        weight, bias = norm.weight * (self.weights.norm_scale * scale), norm.bias * scale

        def normalise(maps: Tensor) -> Tensor:
            return F.batch_norm(
                maps,
                norm.running_mean,
                norm.running_var,
                weight,
                bias,
                self.training,
                norm.momentum or 0.0,
                norm.eps,
            )

        # In evaluation no statistics are taken.
        if self.weights.window_norm or not self.training:
            return normalise(current.flatten(0, 1)).unflatten(0, current.shape[:2])
        return torch.stack([normalise(maps) for maps in current.unbind(time)], time)


class Synapse(Connection):
    """The weights of a layer, what its shortcut adds to their current, and dropout of the sum."""

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        told = layer.shortcut
        self.reads = None if told is None else told.reads
        """The layer whose spikes are added, or None."""
        through = None if told is None else told.weights
        self.shortcut = None if through is None else Connection(through)
        self.dropout = nn.Dropout(layer.dropout) if layer.dropout else None

    def step(self, input: Tensor, skipped: Tensor | None = None) -> Tensor:
        """The same with the spikes that a shortcut takes."""
        current = super().step(input)
        if skipped is not None:
            current = current + (skipped if self.shortcut is None else self.shortcut.step(skipped))
        return current if self.dropout is None else self.dropout(current)

    def window(
        self, input: Tensor, time: int = 0, scale: float = 1.0, skipped: Tensor | None = None
    ) -> Tensor:
        """The same with the spikes that a shortcut takes."""
        current = super().window(input, time, scale)
        if skipped is not None and self.shortcut is not None:
            current = current + self.shortcut.window(skipped, time, scale)
        elif skipped is not None:
            current = current + (skipped if scale == 1.0 else skipped * scale)
        return current if self.dropout is None else self.dropout(current)


class PeerNetwork(nn.Module):
    """A network of one library, called with the window, giving output spikes.

    Attributes:
        notes: what differs from the paper's neurons, for the table.
        decayed_reset: a spike lowers the next membrane by βθ rather than θ, and
            nothing in the library's settings changes that.
    """

    notes: ClassVar[str] = "as the paper"
    decayed_reset: ClassVar[bool] = False
    synapses: Any
    neurons: Any

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.workload = workload
        self.synapses = nn.ModuleList(Synapse(layer) for layer in workload.layers)

    def prepare(self, input: Tensor) -> Tensor:
        """The input in the library's own layout; not timed."""
        return input

    def parameter_names(self) -> dict[str, nn.Parameter]:
        """Every parameter, by its name among the workload's arrays."""
        prefix = "synapses."
        return {name.removeprefix(prefix): p for name, p in self.named_parameters()}

    def forward(self, input: Tensor) -> Tensor:
        """``[time, batch, classes]``, 0 or 1."""
        raise NotImplementedError

    def by_layer(
        self, input: Tensor, fire: Callable[[int, Tensor, Tensor | None], tuple[Tensor, Tensor]]
    ) -> Tensor:
        """All steps of a layer after the other, as batch norm over the window wants it.

        Args:
            input: of the network.
            fire: gets a layer's index, a step's current and the membranes before (None at first),
                and returns spikes and membranes.
        """

        def run(index: int, synapse: Synapse, spikes: Tensor, skipped: Tensor | None) -> Tensor:
            membrane: Tensor | None = None
            outputs = []
            for current in synapse.window(spikes, skipped=skipped):
                fired, membrane = fire(index, current, membrane)
                outputs.append(fired)
            return torch.stack(outputs)

        return self.walk(self.frames(input), run)

    def walk(
        self, spikes: Tensor, run: Callable[[int, Synapse, Tensor, Tensor | None], Tensor]
    ) -> Tensor:
        """Every layer in turn.

        Args:
            spikes: that the first one reads.
            run: gets a layer's index, its weights, the spikes that they read and those that its
                shortcut takes, if it has one, and returns those that its neurons fire.
        """
        taken = {synapse.reads for synapse in self.synapses}
        fired: dict[int, Tensor] = {}
        for index, synapse in enumerate(self.synapses):
            skipped = None if synapse.reads is None else fired[synapse.reads]
            # Some libraries fire float32 whatever reaches them.
            spikes = run(index, synapse, spikes, skipped).to(spikes.dtype)
            if index in taken:
                fired[index] = spikes
        return spikes

    @property
    def window_norm(self) -> bool:
        """Whether a layer is normalised over the window."""
        return any(layer.window_norm for layer in self.workload.layers)

    def loss(self, spikes: Tensor, targets: Tensor) -> Tensor:
        """Squared error of spike counts, as in the published code."""
        work = self.workload
        counts = spikes.sum(0)
        right = F.one_hot(targets, counts.shape[1]).bool()
        wanted = torch.where(
            right, work.correct_rate * work.steps, work.incorrect_rate * work.steps
        )
        return F.mse_loss(counts, wanted) / work.steps

    def frames(self, input: Tensor) -> Tensor:
        """A static image repeated for each step, ``[time, batch, ...]``."""
        return input.expand(self.workload.steps, *input.shape) if self.workload.static else input
