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
presets read them. ``tests/nn/test_synaptic.py`` shows what either reading does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import snntorch as snn
import torch
from torch import Tensor

from bsnn_tha.equations.bounds import held_decay
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import LIFWindow, Reset
from bsnn_tha.equations.surrogate import Surrogate
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient
from bsnn_tha.functional.lif import Backend, lif_window, synaptic_current
from bsnn_tha.inputs import signal
from bsnn_tha.nn.neurons.kept_state import entered_weakly
from bsnn_tha.nn.neurons.neuron import (
    SurrogateCentre,
    WindowNeuron,
    check_reset,
    check_snntorch_keywords,
    decay,
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
        alpha: κ per time step, in [0, 1], by its name in snnTorch. (Annealing's α
            is the rule's: ``neuron.rule.alpha``.)
        beta: β per time step, in [0, 1].
        learn_alpha, learn_beta: make κ, β a parameter.
        threshold, learn_threshold, slope, surrogate_scale, surrogate_centre,
            surrogate, spike_grad, surrogate_disable, threshold_gradient,
            init_hidden, output, reset_mechanism, graded_spikes_factor,
            learn_graded_spikes_factor, backend: as in :class:`bsnn_tha.Leaky`.
        **synaptic_keywords: snnTorch's other keywords, at the values that fit.

    Its state, where a window goes on, is ``[2, batch, ...]``: synaptic current
    and membrane.

    Raises:
        InvalidValueError: a value breaks its rule.

    Example:
        An impulse of current leaks into the membrane over several steps.

        >>> neuron = Synaptic(alpha=0.5, beta=1.0, threshold=10.0)
        >>> current = torch.tensor([4.0, 0.0, 0.0]).view(3, 1, 1)
        >>> spikes, membranes = neuron.sequence(current, record=True)
        >>> membranes.flatten().tolist()
        [4.0, 6.0, 7.0]
    """

    alpha: Tensor
    beta: Tensor
    syn: Tensor
    mem: Tensor

    def __init__(
        self,
        alpha: float | Tensor,
        beta: float | Tensor,
        threshold: ThresholdRule | float | Tensor = 1.0,
        *,
        learn_threshold: bool = False,
        slope: float | None = None,
        surrogate_scale: float | None = None,
        surrogate_centre: SurrogateCentre = "clamped",
        surrogate: str | Surrogate = "fast_sigmoid",
        spike_grad: Any = None,
        surrogate_disable: bool = False,
        threshold_gradient: ThresholdGradient = SHARED,
        init_hidden: bool = False,
        output: bool = False,
        learn_alpha: bool = False,
        learn_beta: bool = False,
        reset_mechanism: Reset = "subtract",
        graded_spikes_factor: float | Tensor = 1.0,
        learn_graded_spikes_factor: bool = False,
        backend: Backend = "auto",
        **synaptic_keywords: Any,
    ) -> None:
        check_snntorch_keywords(type(self).__name__, synaptic_keywords)
        check_reset(reset_mechanism)
        with entered_weakly(self):
            super().__init__(
                decay("alpha", alpha),
                decay("beta", beta),
                spike_grad=WindowNeuron._surrogate_bypass,
                init_hidden=init_hidden,
                output=output,
                learn_alpha=learn_alpha,
                learn_beta=learn_beta,
                reset_mechanism=reset_mechanism,
            )
        self._set_up(
            threshold, learn_threshold, surrogate, slope, surrogate_scale, spike_grad,
            surrogate_centre, surrogate_disable, threshold_gradient, graded_spikes_factor,
            learn_graded_spikes_factor, backend,
        )  # fmt: skip

    def forward(self, input_: Tensor, syn: Tensor | None = None, mem: Tensor | None = None) -> Any:
        """One time step, called as :class:`snntorch.Synaptic`.

        Args:
            input_: current I[t+1], ``[batch, ...]``.
            syn, mem: i[t] and u[t], broadcast against ``input_``; None or an empty
                tensor is zero. Not with ``init_hidden=True``.

        Returns:
            ``(spikes, synaptic current, membrane)``, each like ``input_``;
            spikes alone with ``init_hidden=True`` and ``output=False``.

        Raises:
            TypeError: a state given although the module keeps its own.
            InvalidValueError: a state does not fit the shape of ``input_``.
        """
        input_ = signal("input", input_, self.beta.dtype)
        shape = self._step_shape(input_.shape)
        syn, mem = self._start(shape, syn, mem)
        syn = input_.new_zeros(shape) if syn is None else syn
        syn = held_decay(self.alpha) * syn + input_
        spikes, membrane = self._step(syn, mem, shape)
        if self.init_hidden:
            self.syn, self.mem = syn, membrane
            if not self.output:
                return spikes
        return spikes, syn, membrane

    def window(
        self, current: Tensor, state: Tensor | None = None, record: bool = False
    ) -> LIFWindow:
        """As :meth:`sequence`, with the final state for a window to come."""
        current = signal("current", current, self.beta.dtype)
        syn, mem = (None, None) if state is None else state
        start = self._start(self._step_shape(current.shape[1:]), syn, mem)
        if self.resets_teach:
            result = self._by_steps(current, start, record)
        else:
            result = lif_window(current, self.dynamics(), start, record, self.backend)
        if self.init_hidden:
            # Not views of one tensor: snnTorch detaches them in place.
            self.syn, self.mem = (its.clone() for its in result.membrane)
        return result._replace(spikes=self.handed_on(result.spikes))

    def dynamics(self) -> Dynamics:
        """With κ, the decay of the synaptic current."""
        return replace(super().dynamics(), alpha=held_decay(self.alpha))

    def _by_steps(self, current: Tensor, start: Any, record: bool, *besides: Any) -> LIFWindow:
        syn, mem = start
        synaptic = synaptic_current(current, self.dynamics(), syn, self.backend)
        assert synaptic.membranes is not None
        result = super()._by_steps(synaptic.membranes, mem, record, *besides)
        return result._replace(membrane=torch.stack([synaptic.membrane, result.membrane]))

    def decays(self) -> list[Tensor]:
        """β and κ."""
        return [*super().decays(), self.alpha]

    def _step_shape(self, shape: torch.Size) -> torch.Size:
        return super()._step_shape(torch.broadcast_shapes(shape, self.alpha.shape))

    def _start(
        self, shape: torch.Size, syn: Tensor | None, mem: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        return self._kept(shape, syn, self.syn, "syn"), self._kept(shape, mem, self.mem)

    def _from_snntorch(self, state_dict: dict[str, Any], prefix: str) -> None:
        super()._from_snntorch(state_dict, prefix)
        # By this name before it had snnTorch's.
        if prefix + "synaptic_decay" in state_dict:
            state_dict[prefix + "alpha"] = state_dict.pop(prefix + "synaptic_decay")

    def extra_repr(self) -> str:
        """The settings in one line, for ``print(network)``."""
        shown = f"{self.alpha.item():.4g}" if self.alpha.numel() == 1 else "per neuron"
        return f"alpha={shown}, {super().extra_repr()}"
