r"""Current-based neurons: a synaptic current leaks into the membrane (CUBA, SLAYER).

The neuron of Rouser (Takaghaj and Sampson, section III) has two states, both
leaky:

    i[t+1] = κ i[t] + I[t+1],
    u[t+1] = β u[t] + i[t+1], reset as in :mod:`bsnn_tha.equations.lif`.

κ is the share of the synaptic current that is left after a time step, β that of
the membrane. Lava-DL, which the paper used, calls 1 − κ "current decay" and
1 − β "voltage decay". The paper's Table II gives a current decay of 0.75 and a
voltage decay of 0.97; read in Lava-DL's sense, κ = 0.25 and β = 0.03, a membrane
would forget within a step. With κ = 0.75 and β = 0.97 it is a neuron that
integrates, and these are 1 minus the values of Lava-DL's own examples: so the
presets read them. ``tests/test_synaptic.py`` shows what either reading does.
"""

from __future__ import annotations

from typing import Any

import snntorch as snn
import torch
from torch import Tensor

from bsnn_tha.equations.lif import LIFWindow, Reset, integrate
from bsnn_tha.equations.surrogate import FastSigmoid, Surrogate
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif import Backend, lif_sequence
from bsnn_tha.nn.neurons.neuron import (
    SurrogateCentre,
    WindowNeuron,
    check_reset,
    check_snntorch_keywords,
    decay,
    unregistered,
)
from bsnn_tha.nn.thresholds import ThresholdRule


