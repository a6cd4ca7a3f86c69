"""One layer of a network: weights, what acts on their current, and the neurons."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bsnn_tha.equations.lif import LIFWindow
from bsnn_tha.equations.quantizers import Quantizer
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional import routes
from bsnn_tha.functional.layer import Layer
from bsnn_tha.functional.running import Refused, Route, noted, running
from bsnn_tha.inputs import signal
from bsnn_tha.nn.connection import Connection
from bsnn_tha.nn.dropout import SeededDropout
from bsnn_tha.nn.moderate_dropout import ModerateDropout
from bsnn_tha.nn.neurons.leaky import AnnealedLeaky, Leaky
from bsnn_tha.nn.neurons.neuron import WindowNeuron
from bsnn_tha.nn.norms import NormChoice
from bsnn_tha.nn.notation import LayerPlan, Shortcut
from bsnn_tha.nn.one_pass import BehindNorm, behind_norm, for_one_pass, membranes_beside
from bsnn_tha.nn.recompute import recomputing
from bsnn_tha.nn.weights.derived import weight_of
from bsnn_tha.nn.weights.init import WeightInit

logger = logging.getLogger(__name__)


class LayerInput(NamedTuple):
    """What a layer is called with for a window."""

    input: Tensor
    """Spikes it reads, ``[time, batch, *input_shape]``; or the network's constant input."""
    num_steps: int | None
    """For how many time steps a constant input is seen."""
    skipped: Tensor | None
    """Spikes that its shortcut reads, ``[time, batch, ...]``, if it has one."""


