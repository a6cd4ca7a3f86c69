"""What the neurons share: threshold, surrogate gradient, whole windows, kept state.

The arithmetic is in :mod:`bsnn_tha.functional`, the threshold in a rule
(:mod:`bsnn_tha.nn.thresholds`). A neuron derives from :class:`WindowNeuron` and
from the class of snnTorch whose calls it understands, and says how it goes
through a window.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from bsnn_tha.equations.lif import RESETS, LIFWindow, Reset, fire
from bsnn_tha.equations.surrogate import SURROGATES, FromSnnTorch, Surrogate
from bsnn_tha.equations.threshold_gradient import ThresholdGradient
from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.lif import BACKENDS, Backend
from bsnn_tha.nn.thresholds import Fixed, ThresholdRule
from bsnn_tha.suggest import did_you_mean, quoted

SurrogateCentre = Literal["clamped", "moving"]
Emission = Literal["spikes", "membrane"]

# snnTorch's other keywords: the one value that fits Eq. 1 and 2, and why.
_FIXED_KEYWORDS: dict[str, tuple[Any, str]] = {
    "surrogate_disable": (False, "pass the weights through torch.no_grad() instead"),
    "inhibition": (False, "Eq. 2 lets every neuron at its threshold fire; use snntorch's own"),
    "state_quant": (False, "the membrane potential is kept in full precision; use snntorch's own"),
    "graded_spikes_factor": (1.0, "spikes are 0 or 1; scale the next layer instead"),
    "learn_graded_spikes_factor": (False, "spikes are 0 or 1; scale the next layer instead"),
    "reset_delay": (True, "Eq. 1 resets one step after the spike; use snntorch's own"),
}


class WindowNeuron(SpikingNeuron):
    """A spiking neuron that takes a whole window at once.

    Unlike snnTorch's neurons it is not entered in a class-level list: it is
    freed when dropped, and ``snntorch.utils.reset``, which resets every
    network in the process, does not reach it. Use :func:`bsnn_tha.reset`.

    Attributes:
        rule: the threshold rule, a submodule.
        surrogate: shape of the surrogate gradient.
        surrogate_centre: ``"clamped"`` at θ0 or ``"moving"`` with θ.
        threshold_gradient: how θ gets its gradient, if it is learned.
        backend: what whole windows run on.
        emits: what a network hands on to the next layer.
    """

    emits: Emission = "spikes"
    rule: ThresholdRule
    surrogate: Surrogate

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
    def theta_0(self) -> Tensor:
        """The initial threshold θ0."""
        return self.rule.theta_0

    @property
    def theta_inf(self) -> Tensor:
        """Where the schedule leads: θ∞, or θ if there is none."""
        return self.rule.final()

    @property
    def alpha(self) -> Tensor:
        """α of the schedule, per training iteration; 0 if there is none."""
        alpha = getattr(self.rule, "alpha", None)
        return torch.zeros_like(self.theta_0) if alpha is None else alpha

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

    def anneal(self, iterations: int = 1) -> None:
        """Advance the threshold's rule by training iterations.

        Call it after the optimizer's step: θ may be changed in place, which
        between a forward pass and its backward pass is an error.

        Args:
            iterations: how many, ≥ 0. Counted for a fixed threshold as well,
                which stays where it is.
        """
        self.rule.advance(iterations)

    def fire(self, mem: Tensor) -> Tensor:
        """Spikes where ``mem`` ≥ θ (Eq. 2), with the surrogate as gradient."""
        return fire(mem, self.threshold, self.centre, self.surrogate, self.threshold_gradient)

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

    def _set_up(
        self,
        rule: ThresholdRule | float,
        surrogate: str | Surrogate,
        slope: float | None,
        surrogate_scale: float | None,
        spike_grad: Any,
        surrogate_centre: SurrogateCentre,
        threshold_gradient: ThresholdGradient,
        backend: Backend,
    ) -> None:
        """What remains to be done once snnTorch's class is set up."""
        del self._buffers["threshold"]
        _check_choice("surrogate_centre", surrogate_centre, get_args(SurrogateCentre))
        _check_choice("backend", backend, BACKENDS)
        self.rule = rule if isinstance(rule, ThresholdRule) else Fixed(rule)
        self.surrogate = _choose_surrogate(surrogate, slope, surrogate_scale, spike_grad)
        self.surrogate_centre: SurrogateCentre = surrogate_centre
        self.threshold_gradient = threshold_gradient
        self.backend: Backend = backend

    def _kept(self, shape: torch.Size, state: Tensor | None, own: Tensor) -> Tensor | None:
        """The state to start from; None stands for zero."""
        if self.init_hidden:
            if state is not None:
                raise TypeError("mem should not be passed while init_hidden=True")
            # As in snnTorch, another shape (a smaller last batch) starts afresh.
            return own if own.shape == shape else None
        if state is None or state.numel() == 0:  # init_leaky() gives an empty tensor
            return None
        if state.shape != shape:
            raise InvalidValueError(
                f"mem must have the shape of the input, {list(shape)}, but got {list(state.shape)}"
            )
        return state

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles take the kept state along, but not its graph.
        state = dict(super().__getstate__())
        buffers = dict(state["_buffers"])
        for name in ("syn", "mem"):
            if name in buffers:
                buffers[name] = buffers[name].detach()
        state["_buffers"] = buffers
        return state

    def extra_repr(self) -> str:
        """The settings in one line, for ``print(network)``."""
        beta = f"beta={self.beta.item():.4g}" if self.beta.numel() == 1 else "beta per neuron"
        return (
            f"{beta}, surrogate={self.surrogate} {self.surrogate_centre}, "
            f"reset={self._reset_mechanism}"
        )


