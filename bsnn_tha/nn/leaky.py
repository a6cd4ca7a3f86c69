"""A leaky integrate-and-fire layer whose threshold is annealed.

The arithmetic is in :mod:`bsnn_tha.functional`; this class holds the state:
the schedule θ0, θ∞, α, the training iteration γ and the threshold θ it gives,
all of them buffers, so that whatever copies, moves or saves the network takes
the schedule along.
"""

from __future__ import annotations

import contextlib
from typing import Any, Literal, get_args

import snntorch as snn
import torch
from snntorch import SpikingNeuron
from torch import Tensor, nn

from bsnn_tha.errors import InvalidValueError
from bsnn_tha.functional.anneal import check_annealing, check_threshold, threshold_at
from bsnn_tha.functional.lif import BACKENDS, Backend, lif_sequence
from bsnn_tha.functional.lif_reference import RESETS, LIFWindow, Reset, fire, integrate
from bsnn_tha.functional.surrogate import SURROGATES, FromSnnTorch, Surrogate
from bsnn_tha.suggest import did_you_mean

SurrogateCentre = Literal["clamped", "moving"]

_SCHEDULE = ("theta_0", "theta_inf", "alpha", "threshold")

# snn.Leaky's other keywords: the one value that fits Eq. 1 and 2, and why.
_FIXED_KEYWORDS: dict[str, tuple[Any, str]] = {
    "surrogate_disable": (False, "pass the weights through torch.no_grad() instead"),
    "inhibition": (False, "Eq. 2 lets every neuron at its threshold fire; use snntorch.Leaky"),
    "state_quant": (False, "the membrane potential is kept in full precision; use snntorch.Leaky"),
    "graded_spikes_factor": (1.0, "spikes are 0 or 1; scale the next layer instead"),
    "learn_graded_spikes_factor": (False, "spikes are 0 or 1; scale the next layer instead"),
    "reset_delay": (True, "Eq. 1 resets one step after the spike; use snntorch.Leaky"),
}