class Synaptic(WindowNeuron, snn.Synaptic):
    """Neurons with a synaptic current and a membrane, and a threshold rule.

    Called with one time step it behaves as :class:`snntorch.Synaptic`; called
    through :meth:`sequence` it takes a whole window. Reset to zero differs from
    snnTorch's: here it empties the membrane and the current goes on to leak
    into it, as in the papers; there the step after a spike also loses its
    input.

    Args:
        synaptic_decay: κ per time step, in [0, 1]: snnTorch's ``alpha``.
        beta: β per time step, in [0, 1].
        rule: where θ comes from; a number is a fixed threshold.
        learn_synaptic_decay, learn_beta: make κ, β a parameter.
        slope, surrogate_scale, surrogate_centre, surrogate, spike_grad,
            threshold_gradient, init_hidden, output, reset_mechanism, backend:
            as in :class:`bsnn_tha.Leaky`.
        **synaptic_keywords: snnTorch's other keywords, at the values that fit.

    Its state, where a window goes on, is ``[2, batch, ...]``: synaptic current
    and membrane.

    Raises:
        InvalidValueError: a value breaks its rule.

    Example:
        An impulse of current leaks into the membrane over several steps.

        >>> neuron = Synaptic(synaptic_decay=0.5, beta=1.0, rule=10.0)
        >>> current = torch.tensor([4.0, 0.0, 0.0]).view(3, 1, 1)
        >>> spikes, membranes = neuron.sequence(current, record=True)
        >>> membranes.flatten().tolist()
        [4.0, 6.0, 7.0]
    """

    beta: Tensor
    synaptic_decay: Tensor
    syn: Tensor
    mem: Tensor

    def __init__(
        self,
        synaptic_decay: float | Tensor,
        beta: float | Tensor,
        rule: ThresholdRule | float = 1.0,
        *,
        slope: float | None = None,
        surrogate_scale: float | None = None,
        surrogate_centre: SurrogateCentre = "clamped",
        surrogate: str | Surrogate = "fast_sigmoid",
        spike_grad: Any = None,
        threshold_gradient: ThresholdGradient = SHARED,
        init_hidden: bool = False,
        output: bool = False,
        learn_synaptic_decay: bool = False,
        learn_beta: bool = False,
        reset_mechanism: Reset = "subtract",
        backend: Backend = "auto",
        **synaptic_keywords: Any,
    ) -> None:
        check_snntorch_keywords(type(self).__name__, synaptic_keywords)
        check_reset(reset_mechanism)
        with unregistered(self):
            super().__init__(
                decay("synaptic_decay", synaptic_decay),
                decay("beta", beta),
                spike_grad=WindowNeuron._surrogate_bypass,
                init_hidden=init_hidden,
                output=output,
                learn_alpha=learn_synaptic_decay,
                learn_beta=learn_beta,
                reset_mechanism=reset_mechanism,
            )
        self._set_up(
            rule, surrogate, slope, surrogate_scale, spike_grad, surrogate_centre,
            threshold_gradient, backend,
        )  # fmt: skip

    def _alpha_register_buffer(self, alpha: Tensor, learn_alpha: bool) -> None:
        # In snnTorch α is this decay; here α is annealing's, as in its paper.
        if learn_alpha:
            self.synaptic_decay = torch.nn.Parameter(alpha)
        else:
            self.register_buffer("synaptic_decay", alpha)

    def forward(self, input_: Tensor, syn: Tensor | None = None, mem: Tensor | None = None) -> Any:
        """One time step, called as :class:`snntorch.Synaptic`.

        Args:
            input_: current I[t+1], ``[batch, ...]``.
            syn, mem: i[t] and u[t], same shape; both or neither, zero if None.
                Not with ``init_hidden=True``.

        Returns:
            ``(spikes, synaptic current, membrane)``, each like ``input_``;
            spikes alone with ``init_hidden=True`` and ``output=False``.
        """
        if (syn is None) != (mem is None):
            raise InvalidValueError("syn and mem go together, but got only one of them")
        state = None if syn is None or mem is None else torch.stack([syn, mem])
        state = self._start(input_.shape, state)
        syn, mem = torch.zeros_like(input_).expand(2, *input_.shape) if state is None else state
        syn = self.synaptic_decay.clamp(0, 1) * syn + input_
        membrane = integrate(syn, mem, self.beta.clamp(0, 1), self.threshold, self._reset_mechanism)
        spikes = self.fire(membrane)
        if self.init_hidden:
            self.syn, self.mem = syn, membrane
            if not self.output:
                return spikes
        return spikes, syn, membrane

    def window(
        self, current: Tensor, state: Tensor | None = None, record: bool = False
    ) -> LIFWindow:
        """As :meth:`sequence`, with the final state for a window to come.

        The synaptic current is a leaky integrator that never fires, and runs as
        one.
        """
        state = self._start(current.shape[1:], state)
        syn, mem = (None, None) if state is None else state
        never = torch.full_like(self.theta_0, torch.inf)
        synapse = lif_sequence(
            current,
            self.synaptic_decay.clamp(0, 1),
            never,
            never,
            FastSigmoid(),
            "none",
            syn,
            record=True,
            backend=self.backend,
        )
        assert synapse.membranes is not None
        result = lif_sequence(
            synapse.membranes,
            self.beta.clamp(0, 1),
            self.threshold,
            self.centre,
            self.surrogate,
            self._reset_mechanism,
            mem,
            record,
            threshold_gradient=self.threshold_gradient,
            backend=self.backend,
        )
        if self.init_hidden:
            self.syn, self.mem = synapse.membrane, result.membrane
        return LIFWindow(
            result.spikes, result.membranes, torch.stack([synapse.membrane, result.membrane])
        )

    def _start(self, shape: torch.Size, state: Tensor | None) -> Tensor | None:
        own = torch.stack([self.syn, self.mem]) if self.syn.shape == self.mem.shape else self.mem
        return self._kept(torch.Size((2, *shape)), state, own)

    def extra_repr(self) -> str:
        """The settings in one line, for ``print(network)``."""
        decay = self.synaptic_decay
        shown = f"{decay.item():.4g}" if decay.numel() == 1 else "per neuron"
        return f"synaptic_decay={shown}, {super().extra_repr()}"