def reset(network: nn.Module) -> None:
    """Clear the kept membranes of one network, and of that network only.

    Needed between windows where neurons were built with ``init_hidden=True``;
    ``snntorch.utils.reset`` clears every network in the process instead, and
    does not know the neurons here.

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
def unregistered(neuron: SpikingNeuron) -> Iterator[None]:
    """Set up snnTorch's part of a neuron without staying in its class-level list.

    snnTorch appends every neuron to a list that is never emptied: it would keep
    each network of a long study alive.
    """
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            SpikingNeuron.instances.remove(neuron)


def decay(name: str, value: float | Tensor) -> Tensor:
    """A decay per time step as a floating tensor of the neuron's own.

    Raises:
        InvalidValueError: outside [0, 1].
    """
    values = torch.as_tensor(value)
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise InvalidValueError(f"{name} must be in [0, 1], but got {name}={quoted(value)}")
    # Whatever the caller's is shared with, it is not shared with this one.
    values = values.detach().clone()
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())


def check_reset(reset_mechanism: Reset) -> None:
    """Raise unless the reset is one of :data:`~bsnn_tha.equations.lif.RESETS`."""
    _check_choice("reset_mechanism", reset_mechanism, RESETS)


def check_snntorch_keywords(neuron: str, keywords: dict[str, Any]) -> None:
    """Raise unless snnTorch's other keywords have the values that fit Eq. 1 and 2."""
    for name, value in keywords.items():
        if name == "threshold":
            raise InvalidValueError(
                f"the threshold is given as theta_0, but got threshold={value}; "
                f"for a fixed one write theta_0={value}"
            )
        if name not in _FIXED_KEYWORDS:
            raise TypeError(f"{neuron}() got an unexpected keyword argument {name!r}")
        allowed, reason = _FIXED_KEYWORDS[name]
        if value != allowed:
            raise InvalidValueError(f"{name} must be {allowed}, but got {name}={value}: {reason}")


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
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
    if not isinstance(surrogate, str):
        if slope is not None or scale is not None:
            raise InvalidValueError(
                "a surrogate given as a shape has its own slope and scale, but got "
                f"slope={slope}, surrogate_scale={scale}"
            )
        return surrogate
    if surrogate not in SURROGATES:
        raise InvalidValueError(
            f"unknown surrogate {surrogate!r}{did_you_mean(surrogate, SURROGATES)}"
        )
    given = {"slope": slope, "scale": scale}
    given = {key: value for key, value in given.items() if value is not None}
    return SURROGATES[surrogate](**given)
