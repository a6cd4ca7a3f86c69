"""Spiking networks built from the papers' notation, run a window at a time.

Nothing between the neurons has a memory: convolution, pooling, batch norm and
dropout see the time steps of a window as one large batch, in one call each.
Only the neurons walk through time. A constant input (a static image) meets the
first layer's weights once instead of T times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.conv import conv_avg_pool2d
from bsnn_tha.functional.lif_reference import LIFWindow
from bsnn_tha.nn.binary import BinaryConv2d, BinaryLinear, WeightInit
from bsnn_tha.nn.leaky import AnnealedLeaky
from bsnn_tha.nn.norm import BatchNormPerStep
from bsnn_tha.nn.notation import ConvSpec, LayerSpec, parse_network


class NetworkWindow(NamedTuple):
    """What the output layer did over a window of T time steps."""

    spikes: Tensor
    """``[time, batch, outputs]``, 0 or 1."""
    membranes: Tensor | None
    """Like ``spikes``; None unless recorded."""
    state: tuple[Tensor, ...]
    """Final membrane of every layer: pass it on to continue the window."""


class SpikingLayer(nn.Module):
    """Weights, what acts on their current, and the neurons that receive it.

    Current: convolution, average pooling, batch norm per step; or a fully
    connected layer and dropout with a new mask at every time step. A forward
    hook on this module sees ``(inputs, LIFWindow)``.

    Args:
        spec: the layer in the papers' notation.
        input_shape, output_shape: of one sample at one time step.
        neuron: the neurons.
        binary: weights in {−1, +1} rather than full precision.
        batch_norm: normalise the current of a convolution, per time step.
        dropout: probability to drop a fully connected layer's current.
        init: latent weights' initialisation, for binary weights.
    """

    def __init__(
        self,
        spec: LayerSpec,
        input_shape: tuple[int, ...],
        output_shape: tuple[int, ...],
        neuron: AnnealedLeaky,
        *,
        binary: bool,
        batch_norm: bool,
        dropout: float,
        init: WeightInit,
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.output_shape = output_shape
        self.synapse: nn.Conv2d | nn.Linear
        self.pool = 1
        self.norm: BatchNormPerStep | None = None
        self.dropout: nn.Module = nn.Identity()
        if isinstance(spec, ConvSpec):
            sizes = input_shape[0], spec.channels, spec.kernel
            # As published: no bias, whether or not batch norm follows.
            self.synapse = (
                BinaryConv2d(*sizes, bias=False, init=init)
                if binary
                else nn.Conv2d(*sizes, bias=False)
            )
            self.pool = spec.pool
            if batch_norm:
                self.norm = BatchNormPerStep(spec.channels)
        else:
            features = 1
            for length in input_shape:
                features *= length
            self.synapse = (
                BinaryLinear(features, spec.outputs, init=init)
                if binary
                else nn.Linear(features, spec.outputs)
            )
            if dropout:
                self.dropout = nn.Dropout(dropout)
        self.neuron = neuron

    def forward(
        self,
        input: Tensor,
        num_steps: int | None = None,
        membrane: Tensor | None = None,
        record: bool = False,
    ) -> LIFWindow:
        """Run the layer over a window.

        Args:
            input: ``[time, batch, *input_shape]``; or, with ``num_steps``, a
                constant input ``[batch, *input_shape]``.
            num_steps: for how many time steps a constant input is seen.
            membrane: membranes to start from; zero if None.
            record: also return the membranes of every step.
        """
        if num_steps is None:
            current = self.current(input.flatten(0, 1)).unflatten(0, input.shape[:2])
            if self.norm is not None:
                current = self.norm(current)
        else:
            current = self.current(input)
            if self.norm is not None:
                current = self.norm(current, repeats=num_steps)
            current = current.expand(num_steps, *current.shape)
        return self.neuron.window(self.dropout(current), membrane, record)

    def current(self, input: Tensor) -> Tensor:
        """The weights' current before normalisation, ``[samples, *output_shape]``."""
        if isinstance(self.synapse, nn.Linear):
            return self.synapse(input.flatten(1))
        return conv_avg_pool2d(input, self.synapse.weight, self.pool)


