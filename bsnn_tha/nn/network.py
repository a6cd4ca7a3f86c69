"""Spiking networks built from the papers' notation, run a window at a time.

Nothing between the neurons has a memory: convolution, pooling, batch norm and
dropout see the time steps of a window as one large batch, in one call each.
Only the neurons walk through time. A constant input (a static image) meets the
first layer's weights once instead of T times.

A network is a list of spiking layers. Each reads the spikes of the layers that it
names, which come before it in the list; mostly of the one before it. Blocks of
other shapes (residual, dense) are layers that name others: see
:class:`~bsnn_tha.nn.notation.LayerPlan`.

A window may also be run in chunks of time steps, which bounds the memory of a
training step: see ``chunk_steps`` of :class:`SpikingNetwork`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack, cast, get_args

import torch
from torch import Tensor, nn

from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.equations.quantizers import Quantizer, choose_quantizer
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.running import ROUTES, Route, Ways
from bsnn_tha.inputs import signal
from bsnn_tha.nn.chunks import check_chunks, run_in_chunks
from bsnn_tha.nn.layer import LayerInput, SpikingLayer
from bsnn_tha.nn.neurons import NeuronSettings, make_neuron
from bsnn_tha.nn.neurons.by_layer import neurons_by_layer
from bsnn_tha.nn.norms import NormChoice
from bsnn_tha.nn.notation import ConvSpec, LayerPlan, parse_network
from bsnn_tha.nn.per_layer import (
    CONV,
    DEFAULT,
    DENSE,
    OUTPUT,
    EachLayer,
    Kinds,
    kinds_of,
    per_layer,
)
from bsnn_tha.nn.thresholds import ThresholdRule
from bsnn_tha.nn.weights.init import WeightInit
from bsnn_tha.nn.window import MembraneWindow, NetworkWindow, Output


class SpikingNetwork(nn.Module):
    """A spiking network in the papers' notation.

    Args:
        notation: layers, e.g. ``"16C5-AP2-64C5-AP2-10"``, or a network's name, e.g.
            ``"vgg9"``; the grammar is in :mod:`bsnn_tha.nn.notation`, the names
            are in :mod:`bsnn_tha.nn.named`.
        input_shape: of one sample at one time step, ``(channels, height,
            width)`` or ``(features,)``.
        weights: ``"binary"`` (−1 and +1), ``"sawb"`` (a few bits), ``"float"`` or a
            quantizer of one's own; see :mod:`bsnn_tha.equations.quantizers`.
        weight_bits: 2 to 8, for ``weights="sawb"``; 4 if None.
        weight_options: other arguments of a quantizer given by name.
        norm: ``"per-step"``, ``"tdbn"``, ``"none"`` or one of one's own, of the currents of
            convolutions; see :mod:`bsnn_tha.nn.norms`. A list or a table by kind of layer gives
            fully connected ones a norm as well, ``{"dense": "tdbn", "output": "none"}``.
        norm_options: arguments of the norm, e.g. ``momentum``.
        dropout: probability in [0, 1) for fully connected layers; a list has one per
            fully connected layer.
        moderate_dropout: mean probability in [0, 1) to drop a neuron of a hidden fully
            connected layer, the less the higher its potential (LTMD, Eq. 13).
        init: ``"glorot"``, ``"pytorch"`` or ``"kaiming"``; see
            :mod:`bsnn_tha.nn.weights.init`. In full precision ``"glorot"`` is ``"pytorch"``.
        output: ``"spikes"``, or ``"membrane"`` for a last layer that integrates and does not
            fire. It then has neither threshold nor surrogate nor reset, and their settings
            are those of the other layers.
        route: ``"auto"``, ``"one_pass"``, ``"parts"`` or ``"reference"``, how windows are
            computed: :mod:`bsnn_tha.functional.routes`.
        **neuron: settings of the neurons and of their threshold rule, listed in
            :class:`~bsnn_tha.nn.neurons.NeuronSettings`.

    ``dropout``, ``init`` and every setting of the neurons is a single value, a list with
    one value per layer, or a table by kind of layer, ``{"default": 0, "dense": 3}``: see
    :mod:`bsnn_tha.nn.per_layer`.

    Attributes:
        layers: the :class:`~bsnn_tha.nn.layer.SpikingLayer` modules, input side first.
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
        weights: str | Quantizer = "binary",
        weight_bits: int | None = None,
        weight_options: Mapping[str, Any] | None = None,
        norm: EachLayer[NormChoice] = "per-step",
        norm_options: Mapping[str, Any] | None = None,
        dropout: EachLayer[float] = 0.0,
        moderate_dropout: float = 0.0,
        init: EachLayer[WeightInit] = "glorot",
        output: Output = "spikes",
        route: Route = "auto",
        **neuron: Unpack[NeuronSettings],
    ) -> None:
        super().__init__()
        self.notation = notation
        self.input_shape = tuple(input_shape)
        plans = parse_network(notation, input_shape)
        kinds = kinds_of(plans)
        dense = [names for names in kinds if DENSE in names]
        drop = iter(
            per_layer("dropout", dropout, dense, "fully connected layer", (OUTPUT, DENSE, DEFAULT))
        )
        if output not in get_args(Output):
            raise InvalidValueError(
                f"output must be one of {', '.join(get_args(Output))}, but got {output!r}"
            )
        self.output: Output = output
        neurons = neurons_by_layer(neuron, kinds, last_fires=output == "spikes")
        inits = per_layer("init", init, kinds)
        norms = _norms(norm, kinds)
        normed = any(each != "none" for each in norms)
        quantizer = choose_quantizer(weights, weight_bits, weight_options)
        if not 0 <= moderate_dropout < 1:
            raise InvalidValueError(
                f"moderate_dropout must be in [0, 1), but got moderate_dropout={moderate_dropout:g}"
            )
        _check_used(plans, norm, dropout, moderate_dropout)
        if route not in ROUTES:
            raise InvalidValueError(f"route must be one of {', '.join(ROUTES)}, but got {route!r}")
        self.layers = nn.ModuleList()
        for index, (plan, told) in enumerate(zip(plans, neurons, strict=True)):
            convolves, hidden = isinstance(plan.spec, ConvSpec), index < len(plans) - 1
            rate = 0.0 if convolves else next(drop)
            if not 0 <= rate < 1:
                raise InvalidValueError(f"dropout must be in [0, 1), but got dropout={rate}")
            layer = SpikingLayer(
                plan,
                make_neuron(plan.output_shape, fires=hidden or output == "spikes", **told),
                quantizer=quantizer,
                norm=norms[index],
                norm_options=None if norms[index] == "none" and normed else norm_options,
                dropout=rate,
                moderate_dropout=moderate_dropout if hidden and not convolves else 0.0,
                init=inits[index],
                route=route,
            )
            self.layers.append(layer)
        self.output_shape = plans[-1].output_shape
        self._last_reader = _last_readers(plans)

    def routes(self) -> list[Ways]:
        """Every way that each layer has computed windows, in training and in evaluation.

        Example:
            >>> import torch
            >>> network = SpikingNetwork("3-2", (4,), beta=0.9, route="reference")
            >>> _ = network.eval()(torch.ones(5, 1, 4))
            >>> network.routes()[0]
            {'evaluation': ['linear + lif_sequence_reference']}
        """
        return [dict(layer.ways) for layer in self.layers if isinstance(layer, SpikingLayer)]

    def thresholds(self) -> list[Tensor]:
        """θ of every layer now, input side first; ``[]`` or one per neuron."""
        return [rule() for rule in self.modules() if isinstance(rule, ThresholdRule)]

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
                missing, given twice or below 1, or ``chunk_steps`` is below 1,
                given to neurons with ``init_hidden=True``, or in training with
                tdBN, whose statistics are those of the whole window.
        """
        input = self.taken(input, num_steps)
        record = record or self.output == "membrane"
        if state is not None and len(state) != len(self.layers):
            raise InvalidValueError(
                f"state needs one membrane for each of the {len(self.layers)} layers, "
                f"but got {len(state)}"
            )
        membranes = (None,) * len(self.layers) if state is None else tuple(state)
        if chunk_steps is None:
            return self._window(input, num_steps, membranes, record)
        steps = input.shape[0] if num_steps is None else num_steps
        check_chunks(self, chunk_steps, steps)
        if chunk_steps >= steps:
            return self._window(input, num_steps, membranes, record)
        return run_in_chunks(self, self._window, input, num_steps, membranes, record, chunk_steps)

    def _window(
        self,
        input: Tensor,
        num_steps: int | None,
        membranes: Sequence[Tensor | None],
        record: bool,
    ) -> NetworkWindow:
        starts, final = iter(membranes), []

        def run(layer: SpikingLayer, given: LayerInput) -> LIFWindow:
            last = layer is self.layers[-1]
            window = layer(
                given.input, given.num_steps, next(starts), record and last, given.skipped
            )
            final.append(window.membrane)
            return window

        output = self.walk(input, num_steps, run)
        return self.answer(output.spikes, output.membranes if record else None, tuple(final))

    def answer(
        self, spikes: Tensor, membranes: Tensor | None, state: tuple[Tensor, ...] = ()
    ) -> NetworkWindow:
        """What the output layer did, as :meth:`forward` returns it.

        Args:
            spikes, membranes, state: as in :class:`NetworkWindow`.
        """
        if self.output == "spikes":
            return NetworkWindow(spikes, membranes, state)
        assert membranes is not None
        return cast(NetworkWindow, MembraneWindow(spikes, membranes, state))

    def walk(
        self,
        input: Tensor,
        num_steps: int | None,
        run: Callable[[SpikingLayer, LayerInput], LIFWindow],
    ) -> LIFWindow:
        """Take every layer in turn, with what it reads.

        Args:
            input, num_steps: as in :meth:`forward`.
            run: gets a layer and its input, and returns what it did.

        Returns:
            What the last layer did.
        """
        spikes: dict[int, Tensor] = {}
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, SpikingLayer)
            shortcut = layer.shortcut
            window = run(
                layer,
                LayerInput(
                    _joined(spikes, layer.reads) if layer.reads else input,
                    None if layer.reads else num_steps,
                    _joined(spikes, shortcut.reads) if shortcut is not None else None,
                ),
            )
            # What no layer will read again need not be held.
            for earlier in [i for i in spikes if self._last_reader[i] == index]:
                del spikes[earlier]
            spikes[index] = layer.handed_on(window)
        return window

    def taken(self, input: Tensor, num_steps: int | None) -> Tensor:
        """The input as the first layer reads it (:mod:`bsnn_tha.inputs`).

        Args:
            input, num_steps: as in :meth:`forward`.

        Raises:
            InvalidValueError: it does not fit the network.
        """
        input = signal("input", input, next(self.parameters()).dtype)
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
        return input


def _norms(norm: EachLayer[NormChoice], kinds: Sequence[Kinds]) -> list[NormChoice]:
    """The norm of each layer: one alone is of the convolutions."""
    if isinstance(norm, Mapping | list | tuple):
        return per_layer("norm", norm, kinds)
    return per_layer("norm", {CONV: norm, DEFAULT: "none"}, kinds)


def _check_used(
    plans: Sequence[LayerPlan], norm: Any, dropout: Any, moderate_dropout: float
) -> None:
    """Raise where a setting is for layers that the network does not have."""
    dense = [not isinstance(plan.spec, ConvSpec) for plan in plans]
    plain = isinstance(norm, Mapping | list | tuple) or norm in ("per-step", "none")
    if not plain and all(dense):
        raise InvalidValueError(
            f"norm={norm!r} is for convolutions, of which this network has none; name the layers, "
            f"norm={{'dense': {norm!r}, 'output': 'none'}}, or leave it out"
        )
    for setting, for_what, used in (
        (f"dropout={dropout!r}", "fully connected layers", not dropout or any(dense)),
        (
            f"moderate_dropout={moderate_dropout:g}",
            "hidden fully connected layers",
            not moderate_dropout or any(dense[:-1]),
        ),
    ):
        if not used:
            raise InvalidValueError(
                f"{setting} is for {for_what}, of which this network has none; leave it out"
            )


def _last_readers(plans: Sequence[LayerPlan]) -> list[int]:
    """Index of the last layer that reads each layer; its own index if none does."""
    last = list(range(len(plans)))
    for index, plan in enumerate(plans):
        for source in (*plan.reads, *(plan.shortcut.reads if plan.shortcut else ())):
            last[source] = index
    return last


def _joined(spikes: dict[int, Tensor], reads: Sequence[int]) -> Tensor:
    """Maps of several layers, ``[time, batch, channels, ...]``, one after the other."""
    if len(reads) == 1:
        return spikes[reads[0]]
    return torch.cat([spikes[index] for index in reads], dim=2)