class SpikingLayer(Connection):
    """Weights, what acts on their current, and the neurons that receive it.

    Current: convolution, pooling, batch norm; or a fully connected layer, batch norm if
    it has one and dropout with a new mask at every time step. A shortcut's current is
    added to it, and, after dropout, what the layer's own spikes give through recurrent
    weights one time step later. A forward hook on this module sees ``(inputs,
    LIFWindow)``: once per window, or, with ``chunk_steps``, once per chunk, and again
    while a chunk is recomputed for the backward pass. A hook that counts tests
    :func:`~bsnn_tha.nn.recompute.recomputing`.

    Args:
        plan: the layer in the papers' notation, and what it reads.
        neuron: the neurons.
        quantizer: of the weights; None for full precision.
        norm, norm_options: of the current; what a recurrence adds to it has none.
        dropout: probability to drop a fully connected layer's current.
        moderate_dropout: mean probability to drop a fully connected layer's neurons
            (:mod:`bsnn_tha.nn.moderate_dropout`).
        init: what the weights start from (:mod:`bsnn_tha.nn.weights.init`).
        route: how windows are computed (:mod:`bsnn_tha.functional.routes`).

    Attributes:
        reads: indices of the layers whose spikes it takes; empty for the first.
        shortcut: what else drives its neurons, or None.
        recurrence: the weights by which its own spikes do, or None.

    Raises:
        InvalidValueError: neurons that cannot be recurrent.
    """

    def __init__(
        self,
        plan: LayerPlan,
        neuron: WindowNeuron,
        *,
        quantizer: Quantizer | None,
        norm: NormChoice,
        norm_options: Mapping[str, Any] | None = None,
        dropout: float,
        moderate_dropout: float,
        init: WeightInit,
        route: Route = "auto",
    ) -> None:
        threshold = neuron.threshold.detach().mean().item() if neuron.fires else 1.0
        # Zheng et al. (2021): two currents that are added share the variance.
        scale = threshold / math.sqrt(2) if plan.shortcut else threshold
        settings: dict[str, Any] = {
            "quantizer": quantizer,
            "norm": norm,
            "norm_scale": scale,
            "norm_options": norm_options,
            "init": init,
        }
        super().__init__(plan.spec, plan.input_shape, **settings)
        self.output_shape = plan.output_shape
        self.reads = plan.reads
        self.show_membranes = False
        """Whether forward hooks see the membranes even if nobody records them. The window itself
        is computed as it would be otherwise, to the last bit."""
        self.shortcut = _Shortcut(plan.shortcut, settings) if plan.shortcut else None
        self.recurrence: Connection | None = None
        if plan.recurrence is not None:
            _check_recurrent(neuron, plan.output_shape)
            own = settings | {"norm": "none", "norm_options": None}
            self.recurrence = Connection(plan.recurrence.spec, plan.output_shape, **own)
            self._own = plan.recurrence.reads
        self.dropout: nn.Module = SeededDropout(dropout) if dropout else nn.Identity()
        self.moderate_dropout = ModerateDropout(moderate_dropout) if moderate_dropout else None
        self.neuron = neuron
        self.route: Route = route
        self.ways: dict[str, list[str]] = {}
        """Every way that windows were computed, in ``training`` and in ``evaluation``."""

    def forward(
        self,
        input: Tensor,
        num_steps: int | None = None,
        membrane: Tensor | None = None,
        record: bool = False,
        skipped: Tensor | None = None,
    ) -> LIFWindow:
        """Run the layer over a window.

        Args:
            input: ``[time, batch, *input_shape]``; or, with ``num_steps``, a
                constant input ``[batch, *input_shape]``.
            num_steps: for how many time steps a constant input is seen.
            membrane: membranes to start from; zero if None.
            record: also return the membranes of every step.
            skipped: spikes that the shortcut reads, for a layer that has one.
        """
        call = signal("input", input, self.dtype), num_steps, membrane, record, skipped
        if torch.compiler.is_compiling():
            return self._window(*call)
        with running(self.route):
            window = self._window(*call)
            if not recomputing():
                self._take_down(noted())
        return window

    def _take_down(self, way: str) -> None:
        mode = "training" if self.training else "evaluation"
        ways = self.ways.setdefault(mode, [])
        if way not in ways:
            ways.append(way)
            shape = " × ".join(map(str, self.output_shape))
            logger.debug("the layer of %s neurons in %s: %s", shape, mode, way)

    def _window(
        self,
        input: Tensor,
        num_steps: int | None,
        membrane: Tensor | None,
        record: bool,
        skipped: Tensor | None,
    ) -> LIFWindow:
        moderating = self.moderate_dropout is not None and self.training
        record = record or moderating or self.neuron.emits == "membrane"
        layer: Layer | None = None
        if self.route in ("auto", "one_pass"):
            # As it is before a mask is drawn.
            generator = torch.get_rng_state() if self.show_membranes else None
            found = self._for_one_pass(num_steps, membrane, record)
            window = (
                found if isinstance(found, Refused) else self._one_pass(found, input, generator)
            )
            if not isinstance(window, Refused):
                return window
            if self.route == "one_pass":
                raise InvalidValueError(
                    f"route='one_pass' cannot take the layer {self.spec}: {window}; "
                    "choose route='auto' or 'parts'"
                )
            layer = None if isinstance(found, Refused) else found
        record = record or self.show_membranes
        return self._by_parts(input, num_steps, membrane, record, skipped, layer)

    def _for_one_pass(
        self, num_steps: int | None, membrane: Tensor | None, record: bool
    ) -> Layer | Refused:
        """The layer as routes in one pass take it, or why they do not."""
        if num_steps is not None:
            return Refused("its input is constant")
        if record:
            return Refused("its membranes are wanted")
        if self.shortcut is not None:
            return Refused("its neurons have a shortcut")
        if self.recurrence is not None:
            return Refused("its own spikes come back to it")
        return for_one_pass(self, self.dropout, self.neuron, membrane)

    def _one_pass(
        self, layer: Layer, input: Tensor, generator: Tensor | None
    ) -> LIFWindow | Refused:
        """A window of weights and neurons in one pass, or why no route takes it.

        Args:
            layer: of :meth:`_for_one_pass`.
            input: ``[time, batch, *input_shape]``.
            generator: PyTorch's before masks were drawn, if hooks are to see membranes.
        """
        window = routes.window(layer, self.read(input), must_pay=self.route == "auto")
        if isinstance(window, Refused):
            return window
        self.show_synapse(input.flatten(0, 1))
        # A pass fires 0 and 1, which the neurons may hand on as something else.
        window = window._replace(spikes=self.neuron.handed_on(window.spikes))
        if generator is None:
            return window
        membranes = membranes_beside(layer, self, self.dropout, self.neuron, input, generator)
        return window._replace(membranes=membranes)

    def _by_parts(
        self,
        input: Tensor,
        num_steps: int | None,
        membrane: Tensor | None,
        record: bool,
        skipped: Tensor | None,
        layer: Layer | None,
    ) -> LIFWindow:
        """A window of weights, then norm and neurons, these in one pass where they can be.

        Args:
            input, num_steps, membrane, record, skipped: as in :meth:`forward`.
            layer: as in :meth:`bsnn_tha.nn.connection.Connection.drive`.
        """
        behind = self._neurons_behind_norm(input, num_steps, membrane, record)
        if isinstance(behind, Refused):
            current = self.weighed(input, num_steps, layer)
            added = self._added(skipped)
        else:
            sums = self.summed(input, num_steps, layer)
            added = self._added(skipped)
            window = behind.window(sums, added)
            if not isinstance(window, Refused):
                return window
            assert isinstance(sums, Tensor)
            current = sums
        current = self.normalised(current, num_steps)
        current = self.dropout(current if added is None else current + added)
        if self.recurrence is not None:
            return self._recurrent(self.recurrence, current, membrane, record)
        return self.neuron.window(current, membrane, record)

    def _neurons_behind_norm(
        self, input: Tensor, num_steps: int | None, membrane: Tensor | None, record: bool
    ) -> BehindNorm | Refused:
        """Norm and neurons as one pass takes them, or why it does not."""
        constant = num_steps is not None and self.shortcut is not None
        if self.route != "auto" or constant or self.recurrence is not None:
            return Refused("it has been asked to go otherwise")
        batch = input.shape[:2] if num_steps is None else (num_steps, len(input))
        shape = *batch, *self.output_shape
        return behind_norm(self, self.dropout, self.neuron, shape, num_steps, membrane, record)

    def _recurrent(
        self, recurrence: Connection, current: Tensor, membrane: Tensor | None, record: bool
    ) -> LIFWindow:
        """A window of the neurons whose spikes come back to them."""
        assert isinstance(self.neuron, Leaky)
        weight = weight_of(recurrence.synapse)
        window = self.neuron.recurrent_window(current, weight, membrane, record)
        recurrence.show_synapse(window.spikes.flatten(0, 1))
        return window

    def handed_on(self, window: LIFWindow) -> Tensor:
        """What later layers read of a window: spikes, or membranes if the neurons emit those.

        Moderate dropout comes here, for it drops neurons rather than currents.
        """
        outputs = window.spikes
        if self.neuron.emits == "membrane":
            assert window.membranes is not None
            outputs = window.membranes
        if self.moderate_dropout is not None and self.training:
            assert window.membranes is not None
            outputs = self.moderate_dropout(outputs, window.membranes)
        return outputs

    def drive(
        self,
        input: Tensor,
        num_steps: int | None = None,
        skipped: Tensor | None = None,
        *,
        layer: Layer | None = None,
    ) -> Tensor:
        """The current that reaches the neurons but for dropout, ``[time, batch, *output_shape]``.

        Args:
            input, num_steps, skipped: as in :meth:`forward`.
            layer: as in :meth:`bsnn_tha.nn.connection.Connection.drive`.
        """
        current, added = super().drive(input, num_steps, layer=layer), self._added(skipped)
        return current if added is None else current + added

    def _added(self, skipped: Tensor | None) -> Tensor | None:
        """What the shortcut adds to the normalised current, if there is one."""
        if self.shortcut is None:
            return None
        assert skipped is not None
        added: Tensor = self.shortcut(skipped)
        return added

    def connections(self) -> Iterator[tuple[Connection, tuple[int, ...]]]:
        """Everything with weights that drives the neurons, and the layers that it reads."""
        yield self, self.reads
        if self.shortcut is not None and self.shortcut.connection is not None:
            yield self.shortcut.connection, self.shortcut.reads
        if self.recurrence is not None:
            yield self.recurrence, self._own