class AnnealedLeaky(snn.Leaky):
    r"""Leaky integrate-and-fire neurons with an annealed, layer-shared threshold.

    Eshraghian and Lu (2022), Eq. 1, 2, 4, 8 and 15: the layer fires at u ≥ θ
    and subtracts θ one step later; once per training iteration
    :meth:`anneal` moves θ from θ0 towards θ∞; the surrogate gradient stays
    centred at θ0. Symbols and units: :mod:`bsnn_tha.functional.lif_reference`
    and :mod:`bsnn_tha.functional.anneal`.

    Called with one time step it behaves as :class:`snntorch.Leaky`; called
    through :meth:`sequence` it takes a whole window ``[time, batch, ...]``.
    Both give the same spikes and membranes to the last bit.

    Unlike snnTorch's neurons it is not entered in a class-level list: it is
    freed when dropped, and ``snntorch.utils.reset``, which resets every
    network in the process, does not reach it. Use :func:`bsnn_tha.reset`.

    Args:
        beta: decay β per time step, in [0, 1]; a number or a tensor with one
            value per neuron. Clamped to [0, 1] when used.
        theta_0: initial threshold θ0 > 0.
        theta_inf: final threshold θ∞ > θ0. Leave out ``theta_inf`` and
            ``alpha`` for a fixed threshold.
        alpha: inverse time constant α in (0, 1], per training iteration.
        slope: slope k > 0 of the surrogate (default: the shape's own; 25 for
            the fast sigmoid).
        surrogate_centre: ``"clamped"`` keeps the surrogate at θ0 (Eq. 8,
            Algorithm 1); ``"moving"`` lets it follow θ, as the code published
            with the paper does.
        surrogate: name of a shape (``"fast_sigmoid"``, ``"sigmoid"``,
            ``"arctan"``), or a shape as in
            :mod:`bsnn_tha.functional.surrogate`, which brings its own slope.
        spike_grad: a function from :mod:`snntorch.surrogate`, of which the
            derivative is used, in place of ``surrogate`` and ``slope``.
        init_hidden: keep the membrane in the module, as in ``nn.Sequential``.
        output: with ``init_hidden``, return ``(spikes, membranes)`` all the same.
        learn_beta: make β a parameter.
        learn_threshold: make θ a parameter (fixed rule only: a threshold
            cannot follow a schedule and a gradient at once).
        reset_mechanism: ``"subtract"`` (Eq. 1), ``"zero"`` or ``"none"``.
        backend: what whole windows run on: ``"auto"``, ``"numba"``,
            ``"triton"`` or ``"reference"``, as in :func:`bsnn_tha.lif_sequence`.
        **leaky_keywords: snnTorch's other keywords, at the values that fit
            Eq. 1 and 2; anything else is refused with the reason.

    Attributes:
        threshold: θ now, a 0-dimensional buffer (a parameter if learned).
        theta_0, theta_inf, alpha: the schedule (θ∞ = θ0, α = 0 if fixed).
        iteration: γ, training iterations annealed so far.

    Raises:
        InvalidValueError: a value breaks its rule; the message names both.

    Example:
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

    beta: Tensor
    mem: Tensor
    threshold: Tensor
    theta_0: Tensor
    theta_inf: Tensor
    alpha: Tensor
    iteration: Tensor
    surrogate: Surrogate

    def __init__(
        self,
        beta: float | Tensor,
        theta_0: float = 1.0,
        theta_inf: float | None = None,
        alpha: float | None = None,
        *,
        slope: float | None = None,
        surrogate_centre: SurrogateCentre = "clamped",
        surrogate: str | Surrogate = "fast_sigmoid",
        spike_grad: Any = None,
        init_hidden: bool = False,
        output: bool = False,
        learn_beta: bool = False,
        learn_threshold: bool = False,
        reset_mechanism: Reset = "subtract",
        backend: Backend = "auto",
        **leaky_keywords: Any,
    ) -> None:
        _check_leaky_keywords(leaky_keywords)
        _check_beta(beta)
        if (theta_inf is None) != (alpha is None):
            raise InvalidValueError(
                "theta_inf and alpha go together (or leave out both for a fixed threshold), "
                f"but got theta_inf={theta_inf}, alpha={alpha}"
            )
        if theta_inf is None or alpha is None:
            check_threshold(theta_0)
            theta_inf, alpha = theta_0, 0.0
        else:
            check_annealing(theta_0, theta_inf, alpha)
            if learn_threshold:
                raise InvalidValueError(
                    "learn_threshold=True needs a fixed rule: a threshold cannot follow its "
                    "schedule and its gradient at once; leave out theta_inf and alpha"
                )
        if surrogate_centre not in get_args(SurrogateCentre):
            raise InvalidValueError(
                f"surrogate_centre must be 'clamped' or 'moving', but got {surrogate_centre!r}"
            )
        if reset_mechanism not in RESETS:
            raise InvalidValueError(
                f"reset_mechanism must be one of {', '.join(RESETS)}, but got {reset_mechanism!r}"
            )
        if backend not in BACKENDS:
            raise InvalidValueError(
                f"backend must be one of {', '.join(BACKENDS)}, but got {backend!r}"
            )

        shape = _choose_surrogate(surrogate, slope, spike_grad)
        try:
            super().__init__(
                _own_tensor(beta),
                float(theta_0),
                # The base class wants a function that fires and differentiates;
                # here the two are apart (`fire`, `surrogate`), and this one pickles.
                spike_grad=SpikingNeuron._surrogate_bypass,
                init_hidden=init_hidden,
                output=output,
                learn_beta=learn_beta,
                learn_threshold=learn_threshold,
                reset_mechanism=reset_mechanism,
            )
        finally:
            # snnTorch appends every neuron to a class-level list that is never
            # emptied: it would keep each network of a long study alive.
            with contextlib.suppress(ValueError):
                SpikingNeuron.instances.remove(self)

        self.surrogate = shape
        self.backend: Backend = backend
        self.surrogate_centre: SurrogateCentre = surrogate_centre
        self.register_buffer("theta_0", torch.tensor(float(theta_0)))
        self.register_buffer("theta_inf", torch.tensor(float(theta_inf)))
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("iteration", torch.tensor(0))

    @property
    def annealed(self) -> bool:
        """True if the threshold follows Eq. 4, False if it is fixed or learned."""
        return bool(self.alpha > 0)

    @property
    def centre(self) -> Tensor:
        """Where the surrogate gradient is centred now: θ0 (clamped) or θ (moving)."""
        return self.theta_0 if self.surrogate_centre == "clamped" else self.threshold.detach()

    @torch.no_grad()
    def anneal(self, iterations: int = 1) -> None:
        """Advance the schedule by training iterations and set θ by Eq. 4.

        Call it after the optimizer's step: θ is changed in place, which
        between a forward pass and its backward pass is an error.

        Args:
            iterations: how many, ≥ 0. Counted for a fixed threshold as well,
                which stays where it is.
        """
        if iterations < 0:
            raise InvalidValueError(f"iterations must be at least 0, but got {iterations}")
        self.iteration += iterations
        if self.annealed:
            self.threshold.copy_(
                threshold_at(self.iteration, self.theta_0, self.theta_inf, self.alpha)
            )

    def forward(self, input_: Tensor, mem: Tensor | None = None) -> Any:
        """One time step, called as :class:`snntorch.Leaky`.

        Args:
            input_: current I[t+1], ``[batch, ...]``.
            mem: u[t], same shape; None or an empty tensor starts from zero.
                Not with ``init_hidden=True``.

        Returns:
            ``(spikes, membrane)``, each like ``input_``; spikes alone with
            ``init_hidden=True`` and ``output=False``.

        Raises:
            TypeError: ``mem`` given although the module keeps its own.
            InvalidValueError: ``mem`` has another shape than ``input_``.
        """
        mem = self._initial_membrane(input_.shape, mem)
        if mem is None:
            mem = torch.zeros_like(input_)
        membrane = integrate(
            input_, mem, self.beta.clamp(0, 1), self.threshold, self._reset_mechanism
        )
        spikes = self.fire(membrane)
        if self.init_hidden:
            self.mem = membrane
            if not self.output:
                return spikes
        return spikes, membrane

    def fire(self, mem: Tensor) -> Tensor:
        """Spikes where ``mem`` ≥ θ (Eq. 2), with the surrogate as gradient."""
        return fire(mem, self.threshold, self.centre, self.surrogate)

    def mem_reset(self, mem: Tensor) -> Tensor:
        """Where ``mem`` calls for a reset, 0 or 1, detached."""
        return (mem >= self.threshold).to(mem.dtype)

    def sequence(
        self, current: Tensor, mem: Tensor | None = None, record: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """A whole window at once.

        Args:
            current: I, ``[time, batch, ...]``.
            mem: u before the first step, ``[batch, ...]``; zero if None. With
                ``init_hidden=True`` the module's own membrane is used.
            record: also return the membranes.

        Returns:
            ``(spikes, membranes)``, each like ``current``; membranes are None
            unless ``record=True``.
        """
        window = self.window(current, mem, record)
        return window.spikes, window.membranes

    def window(self, current: Tensor, mem: Tensor | None = None, record: bool = False) -> LIFWindow:
        """As :meth:`sequence`, with the final membrane for a window to come."""
        result = lif_sequence(
            current,
            self.beta.clamp(0, 1),
            self.threshold,
            self.centre,
            self.surrogate,
            self._reset_mechanism,
            self._initial_membrane(current.shape[1:], mem),
            record,
            self.backend,
        )
        if self.init_hidden:
            self.mem = result.membrane
        return result

    def _initial_membrane(self, shape: torch.Size, mem: Tensor | None) -> Tensor | None:
        """The membrane to start from; None stands for zero."""
        if self.init_hidden:
            if mem is not None:
                raise TypeError("mem should not be passed while init_hidden=True")
            # As in snnTorch, another shape (a smaller last batch) starts afresh.
            return self.mem if self.mem.shape == shape else None
        if mem is None or mem.numel() == 0:  # init_leaky() gives an empty tensor
            return None
        if mem.shape != shape:
            raise InvalidValueError(
                f"mem must have the shape of the input, {list(shape)}, but got {list(mem.shape)}"
            )
        return mem

    def _apply(self, fn: Any, recurse: bool = True) -> AnnealedLeaky:
        # A schedule is not data: casting the network to half precision moves
        # these buffers to the new device but leaves them in full precision,
        # where steps of α (θ∞ − θ) would otherwise vanish.
        exact = {name: self._buffers.get(name) for name in _SCHEDULE}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            after = self._buffers.get(name)
            if before is not None and after is not None and after.itemsize < before.itemsize:
                self._buffers[name] = before.to(after.device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Copies and pickles take the kept membrane along, but not its graph.
        state = dict(super().__getstate__())
        state["_buffers"] = dict(state["_buffers"], mem=self.mem.detach())
        return state

    def extra_repr(self) -> str:
        """The settings in one line, for ``print(network)``."""
        theta = f"theta={self.threshold.item():.4g}" if self.threshold.numel() == 1 else ""
        schedule = (
            f", theta_0={self.theta_0.item():.4g}, theta_inf={self.theta_inf.item():.4g}, "
            f"alpha={self.alpha.item():.4g}, iteration={self.iteration.item()}"
            if self.annealed
            else ""
        )
        beta = f"beta={self.beta.item():.4g}" if self.beta.numel() == 1 else "beta per neuron"
        return (
            f"{beta}, {theta}{schedule}, surrogate={self.surrogate} {self.surrogate_centre}, "
            f"reset={self._reset_mechanism}"
        )


def reset(network: nn.Module) -> None:
    """Clear the kept membranes of one network, and of that network only.

    Needed between windows where neurons were built with ``init_hidden=True``;
    ``snntorch.utils.reset`` clears every network in the process instead, and
    does not know :class:`AnnealedLeaky`.

    Args:
        network: any module; snnTorch's own neurons inside are reset as well.

    Example:
        >>> network = nn.Sequential(nn.Linear(4, 3), AnnealedLeaky(0.9, init_hidden=True))
        >>> spikes = network(torch.rand(2, 4))
        >>> reset(network)
        >>> network[1].mem.abs().sum().item()
        0.0
    """
    for module in network.modules():
        if isinstance(module, SpikingNeuron) and hasattr(module, "reset_mem"):
            module.reset_mem()


def _own_tensor(beta: float | Tensor) -> Tensor:
    """β as a floating tensor of this neuron's own, whatever the caller's is shared with."""
    values = torch.as_tensor(beta).detach().clone()
    return values if values.is_floating_point() else values.to(torch.get_default_dtype())


def _check_beta(beta: float | Tensor) -> None:
    values = torch.as_tensor(beta)
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise InvalidValueError(f"beta must be in [0, 1], but got beta={beta}")


def _check_leaky_keywords(keywords: dict[str, Any]) -> None:
    for name, value in keywords.items():
        if name == "threshold":
            raise InvalidValueError(
                f"the threshold is given as theta_0, but got threshold={value}; "
                f"for a fixed one write theta_0={value}"
            )
        if name not in _FIXED_KEYWORDS:
            raise TypeError(f"AnnealedLeaky() got an unexpected keyword argument {name!r}")
        allowed, reason = _FIXED_KEYWORDS[name]
        if value != allowed:
            raise InvalidValueError(f"{name} must be {allowed}, but got {name}={value}: {reason}")


def _choose_surrogate(
    surrogate: str | Surrogate, slope: float | None, spike_grad: Any
) -> Surrogate:
    if spike_grad is not None:
        if slope is not None or surrogate != "fast_sigmoid":
            raise InvalidValueError(
                "spike_grad takes the place of surrogate and slope, but got "
                f"surrogate={surrogate!r}, slope={slope}"
            )
        return FromSnnTorch(spike_grad)
    if not isinstance(surrogate, str):
        if slope is not None:
            raise InvalidValueError(
                f"a surrogate given as a shape has its own slope, but got slope={slope}"
            )
        return surrogate
    if surrogate not in SURROGATES:
        raise InvalidValueError(
            f"unknown surrogate {surrogate!r}{did_you_mean(surrogate, SURROGATES)}"
        )
    return SURROGATES[surrogate]() if slope is None else SURROGATES[surrogate](slope)
