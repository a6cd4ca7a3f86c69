"""Leaky integrate-and-fire layers: with any threshold rule, and with the annealed one."""

from __future__ import annotations

from typing import Any

import snntorch as snn
from torch import Tensor

from bsnn_tha.equations.lif import LIFWindow, Reset
from bsnn_tha.equations.surrogate import Surrogate
from bsnn_tha.equations.threshold_gradient import SHARED, ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif import Backend, lif_window
from bsnn_tha.inputs import signal
from bsnn_tha.nn.neurons.kept_state import entered_weakly
from bsnn_tha.nn.neurons.neuron import (
    SurrogateCentre,
    WindowNeuron,
    check_reset,
    check_snntorch_keywords,
    decay,
)
from bsnn_tha.nn.thresholds import Annealed, Fixed, Learned, ThresholdRule


class Leaky(WindowNeuron, snn.Leaky):
    r"""Leaky integrate-and-fire neurons with a threshold rule.

    Eshraghian and Lu (2022), Eq. 1, 2, 8 and 15: the layer fires at u ≥ θ and
    resets one step later. Symbols and units are those of
    :mod:`bsnn_tha.equations.lif`.

    Called with one time step it behaves as :class:`snntorch.Leaky`; called
    through :meth:`sequence` it takes a whole window ``[time, batch, ...]``.
    Both give the same spikes and membranes to the last bit.

    Args:
        beta: decay β per time step, in [0, 1]; a number or a tensor with one
            value per neuron. Held in [0, 1] where it is used, also if it is learned
            (:mod:`bsnn_tha.equations.bounds`).
        threshold: θ: a number for the layer, a tensor with one value per neuron,
            or a rule (:mod:`bsnn_tha.nn.thresholds`) where it comes from.
        learn_threshold: make the number or the tensor a parameter, the rule
            :class:`~bsnn_tha.nn.thresholds.Learned`.
        slope: slope k > 0 of the surrogate, per unit of membrane potential
            (default: the shape's own; 25 for the fast sigmoid).
        surrogate_scale: factor of the surrogate (default: the shape's own).
        surrogate_centre: ``"clamped"`` keeps the surrogate at θ0 (Eq. 8,
            Algorithm 1); ``"moving"`` lets it follow θ, as the code published
            with that paper does and as the papers on learned thresholds do.
        surrogate: name of a shape in
            :data:`bsnn_tha.equations.surrogate.SURROGATES`, or a shape, which
            brings its own slope and scale.
        spike_grad: a function from :mod:`snntorch.surrogate`, of which the
            derivative is used, in place of ``surrogate`` and ``slope``.
        surrogate_disable: spikes without a gradient.
        threshold_gradient: how a learned θ gets its gradient: as −∂z/∂u, or
            by the separate path of LT-SNN.
        init_hidden: keep the membrane in the module, as in ``nn.Sequential``.
        output: with ``init_hidden``, return ``(spikes, membranes)`` all the same.
        learn_beta: make β a parameter.
        reset_mechanism: ``"subtract"`` (Eq. 1), ``"zero"`` or ``"none"``.
        graded_spikes_factor: what a spike is handed on as, a number or one per
            neuron; θ and the reset know nothing of it.
        learn_graded_spikes_factor: make it a parameter.
        backend: what whole windows run on: ``"auto"``, ``"numba"``,
            ``"triton"`` or ``"reference"``, as in :func:`bsnn_tha.lif_sequence`.
        **leaky_keywords: snnTorch's other keywords, at the values that fit
            Eq. 1 and 2; anything else is refused with the reason.

    Raises:
        InvalidValueError: a value breaks its rule; the message names both.

    Example:
        A threshold for each of two neurons, learned as in Rouser:

        >>> import torch
        >>> from bsnn_tha import thresholds
        >>> lif = Leaky(0.9, thresholds.Learned(1.25, shape=(2,)), surrogate_centre="moving")
        >>> spikes, _ = lif.sequence(torch.ones(3, 1, 2))
        >>> spikes.sum().backward()
        >>> lif.threshold.grad.shape
        torch.Size([2])
    """

    beta: Tensor
    mem: Tensor

    def __init__(
        self,
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
        learn_beta: bool = False,
        reset_mechanism: Reset = "subtract",
        graded_spikes_factor: float | Tensor = 1.0,
        learn_graded_spikes_factor: bool = False,
        backend: Backend = "auto",
        **leaky_keywords: Any,
    ) -> None:
        check_snntorch_keywords(type(self).__name__, leaky_keywords)
        check_reset(reset_mechanism)
        with entered_weakly(self):
            super().__init__(
                decay("beta", beta),
                # The base class wants a function that fires and differentiates; here
                # the two are apart (`fire`, `surrogate`), and this one pickles.
                spike_grad=WindowNeuron._surrogate_bypass,
                init_hidden=init_hidden,
                output=output,
                learn_beta=learn_beta,
                reset_mechanism=reset_mechanism,
            )
        self._set_up(
            threshold, learn_threshold, surrogate, slope, surrogate_scale, spike_grad,
            surrogate_centre, surrogate_disable, threshold_gradient, graded_spikes_factor,
            learn_graded_spikes_factor, backend,
        )  # fmt: skip

    def forward(self, input_: Tensor, mem: Tensor | None = None) -> Any:
        """One time step, called as :class:`snntorch.Leaky`.

        Args:
            input_: current I[t+1], ``[batch, ...]``.
            mem: u[t], broadcast against ``input_``; None or an empty tensor starts
                from zero. Not with ``init_hidden=True``.

        Returns:
            ``(spikes, membrane)``, each like ``input_``; spikes alone with
            ``init_hidden=True`` and ``output=False``.

        Raises:
            TypeError: ``mem`` given although the module keeps its own.
            InvalidValueError: ``mem`` does not fit the shape of ``input_``.
        """
        input_ = signal("input", input_, self.beta.dtype)
        shape = self._step_shape(input_.shape)
        mem = self._kept(shape, mem, self.mem)
        spikes, membrane = self._step(input_, mem, shape)
        if self.init_hidden:
            self.mem = membrane
            if not self.output:
                return spikes
        return spikes, membrane

    def window(
        self, current: Tensor, state: Tensor | None = None, record: bool = False
    ) -> LIFWindow:
        """As :meth:`sequence`, with the final membrane for a window to come."""
        return self._window(current, state, record)

    def recurrent_window(
        self, current: Tensor, weight: Tensor, state: Tensor | None = None, record: bool = False
    ) -> LIFWindow:
        """:meth:`window` of neurons whose spikes come back to them one step later.

        Args:
            current: without what comes back, ``[time, batch, neurons]``.
            weight: V, by which the spikes of a step, 0 or 1, add to the current of the next one,
                ``[neurons, neurons]``; row i leads to neuron i.
            state, record: as in :meth:`sequence`.

        Raises:
            InvalidValueError: weights or current of another shape.
        """
        return self._window(current, state, record, weight)

    def _window(
        self, current: Tensor, state: Tensor | None, record: bool, recurrent: Tensor | None = None
    ) -> LIFWindow:
        current = signal("current", current, self.beta.dtype)
        start = self._kept(self._step_shape(current.shape[1:]), state, self.mem)
        if self.resets_teach:
            result = self._by_steps(current, start, record)
        else:
            result = lif_window(current, self.dynamics(), start, record, self.backend, recurrent)
        if self.init_hidden:
            self.mem = result.membrane
        return result._replace(spikes=self.handed_on(result.spikes))