def _check_recurrent(neuron: WindowNeuron, shape: tuple[int, ...]) -> None:
    """Raise unless the neurons hand on spikes and take weights for them."""
    where = f"the recurrent layer Rec{shape[0]}"
    # Not isinstance: a derived class may compute something else.
    if type(neuron) not in (Leaky, AnnealedLeaky):
        raise InvalidValueError(
            f"{where} needs leaky neurons without lateral interaction (model='leaky'), but got "
            f"{type(neuron).__name__}"
        )
    if not neuron.fires or neuron.emits == "membrane":
        raise InvalidValueError(
            f"{where} needs spikes that come back to it, but its neurons hand on membrane "
            f"potentials; write Dense{shape[0]}, or let it hand on spikes"
        )
    if neuron.init_hidden:
        raise InvalidValueError(
            f"{where} needs membranes from the window before, but got init_hidden=True; leave it "
            "out and pass state to continue a window"
        )


class _Shortcut(nn.Module):
    """A residual block's shortcut: spikes as they are, or through weights of their own."""

    def __init__(self, shortcut: Shortcut, settings: dict[str, Any]) -> None:
        super().__init__()
        self.reads = shortcut.reads
        self.connection = (
            None
            if shortcut.spec is None
            else Connection(shortcut.spec, shortcut.input_shape, **settings)
        )

    def forward(self, spikes: Tensor) -> Tensor:
        return spikes if self.connection is None else self.connection.drive(spikes)
