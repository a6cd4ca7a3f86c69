"""Spiking networks built from the papers' notation, run a window at a time.

Nothing between the neurons has a memory: convolution, pooling, batch norm and
dropout see the time steps of a window as one large batch, in one call each.
Only the neurons walk through time. A constant input (a static image) meets the
first layer's weights once instead of T times.

A window may also be run in chunks of time steps, which bounds the memory of a
training step: see ``chunk_steps`` of :class:`SpikingNetwork`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.conv import conv_avg_pool2d
from bsnn_tha.functional.lif_reference import LIFWindow
from bsnn_tha.functional.sparse_linear import flattened, sparse_linear
from bsnn_tha.nn.binary import BinaryConv2d, BinaryLinear, WeightInit
from bsnn_tha.nn.dropout import SeededDropout
from bsnn_tha.nn.leaky import AnnealedLeaky
from bsnn_tha.nn.norm import BatchNormPerStep
from bsnn_tha.nn.notation import ConvSpec, LayerSpec, parse_network
from bsnn_tha.nn.one_pass import one_pass
from bsnn_tha.nn.recompute import recompute_in_backward


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
    hook on this module sees ``(inputs, LIFWindow)``: once per window, or, with
    ``chunk_steps``, once per chunk, and again while a chunk is recomputed for
    the backward pass. A hook that counts tests
    :func:`~bsnn_tha.nn.recompute.recomputing`.

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
        self.show_membranes = False
        """Whether forward hooks see the membranes even if nobody records them."""
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
                self.dropout = SeededDropout(dropout)
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
        record = record or self.show_membranes
        if num_steps is None and not record:
            window = one_pass(self.synapse, self.dropout, self.neuron, input, membrane)
            if window is not None:
                return window
        current = self.dropout(self.drive(input, num_steps))
        return self.neuron.window(current, membrane, record)

    def drive(self, input: Tensor, num_steps: int | None = None) -> Tensor:
        """The current that reaches the neurons but for dropout, ``[time, batch, *output_shape]``.

        Args:
            input, num_steps: as in :meth:`forward`.
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
        return current

    def current(self, input: Tensor) -> Tensor:
        """The weights' current before normalisation, ``[samples, *output_shape]``."""
        if isinstance(self.synapse, nn.Linear):
            return sparse_linear(*flattened(input, self.synapse.weight), self.synapse.bias)
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
        chunk_steps: int | None = None,
    ) -> NetworkWindow:
        """Run the network over a window.

        Args:
            input: ``[time, batch, *input_shape]``; or ``[batch,
                *input_shape]``, seen at each of ``num_steps`` time steps.
            num_steps: T for a constant input; leave out otherwise.
            state: ``state`` of the window before, to continue it.
            record: also return the output membranes (differentiable).
            chunk_steps: run the window in chunks of this many time steps (the
                last may be shorter). For the backward pass only each chunk's
                inputs and outputs and the membranes at its ends are kept, and
                one chunk at a time is run again: memory grows with
                ``chunk_steps`` and with T / ``chunk_steps``, for a second
                forward pass. None, or T and more: the whole window at once.

        Spikes, membranes, gradients and running statistics do not depend on
        ``chunk_steps`` but for the order of summation. Dropout masks do: they
        are drawn chunk by chunk, so a seed gives others than it gives for the
        whole window; those of the backward pass are the forward pass's own.

        Raises:
            InvalidValueError: the input has another shape, ``num_steps`` is
                missing, given twice or below 1, or ``chunk_steps`` is below 1
                or given to neurons with ``init_hidden=True``.
        """
        self._check_input(input, num_steps)
        if state is not None and len(state) != len(self.layers):
            raise InvalidValueError(
                f"state needs one membrane for each of the {len(self.layers)} layers, "
                f"but got {len(state)}"
            )
        membranes = (None,) * len(self.layers) if state is None else tuple(state)
        if chunk_steps is None:
            return self._window(input, num_steps, membranes, record)
        self._check_chunks(chunk_steps)
        steps = input.shape[0] if num_steps is None else num_steps
        if chunk_steps >= steps:
            return self._window(input, num_steps, membranes, record)
        return self._chunks(input, num_steps, membranes, record, chunk_steps)

    def _window(
        self,
        input: Tensor,
        num_steps: int | None,
        membranes: Sequence[Tensor | None],
        record: bool,
    ) -> NetworkWindow:
        spikes, final = input, []
        for layer, membrane in zip(self.layers, membranes, strict=True):
            window = layer(spikes, num_steps, membrane, record and layer is self.layers[-1])
            spikes, num_steps = window.spikes, None
            final.append(window.membrane)
        return NetworkWindow(spikes, window.membranes if record else None, tuple(final))

    def _chunks(
        self,
        input: Tensor,
        num_steps: int | None,
        membranes: Sequence[Tensor | None],
        record: bool,
        chunk_steps: int,
    ) -> NetworkWindow:
        pieces: list[tuple[Tensor, int | None]]
        if num_steps is None:
            pieces = [(piece, None) for piece in input.split(chunk_steps)]
        else:
            starts = range(0, num_steps, chunk_steps)
            pieces = [(input, min(chunk_steps, num_steps - start)) for start in starts]
        run = self._recomputed if torch.is_grad_enabled() else self._window
        spikes, recorded = [], []
        for piece, steps in pieces:
            chunk = run(piece, steps, membranes, record)
            membranes = chunk.state
            spikes.append(chunk.spikes)
            if chunk.membranes is not None:
                recorded.append(chunk.membranes)
        return NetworkWindow(
            torch.cat(spikes), torch.cat(recorded) if record else None, chunk.state
        )

    def _recomputed(
        self,
        input: Tensor,
        num_steps: int | None,
        membranes: Sequence[Tensor | None],
        record: bool,
    ) -> NetworkWindow:
        """:meth:`_window`, run again in the backward pass."""
        modes = [module.training for module in self.modules()]

        def run(input: Tensor, *tensors: Tensor | None) -> NetworkWindow:
            if modes != [module.training for module in self.modules()]:
                raise RuntimeError(
                    "the network must stay in train() or eval() mode between a forward pass "
                    "with chunk_steps and its backward pass, but was changed"
                )
            return self._window(input, num_steps, tensors[: len(membranes)], record)

        # What else a run reads is passed on to be watched: it would silently give
        # wrong gradients if changed in place before the backward pass. Running
        # statistics change with every training batch and are not read in it.
        watched: list[Tensor] = [*self.parameters()]
        for module in self.modules():
            if not (isinstance(module, BatchNormPerStep) and module.training):
                watched += module.buffers(recurse=False)
        return recompute_in_backward(run, input, *membranes, *watched)

    def _check_chunks(self, chunk_steps: int) -> None:
        if chunk_steps < 1:
            raise InvalidValueError(f"chunk_steps must be at least 1, but got {chunk_steps}")
        if any(getattr(module, "init_hidden", False) for module in self.modules()):
            raise InvalidValueError(
                "chunk_steps needs neurons that get their membranes from the chunk before, "
                "but got init_hidden=True; leave it out and pass state to continue a window"
            )

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
        if num_steps is None and input.shape[0] == 0:
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
