"""What the neurons share: threshold, surrogate gradient, whole windows, kept state.

The arithmetic is in :mod:`bsnn_tha.functional`, the threshold in a rule
(:mod:`bsnn_tha.nn.thresholds`). A neuron derives from :class:`WindowNeuron` and
from the class of snnTorch whose calls it understands, and says how it goes
through a window.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from bsnn_tha.equations.anneal import check_threshold
from bsnn_tha.equations.bounds import held_decay
from bsnn_tha.equations.dynamics import Dynamics
from bsnn_tha.equations.lif import RESETS, LIFWindow, Reset, fire, integrate
from bsnn_tha.equations.surrogate import FromSnnTorch, Surrogate, choose_surrogate
from bsnn_tha.equations.threshold_gradient import ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif import BACKENDS, Backend
from bsnn_tha.nn.neurons.kept_state import KeepsState
from bsnn_tha.nn.thresholds import Fixed, Learned, Never, ThresholdRule, as_rule
from bsnn_tha.suggest import quoted

SurrogateCentre = Literal["clamped", "moving"]
Emission = Literal["spikes", "membrane"]

# snnTorch's other keywords: the one value that fits Eq. 1 and 2, and why.
_FIXED_KEYWORDS: dict[str, tuple[Any, str]] = {
    "inhibition": (False, "Eq. 2 lets every neuron at its threshold fire; use snntorch's own"),
    "state_quant": (False, "the membrane potential is kept in full precision; use snntorch's own"),
    "reset_delay": (True, "Eq. 1 resets one step after the spike; use snntorch's own"),
}


class WindowNeuron(KeepsState):
    """A spiking neuron that takes a whole window at once.

    Attributes and methods that snnTorch's neurons have as well mean what they mean
    there; it also loads their state dicts, where its rule has one threshold and no
    schedule.

    Attributes:
        rule: the threshold rule, a submodule.
        surrogate: shape of the surrogate gradient.
        surrogate_centre: ``"clamped"`` at θ0 or ``"moving"`` with θ.
        threshold_gradient: how θ gets its gradient, if it is learned.
        backend: what whole windows run on.
        emits: what a network hands on to the next layer.
        graded: whether spikes are handed on with another value than 1.
    """

    emits: Emission = "spikes"
    beta: Tensor
    rule: ThresholdRule
    surrogate: Surrogate
    graded: bool
    graded_spikes_factor: Tensor
    reset_mechanism_val: Tensor

    # snnTorch's classes register a buffer of this name; it is taken out again, for
    # θ has its home in the rule.
    @property
    def threshold(self) -> Tensor:
        """θ now, ``[]`` or one per neuron; a parameter if it is learned as it stands."""
        rule = self.rule
        try:
            return rule()
        except AttributeError as error:
            # Which Python would take to mean that a neuron has no threshold.
            raise RuntimeError(f"threshold rule {type(rule).__name__}: {error}") from error

    @property
    def fires(self) -> bool:
        """Whether there is a threshold; otherwise the neurons integrate and are read."""
        return not isinstance(self.rule, Never)

    @property
    def theta_0(self) -> Tensor:
        """The initial threshold θ0."""
        return self.rule.theta_0

    @property
    def theta_inf(self) -> Tensor:
        """Where the schedule leads: θ∞, or θ if there is none."""
        return self.rule.final()

    @property
    def iteration(self) -> Tensor:
        """γ, training iterations so far."""
        return self.rule.iteration

    @property
    def annealed(self) -> bool:
        """Whether the threshold follows a schedule."""
        return self.rule.annealed

    @property
    def centre(self) -> Tensor:
        """Where the surrogate gradient is centred now: θ0 (clamped) or θ (moving)."""
        return self.theta_0 if self.surrogate_centre == "clamped" else self.threshold.detach()

    def decays(self) -> list[Tensor]:
        """What it decays by per time step, parameters or buffers; within [0, 1] where used."""
        return [self.beta]

    def anneal(self, iterations: int = 1) -> None:
        """Advance the threshold's rule by training iterations.

        Call it after the optimizer's step: θ may be changed in place, which
        between a forward pass and its backward pass is an error.

        Args:
            iterations: how many, ≥ 0. Counted for a fixed threshold as well,
                which stays where it is.
        """
        self.rule.advance(iterations)

    @property
    def spike_grad(self) -> Callable[[Tensor], Tensor]:
        """Fires where u − θ ≥ 0, with the surrogate as gradient; set it to snnTorch's."""
        if self.surrogate_disable:
            return self._surrogate_bypass
        threshold = self.threshold.detach()
        return functools.partial(
            fire,
            threshold=torch.zeros_like(threshold),
            centre=self.centre - threshold,
            surrogate=self.surrogate,
        )

    @spike_grad.setter
    def spike_grad(self, function: Callable[[Tensor], Tensor]) -> None:
        self.surrogate = FromSnnTorch(function)

    def fire(self, mem: Tensor) -> Tensor:
        """Spikes where ``mem`` ≥ θ (Eq. 2), with the surrogate as gradient, as handed on."""
        return self.handed_on(self._spikes(mem))

    def _spikes(self, mem: Tensor) -> Tensor:
        """0 or 1, before they are graded."""
        return fire(mem, self.threshold, self.centre, self.surrogate, self.threshold_gradient)

    def handed_on(self, spikes: Tensor) -> Tensor:
        """What spikes of 0 and 1 are handed on as: graded, or without their gradient."""
        if self.surrogate_disable:
            spikes = spikes.detach()
        if not self.graded:
            return spikes
        # Spikes may be of fewer bits than the factor has.
        factor = self.graded_spikes_factor
        wide = torch.promote_types(spikes.dtype, factor.dtype)
        return spikes.to(wide) * factor.to(wide)

    def mem_reset(self, mem: Tensor) -> Tensor:
        """Where ``mem`` calls for a reset, 0 or 1, detached."""
        return (mem >= self.threshold).to(mem.dtype)

    def sequence(
        self, current: Tensor, state: Tensor | None = None, record: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """A whole window at once.

        Args:
            current: I, ``[time, batch, ...]``.
            state: where to start, as :meth:`window` returned it; zero if None.
                With ``init_hidden=True`` the module's own state is used.
            record: also return the membranes.

        Returns:
            ``(spikes, membranes)``, each like ``current``; membranes are None
            unless ``record=True``.
        """
        window = self.window(current, state, record)
        return window.spikes, window.membranes

    def window(
        self, current: Tensor, state: Tensor | None = None, record: bool = False
    ) -> LIFWindow:
        """As :meth:`sequence`, with the final state for a window to come."""
        raise NotImplementedError(f"{type(self).__name__} must say how it takes a window")

    def resets(self, mem: Tensor) -> Tensor | None:
        """z[t] as the next step's reset takes it, or None for a detached one.

        A layer that emits its membrane depends on θ by its resets alone (LTMD, Eq. 9 and
        10). So that θ learns there too (its Section 3.1: all do), they have the spikes'
        gradient, −s(u, θ) of Eq. 4 and 7, for θ. For u they are detached, as all resets are.

        Args:
            mem: u[t].
        """
        if not self.resets_teach:
            return None
        return self._spikes(mem.detach())

    @property
    def resets_teach(self) -> bool:
        """Whether :meth:`resets` gives θ a gradient."""
        return self.emits == "membrane" and self.threshold.requires_grad

    def dynamics(self) -> Dynamics:
        """All that functions and kernels need to know of it, with θ as it is now."""
        return Dynamics(
            held_decay(self.beta),
            self.threshold,
            self.centre,
            self.surrogate,
            self._reset_mechanism,
            self.threshold_gradient,
        )

    def _step(
        self, current: Tensor, mem: Tensor | None, shape: torch.Size
    ) -> tuple[Tensor, Tensor]:
        """Spikes and membrane one time step on, from u[t] or zero: ``shape`` is theirs."""
        spiked = None if mem is None else self.resets(mem)
        mem = current.new_zeros(shape) if mem is None else mem
        beta = held_decay(self.beta)
        membrane = integrate(current, mem, beta, self.threshold, self._reset_mechanism, spiked)
        return self.fire(membrane), membrane

    def _by_steps(
        self,
        current: Tensor,
        start: Tensor | None,
        record: bool,
        besides: Callable[[Tensor], Tensor] | None = None,
    ) -> LIFWindow:
        """A window in tensor operations, step by step, which autograd differentiates.

        Args:
            current: I, ``[time, batch, ...]``.
            start: u before the first step; zero if None.
            record: also return the membranes.
            besides: what u[t] adds to the current of the next step.
        """
        membrane = torch.zeros_like(current[0]) if start is None else start
        beta, threshold = held_decay(self.beta), self.threshold
        membranes: list[Tensor] = []
        for now in current:
            spiked = None
            # Before the first step of all nothing fired: no gradient comes from there.
            if start is not None or membranes:
                spiked = self.resets(membrane)
                now = now if besides is None else now + besides(membrane)
            membrane = integrate(now, membrane, beta, threshold, self._reset_mechanism, spiked)
            membranes.append(membrane)
        stacked = torch.stack(membranes)
        return LIFWindow(self._spikes(stacked), stacked if record else None, membrane)

    def _set_up(
        self,
        threshold: ThresholdRule | float | Tensor,
        learn_threshold: bool,
        surrogate: str | Surrogate,
        slope: float | None,
        surrogate_scale: float | None,
        spike_grad: Any,
        surrogate_centre: SurrogateCentre,
        surrogate_disable: bool,
        threshold_gradient: ThresholdGradient,
        graded_spikes_factor: float | Tensor,
        learn_graded_spikes_factor: bool,
        backend: Backend,
    ) -> None:
        """What remains to be done once snnTorch's class is set up."""
        # θ has its home in the rule, and the step its own in `integrate`.
        del self._buffers["threshold"], self.state_function
        check_choice("surrogate_centre", surrogate_centre, get_args(SurrogateCentre))
        check_choice("backend", backend, BACKENDS)
        self.rule = as_rule(threshold, learn_threshold)
        if not self.fires and self._reset_mechanism != "none":
            raise InvalidValueError(
                "neurons that never fire are never reset: reset_mechanism must be 'none', but got "
                f"{self._reset_mechanism!r}"
            )
        self.surrogate = _choose_surrogate(surrogate, slope, surrogate_scale, spike_grad)
        self.surrogate_centre: SurrogateCentre = surrogate_centre
        self.surrogate_disable = surrogate_disable
        self.threshold_gradient = threshold_gradient
        self.backend: Backend = backend
        self._graded_spikes_buffer(_own(graded_spikes_factor), learn_graded_spikes_factor)
        self._note_grades()

    def _note_grades(self) -> None:
        # Once, not at every window: the question would wait for a GPU.
        factor = self.graded_spikes_factor
        self.graded = isinstance(factor, nn.Parameter) or bool((factor != 1).any())

    def _step_shape(self, shape: torch.Size) -> torch.Size:
        """Shape of a step's result: of its input, or of β and θ per neuron where larger."""
        own = self.beta.shape, self.threshold.shape
        try:
            return torch.broadcast_shapes(shape, *own)
        except RuntimeError:
            raise InvalidValueError(
                f"beta {list(own[0])} and threshold {list(own[1])} must be one for the layer or "
                f"one for each neuron, but got input of shape {list(shape)}"
            ) from None

    def _kept(
        self, shape: torch.Size, state: Tensor | None, own: Tensor, name: str = "mem"
    ) -> Tensor | None:
        """The state to start from, broadcast against a step; None stands for zero."""
        if self.init_hidden:
            if state is not None:
                raise TypeError(f"{name} should not be passed while init_hidden=True")
            # As in snnTorch, another shape (a smaller last batch) starts afresh.
            return own if own.shape == shape else None
        if state is None or state.numel() == 0:  # init_leaky() gives an empty tensor
            return None
        try:
            return state.expand(torch.broadcast_shapes(shape, state.shape))
        except RuntimeError:
            raise InvalidValueError(
                f"{name} must have the shape of the input, {list(shape)}, "
                f"but got {list(state.shape)}"
            ) from None

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *settings: Any
    ) -> None:
        self._from_snntorch(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *settings)
        self._reset_mechanism = RESETS[int(self.reset_mechanism_val)]
        self._note_grades()

    def _from_snntorch(self, state_dict: dict[str, Any], prefix: str) -> None:
        """Give the threshold of an snnTorch neuron's state dict to the rule, if it is as plain."""
        given = prefix + "threshold"
        if given in state_dict and type(self.rule) in (Fixed, Learned):
            threshold = state_dict.pop(given)
            check_threshold(threshold, "threshold")
            of_rule = {name: threshold for name in ("theta_0", "threshold")}
            of_rule["iteration"] = torch.zeros_like(self.iteration)
            for name in self.rule.state_dict():
                state_dict[f"{prefix}rule.{name}"] = of_rule[name]

    def extra_repr(self) -> str:
        """The settings in one line, for ``print(network)``."""
        beta = f"beta={self.beta.item():.4g}" if self.beta.numel() == 1 else "beta per neuron"
        return (
            f"{beta}, surrogate={self.surrogate} {self.surrogate_centre}, "
            f"reset={self._reset_mechanism}"
        )