class AnnealedLeaky(Leaky):
    r"""Leaky integrate-and-fire neurons with an annealed, layer-shared threshold.

    Eshraghian and Lu (2022), Eq. 4 and 8: once per training iteration
    :meth:`anneal` moves θ from θ0 towards θ∞; the surrogate gradient stays
    centred at θ0. It is :class:`Leaky` with the rule
    :class:`~bsnn_tha.nn.thresholds.Annealed`, or a fixed or learned one.

    Args:
        beta: decay β per time step, in [0, 1].
        theta_0: initial threshold θ0 > 0.
        theta_inf: final threshold θ∞ > θ0. Leave out ``theta_inf`` and
            ``alpha`` for a fixed threshold.
        alpha: inverse time constant α in (0, 1], per training iteration.
        learn_threshold: make θ a parameter of the layer (fixed rule only: for
            both see :class:`~bsnn_tha.nn.thresholds.AnnealedLearned`).
        **settings: as for :class:`Leaky`.

    Raises:
        InvalidValueError: a value breaks its rule; the message names both.

    Example:
        >>> import torch
        >>> lif = AnnealedLeaky(beta=0.5, theta_0=1.0, theta_inf=3.0, alpha=0.5)
        >>> spk, mem = lif(torch.tensor([[0.5, 1.0]]))
        >>> spk
        tensor([[0., 1.]])
        >>> lif.anneal()
        >>> lif.threshold
        tensor(2.)
        >>> spikes, _ = lif.sequence(torch.full((3, 1, 1), 1.25))
        >>> spikes.flatten().tolist()
        [0.0, 0.0, 1.0]
    """

    def __init__(
        self,
        beta: float | Tensor,
        theta_0: float = 1.0,
        theta_inf: float | None = None,
        alpha: float | None = None,
        *,
        learn_threshold: bool = False,
        **settings: Any,
    ) -> None:
        if "threshold" in settings:
            raise InvalidValueError(
                "AnnealedLeaky takes its threshold as theta_0, theta_inf and alpha, but got "
                f"threshold={settings['threshold']}; any other one is Leaky(beta, threshold)"
            )
        super().__init__(beta, _rule(theta_0, theta_inf, alpha, learn_threshold), **settings)


def _rule(
    theta_0: float, theta_inf: float | None, alpha: float | None, learn_threshold: bool
) -> ThresholdRule:
    if theta_inf is None and alpha is None:
        return Learned(theta_0) if learn_threshold else Fixed(theta_0)
    if theta_inf is None or alpha is None:
        raise InvalidValueError(
            "theta_inf and alpha go together (or leave out both for a fixed threshold), "
            f"but got theta_inf={theta_inf}, alpha={alpha}"
        )
    if learn_threshold:
        raise InvalidValueError(
            "learn_threshold=True needs a fixed rule: a threshold that follows its schedule and "
            "its gradient is Leaky(beta, AnnealedLearned(theta_0, theta_inf, alpha))"
        )
    return Annealed(theta_0, theta_inf, alpha)