class SpikingNetwork(nn.Module):
    """A feed-forward spiking network in the papers' notation.

    Args:
        notation: layers, e.g. ``"16C5-AP2-64C5-AP2-10"``; the grammar is in
            :mod:`bsnn_tha.nn.notation`.
        input_shape: of one sample at one time step, ``(channels, height,
            width)`` or ``(features,)``.
        binary: weights in {−1, +1} (default) or full precision.
        batch_norm: batch norm per time step after each convolution.
        dropout: probability in [0, 1) for fully connected layers; a number,
            or one per fully connected layer.
        init: ``"glorot"`` or ``"pytorch"``, for binary weights.
        **neuron: settings of :class:`~bsnn_tha.AnnealedLeaky`; each a single
            value, or a list with one value per spiking layer.

    Attributes:
        layers: the :class:`SpikingLayer` modules, input side first.
        output_shape: of the output spikes of one sample at one time step.

    Raises:
        InvalidValueError: the notation, a shape or a setting breaks a rule.

    Example:
        >>> import torch
        >>> network = SpikingNetwork(
        ...     "16C5-AP2-64C5-AP2-10", (1, 28, 28), beta=0.99, slope=10.22,
        ...     theta_0=[11.666, 14.105, 0.6656],
        ...     theta_inf=[15.983, 30.395, 4.1616],
        ...     alpha=[0.024, 0.119, 0.0011],
        ... )
        >>> images = torch.rand(4, 1, 28, 28)
        >>> network(images, num_steps=5).spikes.shape  # the same image at each step
        torch.Size([5, 4, 10])
        >>> frames = torch.rand(5, 4, 1, 28, 28)
        >>> network(frames).spikes.shape  # [time, batch, ...]
        torch.Size([5, 4, 10])
    """

    layers: nn.ModuleList

    def __init__(
        self,
        notation: str,
        input_shape: Sequence[int],
        *,
        binary: bool = True,
        batch_norm: bool = True,
        dropout: float | Sequence[float] = 0.0,
        init: WeightInit = "glorot",
        **neuron: Any,
    ) -> None:
        super().__init__()
        self.notation = notation
        self.input_shape = tuple(input_shape)
        parsed = parse_network(notation, input_shape)
        dense = sum(not isinstance(spec, ConvSpec) for spec, _ in parsed)
        drop = iter(_per_layer("dropout", dropout, dense, "fully connected layer"))
        settings = {
            name: _per_layer(name, value, len(parsed), "spiking layer")
            for name, value in neuron.items()
        }
        self.layers = nn.ModuleList()
        shape = self.input_shape
        for index, (spec, output_shape) in enumerate(parsed):
            rate = 0.0 if isinstance(spec, ConvSpec) else next(drop)
            if not 0 <= rate < 1:
                raise InvalidValueError(f"dropout must be in [0, 1), but got dropout={rate}")
            layer = SpikingLayer(
                spec,
                shape,
                output_shape,
                AnnealedLeaky(**{name: values[index] for name, values in settings.items()}),
                binary=binary,
                batch_norm=batch_norm,
                dropout=rate,
                init=init,
            )
            self.layers.append(layer)
            shape = output_shape
        self.output_shape = shape

    def forward(
        self,
        input: Tensor,
        num_steps: int | None = None,
        state: Sequence[Tensor] | None = None,
        record: bool = False,
    ) -> NetworkWindow:
        """Run the network over a window.

        Args:
            input: ``[time, batch, *input_shape]``; or ``[batch,
                *input_shape]``, seen at each of ``num_steps`` time steps.
            num_steps: T for a constant input; leave out otherwise.
            state: ``state`` of the window before, to continue it.
            record: also return the output membranes (differentiable).

        Raises:
            InvalidValueError: the input has another shape, or ``num_steps``
                is missing, given twice or below 1.
        """
        self._check_input(input, num_steps)
        if state is not None and len(state) != len(self.layers):
            raise InvalidValueError(
                f"state needs one membrane for each of the {len(self.layers)} layers, "
                f"but got {len(state)}"
            )
        membranes = [None] * len(self.layers) if state is None else state
        spikes, final = input, []
        for layer, membrane in zip(self.layers, membranes, strict=True):
            window = layer(spikes, num_steps, membrane, record and layer is self.layers[-1])
            spikes, num_steps = window.spikes, None
            final.append(window.membrane)
        return NetworkWindow(spikes, window.membranes, tuple(final))

    def _check_input(self, input: Tensor, num_steps: int | None) -> None:
        lead = "[batch" if num_steps is not None else "[time, batch"
        dims = len(self.input_shape) + (1 if num_steps is not None else 2)
        if input.dim() != dims or input.shape[-len(self.input_shape) :] != self.input_shape:
            raise InvalidValueError(
                f"input must be {lead}, {', '.join(map(str, self.input_shape))}] "
                f"{'with' if num_steps is not None else 'without'} num_steps, "
                f"but got shape {list(input.shape)}"
            )
        if num_steps is not None and num_steps < 1:
            raise InvalidValueError(f"num_steps must be at least 1, but got {num_steps}")
        if num_steps is None and len(input) == 0:
            raise InvalidValueError("input must have at least one time step, but got none")


def _per_layer(name: str, value: Any, count: int, what: str) -> list[Any]:
    """One value for each layer, from a single one or a list of them."""
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise InvalidValueError(
            f"{name} needs one value, or one for each {what} ({count}), "
            f"but got {len(value)}: {list(value)}"
        )
    return list(value)