def decay(name: str, value: float | Tensor) -> Tensor:
    """A decay per time step as a floating tensor of the neuron's own.

    Raises:
        InvalidValueError: outside [0, 1].
    """
    values = torch.as_tensor(value)
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise InvalidValueError(f"{name} must be in [0, 1], but got {name}={quoted(value)}")
    return _own(values)


def check_reset(reset_mechanism: Reset) -> None:
    """Raise unless the reset is one of :data:`~bsnn_tha.equations.lif.RESETS`."""
    check_choice("reset_mechanism", reset_mechanism, RESETS)


def check_snntorch_keywords(neuron: str, keywords: dict[str, Any]) -> None:
    """Raise unless snnTorch's other keywords have the values that fit Eq. 1 and 2."""
    for name, value in keywords.items():
        if name in ("theta_0", "theta_inf"):
            raise InvalidValueError(
                f"the threshold is given as threshold, a number, a tensor or a rule, but got "
                f"{name}={value}; with a schedule it is AnnealedLeaky or thresholds.Annealed"
            )
        if name not in _FIXED_KEYWORDS:
            raise TypeError(f"{neuron}() got an unexpected keyword argument {name!r}")
        allowed, reason = _FIXED_KEYWORDS[name]
        if value != allowed:
            raise InvalidValueError(f"{name} must be {allowed}, but got {name}={value}: {reason}")


def _own(value: float | Tensor) -> Tensor:
    """A floating tensor that is not shared with the caller's."""
    values = torch.as_tensor(value).detach().clone()
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise unless a setting is one of its choices."""
    if value not in choices:
        raise InvalidValueError(f"{name} must be one of {', '.join(choices)}, but got {value!r}")


def _choose_surrogate(
    surrogate: str | Surrogate,
    slope: float | None,
    scale: float | None,
    spike_grad: Any,
) -> Surrogate:
    if spike_grad is not None:
        if slope is not None or scale is not None or surrogate != "fast_sigmoid":
            raise InvalidValueError(
                "spike_grad takes the place of surrogate, slope and surrogate_scale, but got "
                f"surrogate={surrogate!r}, slope={slope}, surrogate_scale={scale}"
            )
        return FromSnnTorch(spike_grad)
    return choose_surrogate(surrogate, slope, scale)
